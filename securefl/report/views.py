"""What each role saw of one hospital's update, as pictures on one scale, with the correlation to the real update.

Everything that is not already a vector of ring elements (an envelope) is read as one, w bits after w bits, so that all
pictures can be coloured alike. A number v of the ring is shown as sign(v) log2(1 + |v|) / (w - 1), from -1 to 1: on a
linear scale an update, thousands of times smaller than the ring, would be a blank square beside any share.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray

from protocols.envelope import OVERHEAD_BYTES
from protocols.prg import SEED_BYTES, ring_dtype
from protocols.ring import from_signed, signed
from securefl.audit import Receipt
from securefl.engines.exhibits import EXCERPT
from securefl.report.evidence import Evidence

BINS = 33
"""Slices of the ring in a histogram; odd, so that zero lies within one."""
_COLOURS = "RdBu_r"
_SIDE = math.isqrt(EXCERPT)
_CONTENT = OVERHEAD_BYTES - 16
"""Where an envelope's content begins: after both encapsulations (the byte of kind and the tag come last)."""


@dataclass(frozen=True)
class Correlation:
    """Pearson's coefficient to the update over ``count`` coordinates; ``error`` is its standard error if unrelated."""

    value: float
    error: float
    count: int

    @property
    def notable(self) -> bool:
        """Whether it is further from zero than chance explains (four standard errors)."""
        return abs(self.value) > 4 * self.error


@dataclass(frozen=True)
class View:
    """One thing that was seen.

    Attributes:
        title, note: what it is, in words.
        common, own: PNG data URIs: on the scale of all views; linear, between -reach and reach.
        reach: largest absolute value, as a fraction of the ring's largest number.
        bars: share of the numbers in each of ``BINS`` equal slices of the ring.
        count: numbers in the picture.
        correlation: to the real update; None for the update itself, or if it is not defined.
    """

    title: str
    note: str
    common: str
    own: str
    reach: float
    bars: Sequence[float]
    count: int
    correlation: Correlation | None


@dataclass(frozen=True)
class Viewer:
    """One role and what it saw."""

    who: str
    sees: str
    views: Sequence[View]


@dataclass(frozen=True)
class Exhibition:
    """All viewers.

    Attributes:
        hospital: whose update it is.
        width: w, bits of the ring.
        side: cells in a row of a picture.
        viewers: from the hospital outwards.
        adds_up: whether all shares together gave the update, coordinate by coordinate; None if one is missing.
        count: coordinates that were compared for that.
        scale: colours of the common scale, PNG data URI.
    """

    hospital: str
    width: int
    side: int
    viewers: Sequence[Viewer]
    adds_up: bool | None
    count: int
    scale: str


def exhibition(evidence: Evidence, receipt: Receipt | None) -> Exhibition | None:
    """The pictures of a run, or None if nothing was kept.

    Args:
        receipt: of the round that they are of; None if it is not settled, or cannot be read.
    """
    seen = evidence.seen
    hospital = next((name.removeprefix("update-") for name in seen if name.startswith("update-")), None)
    if not seen or evidence.terms is None:
        return None
    hospital = hospital or next(iter(evidence.terms.hospitals))
    width = evidence.terms.update.width
    # An attempt with more parties may have left more than the one that was opened.
    parties = list(receipt.committee if receipt else evidence.terms.parties)
    update = seen.get(f"update-{hospital}")
    shares = _of_parties("share", seen, parties, hospital)
    envelopes = _of_parties("envelope", seen, parties, hospital)
    cells = update.size if update is not None else EXCERPT
    painter = _Painter(update, width, min(_SIDE, max(1, math.ceil(math.sqrt(cells)))))
    adds_up = _adds_up(update, shares) if len(shares) == len(parties) else None
    viewers = [
        Viewer(
            f"Hospital {hospital}",
            "It computed this update, and sends it to nobody.",
            list(painter.update(hospital)),
        ),
        Viewer(
            "Coordinator",
            "It carries the envelopes and can open none; it sees these bytes and their number.",
            [painter.envelope(party, data) for party, data in envelopes.items()],
        ),
        Viewer(
            "Parties",
            "Each opens its own envelope and finds one share: a vector, or the seed of one.",
            [
                painter.share(f"Share of {party}", f"Seen by {party} only.", share)
                for party, share in shares.items()
            ],
        ),
        Viewer(
            "Colluding parties",
            "All parties but one put their shares together; the missing one still hides the update.",
            list(painter.together(shares, len(parties))),
        ),
        Viewer(
            "Everyone",
            "The opened sum is what the round releases: to the parties, the coordinator and every hospital.",
            [
                painter.sum(
                    seen["sum"],
                    receipt is None or hospital in receipt.included,
                    evidence.terms.private is not None,
                )
            ]
            if "sum" in seen
            else [],
        ),
    ]
    return Exhibition(
        hospital=hospital,
        width=width,
        side=painter.side,
        viewers=[viewer for viewer in viewers if viewer.views],
        adds_up=adds_up,
        count=update.size if update is not None else 0,
        scale=_png(np.linspace(-1, 1, 256)[None, :]),
    )


