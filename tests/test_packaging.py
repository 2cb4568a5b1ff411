"""The distribution: one wheel with both packages and their data, locks that pin all, a quick command line."""

from __future__ import annotations

import importlib.metadata
import os
import re
import resource
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("protocols", "securefl")
LOCKS = ["3.11", "3.12", "3.13"]
# name==version, then only hashes, up to the comments that say who wanted it.
LOCKED = re.compile(
    r"([a-z0-9][a-z0-9._-]*)==([^ \\]+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n(?:    # .*\n)*"
)


def requirements_in(path: Path) -> list[Requirement]:
    lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("-r")]


def locked_versions(path: Path) -> dict[str, str]:
    body = "".join(line for line in path.read_text().splitlines(True) if not line.startswith("#"))
    versions, end = {}, 0
    for match in LOCKED.finditer(body):
        assert match.start() == end, (
            f"{path.name}: not a pinned and hashed requirement: {body[end : end + 80]!r}"
        )
        versions[canonicalize_name(match[1])] = match[2]
        end = match.end()
    assert end == len(body), f"{path.name}: not a pinned and hashed requirement: {body[end : end + 80]!r}"
    return versions


def files_of(package: str) -> Iterator[str]:
    for path in (ROOT / package).rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network from a copy (a build writes into its source)."""
    source = tmp_path_factory.mktemp("source")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    built = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PIP_NO_INDEX": "1"})
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = out.glob("*.whl")
    return path


def test_the_wheel_holds_every_file_of_both_packages_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {name for package in PACKAGES for name in files_of(package)}
    assert {"protocols/py.typed", "securefl/py.typed"} <= expected
    assert names == expected


def test_the_installed_wheel_imports_from_elsewhere(wheel: Path, tmp_path: Path) -> None:
    prefix, elsewhere = tmp_path / "prefix", tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(prefix),
    ]
    subprocess.run([*command, str(wheel)], check=True)
    code = """
import sys
from importlib import resources
from pathlib import Path
import protocols, securefl, securefl.study, securefl.data, securefl.models, securefl.cli
prefix = Path(sys.argv[1])
loaded = [m for n, m in sys.modules.items() if n.split(".")[0] in ("protocols", "securefl")]
outside = [m.__name__ for m in loaded if prefix not in Path(m.__file__ or "").parents]
assert not outside, outside
for package in ("protocols", "securefl"):
    assert resources.files(package).joinpath("py.typed").is_file()
print(len(loaded))
"""
    found = subprocess.run(
        [sys.executable, "-c", code, str(prefix)],
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(prefix)},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) >= 6


def test_the_wheel_asks_for_what_core_in_names(wheel: Path) -> None:
    (path,) = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".dist-info/METADATA")]
    metadata = importlib.metadata.PathDistribution(zipfile.Path(wheel, path.rpartition("/")[0] + "/"))
    asked = [Requirement(line) for line in metadata.requires or []]
    always = {str(requirement) for requirement in asked if requirement.marker is None}
    assert always == {str(requirement) for requirement in requirements_in(ROOT / "requirements/core.in")}
    # What the extra asks for is in the locks, so that the tests run with it.
    locked = {str(requirement) for requirement in requirements_in(ROOT / "requirements/dev.in")}
    extra = {str(requirement).partition(";")[0] for requirement in asked if requirement.marker is not None}
    assert extra == {"flwr[simulation]==1.41.*"} <= locked
    assert metadata.metadata["License-Expression"] == "Apache-2.0"
    assert [(entry.name, entry.value) for entry in metadata.entry_points] == [
        ("securefl", "securefl.cli:main")
    ]


@pytest.mark.parametrize("python", LOCKS)
def test_a_lock_pins_and_hashes_all_that_is_asked_for(python: str) -> None:
    versions = locked_versions(ROOT / f"requirements/lock-{python}.txt")
    for source in ("core.in", "dev.in"):
        for requirement in requirements_in(ROOT / "requirements" / source):
            assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)])
    # The pair that must match: torch 2.N goes with torchvision 0.(N + 15).
    assert int(versions["torchvision"].split(".")[1]) == int(versions["torch"].split(".")[1]) + 15


def test_what_installs_the_rest_is_pinned_and_hashed() -> None:
    assert set(locked_versions(ROOT / "requirements/build.txt")) == {"pip", "setuptools"}


def test_an_unhashed_line_in_a_lock_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "lock.txt"
    path.write_text((ROOT / "requirements/lock-3.11.txt").read_text() + "stray==1.0\n")
    with pytest.raises(AssertionError, match=r"stray==1\.0"):
        locked_versions(path)


def test_every_supported_python_has_a_lock() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11,<3.14"
    assert sorted(path.stem for path in (ROOT / "requirements").glob("lock-*.txt")) == [
        f"lock-{v}" for v in LOCKS
    ]


def test_this_environment_is_the_lock() -> None:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    expected = locked_versions(ROOT / f"requirements/lock-{python}.txt") | locked_versions(
        ROOT / "requirements/build.txt"
    )
    installed = {canonicalize_name(d.metadata["Name"]): d.version for d in importlib.metadata.distributions()}
    installed.pop("securefl")
    assert installed == expected


def test_help_answers_in_under_half_a_second_of_cpu() -> None:
    command = [str(Path(sys.executable).with_name("securefl")), "--help"]
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert "Usage" in answer.stdout
    assert min(spent) < 0.5, spent


def test_the_packages_read_no_folder_of_another_checkout() -> None:
    pattern = re.compile(r"""\bshared/|["']shared["']""")
    assert pattern.search('open("../shared/data.csv")')
    assert pattern.search('root / "shared" / name')
    found = [
        name
        for package in PACKAGES
        for name in files_of(package)
        if name.endswith((".py", ".toml", ".html", ".j2")) and pattern.search((ROOT / name).read_text())
    ]
    assert found == []
