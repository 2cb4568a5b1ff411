"""threat_model.md has the registry's claims, word for word, and every link in it leads somewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from securefl.audit.claims import CLAIMS, THEMES
from securefl.audit.mutants import MUTANTS
from securefl.audit.threat_model import BEGIN, END, FILE, anchors, broken_links, checkout, replaced, section
from securefl.cli import main
from securefl.errors import SecureFLError

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / FILE).read_text()


def test_the_file_and_the_registry_are_the_same():
    assert replaced(TEXT, section(THEMES, MUTANTS, ROOT)) == TEXT, "run `securefl audit threat-model --write`"


def test_every_link_leads_somewhere():
    assert broken_links(TEXT, ROOT) == []
    assert TEXT.count("](") > 300


def test_every_claim_mutant_function_and_test_is_in_the_file():
    for claim in CLAIMS.values():
        assert f"#### {claim.id}\n" in TEXT
        for name in claim.mutants:
            assert f"[{name}](securefl/audit/mutants/" in TEXT
        for shown in claim.shown:
            assert f"]({shown.partition('::')[0]})" in TEXT


def test_control_a_broken_link_is_found():
    text = "# A b-c\n[x](securefl/nothing.py) [y](#a-b-c) [z](#nothing) [w](README.md#nothing) [v](https://x.example/#y)"
    assert broken_links(text, ROOT) == ["securefl/nothing.py", "#nothing", "README.md#nothing"]
    assert anchors("## What's `here`, in 2\n#no heading") == {"whats-here-in-2"}


def test_control_a_changed_claim_is_another_file():
    first, *others = THEMES["Who sees what"]
    for change in (
        {"statement": "Nothing is promised."},
        {"limits": "There are none."},
        {"adversary": "nobody"},
        {"where": ("protocols.ring.signed",)},
        {"shown": ("tests/conftest.py::test_x",)},
        {"mutants": ("half-a-mask",)},
        {"behaviour": "malicious"},
        {"tested": {"protocols.sharing.share": "test_a_view_has_the_structure_of_the_simulated_one"}},
    ):
        themes = THEMES | {"Who sees what": (replace(first, **change), *others)}
        assert replaced(TEXT, section(themes, MUTANTS, ROOT)) != TEXT


def test_a_claim_of_nothing_is_refused():
    claim = CLAIMS["exact-sum"]
    for change in ({"where": ("nowhere.at_all",)}, {"mutants": ("no-such",)}):
        with pytest.raises(SecureFLError):
            section({"x": (replace(claim, **change),)}, MUTANTS, ROOT)
    with pytest.raises(SecureFLError, match="lacks the marks"):
        replaced("no marks", "x")


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A checkout with another threat model."""
    for name in ("securefl", "protocols", "tests", "docs", "CONTRIBUTING.md", "README.md"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / FILE).write_text(TEXT.replace("#### exact-sum", "#### exactly"))
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    return tmp_path


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["securefl", "audit", "threat-model", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    return exit_.value.code or 0


def test_the_command_finds_a_difference_and_writes(copy, monkeypatch, capsys):
    assert run(monkeypatch) == 1
    assert "differ" in capsys.readouterr().err
    assert run(monkeypatch, "--write") == 0
    assert (copy / FILE).read_text() == TEXT
    assert run(monkeypatch) == 0
    assert (copy / FILE).read_text().count(BEGIN) == (copy / FILE).read_text().count(END) == 1


def test_outside_a_checkout_there_is_nothing_to_compare(tmp_path):
    with pytest.raises(SecureFLError, match="in a checkout"):
        checkout(tmp_path)
