"""The table of files: what it may hold, and every way in which patients and files can contradict one another."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securefl.data.imaging.table import patient_key, read_table
from securefl.errors import DataError

GOOD = ("anna,a.bin,0", "bert,b.bin,1", "anna,c.bin,1")


def table(root: Path, *rows: str, heading: str = "patient,file,label") -> None:
    for name in "abc":
        (root / f"{name}.bin").touch()
    (root / "records.csv").write_text("\n".join([heading, *rows]) + "\n")


def refused(root: Path, says: str, labelled: bool = True) -> str:
    with pytest.raises(DataError, match=says) as caught:
        read_table(root, "records.csv", "alpha", labelled)
    message = str(caught.value)
    assert "alpha" in message
    assert "records.csv" in message
    assert "anna" not in message.casefold(), "a patient's id is in the message"
    return message


def test_rows_come_in_order(tmp_path: Path) -> None:
    table(
        tmp_path,
        *GOOD,
        "",
        heading="label, file ,patient,remark".replace("label, file ,patient", "patient,file,label"),
    )
    refused(tmp_path, "row 2 of records.csv has 3 cells under 4 columns")
    table(tmp_path, *GOOD)
    entries = read_table(tmp_path, "records.csv", "alpha", labelled=True)
    assert [(e.patient, e.path.name, e.label) for e in entries] == [
        ("anna", "a.bin", 0),
        ("bert", "b.bin", 1),
        ("anna", "c.bin", 1),
    ]
    assert entries[1].where == "Hospital alpha, row 3 of records.csv (b.bin)"
    assert "anna" not in repr(entries)


def test_a_spreadsheet_s_byte_order_mark_other_columns_and_empty_lines_are_fine(tmp_path: Path) -> None:
    table(tmp_path)
    text = "note,file,label,patient\r\n\r\nx,a.bin, 1 ,anna\r\n\r\n"
    (tmp_path / "records.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (entry,) = read_table(tmp_path, "records.csv", "alpha", labelled=True)
    assert (entry.patient, entry.label) == ("anna", 1)
    assert "row 3" in entry.where


def test_a_label_may_be_missing_only_where_masks_give_it(tmp_path: Path) -> None:
    table(tmp_path, "anna,a.bin", heading="patient,file")
    assert read_table(tmp_path, "records.csv", "alpha", labelled=False)[0].label is None
    refused(tmp_path, "label is missing")
    table(tmp_path, "anna,a.bin,")
    assert read_table(tmp_path, "records.csv", "alpha", labelled=False)[0].label is None
    assert "a.bin" in refused(tmp_path, "the label is missing")


@pytest.mark.parametrize("label", ["-1", "1.0", "yes", "²", "99999999", "nan"])
def test_other_labels_are_refused(tmp_path: Path, label: str) -> None:
    table(tmp_path, GOOD[0], f"bert,b.bin,{label}")
    assert "row 3 of records.csv (b.bin)" in refused(tmp_path, "label must be an integer")


def test_malformed_tables(tmp_path: Path) -> None:
    refused(tmp_path, "records.csv is missing")
    table(tmp_path, heading="")
    refused(tmp_path, "patient, file, label is missing")
    table(tmp_path, *GOOD, heading="patient;file;label")
    refused(tmp_path, "separated by commas")
    table(tmp_path, "anna,a.bin,0,0", heading="patient,file,label,label")
    refused(tmp_path, "stands there twice")
    table(tmp_path)
    refused(tmp_path, "no rows")
    table(tmp_path, "", "")
    refused(tmp_path, "no rows")
    table(tmp_path, *GOOD, "anna,a")
    refused(tmp_path, "row 5 of records.csv has 2 cells")
    table(tmp_path, 'anna,"a.bin,0')
    refused(tmp_path, "no readable CSV")
    (tmp_path / "records.csv").write_bytes(b"patient,file,label\nJ\xfcrgen,a.bin,0\n")
    refused(tmp_path, "in UTF-8")
    table(tmp_path, " ,a.bin,0")
    refused(tmp_path, "patient is missing")
    table(tmp_path, "anna,,0")
    refused(tmp_path, "file is missing")
    table(tmp_path, "anna,d.bin,0")
    assert "d.bin" in refused(tmp_path, "does not exist")


def test_paths_stay_inside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside.bin").touch()
    (root / "link.bin").symlink_to(tmp_path / "outside.bin")
    (root / "inner.bin").symlink_to(root / "a.bin")
    (root / "loop.bin").symlink_to(root / "loop.bin")
    for file in ("../outside.bin", str(tmp_path / "outside.bin"), "link.bin", "x/../../outside.bin"):
        table(root, f"anna,{file},0")
        refused(root, "leads out of the hospital's folder")
    for file in ("loop.bin", "a" * 300):
        table(root, f"anna,{file},0")
        with pytest.raises(DataError):
            read_table(root, "records.csv", "alpha", True)
    for file in ("inner.bin", "x/../a.bin", str(root / "a.bin")):
        table(root, f"anna,{file},0")
        assert read_table(root, "records.csv", "alpha", True)[0].path == root / "a.bin"


def test_one_file_stands_once(tmp_path: Path) -> None:
    table(tmp_path, *GOOD, "anna,./a.bin,0")
    message = refused(tmp_path, "already lists this file, for the same patient")
    assert "row 5" in message
    assert "row 2" in message
    table(tmp_path, *GOOD, "carl,a.bin,0")
    refused(tmp_path, "for two patients")


@pytest.mark.parametrize(
    ("one", "other"), [("anna", "Anna"), ("anna", "anna "), ("p7", "p007"), ("7", "07"), ("a b", "ab")]
)
def test_spellings_of_one_patient_are_refused(tmp_path: Path, one: str, other: str) -> None:
    table(tmp_path, f"{one},a.bin,0", f"{other},b.bin,0")
    refused(tmp_path, "differs only by case, spaces or leading zeros")
    table(tmp_path, f"{one},a.bin,0", f"{one},b.bin,0")  # the control
    assert len(read_table(tmp_path, "records.csv", "alpha", True)) == 2


def test_clearly_different_ids_are_two_patients(tmp_path: Path) -> None:
    assert (
        len({patient_key(p) for p in ("7", "70", "700", "p7", "q7", "1-7", "17", "10-7", "1.07", "0")}) == 10
    )
    assert patient_key("1.07") == patient_key("1.7")


@given(st.text("aA0 7-", max_size=8))
def test_a_key_is_its_own_key(text: str) -> None:
    assert patient_key(patient_key(text)) == patient_key(text)
    assert patient_key(text.upper()) == patient_key(f" {text} ")
