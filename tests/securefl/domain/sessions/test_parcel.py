"""A finished run in pieces: whole at the other end, or not there."""

from __future__ import annotations

import os

import pytest

from securefl.domain import parcel
from securefl.domain.errors import ReleaseError
from securefl.domain.parcel import Piece, is_run_file, pieces, take

PROPOSAL = b"\1" * 32


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    files = {
        "run.json": b"{}",
        "model.safetensors": bytes(range(256)) * 300, "study/study.toml": b"name = 1\n",
        "study/parts/layers.py": b"", "receipts/receipt-000000": b"r", "receipts/closing": b"c",
        "permits/va.cbor": b"p",
        "homes/north/memory": b"secret", "keys/north/signing.key": b"secret", "report.html": b"unsigned",
    }  # fmt: skip
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def names(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("size", [7, 1000, 1 << 20])
def test_every_byte_arrives_and_nothing_that_a_member_keeps(run, tmp_path, monkeypatch, size):
    monkeypatch.setattr(parcel, "PIECE_BYTES", size)
    if size == 7:
        (run / "model.safetensors").write_bytes(b"twenty bytes of model")
    target = tmp_path / "there" / "result"
    done = [take(piece, target) for piece in pieces(PROPOSAL, run)]
    assert done == [False] * (len(done) - 1) + [True]
    assert names(target) == {
        "run.json", "model.safetensors", "study/study.toml", "study/parts/layers.py", "receipts/receipt-000000",
        "receipts/closing", "permits/va.cbor",
    }  # fmt: skip
    assert all((target / name).read_bytes() == (run / name).read_bytes() for name in names(target))


def test_a_parcel_without_one_piece_is_refused_and_sent_again_it_arrives(run, tmp_path, monkeypatch):
    monkeypatch.setattr(parcel, "PIECE_BYTES", 10_000)
    target = tmp_path / "there" / "result"
    sent = list(pieces(PROPOSAL, run))
    with pytest.raises(ReleaseError):
        any(take(piece, target) for piece in [*sent[:3], *sent[4:]])
    assert not target.exists()
    assert [take(piece, target) for piece in sent][-1]


@pytest.mark.parametrize("size", [7, 10_000, 1 << 20])
def test_a_piece_that_comes_again_after_a_crash_changes_nothing(run, tmp_path, monkeypatch, size):
    """Each in its turn: twice whole, and after half of it was written."""
    monkeypatch.setattr(parcel, "PIECE_BYTES", size)
    if size == 7:
        (run / "model.safetensors").write_bytes(b"twenty bytes of model")
    sent = list(pieces(PROPOSAL, run))
    for twice in range(len(sent)):
        target = tmp_path / str(twice) / "result"
        done = [take(piece, target) for piece in sent[: twice + 1]]
        path = (target if sent[twice].last else target.with_name("result.coming")) / sent[twice].name
        if not sent[twice].last and sent[twice].offset:
            os.truncate(path, sent[twice].offset + 1)
        done += [take(piece, target) for piece in sent[twice:]]
        assert done[-1]
        assert all((target / name).read_bytes() == (run / name).read_bytes() for name in names(target))
        assert len(names(target)) == 7


def test_another_parcel_after_a_part_of_one_arrives_although_it_begins_alike(run, tmp_path):
    first = list(pieces(PROPOSAL, run))
    (run / "model.safetensors").write_bytes(b"another")
    (run / "permits" / "va.cbor").unlink()
    second = list(pieces(PROPOSAL, run))
    for count in range(1, len(first)):
        target = tmp_path / str(count) / "result"
        assert not any(take(piece, target) for piece in first[:count])
        assert [take(piece, target) for piece in second][-1]
        assert (target / "model.safetensors").read_bytes() == b"another"
        assert len(names(target)) == 6


@pytest.mark.parametrize("offset", [-1, 5, 2**62])
def test_a_place_outside_of_its_file_is_refused(tmp_path, offset):
    for data in (b"", b"x"):
        piece = Piece(
            proposal=PROPOSAL, name="run.json", offset=offset, data=data, bytes_in_all=2, last=False
        )
        with pytest.raises(ReleaseError, match="is missing"):
            take(piece, tmp_path / "result")


@pytest.mark.parametrize(
    "name",
    [
        "../evil", "/etc/passwd", "study/../../evil", "receipts/../x", "keys/a", "study/.hidden", "study/a\0b",
        "study/",
        "receipts/closing/x", "study/" + "x" * 300, "", "homes/north/memory", "study/a b", "receipts/Receipt-000001",
    ],
)  # fmt: skip
def test_names_that_no_run_has_are_refused(tmp_path, name):
    assert not is_run_file(name)
    piece = Piece(proposal=PROPOSAL, name=name, offset=0, data=b"x", bytes_in_all=1, last=True)
    with pytest.raises(ReleaseError, match="has no file"):
        take(piece, tmp_path / "there" / "result")
    assert not (tmp_path / "there").exists() or not names(tmp_path / "there")


def test_a_file_that_is_a_folder_too_is_refused(tmp_path):
    def piece(name):
        return Piece(proposal=PROPOSAL, name=name, offset=0, data=b"x", bytes_in_all=2, last=False)

    take(piece("study/a"), tmp_path / "result")
    with pytest.raises(ReleaseError, match="both a file and a folder"):
        take(piece("study/a/b"), tmp_path / "result")


def test_more_bytes_than_were_said_are_refused(tmp_path):
    piece = Piece(proposal=PROPOSAL, name="run.json", offset=0, data=b"x" * 10, bytes_in_all=9, last=True)
    with pytest.raises(ReleaseError, match="more bytes than it said"):
        take(piece, tmp_path / "result")
    huge = Piece(proposal=PROPOSAL, name="run.json", offset=0, data=b"", bytes_in_all=2**60, last=False)
    with pytest.raises(ReleaseError, match="more bytes than it said"):
        take(huge, tmp_path / "result")


def test_no_run_no_parcel(tmp_path):
    with pytest.raises(ReleaseError, match="There is no finished run"):
        list(pieces(PROPOSAL, tmp_path))
