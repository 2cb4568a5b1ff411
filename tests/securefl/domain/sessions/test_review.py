"""What a steward reads cannot be made to look like something else."""

from __future__ import annotations

import shutil

import pytest

from securefl import consortium as members
from securefl.domain.errors import ProposalError
from securefl.domain.review import review
from securefl.domain.show import table
from securefl.plain_text import plain
from securefl.study import Study


def test_a_review_has_every_byte_and_runs_none(stage):
    marker = stage.root / "ran"
    (stage.study / "evil.py").write_text(f"open({str(marker)!r}, 'w').write('ran')\n")
    sent = stage.propose()
    text = str(stage.owners["north"].request(sent.name).review())
    for name, content in ((p.name, p.read_text()) for p in stage.study.iterdir() if p.is_file()):
        assert name in text
        assert all(f"| {line}" in text.splitlines() for line in content.splitlines())
    assert not marker.exists()
    assert "It brings code, evil.py, records.py: read it." in text
    assert "It has no [privacy]" in text
    assert stage.me.fingerprint in text
    assert "No sum over fewer than 2 hospitals is opened" in text


@pytest.mark.parametrize(("minimum", "warned"), [(2, True), (3, False)])
def test_a_study_whose_sums_may_lack_a_hospital_is_warned_of(stage, minimum, warned):
    north, sent = stage.owners["north"], stage.propose()
    members.create(stage.root / "three", ["north", "south", "west"], ["uni", "registry"])
    shutil.copy(stage.root / "three" / "consortium.toml", stage.study)
    stage.edit("minimum_hospitals = 2", f"minimum_hospitals = {minimum}")
    request = north.request(sent.name)
    shown = review(request.proposal, request.site, Study.load(stage.study), north.dataset("heart"), None, "")
    assert any("A sum may be over 2 of 3 hospitals" in warning for warning in shown.warnings) is warned


def test_what_a_file_holds_cannot_pass_for_a_heading(stage):
    forged = "-" * 78 + "\nPrivacy\n" + "-" * 78 + "\nEach patient: epsilon 0.01\n"
    (stage.study / "notes.py").write_text(f'"""\n{forged}"""\n\x1b[2J\x1b[H')
    with pytest.raises(ProposalError, match=r"notes\.py holds U\+001B"):
        stage.propose()
    (stage.study / "notes.py").write_text(f'"""\n{forged}"""\n')
    sent = stage.propose()
    lines = str(stage.owners["north"].request(sent.name).review()).splitlines()
    headings = [lines[k + 1] for k in range(len(lines) - 2) if lines[k] == lines[k + 2] == "-" * 78]
    assert headings.count("Privacy") == 1
    assert "| Each patient: epsilon 0.01" in lines  # the file's own line, marked as such


def test_a_changed_study_is_shown_beside_the_last_one(stage):
    first = stage.propose()
    request = stage.owners["north"].request(first.name)
    request.review()
    request.deny("Ask for fewer rounds.")
    stage.edit("rounds = 5", "rounds = 4")
    second = stage.propose()
    text = str(stage.owners["north"].request(second.name).review())
    assert "| -rounds = 5" in text
    assert "| +rounds = 4" in text


def test_a_review_in_a_notebook_escapes_markup(stage):
    (stage.study / "x.py").write_text("# <script>alert(1)</script>\n")
    sent = stage.propose()
    html = stage.owners["north"].request(sent.name).review()._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_listings_show_themselves_and_escape(stage):
    stage.propose()
    listing = stage.owners["north"].requests()
    assert "pending" in repr(listing)
    assert "<table>" in listing._repr_html_()
    shown = table("[bold]x", ["a"], [["[red]<b>\x1b"]])
    assert "[red]<b>" in shown.text()
    assert "<b>" not in shown.html()
    assert plain("a\x1bb\nc") == "a�b\nc"


def test_a_missing_private_folder_is_said(stage):
    import pytest

    from securefl.domain.errors import DatasetError

    sent = stage.propose()
    (stage.root / "north" / "private").rename(stage.root / "gone")
    with pytest.raises(DatasetError, match="is gone: put it back"):
        stage.owners["north"].request(sent.name).review()
