"""A vector as programs write numbers: as floats and integers of either byte order, and as text.

``canaries`` finds bytes. A vector that was written as other numbers has other bytes; its images are those of a stretch
of it, so that a part of the vector is found as well. Not found is what was rounded, scaled or put into another order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

STRETCH = 8
"""Numbers that are looked for, one after the other: zeros stand everywhere, so none of them is one."""
DIGITS = 12
"""Characters from which on one number is told from others by itself, whatever stands around it."""
_FLOATS = ("f8", "f4")
_INTEGERS = ("i8", "i4", "i2")
_BETWEEN = {"with commas": ",", "with commas and spaces": ", ", "with spaces": " ", "in lines": "\n"}


def images(name: str, numbers: NDArray[Any]) -> dict[str, bytes]:
    """What to search for, by name, to find a vector of floats or signed integers however it was written.

    Args:
        name: of the vector.
        numbers: (D,) float64 or int64.

    Raises:
        ValueError: no stretch of the vector is free of zeros.
    """
    stretch = _stretch(numbers)
    whole = np.issubdtype(numbers.dtype, np.integer)
    found = {}
    for kind in (*_FLOATS, *_INTEGERS) if whole else _FLOATS:
        if kind in _INTEGERS and not np.array_equal(stretch.astype(kind), stretch):
            continue  # it does not fit
        for order, said in (("<", "little-endian"), (">", "big-endian")):
            found[f"{name}, {said} {np.dtype(kind).name}"] = stretch.astype(f"{order}{kind}").tobytes()
    return found | {f"{name}, {said}": text.encode() for said, text in _texts(stretch).items()}


def _stretch(numbers: NDArray[Any]) -> NDArray[Any]:
    zeros = np.flatnonzero(numbers == 0)
    starts = np.concatenate([[0], zeros + 1])
    ends = np.concatenate([zeros, [numbers.size]])
    long = np.flatnonzero(ends - starts >= STRETCH)
    if not long.size:
        raise ValueError(f"No {STRETCH} numbers without a zero stand together in this vector.")
    return numbers[starts[long[0]] :][:STRETCH]


def _texts(stretch: NDArray[Any]) -> dict[str, str]:
    shown = {"": [repr(number) for number in stretch.tolist()]}
    if np.issubdtype(stretch.dtype, np.floating):
        short = stretch.astype(np.float32)
        shown[" as NumPy saves text"] = [f"{number:.18e}" for number in stretch]
        shown[" of float32"] = [repr(number) for number in short.tolist()]
        shown[" of float32, short"] = [str(number) for number in short]
    texts: dict[str, str] = {}
    for of, numbers in shown.items():
        texts |= {f"a list{of} {said}": between.join(numbers) for said, between in _BETWEEN.items()}
        texts |= {f"number {n}{of}": number for n, number in enumerate(numbers, 1) if len(number) >= DIGITS}
    return texts
