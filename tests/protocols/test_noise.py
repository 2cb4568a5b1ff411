"""How much noise, and how close sums of discrete Gaussians are to what accountants know: against exact laws."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import erfc

from protocols.discrete_gaussian import discrete_gaussian
from protocols.errors import EncodingError
from protocols.noise import closeness, distance_to_gaussian, noisy, party_variance
from protocols.ring import from_signed, signed


def discrete(variance, most):
    """P[X = x] of N_Z(0, variance) for |x| <= most."""
    weights = np.array([math.exp(-x * x / (2 * variance)) for x in range(-most, most + 1)])
    return weights / math.fsum(weights)


def rounded(variance, most):
    """The same of a continuous Gaussian that is rounded. Tails on one side: nothing cancels."""
    x = np.abs(np.arange(-most, most + 1)).astype(float)
    scale = math.sqrt(2 * variance)
    tail = (erfc((x - 0.5) / scale) - erfc((x + 0.5) / scale)) / 2
    return np.where(x == 0, math.erf(0.5 / scale), tail)


def log_ratio(variance, most):
    return np.log(rounded(variance, most)) - np.log(discrete(variance, most))


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 2**30),
    st.floats(1e-3, 300),
    st.integers(1, 10).flatmap(lambda p: st.tuples(st.just(p), st.integers(0, p - 1))),
)
def test_variance_is_the_least_that_is_enough(units, multiplier, sizes):
    parties, colluding = sizes
    variance = party_variance(units, multiplier, parties, colluding)
    wanted = (Fraction(multiplier) * units) ** 2
    assert (parties - colluding) * variance >= wanted
    assert variance == 1 or (parties - colluding) * (variance - 1) < wanted


def test_variance_of_an_example():
    assert party_variance(1000, 1.5, 3, 1) == 1_125_000
    assert party_variance(1000, 1.5, 3, 0) == 750_000
    assert party_variance(np.int64(2**38), 2.0, 3, 1) == 2**77


@pytest.mark.parametrize(
    "arguments",
    [
        (0, 1.0, 3, 1),
        (5, 0.0, 3, 1),
        (5, -1.0, 3, 1),
        (5, math.nan, 3, 1),
        (5, math.inf, 3, 1),
        (5, 1.0, 3, 3),
        (5, 1.0, 3, -1),
        (5, 1.0, 0, 0),
        (2**41, 1.0, 1, 0),
    ],
)
def test_refuses_variance(arguments):
    with pytest.raises(EncodingError):
        party_variance(*arguments)


@pytest.mark.parametrize("width", [16, 32, 64])
def test_noise_is_added_in_the_ring(width):
    total = from_signed(np.random.default_rng(1).integers(-(2**62), 2**62, 20_000), width)
    before = total.copy()
    result = noisy(total, 400)
    assert result.dtype == total.dtype
    assert (total == before).all()
    noise = signed(result - total)
    assert np.abs(noise).max() < 9 * 20
    assert abs(noise.var() / 400 - 1) < 6 * math.sqrt(2 / 20_000)
    assert (noisy(total, 400) != result).mean() > 0.9


def test_noise_wider_than_the_ring_wraps():
    result = noisy(from_signed(np.zeros(50_000), 16), 2**60)
    assert stats.chisquare(np.bincount(result >> 8, minlength=256)).pvalue > 1e-6


@pytest.mark.parametrize("colluders", [0, 1, 2])
def test_colluders_leave_the_honest_noise(colluders):
    """Shares, noise on each, opened: who knows some parties' noise sees the sum with that of the others."""
    size, parties, variance = 20_000, 3, 50
    x = np.random.default_rng(2).integers(-1000, 1000, size)
    shares = additive(from_signed(x, 32), parties)
    published = [noisy(s, variance) for s in shares]
    known = sum((published[j] - shares[j] for j in range(colluders)), np.zeros(size, dtype=np.uint32))
    left = signed(sum(published, np.zeros(size, dtype=np.uint32)) - known) - x
    honest = (parties - colluders) * variance
    assert abs(left.var() / honest - 1) < 6 * math.sqrt(2 / size)


def additive(vector, parties):
    """Additive shares of a ring vector; the sharing itself is tested elsewhere."""
    rng = np.random.default_rng(3)
    masks = [rng.integers(0, 2**32, vector.size, dtype=np.uint32) for _ in range(parties - 1)]
    return [*masks, vector - sum(masks, np.zeros(vector.size, dtype=np.uint32))]


def convolved(variance, parties, most):
    """The exact law of a sum, by direct summation (no Fourier transform: small probabilities stay exact)."""
    one = discrete(variance, most)
    law = one
    for _ in range(parties - 1):
        law = np.convolve(law, one)
    return law


