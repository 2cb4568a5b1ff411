"""Every locked dependency's licence is listed, the list is of today's lock, and none is refused."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("licences", ROOT / ".ci" / "licences.py")
licences = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(licences)

LISTED = re.compile(r"^\| ([a-z0-9-]+) \| (\d\S*) \| (.+) \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def listed() -> dict[str, tuple[str, str]]:
    return {name: (version, licence) for name, version, licence in LISTED.findall(licences.OUT.read_text())}


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the list is of the lock of Python 3.11")
def test_the_list_is_of_this_lock(listed):
    pins = licences.locked(licences.LOCK.read_text())
    assert len(pins) > 150
    assert {name: version for name, (version, _) in listed.items()} == pins, "run `make licences`"


def test_no_licence_is_refused_and_none_is_unknown(listed):
    assert not licences.refused({name: licence for name, (_, licence) in listed.items()})
    assert not [name for name, (_, licence) in listed.items() if licence in ("-", "UNKNOWN")]


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the list is of the lock of Python 3.11")
def test_what_is_listed_is_what_the_packages_say(listed):
    found = licences.installed()
    said = {name: found[name][1].replace("|", "/") for name in listed if name in found}
    assert len(said) > 150
    assert not {name for name, licence in said.items() if not listed[name][1].startswith(licence)}


@pytest.mark.parametrize(
    "licence",
    [
        "AGPL-3.0-only",
        "GNU Affero General Public License v3",
        "GPL-3.0",
        "SSPL-1.0",
        "BUSL-1.1",
        "AGPL-3.0 or SSPL-1.0",
        "GPL-3.0-or-later",
        "GNU General Public License v3 or later (GPLv3+)",
        "GPL version 2 or later",
        "MIT; GPL-3.0-only",
        "GPL-2.0; BSD License",
        "Apache-2.0 OR MIT; AGPL-3.0",
    ],
)
def test_control_such_a_licence_is_refused(licence):
    assert licences.refused({"a": licence}) == ["a"]


@pytest.mark.parametrize(
    "licence", ["MIT", "LGPL-2.1", "MPL-2.0", "Apache-2.0 OR GPL-2.0", "BSD License; GPL-2.0 or MIT"]
)
def test_control_others_are_not(licence):
    assert not licences.refused({"a": licence})
