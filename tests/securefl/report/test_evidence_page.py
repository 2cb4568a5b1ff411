"""The page for data protection: what stands on it, that every link leads somewhere, and that no secret is in it."""

from __future__ import annotations

import ast
import base64
import json
import re
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from securefl import consortium as members
from securefl.audit import verify
from securefl.audit.claims import CLAIMS
from securefl.errors import RunError
from securefl.report.evidence_page import NO_ADVICE, write_evidence
from securefl.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[3]
VOID = {"meta", "img", "br"}
SECTIONS = {
    "summary", "guaranteed", "not-guaranteed", "study", "sent", "privacy", "attacks", "receipts", "law", "retention",
    "claims",
}  # fmt: skip


class Page(HTMLParser):
    """Text by section, ids, links, and whether elements are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.sections: dict[str, str] = {}
        self._section = "head"
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag == "section":
            self._section = dict(attrs)["id"] or ""
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.sections[self._section] = self.sections.get(self._section, "") + data

    def links(self) -> list[str]:
        return [value for tag, name, value in self.attributes if (tag, name) == ("a", "href")]


@cache
def functions_of(file: str) -> set[str]:
    return {
        node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)
    }


def exists(test: str) -> bool:
    file, _, name = test.partition("::")
    return (ROOT / file).is_file() and name in functions_of(file)


def read(run: RunFolder) -> tuple[str, Page, dict]:
    html, data = write_evidence(run)
    text = html.read_text()
    page = Page(text)
    assert page.open == []
    return text, page, json.loads(data.read_text())


@pytest.fixture(scope="module")
def whole(finished_once: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page, dict]:
    import shutil

    copy = shutil.copytree(finished_once, tmp_path_factory.mktemp("evidence") / "run")
    return read(RunFolder(Path(copy)))


def test_both_files_stand_in_the_run_folder_and_the_same_folder_gives_the_same_bytes(
    finished: RunFolder,
) -> None:
    paths = write_evidence(finished)
    assert paths == (finished.path / "evidence.html", finished.path / "evidence.json")
    first = [path.read_bytes() for path in paths]
    assert [path.stat().st_mode & 0o777 for path in paths] == [0o644, 0o644]
    assert [path.read_bytes() for path in write_evidence(finished)] == first


def test_a_run_still_verifies_with_the_files_in_it(finished: RunFolder) -> None:
    before = verify(finished.path).sentence
    write_evidence(finished)
    assert verify(finished.path).sentence == before
    assert verify(finished.path).holds


def test_every_section_is_there_and_says_what_it_is_for(whole: tuple[str, Page, dict]) -> None:
    _, page, data = whole
    sections = page.sections
    assert set(sections) >= SECTIONS
    assert "Digits & <friends>: evidence for data protection" in sections["head"]
    assert "Everything holds: 13 outcomes and the closing record" in sections["summary"]
    assert "Four hospitals share the digits out." in sections["study"]
    assert data["run"]["study"] in sections["study"]
    assert "no record of an approval" in sections["study"]
    assert "No differential privacy" in sections["privacy"]
    assert "No differential privacy" in sections["summary"]
    assert "securefl attack RUN" in sections["attacks"]
    assert "did not check the sum of round 9" in sections["receipts"]
    assert "without west (no-answer)" in sections["receipts"]
    assert "MUST BE KEPT" in sections["retention"]


def test_it_is_no_legal_advice_at_the_top_and_at_the_bottom(whole: tuple[str, Page, dict]) -> None:
    text, _, data = whole
    assert text.count(NO_ADVICE) == 2
    first, last = text.index(NO_ADVICE), text.rindex(NO_ADVICE)
    assert first < text.index('<section id="summary"')
    assert last > text.rindex("</section>")
    assert data["notice"] == NO_ADVICE


def test_what_is_not_guaranteed_is_as_prominent_as_what_is(whole: tuple[str, Page, dict]) -> None:
    text, page, data = whole
    # Side by side, one style for both, before any detail.
    assert re.search(
        r'<div class="both">\s*<section id="guaranteed" class="box yes">.*?</section>\s*'
        r'<section id="not-guaranteed" class="box no">',
        text,
        re.S,
    )
    assert text.index('id="not-guaranteed"') < text.index('<section id="study"')
    assert len(data["not_guaranteed"]) >= 10
    for statement in data["not_guaranteed"]:
        assert statement["head"] in page.sections["not-guaranteed"]


def test_members_stand_with_the_fingerprints_of_their_pinned_keys(
    whole: tuple[str, Page, dict], finished: RunFolder
) -> None:
    _, page, data = whole
    listed = {member["name"]: member for member in data["study_and_members"]["members"]}
    pinned = members.load(finished.consortium_file).members
    assert {m.name: m.fingerprint for m in pinned} == {n: m["fingerprint"] for n, m in listed.items()}
    assert all(member.fingerprint in page.sections["study"] for member in pinned)
    assert listed["party-1"]["signed"] == "13 of 13 receipts and the closing record"
    # West was silent in round 5; south's silence in round 9 left that check unfinished for all.
    assert listed["west"]["signed"].startswith("contributions, 12 of which were added; 11 answers")
    assert listed["east"]["signed"].startswith("contributions, 13 of which were added; 12 answers")


def test_every_link_leads_to_a_figure_a_receipt_a_claim_or_a_test(whole: tuple[str, Page, dict]) -> None:
    _, page, data = whole
    assert len(set(page.ids)) == len(page.ids)
    assert len(page.links()) > 60
    for link in page.links():
        assert link.startswith("#"), link
        assert link[1:] in page.ids, link
    for provision in data["law"]:
        assert provision["links"], provision["where"]
    for statement in data["guaranteed"]:
        assert statement["claim"] in CLAIMS
    for claim in data["claims"]:
        assert claim["id"] in CLAIMS
        assert all(exists(test) for test in claim["shown"])


def test_nothing_on_it_comes_from_elsewhere(whole: tuple[str, Page, dict]) -> None:
    text, page, _ = whole
    assert not re.search(r"<script|<link|<iframe|url\(|@import|https?://", text)
    loaded = [value for _, name, value in page.attributes if name in ("src", "srcset", "data", "poster")]
    assert all(value.startswith("data:") for value in loaded)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]


def test_tables_name_their_columns_and_the_page_its_language(whole: tuple[str, Page, dict]) -> None:
    text, page, _ = whole
    assert ("html", "lang", "en-GB") in page.attributes
    assert '<a class="skip" href="#main">' in text
    for table in re.findall(r"<table.*?</table>", text, re.S):
        assert 'scope="' in table
    levels = [int(level) for level in re.findall(r"<h([1-6])", text)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


CANARY = "canary-Erika-Mustermann-19640812"


def test_no_secret_and_no_patient_is_in_it(finished: RunFolder) -> None:
    """What a run folder may hold beside the facts: private keys, updates, and what a bad message said."""
    line = finished.history()
    line[5]["absent"]["west"]["explanation"] = f"Record {CANARY} is malformed."
    finished.write_history(line)
    info = finished.info()
    (finished.path / "run.json").write_text(json.dumps({**info, "folder": f"/data/{CANARY}"}))
    for place in ("keys/west/note", "homes/west/pledge-12", "logs/hospitals-1.log", "exhibits/note"):
        (finished.path / place).parent.mkdir(exist_ok=True)
        (finished.path / place).write_text(CANARY)
    text, _, data = read(finished)
    found = text + json.dumps(data)
    assert CANARY not in found
    keys = [path.read_bytes() for path in finished.keys.rglob("*.key")]
    assert len(keys) >= 8 * 2
    for key in keys:
        raw = base64.b64decode(key) if b"BEGIN" not in key else key
        for shown in (key.decode().strip(), raw.hex(), base64.b64encode(raw).decode()):
            assert shown not in found


def test_control_a_canary_where_the_author_writes_would_be_found(finished: RunFolder) -> None:
    study = finished.path / "study" / "study.toml"
    study.write_text(study.read_text().replace("Four hospitals", CANARY))
    text, _, data = read(finished)
    assert CANARY in text
    assert CANARY in json.dumps(data)


def test_a_broken_receipt_shows_at_the_top_with_the_first_line_that_fails(finished: RunFolder) -> None:
    receipt = finished.receipts / "receipt-000003"
    content = bytearray(receipt.read_bytes())
    content[-1] ^= 1
    receipt.write_bytes(bytes(content))
    _, page, data = read(finished)
    assert data["receipts"]["first_fault"]["name"] == "round 3"
    assert not data["receipts"]["holds"]
    assert "Not verified, round 3" in page.sections["summary"]
    assert "First line that does not hold: round 3" in page.sections["receipts"]


def test_members_known_from_elsewhere_are_held_against_the_folder(
    finished: RunFolder, tmp_path: Path
) -> None:
    own = members.load(finished.consortium_file)
    _, data = write_evidence(finished, own)
    assert json.loads(data.read_text())["receipts"]["keys_from_outside"] is True
    other = members.create(tmp_path / "other", [*own.hospitals], [*own.parties], "dealer")
    _, data = write_evidence(finished, other)
    assert json.loads(data.read_text())["receipts"]["holds"] is False


def test_a_run_under_way_gets_what_there_is(begun: RunFolder, just_prepared: RunFolder) -> None:
    _, page, data = read(begun)
    assert "The run has not ended" in page.sections["head"]
    assert data["receipts"]["closed"] is False
    _, page, data = read(just_prepared)
    assert "There is no receipt yet." in page.sections["summary"]
    assert data["sent"]["sites"][0]["sent"][0]["times"] == 0


def test_a_study_that_cannot_be_read_promises_nothing(finished: RunFolder) -> None:
    (finished.path / "study" / "study.toml").write_text("nonsense")
    _, page, data = read(finished)
    assert data["guaranteed"] == []
    assert "cannot be read" in page.sections["not-guaranteed"]
    assert "not known" in page.sections["law"]
    for link in page.links():
        assert link[1:] in page.ids, link


def test_no_run_no_page(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not the folder of a run"):
        write_evidence(RunFolder(tmp_path))
    assert list(tmp_path.iterdir()) == []
