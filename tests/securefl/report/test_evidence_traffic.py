"""What left each hospital: the figures against the files that they are of."""

from __future__ import annotations

import json

import pytest

from protocols.chain import SignedOutcome
from securefl.audit import verify
from securefl.report.evidence import gather
from securefl.report.evidence_traffic import Site, Traffic, traffic
from securefl.run_folder import RunFolder

UPLOAD = 16600
"""Bytes that the conftest's history gives each contribution."""


def moved_in(run: RunFolder) -> Traffic:
    return traffic(run, gather(run), verify(run.path))


def site(found: Traffic, hospital: str) -> Site:
    return next(s for s in found.sites if s.hospital == hospital)


def times(found: Site) -> list[int]:
    return [sent.times for sent in found.sent]


def test_each_message_is_counted_for_the_hospital_that_sent_it(finished: RunFolder) -> None:
    # West is silent in round 5; north's update of round 7 is excluded, but it has sent it; nobody's check of round 9
    # is on record, for south does not answer.
    found = moved_in(finished)
    assert [s.hospital for s in found.sites] == ["east", "north", "south", "west"]
    assert times(site(found, "east")) == [1, 12, 12, 12, 13]
    assert times(site(found, "north")) == [1, 12, 11, 11, 13]
    assert times(site(found, "west")) == [1, 11, 11, 11, 13]


def test_measured_bytes_are_the_histories(finished: RunFolder) -> None:
    found = moved_in(finished)
    statistics, updates, *_ = site(found, "west").sent
    assert (statistics.source, statistics.size) == ("measured", UPLOAD)
    assert (updates.source, updates.size) == ("measured", 11 * UPLOAD)


def test_recorded_bytes_are_in_the_records(finished: RunFolder) -> None:
    found = moved_in(finished)
    recorded = [sent for s in found.sites for sent in s.sent if sent.source == "recorded"]
    on_disk = sum(path.stat().st_size for path in finished.receipts.glob("verification-*"))
    # In a record, its own frame stands in the place of each message's.
    assert sum(sent.size or 0 for sent in recorded) == pytest.approx(on_disk, rel=0.04)


def test_opened_bytes_are_those_of_the_sums(finished: RunFolder) -> None:
    statistics, updates, bits, *_ = moved_in(finished).opened
    sizes = [path.stat().st_size for path in sorted(finished.receipts.glob("sum-*"))]
    assert (statistics.times, statistics.size) == (1, sizes[0])
    assert (updates.times, updates.size) == (12, sum(sizes[1:]))
    assert "total number of records" in statistics.what
    # Four hospitals on each list but that of round 5.
    assert (bits.what[:7], bits.times) == ("one bit", 4 * 12 - 1)


def test_what_was_not_measured_has_no_figure_and_no_total(finished: RunFolder) -> None:
    lines = finished.history()
    lines[4]["upload_bytes"] = None
    finished.write_history(lines)
    found = site(moved_in(finished), "east")
    assert found.sent[1].size is None
    assert found.total is None
    assert found.sent[0].size == UPLOAD


def test_a_contribution_is_made_of_its_pieces(finished: RunFolder) -> None:
    found = moved_in(finished)
    assert sum(size for _, size in found.pieces) == UPLOAD
    assert dict(found.pieces)["one party's share, written out"] == 3190 * 4


def test_attempts_that_were_not_settled_are_said_to_be_left_out(finished: RunFolder) -> None:
    assert moved_in(finished).repeated == 0
    path = finished.receipts / "receipt-000002"
    signed = SignedOutcome.from_bytes(path.read_bytes())
    context = signed.outcome.context.model_copy(update={"attempt": 3})
    outcome = signed.outcome.model_copy(update={"context": context})
    path.write_bytes(signed.model_copy(update={"outcome": outcome}).to_bytes())
    found = moved_in(finished)
    assert found.repeated == 2
    assert any("2 attempts" in note for note in found.notes)


def test_a_cut_history_and_a_damaged_receipt_stop_nothing(finished: RunFolder) -> None:
    (finished.receipts / "receipt-000003").write_bytes(b"damaged")
    (finished.path / "history.jsonl").write_text(json.dumps({"round": 0}) + "\n")
    found = moved_in(finished)
    assert times(site(found, "east"))[:2] == [1, 2]
    assert site(found, "east").sent[0].size is None


@pytest.mark.parametrize("place", ["study/study.toml", "consortium.toml"])
def test_without_the_terms_nothing_is_counted(finished: RunFolder, place: str) -> None:
    (finished.path / place).unlink()
    found = moved_in(finished)
    assert not found.sites
    assert "cannot be read" in found.notes[0]
