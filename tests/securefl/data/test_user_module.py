"""A user's own Dataset, and how a study's Python file is loaded."""

from __future__ import annotations

import importlib.util
import os
import py_compile
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from securefl.data import input_shape_and_classes, load_all, load_hospital
from securefl.data.user_module import alone, load_function
from securefl.errors import DataError, ModelError
from securefl.study.data_settings import DataSettings

NAMES = ["alpha", "beta"]
MODULE = DataSettings(source="module", module="records.py:build")

TEN_LINES = """
import torch
from torch.utils.data import TensorDataset

def build(hospital, split):
    count = 12 if split == "train" else 4
    generator = torch.Generator().manual_seed(len(hospital))
    features = torch.randn(count, 1, 6, 6, generator=generator)
    return TensorDataset(features, torch.arange(count) % 3)
"""


def write(folder: Path, text: str, name: str = "records.py") -> None:
    (folder / name).write_text(text, encoding="utf-8")


def test_ten_lines_make_a_source(tmp_path: Path) -> None:
    write(tmp_path, TEN_LINES)
    everyone = load_all(MODULE, tmp_path, NAMES, seed=0)
    assert list(everyone) == NAMES
    wanted = torch.randn(12, 1, 6, 6, generator=torch.Generator().manual_seed(len("beta"))).numpy()
    assert np.array_equal(everyone["beta"].train.features, wanted)
    assert everyone["beta"].train.labels.tolist() == [0, 1, 2] * 4
    assert len(everyone["beta"].test) == 4
    assert input_shape_and_classes(MODULE, tmp_path, NAMES, 0) == ((1, 6, 6), 3)


def test_declared_shape_and_classes_need_no_record(tmp_path: Path) -> None:
    write(
        tmp_path, "SHAPE = (3, 8)\nCLASSES = 2\ndef build(hospital, split):\n    raise OSError('no disk')\n"
    )
    assert input_shape_and_classes(MODULE, tmp_path, NAMES, 0) == ((3, 8), 2)
    with pytest.raises(DataError, match="hospital alpha, train records: the dataset fails: OSError: no disk"):
        load_hospital(MODULE, tmp_path, "alpha", NAMES, 0)


def test_records_must_be_as_declared(tmp_path: Path) -> None:
    for declared in ("SHAPE = (1, 5, 5)", "CLASSES = 2"):
        write(tmp_path, declared + TEN_LINES)
        with pytest.raises(DataError, match="correct the one or the other"):
            load_hospital(MODULE, tmp_path, "alpha", NAMES, 0)
    for declared in ("SHAPE = [1, 6, 6]", "CLASSES = 1"):
        write(tmp_path, declared + TEN_LINES)
        with pytest.raises(DataError, match="must be"):
            input_shape_and_classes(MODULE, tmp_path, NAMES, 0)


def test_random_transforms_repeat_and_leave_the_generator_alone(tmp_path: Path) -> None:
    write(tmp_path, TEN_LINES.replace(", generator=generator", ""))
    before = torch.random.get_rng_state()
    first, again = (load_hospital(MODULE, tmp_path, "alpha", NAMES, seed=3) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(first.train.features, again.train.features)
    other = load_hospital(MODULE, tmp_path, "alpha", NAMES, seed=4)
    assert not np.array_equal(first.train.features, other.train.features)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("    return []", "the dataset is empty"),
        ("    return [([1.0], 0), ([1.0, 2.0], 1)]", "all features must have one shape"),
        ("    return [([1.0], [0, 1])]", "each label must be one integer"),
        ("    return [([float('nan')], 0)]", "NaN"),
        ("    return [([1.0], -1)]", "labels must be 0 or more"),
        ("    return [([1.0], 0.5)]", "labels must be one integer"),
        ("    return 5", "the dataset fails: TypeError"),
        ("    return [([1.0], 0)] if split == 'train' else [([1.0, 2.0], 0)]", "must have one shape"),
        ("    return [([1.0], 0)]", "the same label"),
    ],
)
def test_bad_datasets_are_refused(tmp_path: Path, body: str, says: str) -> None:
    write(tmp_path, f"def build(hospital, split):\n{body}\n")
    with pytest.raises(DataError, match=says):
        load_hospital(MODULE, tmp_path, "alpha", ["alpha"], 0)


def test_dataclasses_in_the_file_work(tmp_path: Path) -> None:
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\n"
    write(tmp_path, text + "def build():\n    return A(3)\n")
    assert load_function(tmp_path, "records.py:build", DataError)().x == 3


