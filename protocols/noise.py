"""The parties' noise on an opened sum: how much, and how close it is to the noise that accountants know.

Adversary: sees the opened sum, and knows the noise of up to t of the P parties, which it can subtract.
Promise: what is left in each coordinate is the sum of P - t independent discrete Gaussians, or more. Two bounds say
    what it costs to account for it as one discrete Gaussian, and for that as a continuous one. Reduction modulo 2^w,
    which comes after, is post-processing: it costs accuracy where the noisy sum leaves the ring's range, never privacy.
Source: Kairouz, Liu and Steinke 2021, "The Distributed Discrete Gaussian Mechanism for Federated Learning with Secure
    Aggregation", theorem 1 (sums of discrete Gaussians); Laurent and Massart 2000, lemma 1 (tails of chi-square).
    The proofs below are complete, so that no constant rests on how a theorem is remembered.

Throughout σ² = v >= 1, and θ(v) = 2 Σ_{k>=1} exp(-2π²vk²) <= 3 exp(-2π²v). By Poisson summation, for all real a,

    (1)   Σ_x exp(-(x - a)²/2v) = √(2πv) (1 + 2 Σ_{k>=1} exp(-2π²vk²) cos(2πka)),  within √(2πv) (1 ± θ(v)),
          and largest at a = 0.

"Close within ξ" means that the probabilities of every event are within a factor of exp(ξ), both ways.
"""

from __future__ import annotations

import math
from fractions import Fraction

from protocols.discrete_gaussian import MAX_VARIANCE, discrete_gaussian
from protocols.errors import EncodingError
from protocols.prg import RingVector, width_of
from protocols.ring import from_signed

_UPWARDS = 1 + 2.0**-30
"""More than all rounding errors of the formulas here, none of which subtracts what is nearly equal."""


def party_variance(units: int, multiplier: float, parties: int, colluding: int) -> int:
    """The variance of each party's noise, so that the honest parties' is at least (multiplier · units)² together.

    Args:
        units: the integer L2 norm that one patient (or hospital) can have, at least 1.
        multiplier: z, the noise's standard deviation over that norm. Positive.
        parties: P, all parties.
        colluding: t < P, how many of them may subtract their own noise.

    Returns:
        A whole number from 1, rounded up: (P - t) · variance >= (z · units)², exactly.

    Raises:
        EncodingError: an argument is out of range, or the variance beyond 2^80.
    """
    if units < 1 or not (math.isfinite(multiplier) and multiplier > 0):
        raise EncodingError(
            f"The norm must be at least 1 unit and the noise multiplier positive, not {units} and {multiplier}."
        )
    if not 0 <= colluding < parties:
        raise EncodingError(f"Of {parties} parties, {colluding} cannot collude: at least one must be honest.")
    variance = math.ceil((Fraction(multiplier) * int(units)) ** 2 / (parties - colluding))
    if variance > MAX_VARIANCE:
        raise EncodingError(
            f"Noise of variance {float(variance):.3g} is too large: take fewer fraction bits or less noise."
        )
    return variance


def noisy(total: RingVector, variance: int) -> RingVector:
    """A party's share of a sum plus its noise, discrete Gaussian of this variance, in the ring.

    Args:
        total: (D,) over Z_2^w; it stays as it is.
        variance: from 1 to 2^80, in units squared.

    Returns:
        (D,) over the same ring.

    Raises:
        EncodingError: not a ring vector, or the variance is out of range.
    """
    width = width_of(total)
    noise: RingVector = from_signed(discrete_gaussian(total.size, variance), width)
    noise += total
    return noise


def closeness(party_variance: int, parties: int, size: int) -> float:
    """How close sums of discrete Gaussians are to a discrete Gaussian of the summed variance.

    The vector of ``size`` coordinates, each the sum of n independent samples of N_Z(0, v), is close to one of
    N_Z(0, nv) within size · τ, where τ = 10 Σ_{k=1}^{n-1} exp(-2π² v k/(k+1)) as in theorem 1 of Kairouz, Liu and
    Steinke 2021 (equation 3). Half of it is enough:

    Let X be from N_Z(0, a) and Y from N_Z(0, b). Then P[X + Y = z] is exp(-z²/2(a+b)) times a constant times
    Σ_x exp(-(x - za/(a+b))²/2s) with s = ab/(a+b), by completing the square. By (1) the last factor is within
    √(2πs) (1 ± θ(s)), and so is its mean under N_Z(0, a+b), which makes the probabilities sum to 1. So X + Y is close
    to N_Z(0, a+b) within ln((1 + θ)/(1 - θ)), for s >= 1/2 less than 5 exp(-2π²s). Adding an independent variable to
    both sides keeps closeness, and closeness adds up: with a = kv and b = v, s = vk/(k+1), summed over k < n.

    Args:
        party_variance: v >= 1, of each summand.
        parties: n >= 1, how many are summed. For what t colluding parties leave, P - t.
        size: number of coordinates; over several rounds, coordinates times rounds.

    Returns:
        The bound, at least 0; 0 for one party. Rounded upwards, to the smallest positive number at least.

    Raises:
        EncodingError: an argument is out of range.
    """
    if min(party_variance, parties, size) < 1:
        raise EncodingError("Closeness is for a variance, a number of parties and a size of at least 1.")
    if parties == 1:
        return 0.0
    # Beyond 64 summands the exponents are bounded by the 64th's.
    terms = [math.exp(-2 * math.pi**2 * party_variance * k / (k + 1)) for k in range(1, min(parties, 65))]
    tau = 10 * (sum(terms) + max(0, parties - 65) * terms[-1])
    return math.nextafter(size * tau * _UPWARDS, math.inf)


