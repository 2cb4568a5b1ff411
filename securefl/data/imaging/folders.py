"""Grey or colour image files (PNG, JPEG), in a table or in one folder a label.

Without a table the hospital's folder holds one folder a label, and the labels are numbered from 0 in the alphabetical
order of the folders' names. A file is called ``<patient>_<anything>.png``: its patient is what stands before the first
underscore.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path

import numpy as np

from securefl.data.imaging.table import Entry, check_patients, inside
from securefl.data.imaging.volumes import Voxels, square
from securefl.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg")
MAXIMUM_PIXELS = 2**26
MAXIMUM_BYTES = 2**29


def read_folders(folder: Path, hospital: str) -> tuple[list[Entry], int]:
    """The images in folders that are named after labels, by name, and the number of labels.

    Raises:
        DataError: fewer than two labels, a folder without images, or a name without a patient.
    """
    labels = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(labels) < 2:
        raise DataError(
            f"Hospital {hospital}: the images' folder must hold a table, or one folder a label and at least two, but "
            f"holds {len(labels)} folders."
        )
    entries: list[Entry] = []
    for number, place in enumerate(labels):
        files = sorted(p for p in place.iterdir() if not p.name.startswith("."))
        if not files:
            raise DataError(
                f"Hospital {hospital}: the folder {place.name} holds no images; put them there, or write a table if "
                "the hospital has none with this label."
            )
        for file in files:
            where = f"Hospital {hospital}, {place.name}/{file.name}"
            patient, underscore, _ = file.name.partition("_")
            if not patient.strip() or not underscore:
                raise DataError(
                    f"{where}: name the image <patient>_<anything>.png, so that its patient is known."
                )
            path = inside(folder, str(file), where)
            entries.append(Entry(where, patient, path, number))
    check_patients(entries)
    return entries, len(labels)


def read_image(path: Path, size: int, where: str) -> tuple[Voxels, bytes]:
    """An image as float32 (size, size) from 0 to 1, and a digest of the file.

    8 bits are divided by 255 and 16 by 65535. Colour becomes grey (ITU-R 601-2). The image is centred on a black square
    and resized.

    Raises:
        DataError: no PNG or JPEG file, cut or damaged, of another pixel type, or of more than ``MAXIMUM_PIXELS``.
    """
    from PIL import Image, ImageOps

    if not path.is_file() or not path.name.lower().endswith(SUFFIXES):
        raise DataError(
            f"{where}: an image is a file that ends in {', '.join(SUFFIXES)}; convert it or remove it."
        )
    try:
        if path.stat().st_size > MAXIMUM_BYTES:
            raise DataError(
                f"{where}: the image file is larger than {MAXIMUM_BYTES >> 20} MiB; leave it out."
            )
        content = path.read_bytes()
        with warnings.catch_warnings():
            # Pillow only warns of an image that is a little too large.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=["PNG", "JPEG"]) as image:
                if image.width * image.height > MAXIMUM_PIXELS:
                    raise Image.DecompressionBombError
                image.load()
                grey = _grey(ImageOps.exif_transpose(image), where)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{where}: the image has more than {MAXIMUM_PIXELS} pixels; leave it out.") from None
    except DataError:
        raise
    except Exception as error:  # Pillow raises many kinds, SyntaxError and struct.error among them
        raise DataError(
            f"{where} is no whole PNG or JPEG file, but cut or damaged ({type(error).__name__}); copy it again."
        ) from None
    return square(grey, size), hashlib.blake2b(content, digest_size=32).digest()


def _grey(image: object, where: str) -> Voxels:
    from PIL import Image

    if not isinstance(image, Image.Image) or image.mode not in ("L", "RGB", "I", "I;16", "I;16B", "I;16L"):
        mode = getattr(image, "mode", "?")
        raise DataError(
            f"{where}: the image must be grey with 8 or 16 bits, or RGB, but has mode {mode}; convert it."
        )
    if image.mode in ("L", "RGB"):
        return np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255)
    return np.asarray(image).astype(np.float32) / np.float32(65535)
