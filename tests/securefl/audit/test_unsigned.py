"""What lies beside a study's files without a signature: it is told, and never run."""

from __future__ import annotations

import builtins
import py_compile
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from securefl.audit import verify
from securefl.audit.chain import ChainWalk
from securefl.audit.founding import Founding, Receipts, read_info
from securefl.audit.mutants.unsigned import CODE, plant, write_run
from securefl.audit.stage import Stage, staged
from securefl.domain.parcel import is_run_file
from securefl.run_folder import RunFolder
from securefl.study import Study

MARKS = "import builtins\nbuiltins.used_unsigned = True\n"
READS = "if (Path(__file__).parent / 'note.txt').exists():\n    import builtins\n    builtins.used_unsigned = True\n"
READER = {**CODE, "model.py": CODE["model.py"] + READS}


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _descriptor: None)
        with staged(code=READER) as stage:
            stage.play()
            yield stage


@pytest.fixture
def run(stage: Stage, tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    write_run(stage, run)
    return run


def bytecode(text: str, path: Path, tmp_path: Path) -> None:
    source = tmp_path / "source.py"
    source.write_text(text)
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(source), str(path), doraise=True, invalidation_mode=unchecked)


def test_an_honest_run_leaves_nothing_unsigned_in_its_study(stage: Stage, run: RunFolder) -> None:
    assert sorted(path.name for path in stage.study.folder.iterdir()) == sorted(
        [*CODE, "consortium.toml", "study.toml"]
    )
    verdict = verify(run.path, stage.people.consortium)
    assert verdict.holds
    assert not [name for name in verdict.not_signed if name.startswith("study")]


def test_a_changed_model_with_planted_bytecode_fails(stage: Stage, run: RunFolder) -> None:
    plant(run)
    verdict = verify(run.path, stage.people.consortium)
    assert verdict.fault is not None
    assert verdict.fault.name == "model.safetensors"
    planted = f"study/__pycache__/layers.{sys.implementation.cache_tag}.pyc"
    assert planted in verdict.not_signed


def test_files_beside_the_study_are_not_run(
    stage: Stage, run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, tag = run.path / "study", sys.implementation.cache_tag
    text = MARKS + CODE["layers.py"]
    bytecode(text, study / "__pycache__" / f"layers.{tag}.pyc", tmp_path)
    bytecode(text, study / "layers" / "__init__.pyc", tmp_path)
    (study / f"layers.{tag}-x86_64-linux-gnu.so").write_bytes(b"not a library")
    (study / "note.txt").write_text("Nobody signed this.")
    monkeypatch.setattr(builtins, "used_unsigned", False, raising=False)
    assert verify(run.path, stage.people.consortium).holds
    assert not builtins.used_unsigned  # type: ignore[attr-defined]


def test_a_relative_root_starts_where_the_study_was_run(small_study: Study, tmp_path: Path) -> None:
    # Not where its model is built.
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.prepare(small_study, {"name": "Small", "folder": str(small_study.folder)})
    receipts = Receipts(run.receipts)
    walk = ChainWalk(Founding.read(run, read_info(run), receipts), receipts, None, tmp_path / "workplace")
    assert list(walk._build_model()) == []
    assert walk.model is not None


@pytest.mark.parametrize(
    "name",
    [
        "study/__pycache__/layers.py",
        "study/__pycache__/layers.cpython-311.pyc",
        "study/parts/__pycache__/x.toml",
        "study/layers.pyc",
        "study/layers.PYC",
        "study/layers.cpython-311-x86_64-linux-gnu.so",
        "study/layers/__init__.abi3.so",
        "study/layers.pyd",
    ],
)
def test_a_parcel_brings_no_compiled_code(name: str) -> None:
    assert not is_run_file(name)
    assert is_run_file("study/parts/layers.py")
    assert is_run_file("study/consortium.toml")
