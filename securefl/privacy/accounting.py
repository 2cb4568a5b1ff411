"""How much one unit's presence shows in all that a study opens: epsilon at delta, computed in two ways.

Neighbouring relation: ADD_OR_REMOVE_ONE unit. Both ways are Google's dp-accounting library's.

Adversary: sees every opened sum, knows all other units, and colludes with c parties (it subtracts their noise); it
    does not know which units were drawn.
Promise: with T attempts, Pr[S] <= exp(epsilon) Pr'[S] + delta for neighbouring data and every set S of transcripts.
    Both figures are upper bounds; the target is met by ``pld``, the tighter one.
Source, RDP (the bound on paper): for a shift v in Z^D and integer k, with p0 and p1 the discrete Gaussians around 0 and
    v, E_p0[(p1/p0)^k] = exp(k(k - 1)|v|^2 / 2 sigma^2) exactly: completing the square leaves a discrete Gaussian around
    k v, which is an integer, so the normalising constants cancel (Canonne, Kamath and Steinke 2020, section 2). The
    binomial expansion of the Poisson-sampled mechanism at an integer order (Mironov, Talwar and Zhang 2019, section
    3.3) thus holds as it stands for the continuous Gaussian, and only there: hence the integer orders. It grows with
    |v|, so |v| = C is the worst. The reflection x -> v - x of Z^D swaps p0 and p1, so that adding a unit loses no more
    than removing it (there, the theorem on two distributions that a bijection swaps).
Source, PLD (privacy-loss distributions, rounded pessimistically): of the continuous Gaussian, of which the discrete one
    is a copy as good as exact. Let Y ~ N(v, sigma^2 - b) and draw X in Z^D with weights exp(-|x - Y|^2 / 2b). By
    Poisson summation the weights sum to (2 pi b)^(1/2) (1 +- e) in each coordinate, whatever Y is, where
    e = 2 sum_m exp(-2 pi^2 b m^2). So X, which is computed from Y alone, has the probabilities of v + N_Z(0, sigma^2)
    up to a factor exp(+-xi) a coordinate, xi = log((1 + e)/(1 - e)) (the convolution of Peikert 2010, section 3). With
    b = 4, xi < 10^-33; there is no tail to cut off, and the multiplier only loses the factor sqrt(1 - 4/sigma^2).
Source, noise of several parties: a sum of discrete Gaussians is one up to exp(+-tau) (``protocols.noise.closeness``).
    A transcript's probability so changes by at most exp(+-g), g = T (tau + xi) over all coordinates: epsilon + 2g at
    delta exp(g).
Source, attempts of which the later ones are chosen by what the earlier ones gave: neither figure holds for them. A sum
    of divergences of one order, fixed beforehand, does (Feldman and Zrnic 2021, theorem 4.3, the Renyi filter).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from protocols.noise import closeness
from securefl.privacy.mechanism import Mechanism, PrivacyError

if TYPE_CHECKING:
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

ORDERS: tuple[int, ...] = (*range(2, 65), *range(68, 129, 4), *range(144, 257, 16), *range(320, 1025, 64))
"""The orders of the Rényi bound: dense where a large epsilon has its best one, sparse where a small one has."""

BLUR = 4
"""b, units^2: the variance lent to the rounding, in the step from the continuous to the discrete Gaussian."""

ROOM = 1e-6
"""Relative room that a calibrated multiplier leaves for what integers cost (measured: below 1e-7 at f = 16)."""

Steps = tuple[tuple["Step", int], ...]


@dataclass(frozen=True)
class Epsilon:
    """Upper bounds of one quantity: by Rényi divergences, and by privacy-loss distributions. May be infinite."""

    rdp: float
    pld: float


@dataclass(frozen=True)
class Step:
    """One attempt, as the accountants see it.

    Attributes:
        sampling_rate: q.
        multiplier: of the discrete Gaussian, for the Rényi bound.
        smooth: of the continuous Gaussian that it is computed from, for the privacy-loss distribution.
        tau, xi: largest log-ratio to one discrete Gaussian, and from there to the continuous one, all coordinates.
        extra_delta: probability that something else than the mechanism happens; see ``spent``.
    """

    sampling_rate: float
    multiplier: float
    smooth: float
    tau: float = 0.0
    xi: float = 0.0
    extra_delta: float = 0.0

    @classmethod
    def of(cls, mechanism: Mechanism, colluders: int, extra_delta: float = 0.0) -> Step:
        """An attempt of this mechanism, against so many colluding parties."""
        if not 0 <= extra_delta < 1:
            raise PrivacyError(f"extra_delta is a probability below 1, not {extra_delta}.")
        honest = mechanism.parties - colluders
        variance = mechanism.honest_variance(colluders)
        blur = min(BLUR, variance / 2)
        # The sum over m > 1 is below the geometric one with the ratio of its first two terms.
        first, ratio = math.exp(-2 * math.pi**2 * blur), math.exp(-6 * math.pi**2 * blur)
        e = 2 * first / (1 - ratio)
        return cls(
            sampling_rate=float(mechanism.sampling_rate),
            multiplier=mechanism.multiplier(colluders),
            smooth=math.sqrt(variance - blur) / mechanism.clip_units,
            tau=closeness(mechanism.party_variance, honest, mechanism.size),
            xi=mechanism.size * (math.log1p(e) - math.log1p(-e)),
            extra_delta=extra_delta,
        )

    def doubled(self) -> Step:
        """The same attempt for a neighbour that moves the sum by 2C and is always drawn."""
        return Step(1.0, self.multiplier / 2, self.smooth / 2, self.tau, self.xi, self.extra_delta)


def spent(
    mechanism: Mechanism, attempts: int, delta: float, colluders: int, extra_delta: float = 0.0
) -> Epsilon:
    """Epsilon after so many attempts, against so many colluding parties; infinite where the bound gives nothing.

    delta: in (0, 1). extra_delta: for each attempt, the probability that the unit's own hospital is visibly left out
    (an honest refusal by the norm check); attempts * extra_delta is taken off delta first. Of the rest of the
    transcript each probability shrinks by at most the factor 1 - extra_delta, which is added to epsilon.

    Raises:
        PrivacyError: an argument is out of range.
    """
    if attempts < 0:
        raise PrivacyError(f"There cannot be {attempts} attempts.")
    return composed(((Step.of(mechanism, colluders, extra_delta), attempts),), delta)


def epsilon_table(
    mechanism: Mechanism, attempts: int, delta: float, extra_delta: float = 0.0
) -> list[tuple[int, Epsilon]]:
    """Epsilon for each number of colluding parties, 0 to P - 1."""
    return [(c, spent(mechanism, attempts, delta, c, extra_delta)) for c in range(mechanism.parties)]


def composed(steps: Steps, delta: float) -> Epsilon:
    """Epsilon of all these attempts together, each kind so often, in whatever order.

    What is asked of the records may depend on all that was opened before; which kinds of attempts there are may not.

    Raises:
        PrivacyError: delta is not between 0 and 1.
    """
    _check_target(1.0, delta)
    steps = tuple((step, count) for step, count in steps if count)
    totals = [0.0] * len(ORDERS)
    for step, count in steps:
        totals = [total + count * rho for total, rho in zip(totals, curve(step), strict=True)]
    return Epsilon(epsilon_of_curve(ORDERS, totals, steps, delta), pld_epsilon(steps, delta))


@lru_cache(maxsize=256)
def curve(step: Step) -> tuple[float, ...]:
    """The Rényi divergence of one attempt at each of ``ORDERS``."""
    from dp_accounting import GaussianDpEvent, NeighboringRelation, PoissonSampledDpEvent
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant(ORDERS, NeighboringRelation.ADD_OR_REMOVE_ONE)
    accountant.compose(PoissonSampledDpEvent(step.sampling_rate, GaussianDpEvent(step.multiplier)))
    # |log-ratio| <= tau moves p^a q^(1 - a) by (2a - 1) tau: the divergence of order a by at most 3 tau.
    return tuple(
        float(rho) + step.tau * (2 * order - 1) / (order - 1)
        for order, rho in zip(ORDERS, accountant.rdp, strict=True)
    )


def epsilon_of_curve(orders: Sequence[int], totals: Sequence[float], steps: Steps, delta: float) -> float:
    """Epsilon from the sum of the Rényi curves (Canonne, Kamath and Steinke 2020, proposition 12)."""
    from dp_accounting.rdp.rdp_privacy_accountant import compute_epsilon

    left = delta - sum(count * step.extra_delta for step, count in steps)
    if left <= 0:
        return math.inf
    if not orders or not steps:
        return math.inf if steps else 0.0
    return float(compute_epsilon(orders, totals, left)[0]) + _left_out(steps)


def filter_order(first: Mapping[int, float], epsilon: float, delta: float) -> int:
    """The order of a Rényi filter for epsilon at delta: that at which most attempts like the first one fit.

    It depends on nothing that was opened, which a filter needs: the first attempt was chosen before.

    first: the first attempt's Rényi divergence by order.
    """

    def fit(order: int) -> float:
        # Canonne, Kamath and Steinke 2020, proposition 12, solved for the sum of the divergences.
        cost = math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)
        return (epsilon - cost) / max(first[order], 1e-300)

    return max(first, key=fit)


@lru_cache(maxsize=256)
def pld_epsilon(steps: Steps, delta: float) -> float:
    """Epsilon by composing the privacy-loss distributions; ``composed`` says of what."""
    steps = tuple((step, count) for step, count in steps if count)
    if not steps:
        return 0.0
    gap = sum(count * (step.tau + step.xi) for step, count in steps)
    left = delta - sum(count * step.extra_delta for step, count in steps)
    if left <= 0 or gap > 1:
        return math.inf
    distribution = _composition(tuple((s.sampling_rate, s.smooth, n) for s, n in steps), _interval(steps))
    return float(distribution.get_epsilon_for_delta(left * math.exp(-gap))) + 2 * gap + _left_out(steps)


def most(step: Step, horizon: int, epsilon: float, delta: float) -> int:
    """How many attempts of a kind fit, of at most ``horizon``, by the privacy-loss distributions."""

    def fits(count: int) -> bool:
        return pld_epsilon(((step, count),), delta) <= epsilon

    if fits(horizon):
        return horizon
    low, high = 0, horizon
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


@lru_cache(maxsize=64)
def multiplier_for(
    sampling_rate: float, attempts: int, epsilon: float, delta: float, extra_delta: float = 0.0
) -> float:
    """The smallest noise multiplier, to five digits and rounded up, for which ``attempts`` attempts stay in epsilon.

    sampling_rate: in (0, 1]; attempts: at least 1; epsilon: above 0, in (0, 1) delta; extra_delta: as in ``spent``.
    By privacy-loss distributions. A relative 10^-6 of epsilon, delta and multiplier is left for what integers cost.

    Raises:
        PrivacyError: an argument is out of range, or no multiplier up to 10^6 is enough.
    """
    from scipy.optimize import brentq

    _check_target(epsilon, delta)
    if not 0 < sampling_rate <= 1 or attempts < 1:
        raise PrivacyError("A sampling rate above 0 and at most 1 and at least one attempt are needed.")

    def excess(log_multiplier: float) -> float:
        z = math.exp(log_multiplier) * (1 - ROOM)
        steps = ((Step(float(sampling_rate), z, z, extra_delta=extra_delta), attempts),)
        found = pld_epsilon(steps, delta * (1 - ROOM))
        return math.log(max(found, 1e-12) / (epsilon * (1 - ROOM)))

    # The Gaussian's textbook figure for q sqrt(T) is the right order of magnitude; from there by a factor 3/2.
    guess = math.sqrt(-2 * math.log(delta)) * sampling_rate * math.sqrt(attempts) / epsilon
    low = high = math.log(min(max(guess, 0.4), 1e6))
    while excess(high) > 0:
        low, high = high, high + 0.4
        if high > math.log(1e6):
            raise PrivacyError(
                f"No noise keeps {attempts} attempts within epsilon {epsilon} and delta {delta}: raise one of them."
            )
    while low == high or excess(low) <= 0:
        low, high = low - 0.4, low
        if low < math.log(1e-3):
            raise PrivacyError(f"Epsilon {epsilon} is so large that it promises nothing: lower it.")
    root = math.exp(float(brentq(excess, low, high, xtol=1e-6)))
    digits = 4 - math.floor(math.log10(root))
    grid = math.ceil(root * 10**digits - 0.01) / 10**digits
    while excess(math.log(grid)) > 0:
        grid = round(grid + 10**-digits, digits)
    return grid


def _check_target(epsilon: float, delta: float) -> None:
    if not (0 < epsilon < math.inf and 0 < delta < 1):
        raise PrivacyError(
            f"Epsilon must be above 0 and delta between 0 and 1, not epsilon {epsilon} and delta {delta}."
        )


def _left_out(steps: Steps) -> float:
    return sum(-count * math.log1p(-step.extra_delta) for step, count in steps)


def _interval(steps: Steps) -> float:
    """The grid of the privacy losses: about 10,000 points over one attempt's losses, at most some 50,000 over all.

    A coarser grid is more pessimistic, never less. A power of two, so that the same distributions are met again.
    """
    wanted, total = [], 0.0
    for step, count in steps:
        q, z = step.sampling_rate, step.smooth
        if q == 1:
            z, count = z / math.sqrt(count), 1
        log_ratio = 10 / z + 0.5 / z**2
        largest = math.log1p(q * math.expm1(log_ratio)) if log_ratio < 600 else log_ratio
        wanted.append(largest / 1e4)
        squared = q * math.sqrt(math.expm1(z**-2)) if z > 0.05 else math.inf
        # KL((1 - q)P + qQ, P) is below q KL(Q, P) and below the chi-squared distance.
        total += count * min(q / (2 * z**2), math.log1p(squared**2) if squared < 1e150 else math.inf)
    interval = max(min(1e-3, *wanted), max(wanted) / 32, total / 5e4, 1e-7)
    return float(2.0 ** math.floor(math.log2(interval)))


@lru_cache(maxsize=16)
def _one(sampling_rate: float, multiplier: float, interval: float) -> PrivacyLossDistribution:
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld import privacy_loss_distribution

    return privacy_loss_distribution.from_gaussian_mechanism(
        standard_deviation=multiplier,
        sensitivity=1.0,
        pessimistic_estimate=True,
        value_discretization_interval=interval,
        sampling_prob=sampling_rate,
        neighboring_relation=NeighboringRelation.ADD_OR_REMOVE_ONE,
    )


def _composition(parts: tuple[tuple[float, float, int], ...], interval: float) -> PrivacyLossDistribution:
    """All but the last, which often stay the same, composed with so many of the last."""
    *others, (q, z, count) = parts
    # At q = 1 so many Gaussians are one with a multiplier smaller by the root of their number.
    last = _one(1.0, z / math.sqrt(count), interval) if q == 1 else _one(q, z, interval).self_compose(count)
    return _before(tuple(others), interval).compose(last) if others else last


_before = lru_cache(maxsize=8)(_composition)