def correlation(update: NDArray[Any], view: NDArray[Any]) -> Correlation | None:
    """Pearson's correlation over the coordinates that both have; None if it is not defined.

    Args:
        update, view: signed integers, any lengths.
    """
    count = min(update.size, view.size)
    x, y = (v[:count].astype(np.float64) for v in (update, view))
    if count < 3 or x.std() == 0 or y.std() == 0:
        return None
    return Correlation(float(np.corrcoef(x, y)[0, 1]), 1 / math.sqrt(count), count)


def _of_parties(
    kind: str, seen: Mapping[str, NDArray[Any]], parties: Sequence[str], hospital: str
) -> dict[str, NDArray[Any]]:
    names = {party: f"{kind}-{party}-{hospital}" for party in parties}
    return {party: seen[name] for party, name in names.items() if name in seen}


def _adds_up(update: NDArray[Any] | None, shares: Mapping[str, NDArray[Any]]) -> bool | None:
    if update is None:
        return None
    total = np.sum(list(shares.values()), axis=0, dtype=next(iter(shares.values())).dtype)
    return bool(np.array_equal(signed(total), update))


class _Painter:
    """Turns ring elements into views of one size, all beside the same update."""

    def __init__(self, update: NDArray[Any] | None, width: int, side: int) -> None:
        self._update, self._width, self.side = update, width, side

    def update(self, hospital: str) -> Iterator[View]:
        if self._update is not None:
            title, note = f"The real update of {hospital}", "Encoded as integers, before sharing."
            yield self._view(title, note, self._update, None)

    def envelope(self, party: str, data: NDArray[Any]) -> View:
        whole = self._elements(data)
        content = self._elements(data[_CONTENT:])
        # The length alone tells what is inside, to the coordinator as well.
        carries = data.size != OVERHEAD_BYTES + 1 + SEED_BYTES
        note = "Sealed, with a vector in it." if carries else "Sealed, with a seed in it."
        return self._view(f"Envelope for {party}", note, whole, content if carries else whole)

    def share(self, title: str, note: str, share: NDArray[Any]) -> View:
        values = signed(share)
        return self._view(title, note, values, values)

    def together(self, shares: Mapping[str, NDArray[Any]], parties: int) -> Iterator[View]:
        if len(shares) == parties > 2:
            some = list(shares)[:-1]
            total = np.sum([shares[party] for party in some], axis=0, dtype=shares[some[0]].dtype)
            yield self.share("Sum of all shares but one", f"Seen if {' and '.join(some)} collude.", total)

    def sum(self, total: NDArray[Any], included: bool, noisy: bool) -> View:
        note = "The update is part of it." if included else "The update is NOT part of it: it was left out."
        if noisy:
            note += " So is the noise of every party." if included else " The noise of every party is."
        return self._view("The opened sum", note, total, total)

    def _elements(self, data: NDArray[Any]) -> NDArray[np.int64]:
        step = self._width // 8
        whole = data[: data.size // step * step]
        return signed(np.frombuffer(whole.tobytes(), dtype=ring_dtype(self._width)))

    def _view(
        self, title: str, note: str, values: NDArray[np.int64], compared: NDArray[np.int64] | None
    ) -> View:
        # An exhibit that does not fit the ring would colour wrongly: reduce it, as the ring does.
        values = signed(from_signed(values, self._width))[: self.side**2]
        largest = 2.0 ** (self._width - 1)
        numbers = values.astype(np.float64)
        reach = float(np.abs(numbers).max(initial=0.0))
        common = np.sign(numbers) * np.log2(1 + np.abs(numbers)) / (self._width - 1)
        bars, _ = np.histogram(numbers / largest, bins=BINS, range=(-1, 1))
        return View(
            title=title,
            note=note,
            common=_png(self._grid(common)),
            own=_png(self._grid(numbers / reach if reach else numbers)),
            reach=reach / largest,
            bars=(bars / max(1, values.size)).tolist(),
            count=int(values.size),
            correlation=None
            if self._update is None or compared is None
            else correlation(self._update, compared),
        )

    def _grid(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(side, side) cells, row by row; what is not there is NaN and stays transparent."""
        grid = np.full(self.side**2, np.nan)
        grid[: values.size] = values
        return grid.reshape(self.side, self.side)


def _png(values: NDArray[np.float64]) -> str:
    """A PNG as a data URI, one pixel a value from -1 to 1."""
    rgba = mpl.colormaps[_COLOURS]((np.nan_to_num(values) + 1) / 2, bytes=True)
    rgba[np.isnan(values), 3] = 0
    file = io.BytesIO()
    nameless: Any = {"Software": None}
    imsave(file, rgba, format="png", metadata=nameless)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
