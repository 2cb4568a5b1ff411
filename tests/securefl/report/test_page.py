"""The page: what stands on it, that nothing on it comes from elsewhere, and that it copes with what is missing."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from securefl.errors import RunError
from securefl.report import write_report
from securefl.report.evidence import gather
from securefl.report.page import heat_map
from securefl.run_folder import RunFolder

VOID = {"meta", "img", "br", "rect", "path", "use"}


class Page(HTMLParser):
    """Text by section, every attribute, and whether elements are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.sections: dict[str, str] = {}
        self.ids: list[str] = []
        self._section = "head"
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        names = dict(attrs)
        if names.get("id"):
            self.ids.append(names["id"] or "")
        if tag == "section":
            self._section = names["id"] or ""
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.sections[self._section] = self.sections.get(self._section, "") + data


def read(run: RunFolder) -> tuple[str, Page]:
    html = write_report(run).read_text()
    page = Page(html)
    assert page.open == []
    return html, page


@pytest.fixture(scope="module")
def whole(finished_once: Path) -> tuple[str, Page]:
    return read(RunFolder(finished_once))


def test_it_stands_in_the_run_folder_and_anyone_may_read_it(finished: RunFolder) -> None:
    path = write_report(finished)
    assert path == finished.path / "report.html"
    assert path.stat().st_mode & 0o777 == 0o644


def test_every_section_says_what_it_is_for(whole: tuple[str, Page]) -> None:
    _, page = whole
    sections = page.sections
    assert "Everything holds: 13 outcomes and the closing record" in sections["head"]
    assert "did not check the sum of round 9, which is the committee's word alone" in sections["head"]
    assert "the same model, bit for bit" in sections["head"]
    assert "give that update exactly (3,190 coordinates" in sections["head"]
    assert "0.9123" in sections["result"]
    assert "+5.88" in sections["result"]
    assert "16,600 bytes" in sections["result"]
    assert "chance alone moves an accuracy by about 0.9 points" in sections["result"]
    assert "federated, secure" in sections["accuracy"]
    assert "each hospital alone (mean, range)" in sections["accuracy"]
    assert "held out" in sections["records"]
    for name in ("real update of east", "Envelope for party-3", "Share of party-1", "The opened sum"):
        assert name in sections["seen"]
    assert "one vector" in sections["cost"]
    assert sections["receipts"].count("✓ party-2".replace(" ", "\xa0")) == 14
    assert "Up to 2 of the 3 parties" in sections["limits"]
    assert "differential privacy" in sections["limits"]
    assert "one that is twice as long as 1.0 is left out" in sections["limits"]
    assert "The dealer is trusted to work with nobody" in sections["limits"]
    assert "the sum is the committee's word alone (here: round 9)" in sections["limits"]
    assert "x86_64 AVX2" in sections["study"]
    assert 'source = "mnist-5k"' in sections["study"]


def test_nothing_comes_from_elsewhere(whole: tuple[str, Page]) -> None:
    html, page = whole
    assert "http:" not in html
    assert "https:" not in html
    assert "<script" not in html
    assert "@import" not in html
    assert "<link" not in html
    for _, name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "data", "action"):
            assert value.startswith(("#", "data:image/png;base64,"))
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))


def test_what_refers_inside_the_page_finds_exactly_one_place(whole: tuple[str, Page]) -> None:
    html, page = whole
    assert len(page.ids) == len(set(page.ids))
    targets = {value for _, name, value in page.attributes if name == "href"}
    targets |= set(re.findall(r"url\(([^)]*)\)", html))
    assert {target.removeprefix("#") for target in targets} <= set(page.ids)


def test_names_and_explanations_are_text_and_never_markup(whole: tuple[str, Page]) -> None:
    html, page = whole
    assert "It has <script>alert(1)</script> in it." in page.sections["accuracy"]
    assert "&lt;script&gt;" in html
    assert "Digits & <friends>" in page.sections["head"]
    assert "<friends>" not in html


def test_the_same_folder_gives_the_same_bytes(finished: RunFolder) -> None:
    assert write_report(finished).read_bytes() == write_report(finished).read_bytes()


def test_counts_stand_in_the_heat_map() -> None:
    rows = heat_map({"hospitals": {"east": [0, 5], "west": [10, 0]}})
    assert [(row.name, row.cells, row.total) for row in rows] == [
        ("east", [(0, 0.0), (5, 0.5)], 5),
        ("west", [(10, 1.0), (0, 0.0)], 10),
    ]
    assert heat_map({}) == []


def test_a_run_that_has_begun_shows_what_there_is(begun: RunFolder) -> None:
    _, page = read(begun)
    assert "Everything holds so far: 3 outcomes" in page.sections["head"]
    assert "The run has not ended" in page.sections["head"]
    assert "There are no final figures" in page.sections["result"]
    assert "Share of party-1" in page.sections["seen"]
    assert "There is no closing record" in page.sections["receipts"]


def test_a_run_in_which_nothing_happened_yet_has_a_page(just_prepared: RunFolder) -> None:
    _, page = read(just_prepared)
    assert "There is no receipt yet" in page.sections["receipts"]
    assert "Nothing was kept" in page.sections["seen"]
    assert "No accuracy is known" in page.sections["accuracy"]


@pytest.mark.parametrize(
    "name",
    ["summary.json", "history.jsonl", "partition.json", "baselines", "exhibits", "study", "consortium.toml"],
)
def test_any_one_thing_may_be_missing(finished: RunFolder, name: str) -> None:
    path = finished.path / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    _, page = read(finished)
    assert len(page.sections) == 9