def test_the_file_must_be_in_the_study(tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    write(tmp_path, "def build():\n    pass\n", "outside.py")
    (study / "link.py").symlink_to(tmp_path / "outside.py")
    for reference in ("../outside.py:build", "link.py:build"):
        with pytest.raises(DataError, match="lies outside the study folder"):
            load_function(study, reference, DataError)


def test_what_a_file_can_have_wrong(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        load_function(tmp_path, "model.py:build", ModelError)
    write(tmp_path, "def build(:\n", "model.py")
    with pytest.raises(ModelError, match="fails when it is loaded: SyntaxError"):
        load_function(tmp_path, "model.py:build", ModelError)
    write(tmp_path, "1 / 0", "model.py")
    with pytest.raises(ModelError, match="fails when it is loaded: ZeroDivisionError"):
        load_function(tmp_path, "model.py:build", ModelError)
    write(tmp_path, "build = 5", "model.py")
    with pytest.raises(ModelError, match="has no function build"):
        load_function(tmp_path, "model.py:build", ModelError)


def test_cached_bytecode_is_neither_read_nor_written(tmp_path: Path) -> None:
    path = tmp_path / "records.py"
    write(tmp_path, "def build():\n    return 'bad!'\n")
    py_compile.compile(str(path))
    stamp = path.stat()
    write(tmp_path, "def build():\n    return 'good'\n")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    # The control: Python's own import takes the bytecode of the earlier text, of the same size and time.
    spec = importlib.util.spec_from_file_location("stock", path)
    assert spec is not None
    assert spec.loader is not None
    stock = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stock)
    assert stock.build() == "bad!"
    assert load_function(tmp_path, "records.py:build", DataError)() == "good"

    clean = tmp_path / "clean"
    clean.mkdir()
    write(clean, TEN_LINES)
    load_function(clean, "records.py:build", DataError)
    assert [entry.name for entry in clean.iterdir()] == ["records.py"]


def test_a_dataset_may_say_whose_its_records_are(tmp_path: Path) -> None:
    told = TEN_LINES.replace(
        "    return TensorDataset(features, torch.arange(count) % 3)",
        "    dataset = TensorDataset(features, torch.arange(count) % 3)\n"
        "    dataset.patients = [k // 2 for k in range(count)]\n"
        "    return dataset",
    )
    write(tmp_path, told)
    data = load_hospital(MODULE, tmp_path, "alpha", NAMES, 0)
    assert data.train.patients is not None
    assert data.train.patients.tolist() == [k // 2 for k in range(12)]
    write(tmp_path, told.replace("k // 2", "str(k)"))
    with pytest.raises(DataError, match="patients must be one integer for each of the 12 records"):
        load_hospital(MODULE, tmp_path, "alpha", NAMES, 0)


BESIDE = "import sys\nfrom pathlib import Path\nsys.path.insert(0, str(Path(__file__).parent))\n"


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a study's code imports is gone after the test."""
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.setattr("sys.modules", dict(sys.modules))


@pytest.mark.usefixtures("imports")
@pytest.mark.parametrize("place", ["__pycache__", "package"])
def test_a_file_beside_it_is_imported_from_its_source_alone(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "study"
    (folder / "parts").mkdir(parents=True)
    source = tmp_path / "planted.py"
    source.write_text("def build():\n    return 'planted'\n")
    write(folder, f"{BESIDE}from parts.beside_a_study import build\n", "model.py")
    write(folder / "parts", "def build():\n    return 'source'\n", "beside_a_study.py")
    planted = {
        "__pycache__": f"__pycache__/beside_a_study.{sys.implementation.cache_tag}.pyc",
        "package": "beside_a_study/__init__.pyc",
    }[place]
    py_compile.compile(
        str(source),
        str(folder / "parts" / planted),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    before = sorted(folder.rglob("*"))
    assert load_function(folder, "model.py:build", ModelError)() == "source"
    assert sorted(folder.rglob("*")) == before


@pytest.mark.usefixtures("imports")
def test_two_studies_with_files_of_one_name_do_not_meet(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, f"{BESIDE}from named_alike import build\n", "model.py")
        write(tmp_path / name, f"def build():\n    return '{name}'\n", "named_alike.py")
    assert load_function(tmp_path / "one", "model.py:build", ModelError)() == "one"
    with alone():
        assert load_function(tmp_path / "two", "model.py:build", ModelError)() == "two"
    assert sys.modules["named_alike"].build() == "one"
    assert str(tmp_path / "two") not in sys.path


@pytest.mark.usefixtures("imports")
def test_a_virtual_environment_in_the_folder_is_none_of_the_study(tmp_path: Path) -> None:
    packages = tmp_path / ".venv" / "lib"
    packages.mkdir(parents=True)
    source = tmp_path / "compiled_only.py"
    source.write_text("def build():\n    return 'installed'\n")
    py_compile.compile(str(source), str(packages / "compiled_only.pyc"))
    source.unlink()
    write(
        tmp_path,
        f"import sys\nsys.path.insert(0, {str(packages)!r})\nfrom compiled_only import build\n",
        "model.py",
    )
    assert load_function(tmp_path, "model.py:build", ModelError)() == "installed"