def distance_to_gaussian(variance: int, size: int, failure: float) -> float:
    """How close the discrete Gaussian is to the continuous one of the same σ², rounded to integers.

    Let p be the law of N_Z(0, v), q that of a continuous N(0, v) rounded to the nearest integer, both for vectors of
    D = ``size`` independent coordinates. Under p as well as under q, |ln q(x)/p(x)| <= ξ but for a probability of F =
    ``failure``. Proof, with κ = 1/24v, w_i = x_i²/v, W = Σ w_i, and E(F) = D/640v² + 6D exp(-π²v):

    One coordinate: q(x) = φ(x) I(x), I(x) = ∫ cosh(xs/v) exp(-s²/2v) ds over |s| <= 1/2, and by (1)
    0 <= ln p(x)⁻¹ φ(x) <= θ(v).
    (2) I(x) <= ∫ cosh(xs/v) ds · ∫ exp(-s²/2v) ds, as one factor grows with |s| and the other falls (Chebyshev). With
        sinh(z)/z <= exp(z²/6) and ∫ exp(-s²/2v) ds <= exp(-κ + 1/640v²): ln q/p <= θ(v) + κ(w - 1) + 1/640v².
    (3) ln I(x) >= ∫ ln cosh(xs/v) - s²/2v ds (Jensen), and ln cosh a >= a²/2 - a⁴/12: ln q/p >= κ(w - 1) - w²/960v².

    Tails, L and s = 2√(DL) + 2L to be chosen:
    (4) Under p, E exp(λw) = Σ_x exp(-x²(1 - 2λ)/2v) / Σ_x exp(-x²/2v). By (1) this is at most (1 - 2λ)^(-1/2), what it
        is for chi-square, if 0 <= λ < 1/2, and at most 1 + θ(v/2) times that if -1/2 <= λ < 0. Chernoff's bound gives,
        with λ = √L/(√D + 2√L) and λ = -√(L/D) as for chi-square, P[W - D > s] <= exp(-L) and P[W - D < -2√(DL)] <=
        exp(-L + E). (If L > D/4, the last is 0.)
    (5) Under q, by (2), E exp(λ(W - D)) is at most exp(D θ(v) + D/640v²) times what (4) bounds for λ + κ in the place
        of λ. With those values for λ + κ, P[W - D > s] <= exp(-L + κs + E) and P[W - D < -2√(DL)] <= exp(-L + E). The
        first needs λ >= 0: so it is for √L >= 2κ√D, which the choice of L below implies.
    (6) Under p, E exp(λx) <= exp(λ²v/2), by (1) largest at 0, so that P[|x| >= b] <= 2 exp(-b²/2v); under q, for
        x = round(y), |x| <= |y| + 1/2. So all w_i <= m = (√(2v ln(6D/F)) + 1/2)²/v but for a probability of F/3.

    With L - κs(L) = ln(3/F) + E each of the three fails with F/3 at most. Where none does, W - D is within ± s and
    Σ w_i² <= m W <= m (D + s), and so by (2) and (3)

        ξ = κs + E + m (D + s)/960v².

    Use: let M be a mechanism that adds noise of the law p to an integer vector, M' the same with q. The latter is the
    continuous Gaussian mechanism, rounded: (ε, δ) of an accountant holds for it. Then for neighbours x and x'

        P[M(x) in S] <= e^ξ P[M'(x) in S] + F <= e^(ξ+ε) P[M'(x') in S] + e^ξ δ + F
                     <= e^(ε+2ξ) P[M(x') in S] + e^ξ δ + (1 + e^(ξ+ε)) F.

    Subsampling mixes over shifts of the noise by integer vectors, which changes nothing: p and q are the noise's laws.
    Nor do rounds that follow one another: the noise of all of them is one vector, of ``size`` D times rounds.

    Args:
        variance: v >= 1, in units squared; of all honest parties' noise together.
        size: number of coordinates; over several rounds, coordinates times rounds.
        failure: F, above 0 and below 1.

    Returns:
        ξ > 0, rounded upwards. About √(D ln(3/F)) / 12v where D is large and v much larger than √D.

    Raises:
        EncodingError: an argument is out of range.
    """
    if variance < 1 or size < 1 or not 0 < failure < 1:
        raise EncodingError("The distance is for a variance and a size of at least 1, and 0 < failure < 1.")
    v, D = float(variance), float(size)
    kappa = 1 / (24 * v)
    excess = D * (1 / (640 * v * v) + 6 * math.exp(-(math.pi**2) * v))
    # L - κ (2 √(DL) + 2L) = ln(3/F) + E, a quadratic equation for √L.
    needed = math.log(3 / failure) + excess
    root = (kappa * math.sqrt(D) + math.sqrt(kappa**2 * D + (1 - 2 * kappa) * needed)) / (1 - 2 * kappa)
    s = 2 * math.sqrt(D) * root + 2 * root**2
    most = (math.sqrt(2 * v * math.log(6 * D / failure)) + 0.5) ** 2 / v
    return (kappa * s + excess + most * (D + s) / (960 * v * v)) * _UPWARDS