@pytest.mark.parametrize("name", ["summary.json", "history.jsonl", "partition.json", "baselines/float.json"])
def test_a_damaged_file_is_named(finished: RunFolder, name: str) -> None:
    (finished.path / name).write_text("{ not json\n")
    assert f"{name.split('/')[-1]} cannot be read." in gather(finished).missing


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("summary.json", {"accuracy": "0.9"}),
        ("summary.json", {"accuracy": 1.5}),
        ("summary.json", {"rounds": [4]}),
        ("summary.json", {"upload_ratio": {}}),
        ("summary.json", {"width": None}),
        ("summary.json", {"diagnosis": {"all": {"auc": 0.5}}}),
        ("summary.json", {"diagnosis": [1]}),
        ("summary.json", {"privacy": {"epsilon": {}}}),
        (
            "summary.json",
            {"privacy": {"epsilon": {}, "unit": "patient", "delta": 1e-5, "colluding_parties": 1}},
        ),
        ("partition.json", {"hospitals": []}),
        ("partition.json", {"hospitals": {"west": "many"}}),
        ("partition.json", {"hospitals": {"west": [-1]}}),
        ("partition.json", {"test": [1.5]}),
        ("baselines/local.json", {"hospitals": {"west": [0.5], "east": []}}),
        ("baselines/local.json", {"accuracy": "high"}),
        ("baselines/float.json", {"accuracy": [[0.5]]}),
    ],
)
def test_a_file_of_other_types_is_named(finished: RunFolder, name: str, change: dict[str, object]) -> None:
    path = finished.path / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert f"{path.name} cannot be read." in gather(finished).missing


def test_the_page_says_which_file_cannot_be_read(finished: RunFolder) -> None:
    path = finished.path / "partition.json"
    path.write_text('{"test": [1.5]}')
    _, page = read(finished)
    assert "partition.json cannot be read." in page.sections["head"]


@pytest.mark.parametrize(
    "damage",
    [b"\xff\n", b"[]\n", b"{}\n", b"5\n", b"[" * 10**5 + b"\n", b'{"round": -1}\n', b'{"round": 10000000}\n',
     b'{"round": true}\n', b'{"round": 1, "accuracy": "high"}\n', b'{"round": 1, "seconds": []}\n',
     b'{"round": 1, "absent": []}\n', b'{"round": 1, "absent": {"west": 5}}\n', b'{"round": 1, "included": 5}\n'],
)  # fmt: skip
def test_a_damaged_line_of_the_history_is_told(finished: RunFolder, damage: bytes) -> None:
    finished.history_file.write_bytes(finished.history_file.read_bytes() + damage)
    assert "history.jsonl cannot be read." in gather(finished).missing
    with pytest.raises(RunError, match=r"history\.jsonl cannot be read: remove it"):
        finished.history()


def test_a_line_with_its_round_alone_is_enough(finished: RunFolder) -> None:
    finished.write_history([{"round": n} for n in range(13)])
    _, page = read(finished)
    assert "history.jsonl cannot be read." not in page.sections["head"]


@pytest.mark.parametrize(
    "damage",
    [b"[]", b"{}", b"5", b"\xff", b"[" * 10**5, b'{"study": 5}', b'{"study": "a", "name": []}',
     b'{"study": "a", "started": 5}', b'{"study": "a", "folder": {}}'],
)  # fmt: skip
def test_a_damaged_run_file_is_refused(finished: RunFolder, damage: bytes) -> None:
    (finished.path / "run.json").write_bytes(damage)
    with pytest.raises(RunError, match=r"run\.json cannot be read: the run must be started anew"):
        write_report(finished)


def test_damaged_exhibits_are_named_on_the_page(finished: RunFolder) -> None:
    (finished.exhibits / "sum.safetensors").write_bytes(b"12345678901234567890")
    _, page = read(finished)
    assert "What the roles saw cannot be read." in page.sections["head"]


def test_a_study_without_the_simulation_mark_shows_no_update(finished: RunFolder) -> None:
    folder = finished.path / "study"
    text = (folder / "study.toml").read_text().replace("[simulation]", "")
    names = 'hospitals = ["east", "north", "south", "west"]\nparties = 3'
    assert names in text
    (folder / "study.toml").write_text(text.replace(names, 'file = "consortium.toml"'))
    shutil.copy(finished.consortium_file, folder / "consortium.toml")
    assert any(finished.exhibits.iterdir())
    html, page = read(finished)
    assert "only for studies marked [simulation]" in page.sections["seen"]
    assert "data:image" not in html
    assert "not known" in page.sections["records"].lower()


def test_timings_that_a_crash_swallowed_are_left_out(finished: RunFolder) -> None:
    lines = finished.history()
    for key in ("seconds", "training_seconds", "aggregation_seconds", "upload_bytes"):
        lines[3][key] = None
    finished.write_history(lines)
    read(finished)
    for line in lines:
        line["seconds"] = None
    finished.write_history(lines)
    _, page = read(finished)
    assert "No round was timed" in page.sections["cost"]


def test_another_model_in_the_clear_is_an_alarm(finished: RunFolder) -> None:
    summary = json.loads(finished.summary_file.read_text())
    finished.summary_file.write_text(json.dumps({**summary, "plaintext_identical": False}))
    _, page = read(finished)
    assert "gives another model" in page.sections["head"]
    assert "NOT the same model" in page.sections["result"]


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"run\.json"):
        write_report(RunFolder(tmp_path))
