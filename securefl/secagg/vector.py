"""A reply's arrays and metrics as one vector, and a sum of such vectors as one averaged reply.

Only the layout travels in the open: names, shapes and types of arrays, names of metrics, and how long a metric is that
is a list. It depends on the app and not on the records, unless the app makes it so: a list with an entry for each of
its patients or classes says how many there are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from logging import getLogger
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from protocols.canonical import Record
from protocols.errors import ProtocolError
from securefl.errors import SecureFLError
from securefl.secagg.plan import EVALUATE, Plan, SecAggError

MAX_ENTRIES = 2**32
MAX_DIMENSIONS = 64
"""NumPy's."""
_TYPE = re.compile(r"[<>|=]?(?:[iu][1248]|f2|f4|f8|f16|b1)|\?")
"""NumPy's names of real numbers and truth values. Its parser takes far more, and stumbles over some of it."""
NOT_AS_AGREED = "The reply of the ClientApp cannot be added: its own log says why."
"""What the server is told of every failure over a client's records: which it was would tell something of them."""

_log = getLogger("flwr")


class ArrayPlace(Record):
    """An array: its name, NumPy type and shape."""

    kind = "secagg-array"
    name: str
    dtype: str
    shape: list[int]


class MetricPlace(Record):
    """A metric: its name and length; -1 for a single number."""

    kind = "secagg-metric"
    name: str
    length: int


class Layout(Record):
    """Where things stand in the vector, after the weight: arrays in the reply's order, then metrics by name.

    Attributes:
        arrays_name, metrics_name: names of the records in the reply; the first is empty where there are no arrays.
        metrics: the weight is not among them.
    """

    kind = "secagg-layout"
    arrays_name: str
    metrics_name: str
    arrays: list[ArrayPlace]
    metrics: list[MetricPlace]

    def size(self) -> int:
        """D, the weight counted; of a layout that was checked."""
        sizes = [math.prod(array.shape) for array in self.arrays]
        return 1 + sum(sizes) + sum(abs(metric.length) for metric in self.metrics)

    def difference(self, other: Layout) -> str:
        """The first thing that another layout has otherwise, in words; empty if there is none."""
        for kind in ("arrays", "metrics"):
            mine, theirs = getattr(self, kind), getattr(other, kind)
            for one, two in zip_longest(mine, theirs):
                if one != two:
                    return f"{_told(two)} in place of {_told(one)}"
        names = (self.arrays_name, self.metrics_name), (other.arrays_name, other.metrics_name)
        return "" if names[0] == names[1] else f"records {names[1]} in place of {names[0]}"

    def check(self) -> None:
        """Raise SecAggError unless the layout describes arrays of real numbers, of a sane size.

        A client may have written anything: NumPy reads a type only once it is known to be one.
        """
        if not all(_TYPE.fullmatch(array.dtype) for array in self.arrays):
            raise SecAggError("An array has entries that are not real numbers.")
        lengths = [abs(metric.length) for metric in self.metrics if metric.length >= -1]
        if len(lengths) < len(self.metrics) or not all(_fits(array.shape) for array in self.arrays):
            raise SecAggError("The layout of a reply makes no sense.")
        if self.size() > MAX_ENTRIES:
            raise SecAggError(f"A reply has more than {MAX_ENTRIES:,} entries.")


def _told(place: ArrayPlace | MetricPlace | None) -> str:
    match place:
        case ArrayPlace():
            return f"array {place.name!r} ({place.dtype}, {place.shape})"
        case MetricPlace():
            length = "a number" if place.length == -1 else f"a list of {place.length}"
            return f"metric {place.name!r} ({length})"
        case _:
            return "nothing"


def _fits(shape: list[int]) -> bool:
    """Whether NumPy has arrays of this shape; the product ends where it is too large."""
    if len(shape) > MAX_DIMENSIONS:
        return False
    entries = 1
    for d in shape:
        if not 0 <= d <= MAX_ENTRIES:
            return False
        entries *= max(d, 1)  # NumPy counts so too: an empty array has no shape without bound
        if entries > MAX_ENTRIES:
            return False
    return True


@contextmanager
def told_here_only() -> Iterator[None]:
    """Whatever goes wrong with a client's records: its own log says what, the server that the client leaves.

    Raises:
        SecAggError: in place of every other exception, those of the app too; its words are always the same.
    """
    try:
        yield
    except Exception as error:
        known = isinstance(error, (SecureFLError, ProtocolError))
        _log.error("Secure aggregation: %s", error if known else "the ClientApp failed.", exc_info=not known)
        raise SecAggError(NOT_AS_AGREED) from None


