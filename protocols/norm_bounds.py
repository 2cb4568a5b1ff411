"""How the norm check is dimensioned, and what it promises: the probabilities behind its few numbers.

Adversary: a hospital that chooses its vector u in Z^D, of any norm, before the random rows are drawn; it may aim at
    the ring's wrap-around. The rows are uniform and independent; the parties follow the protocol.
Promise: :func:`honest_refusal` bounds the probability that a vector with ||u|| <= B is refused, :func:`passing` that
    of one with ||u|| >= slack B being accepted, both for the worst such vector. For every bound and width that
    ``for_bound`` accepts: with 160 rows, honest refusal is at most 2^-20, and a vector of twice the bound passes with
    at most 2^-30; under differential privacy, with 208 rows, 2^-40 and 2^-30. Each for one vector and one matrix: who
    may try again with a new matrix has another chance. These numbers are proved; 144 and 192 rows would do if the
    sums of squares were exactly chi-square, which they are not.
Source: PINE (Rothblum, Omri, Chen and Talwar 2024) for rows with entries -1, 0, 0, +1 as a test for wrap-around;
    Achlioptas 2003 for the upper tail only (moments at most the normal's). The lower tail of this distribution is not
    dominated by chi-square's, and is derived here, as are the cases of wrap-around.

A row r has D independent entries -1, 0, 0, +1; Y = <r, u> over the integers, so that E Y^2 = ||u||^2 / 2. L = 2^w; y is
Y modulo L, read as signed; beta = 2^k. A vector passes if all its m projections y_i lie in [-beta, beta), and
sum y_i^2 <= T.

**Honest vectors.** (a) E exp(h Y) = prod cosh^2(h u_j / 2) <= exp(h^2 ||u||^2 / 4) for every h, and Chernoff's bound is
P(|Y| >= b) <= 2 exp(-b^2 / ||u||^2): :func:`row_tail`. If no |Y_i| reaches beta, nothing wraps around.
(b) The even moments of sqrt(2) r_j are 2^(n-1), at most the standard normal's (2n-1)!!; the odd ones are zero for both.
Multiplied out, the moments of 2 sum Y_i^2 / ||u||^2 are at most those of chi-square with m degrees of freedom, and so
is E exp(h .) for h > 0. Hence P(sum Y_i^2 >= x m ||u||^2 / 2) <= exp(-m/2 (x - 1 - ln x)): :func:`upper_tail`.

**Too long a vector, nothing wraps.** With z standard normal, exp(-l Y^2) = E cos(sqrt(2 l) z Y), and therefore
E exp(-l Y^2) = E prod_j cos^2(a_j z) with a_j = |u_j| sqrt(l/2). Write s = l ||u||^2, so that sum a_j^2 = s/2, and a
for the largest a_j. For |z| <= pi/(2a), as cos^2 t <= exp(-t^2) up to pi/2, the product is at most
cos^2(a z) exp(-(s/2 - a^2) z^2), of which the expectation, :func:`_first`, falls with a: it does at every z, since
tan t >= t. Beyond, it is at most cos^2(a z), of which the expectation, :func:`_second`, rises with a up to pi/2: put
t = a z. So for any grid 0 = a_0 < ... < a_n = sqrt(s/2), E exp(-l Y^2) <= max_i first(a_i) + second(a_(i+1)) =: rho(s),
:func:`laplace`. The same holds for E exp(-l (Y - c)^2), where a factor of modulus 1 appears. Up to s = 2.2,
rho(s) is chi-square's (1 + s)^(-1/2), to eleven digits; soon after, a vector of one entry is worse. Chernoff:
P(sum Y_i^2 <= T) <= rho(s)^m exp(s T / ||u||^2) for every s, which falls with ||u||: :func:`lower_tail`.

**Too long a vector, with wrap-around.** Let beta <= L/16. The worst of three cases counts.
(i) Some |u_j| >= 2 beta. Given the rest c of a row, Y is c, c + u_j or c - u_j, with probabilities 1/2, 1/4, 1/4. The
window [-beta, beta) modulo L cannot hold c together with one of the others, as 2 beta <= |u_j| <= L - 2 beta. So a row
is in range with at most 1/2, all are with at most 2^-m.
(ii) All |u_j| < 2 beta and ||u|| <= L/6. A row that wraps round into the window has |Y| >= L - beta; that any of m does
has at most m 2 exp(-(L - beta)^2 / ||u||^2). If none does, the lower tail holds.
(iii) All |u_j| < 2 beta and ||u|| > L/6. Add coordinates up until L^2/36 <= ||u_S||^2 <= L^2/36 + 4 beta^2. Given the
others, Y_S has to come within beta of a centre c in [-L/2, L/2], which has at most rho(s) exp(s beta^2 / ||u_S||^2) for
every s, or of another, where |Y_S| >= L/2 - beta, which has at most 2 exp(-(L/2 - beta)^2 / ||u_S||^2). All m rows: the
m-th power of the sum, :func:`far_tail`.

**Short vectors.** For D <= m the vector itself takes its projections' place: y = u, T = B^2, and there is no error.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from protocols.errors import EncodingError
from protocols.prg import ring_dtype

_UNIT = 4096
_LARGEST_ROW_BITS = 27
"""A sum of 208 squares of such numbers stays below 2^63."""
_MOST_ENTRIES = 2**38 - 2**12
"""Two bits each, they are what one seed is expanded to (:mod:`protocols.prg`)."""
_FAR = 12.0
"""The normal's mass beyond is below 2^-100."""
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_QUADRATURE = 1e-12
"""More than the quadrature's error, so that what is computed is a bound."""

