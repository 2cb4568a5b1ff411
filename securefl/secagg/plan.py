"""What is added, and how: weights, bounds and the encoding that both ends derive from them."""

from __future__ import annotations

import math

from protocols.canonical import Record
from protocols.errors import EncodingError
from protocols.ring import Encoding
from securefl.errors import SecureFLError

TRAIN, EVALUATE = "train", "evaluate"


class SecAggError(SecureFLError):
    """Secure aggregation cannot be set up as asked, or a reply cannot be aggregated."""


class Plan(Record):
    """The application's part of the terms.

    A client sends (n, n u, n m) for its weight n, its arrays u and its metrics m; the server divides the sums. The
    ring is wide enough for ``cohort`` clients of weight ``max_weight`` with entries up to ``bound``.

    Attributes:
        weight: name of the metric that is the weight.
        bound: largest absolute value of an entry of an array or a metric, at least 1.
        max_weight: largest weight.
        cohort: clients that were asked.
        work: digest of what all of them are to work on; see ``securefl.secagg.work``.
    """

    kind = "secagg-plan"
    weight: str
    bound: float
    max_weight: float
    cohort: int
    work: bytes

    def encoding(self, width: int) -> Encoding:
        """The finest encoding without overflow.

        Raises:
            EncodingError: the bounds make no sense, or do not fit into the ring.
        """
        if not (math.isfinite(self.bound * self.max_weight) and self.bound >= 1 and self.max_weight > 0):
            raise EncodingError("The bound must be at least 1 and the largest weight positive, both finite.")
        return Encoding.for_bound(width, self.bound * self.max_weight, self.cohort)