def pack(
    content: RecordDict, plan: Plan, purpose: str, resolution: float
) -> tuple[Layout, NDArray[np.float64]]:
    """A client's reply as a layout and (D,) numbers: n, n u, n m.

    Args:
        resolution: unit of the encoding. The weight is rounded to it before it multiplies anything: the sum of the
            weights, by which the server divides, is then that of the weights that the entries were multiplied with.

    Raises:
        SecAggError: not one record of arrays (none when evaluating) and one of metrics, no usable weight, or an entry
            that is not a number or beyond the bound. Only the client's own log may say which; see ``told_here_only``.
    """
    wanted = 0 if purpose == EVALUATE else 1
    if len(content.array_records) != wanted or len(content.metric_records) != 1:
        raise SecAggError(
            f"A reply to {purpose} has {wanted} ArrayRecord and 1 MetricRecord, this one has "
            f"{len(content.array_records)} and {len(content.metric_records)}."
        )
    [(metrics_name, metrics)] = content.metric_records.items()
    n = metrics.get(plan.weight)
    if isinstance(n, list) or n is None or not 0 < n <= plan.max_weight:
        raise SecAggError(
            f"The metric {plan.weight} must be one number above 0 and at most {plan.max_weight:g}: "
            "raise max_weight, or mend the ClientApp."
        )
    n = min(round(n / resolution), math.floor(plan.max_weight / resolution)) * resolution
    if n == 0:
        raise SecAggError(
            f"The metric {plan.weight} is rounded to nothing, since the sum is in units of {resolution:g}: give larger "
            "weights, such as numbers of examples, or set a smaller bound and max_weight."
        )
    arrays_name, arrays = next(iter(content.array_records.items()), ("", ArrayRecord()))
    values = {name: array.numpy() for name, array in arrays.items()}
    # By name: their order means nothing, and apps make it as it comes.
    others = {name: value for name, value in sorted(metrics.items()) if name != plan.weight}
    layout = Layout(
        arrays_name=arrays_name,
        metrics_name=metrics_name,
        arrays=[ArrayPlace(name=k, dtype=v.dtype.str, shape=list(v.shape)) for k, v in values.items()],
        metrics=[
            MetricPlace(name=k, length=len(v) if isinstance(v, list) else -1) for k, v in others.items()
        ],
    )
    layout.check()
    vector = np.empty(layout.size(), dtype=np.float64)
    vector[0], at = n, 1
    named: list[tuple[str, Any]] = [(f"array {name}", array) for name, array in values.items()]
    named += [(f"metric {name}", v if isinstance(v, list) else [v]) for name, v in others.items()]
    for name, numbers in named:
        flat = np.asarray(numbers, dtype=np.float64).ravel()
        _check_bound(name, flat, plan.bound)
        vector[at : at + flat.size] = flat
        at += flat.size
    vector[1:] *= n
    return layout, vector


def _check_bound(name: str, flat: NDArray[np.float64], bound: float) -> None:
    # Also false for NaN.
    if not float(np.abs(flat).max(initial=0)) <= bound:
        raise SecAggError(
            f"An entry of the {name} is not a number, or beyond the agreed bound of {bound:g}: raise the bound in "
            "SecureAggregation, leave out what counts (num_batches_tracked), or find out why."
        )


def check_sum(total: NDArray[np.float64], plan: Plan, clients: int, resolution: float) -> None:
    """Raise SecAggError unless ``clients`` vectors within the plan's bounds can have this sum.

    What is added is masked, so no vector can be looked at alone. A client may still send what keeps the sum within.

    Args:
        total: (D,) numbers: the weights' sum, then the others.
        resolution: unit of the encoding; each vector was rounded to it.
    """
    n, slack = float(total[0]), 1 + 1e-9  # a sum is rounded to float64 too
    most = plan.bound * n * slack + clients * resolution
    # Also false for NaN.
    if not (0 < n <= clients * plan.max_weight * slack and float(np.abs(total[1:]).max(initial=0)) <= most):
        raise SecAggError(
            "The sum is beyond what the agreed bounds allow: a client sent something else than it may."
        )


def unpack(layout: Layout, total: NDArray[np.float64], weight: str) -> RecordDict:
    """The sum of vectors as one reply: the averages, and the sum of the weights.

    Arrays of floats keep their type; others become float64, as under FedAvg.
    """
    n = float(total[0])
    if not n > 0:
        raise SecAggError("The weights add up to nothing: there is no average.")
    average, at = total / n, 1
    arrays: dict[str, Array] = {}
    for place in layout.arrays:
        size, dtype = math.prod(place.shape), np.dtype(place.dtype)
        values = average[at : at + size].reshape(place.shape)
        arrays[place.name] = Array(values.astype(dtype if dtype.kind == "f" else np.float64))
        at += size
    metrics: dict[str, Any] = {weight: n}
    for metric in layout.metrics:
        numbers = average[at : at + abs(metric.length)].tolist()
        metrics[metric.name] = numbers[0] if metric.length == -1 else numbers
        at += abs(metric.length)
    records: dict[str, Any] = {layout.metrics_name: MetricRecord(metrics)}
    if layout.arrays_name:
        records[layout.arrays_name] = ArrayRecord(arrays)
    return RecordDict(records)
