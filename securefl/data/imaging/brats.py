"""The BraTS challenges' layout: one folder a case, with its T1 image and its lesion mask.

Source: the files of BraTS 2018 to 2021 (``BraTS2021_00000/BraTS2021_00000_t1.nii.gz``, ``..._seg.nii.gz``) and of
2023 and later (``BraTS-GLI-00005-000/BraTS-GLI-00005-000-t1n.nii.gz``, ``...-seg.nii.gz``), where the last three
digits count a patient's visits.
"""

from __future__ import annotations

import re
from pathlib import Path

from securefl.data.imaging.table import Entry, check_patients, inside
from securefl.errors import DataError

T1 = ("_t1", "-t1", "-t1n", "_t1n")
MASK = ("_seg", "-seg")
_VISIT = re.compile(r"(BraTS-[A-Za-z-]+-\d+)-\d{3}")


def read_cases(folder: Path, masks: str, hospital: str) -> list[Entry]:
    """Every case in the folder ``masks``: its T1 image, its mask, and its patient, which is the folder's name.

    Raises:
        DataError: there are no cases, or a case lacks its image or mask, or has two.
    """
    home = inside(folder, masks, f"Hospital {hospital}, {masks}")
    names = sorted(p.name for p in home.iterdir() if p.is_dir()) if home.is_dir() else []
    names = [name for name in names if not name.startswith(".")]
    if not names:
        raise DataError(
            f"Hospital {hospital}: the folder {masks} must hold one folder a patient, as in BraTS, but holds none."
        )
    entries = []
    for name in names:
        where = f"Hospital {hospital}, {masks}/{name}"
        image = _only(folder, home / name, name, T1, where)
        entries.append(
            Entry(
                f"{where}/{image.name}",
                patient_of(name),
                image,
                mask=_only(folder, home / name, name, MASK, where),
            )
        )
    check_patients(entries)
    return entries


def with_mask(entry: Entry, folder: Path, masks: str, hospital: str) -> Entry:
    """The entry with its mask. The case is the image's name up to its last ``_`` or ``-``.

    Raises:
        DataError: the case's folder in ``masks`` has no mask, or two.
    """
    case = re.sub(r"[_-][^_-]*$", "", re.sub(r"\.nii(\.gz)?$", "", entry.path.name))
    where = f"{entry.where}: its case {masks}/{case}"
    home = inside(folder, f"{masks}/{case}", where)
    return Entry(entry.where, entry.patient, entry.path, entry.label, _only(folder, home, case, MASK, where))


def patient_of(case: str) -> str:
    """The patient of a case: visits of one patient are one patient's."""
    visit = _VISIT.fullmatch(case)
    return visit.group(1) if visit else case


def _only(folder: Path, home: Path, case: str, endings: tuple[str, ...], where: str) -> Path:
    wanted = [f"{case}{ending}{suffix}" for ending in endings for suffix in (".nii.gz", ".nii")]
    found = [name for name in wanted if (home / name).is_file()]
    if len(found) != 1:
        raise DataError(
            f"{where} must hold exactly one file *{endings[0]}.nii.gz or *{endings[1]}.nii.gz (or .nii), named "
            f"after its folder, but holds {len(found)}."
        )
    return inside(folder, str(home / found[0]), where)