_Reals = NDArray[np.float64]


@dataclass(frozen=True)
class _Rows:
    """Rows, and what :func:`reach` and :func:`spread` give for them. All parties must come to the same k and T,
    whatever their mathematical libraries round to: hence integers.
    """

    rows: int
    reach: int
    spread: int


_PUBLIC = _Rows(rows=160, reach=19388, spread=7010)
_PRIVATE = _Rows(rows=208, reach=24756, spread=7861)


@dataclass(frozen=True)
class NormCheck:
    """What the parties check of each vector. Make it with :meth:`for_bound`.

    Attributes:
        size: D, elements of a vector.
        width: w, bits of the ring.
        bound: B, the largest honest Euclidean norm, in units of the ring.
        rows: m, projections of a vector; D if ``direct``.
        row_bits: k; every projection must lie in [-2^k, 2^k).
        threshold: T; the projections' sum of squares must be at most this. Below 2^63.
        direct: the vector takes the place of its projections, and the check is exact.
    """

    size: int
    width: int
    bound: int
    rows: int
    row_bits: int
    threshold: int
    direct: bool

    def __post_init__(self) -> None:
        if min(self.size, self.bound, self.rows) < 1 or self.threshold < 0:
            raise EncodingError("A norm check has a positive size, a positive bound and at least one row.")
        if not 0 <= self.row_bits <= _row_bits_limit(self.width):
            raise EncodingError(
                f"The norm check's projections have at most {_row_bits_limit(self.width)} bits in a ring of "
                f"{self.width} bits, not {self.row_bits}: take a smaller bound."
            )
        if max(self.rows * 4**self.row_bits, self.threshold) >= 2**63:
            raise EncodingError("The norm check's sum of squares does not stay below 2^63: take fewer rows.")
        if not self.direct and self.rows * self.size > _MOST_ENTRIES:
            raise EncodingError(
                f"The norm check takes at most {_MOST_ENTRIES // self.rows} elements: take a smaller model."
            )
        exact = self.rows == self.size and self.threshold == self.bound**2 < 4**self.row_bits
        if self.direct and not exact:
            raise EncodingError("A direct norm check has one row for each element, range for B, and T = B^2.")

    @classmethod
    def for_bound(cls, size: int, width: int, bound: int, private: bool = False) -> NormCheck:
        """The check of vectors of ``size`` elements against a norm of ``bound``.

        Args:
            size: D, at least 1.
            width: w: 16, 32 or 64.
            bound: B, at least 1, in units of the ring (2^-f).
            private: under differential privacy; honest refusal is then at most 2^-40 in place of 2^-20.

        Raises:
            EncodingError: the bound is not within 1 .. :func:`largest_bound`.

        Example:
            >>> check = NormCheck.for_bound(10**6, 32, 10**6)
            >>> check.rows, check.row_bits, check.threshold
            (160, 23, 136914062500000)
        """
        largest = largest_bound(width, size, private)
        if not 1 <= bound <= largest:
            remedy = "a finer encoding" if bound < 1 else "a coarser encoding or a smaller bound"
            raise EncodingError(
                f"The norm check takes bounds of 1 to {largest} units in a ring of {width} bits, not {bound}: take "
                + ("a ring of 32 bits, " if width < 32 and bound > largest else "")
                + f"{remedy}."
            )
        rows = _PRIVATE if private else _PUBLIC
        if size <= rows.rows:
            return cls(size, width, bound, size, bound.bit_length(), bound * bound, True)
        row_bits = (-(-rows.reach * bound // _UNIT) - 1).bit_length()
        threshold = rows.spread * rows.rows * bound * bound // (2 * _UNIT)
        return cls(size, width, bound, rows.rows, row_bits, threshold, False)


def largest_bound(width: int, size: int, private: bool = False) -> int:
    """The largest B for which there is a check, in units of the ring; its projections' range meets 2^(w-4) or 2^27.

    Raises:
        EncodingError: width is not 16, 32 or 64.
    """
    rows, limit = (_PRIVATE if private else _PUBLIC), 1 << _row_bits_limit(width)
    return limit - 1 if size <= rows.rows else limit * _UNIT // rows.reach


def honest_refusal(check: NormCheck) -> float:
    """log2 of an upper bound on the probability that a vector of norm at most B is refused; -inf if it never is."""
    if check.direct:
        return -math.inf
    # A sum of squares is an integer: it is refused from T + 1 on.
    ratio = 2 * (check.threshold + 1) / (check.rows * check.bound**2)
    some_row = math.log2(check.rows) + row_tail((1 << check.row_bits) / check.bound)
    return _log2_sum(some_row, upper_tail(check.rows, ratio))


def passing(check: NormCheck, slack: float) -> float:
    """log2 of an upper bound on the probability that a vector of norm at least ``slack`` B passes; -inf if none can.

    Where nothing is promised (for a slack of 1 or little more), the bound is 0.0: certainty.
    """
    if slack <= 1:
        return 0.0
    if check.direct:
        return -math.inf
    return _passing(check.rows, slack, 2 * check.threshold / (check.rows * check.bound**2), check)


def planned_passing(rows: int, slack: float, refusal: float = -20.0) -> float:
    """As :func:`passing` for the worst bound and width that there could be, and any number of rows.

    Args:
        rows: m, with D > m.
        slack: the multiple of B.
        refusal: log2 of the probability with which an honest vector may be refused; it fixes T.
    """
    return 0.0 if slack <= 1 else _passing(rows, slack, spread(rows, refusal) / _UNIT, None)


def reach(rows: int, refusal: float) -> int:
    """beta over B, in 4096ths: some honest |Y_i| reaches beta with at most 1/16 of 2^refusal."""
    return math.ceil(_UNIT * math.sqrt((math.log2(32 * rows) - refusal) * math.log(2)))


def spread(rows: int, refusal: float) -> int:
    """T over the mean m B^2 / 2, in 4096ths: an honest sum exceeds T with at most 15/16 of 2^refusal."""
    target = refusal + math.log2(15 / 16)
    return bisect.bisect_left(range(1 << 40), True, key=lambda x: upper_tail(rows, x / _UNIT) <= target)


def _passing(rows: int, slack: float, ratio: float, check: NormCheck | None) -> float:
    """The worst case of the three; ``ratio`` is T over its mean at ||u|| = B. Without a check, for the largest beta."""
    window = 2.0 ** (check.row_bits - check.width) if check else 1 / 16
    cases = [-float(rows), far_tail(rows, window)]
    if check is None or slack * check.bound <= 2.0**check.width / 6:
        wrapped = math.log2(rows) + row_tail(6 * (1 - window))
        cases.append(_log2_sum(wrapped, lower_tail(rows, ratio / slack**2)))
    return min(0.0, max(cases))


def row_tail(ratio: float) -> float:
    """log2 of a bound on P(|<r, u>| >= ratio ||u||) for one row."""
    return min(0.0, 1 - ratio**2 / math.log(2))


def upper_tail(rows: int, ratio: float) -> float:
    """log2 of a bound on P(sum <r_i, u>^2 >= ratio rows ||u||^2 / 2); 0.0 up to the mean, at ratio 1."""
    return -rows / 2 * (ratio - 1 - math.log(ratio)) / math.log(2) if ratio > 1 else 0.0


def lower_tail(rows: int, ratio: float) -> float:
    """log2 of a bound on P(sum <r_i, u>^2 <= ratio rows ||u||^2 / 2)."""
    exponents = (math.log(rho) + s * ratio / 2 for s, rho in _laplace_table())
    return min(0.0, rows * min(exponents) / math.log(2))


def far_tail(rows: int, window: float) -> float:
    """log2 of a bound on passing with ||u|| > L/6 and all |u_j| < 2 beta; ``window`` is beta / L, at most 1/16."""
    nearest = min(rho * math.exp(s * 36 * window**2) for s, rho in _laplace_table())
    others = 2 ** row_tail((1 / 2 - window) / math.sqrt(1 / 36 + 4 * window**2))
    return min(0.0, rows * math.log2(nearest + others))


def laplace(s: float) -> float:
    """rho(s), a bound on E exp(-s (<r, u> - c)^2 / ||u||^2) for every u and c; s above 0 and at most 4.9."""
    grid = np.linspace(0, math.sqrt(s / 2), 129)
    return float(np.max(_first(grid[:-1], s) + _second(grid[1:]))) + _QUADRATURE


def _first(a: _Reals, s: float) -> _Reals:
    """E of cos^2(a z) exp(-(s/2 - a^2) z^2) where |z| <= pi/(2a); for 0 <= a <= sqrt(s/2)."""
    z, weights = _nodes(np.zeros_like(a), math.pi / 2 / np.maximum(a, math.pi / 2 / _FAR))
    values = np.cos(a * z) ** 2 * np.exp((a**2 - (s + 1) / 2) * z**2)
    return np.asarray(2 * np.sum(weights * values, axis=0))


def _second(a: _Reals) -> _Reals:
    """E of cos^2(a z) where |z| > pi/(2a); for 0 < a <= pi/2."""
    start = math.pi / 2 / a
    z, weights = _nodes(start, start + _FAR)
    return np.asarray(2 * np.sum(weights * np.cos(a * z) ** 2 * np.exp(-(z**2) / 2), axis=0))


def _nodes(low: _Reals, high: _Reals) -> tuple[_Reals, _Reals]:
    """Nodes and weights, (64, n), of Gauss's quadrature over n intervals, with the normal density's 1 / sqrt(2 pi)."""
    half = (high - low) / 2
    return low + np.outer(_POINTS + 1, half), np.outer(_WEIGHTS, half) / math.sqrt(2 * math.pi)


@lru_cache(maxsize=1)
def _laplace_table() -> tuple[tuple[float, float], ...]:
    """Pairs (s, rho(s)). Any s gives a bound; the best of these is close to the best of all."""
    return tuple((s, laplace(s)) for s in np.geomspace(0.001, 4.9, 160).tolist())


def _row_bits_limit(width: int) -> int:
    ring_dtype(width)
    return min(width - 4, _LARGEST_ROW_BITS)


def _log2_sum(x: float, y: float) -> float:
    """log2(2^x + 2^y), at most 0."""
    low, high = sorted((x, y))
    return min(0.0, high + math.log2(1 + 2.0 ** (low - high)))