@pytest.mark.parametrize(("variance", "parties"), [(1, 2), (1, 3), (1, 5), (2, 2), (2, 4), (1, 70)])
def test_sums_are_as_close_as_claimed(variance, parties):
    most = 12 if parties < 70 else 10
    law = convolved(variance, parties, most)
    # Near the centre: there one does not see that the summands are cut off at ten deviations.
    centre, reach = len(law) // 2, 4
    exact = discrete(parties * variance, len(law) // 2)
    middle = slice(centre - reach, centre + reach + 1)
    worst = np.abs(np.log(law[middle] / exact[middle])).max()
    bound = closeness(variance, parties, 1)
    assert worst <= bound / 2 + 1e-12  # the proof's 5 in place of the paper's 10
    if variance == 1 and parties == 2:
        assert worst > bound / 5  # and it is no bound that anything would satisfy
    assert closeness(variance, parties, 1000) == pytest.approx(1000 * bound)


def test_closeness_by_the_formula():
    v, n = 2, 5
    tau = 10 * sum(math.exp(-2 * math.pi**2 * v * k / (k + 1)) for k in range(1, n))
    assert tau <= closeness(v, n, 1) <= tau * (1 + 1e-8)
    assert closeness(5, 1, 10**9) == 0
    assert 0 < closeness(2**40, 3, 10**6) < 1e-300
    many = 10 * sum(math.exp(-2 * math.pi**2 * k / (k + 1)) for k in range(1, 1000))
    assert many <= closeness(1, 1000, 1) <= many * 1.5


@pytest.mark.parametrize("variance", [1, 2, 5, 30, 1000])
def test_lemmas_on_one_coordinate(variance):
    """(2) and (3) of the proof, at every integer that has a probability worth the name."""
    most = min(30 * math.isqrt(variance), 12 * math.isqrt(variance) + 12)
    x = np.arange(-most, most + 1)
    w, kappa, ratio = x**2 / variance, 1 / (24 * variance), log_ratio(variance, most)
    theta = 3 * math.exp(-2 * math.pi**2 * variance)
    errors = 1e-11
    assert (ratio <= theta + kappa * (w - 1) + 1 / (640 * variance**2) + errors).all()
    assert (ratio >= kappa * (w - 1) - w**2 / (960 * variance**2) - errors).all()


@pytest.mark.parametrize("law", [discrete, rounded])
@pytest.mark.parametrize("variance", [1, 2, 5, 30, 1000])
@pytest.mark.parametrize("failure", [0.3, 0.01, 1e-6, 1e-12])
def test_distance_holds_for_one_and_for_two_coordinates(law, variance, failure):
    """The exact probability that the log ratio is beyond the bound."""
    most = 9 * math.isqrt(variance) + 9
    mass, ratio = law(variance, most), log_ratio(variance, most)
    assert mass[np.abs(ratio) > distance_to_gaussian(variance, 1, failure)].sum() <= failure
    pairs, ratios = np.outer(mass, mass), np.add.outer(ratio, ratio)
    assert pairs[np.abs(ratios) > distance_to_gaussian(variance, 2, failure)].sum() <= failure


@pytest.mark.parametrize(("variance", "size"), [(4, 20), (10, 1000), (400, 1000), (400, 20)])
def test_distance_holds_for_vectors(variance, size):
    """Simulated; and a twentieth of it does not hold, so that it is a bound on the right quantity."""
    most = 10 * math.isqrt(variance) + 10
    ratio = log_ratio(variance, most)
    vectors = 2000
    samples = {
        "discrete": discrete_gaussian(vectors * size, variance),
        "rounded": np.rint(np.random.default_rng(5).normal(size=vectors * size) * math.sqrt(variance)),
    }
    for x in samples.values():
        totals = np.abs(ratio[x.astype(np.int64) + most].reshape(vectors, size).sum(axis=1))
        assert (totals > distance_to_gaussian(variance, size, 0.01)).mean() <= 0.01
        assert (totals > distance_to_gaussian(variance, size, 0.01) / 20).mean() > 0.01


@pytest.mark.parametrize("variance", [1, 5, 50])
@pytest.mark.parametrize("shift", [1, 3])
def test_privacy_of_the_rounded_gaussian_carries_over(variance, shift):
    """The docstring's conclusion, with exact hockey-stick divergences in one dimension."""
    most = 9 * math.isqrt(variance) + 20
    p, q = discrete(variance, most), rounded(variance, most)
    for epsilon, failure in itertools.product([0.1, 1.0], [1e-3, 1e-8]):
        xi = distance_to_gaussian(variance, 1, failure)
        delta = np.maximum(q[shift:] - math.exp(epsilon) * q[:-shift], 0).sum() + q[:shift].sum()
        claimed = math.exp(xi) * delta + (1 + math.exp(xi + epsilon)) * failure
        real = np.maximum(p[shift:] - math.exp(epsilon + 2 * xi) * p[:-shift], 0).sum()
        assert real <= claimed


def test_distance_falls_and_grows_as_it_should():
    assert distance_to_gaussian(2**40, 10**8, 1e-12) < 1e-8
    assert distance_to_gaussian(100, 1000, 1e-6) > distance_to_gaussian(101, 1000, 1e-6)
    assert distance_to_gaussian(100, 1001, 1e-6) > distance_to_gaussian(100, 1000, 1e-6)
    assert distance_to_gaussian(100, 1000, 1e-7) > distance_to_gaussian(100, 1000, 1e-6)
    asymptotic = math.sqrt(10**6 * math.log(3e9)) / (12 * 2**40)
    assert distance_to_gaussian(2**40, 10**6, 1e-9) == pytest.approx(asymptotic, rel=0.01)


@pytest.mark.parametrize("arguments", [(0, 1, 0.1), (1, 0, 0.1), (1, 1, 0.0), (1, 1, 1.0), (1, 1, math.nan)])
def test_refuses_distance(arguments):
    with pytest.raises(EncodingError):
        distance_to_gaussian(*arguments)


@pytest.mark.parametrize("arguments", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_refuses_closeness(arguments):
    with pytest.raises(EncodingError):
        closeness(*arguments)
