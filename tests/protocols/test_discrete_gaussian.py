"""The sampler against the exact law, and against the paper's algorithms in plain integers, one coin at a time.

Every test of a distribution has fixed bytes and would be failed by a right sampler for one choice of them in a million.
"""

import decimal
import functools
import math
import random
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from protocols import discrete_gaussian as module
from protocols.discrete_gaussian import LazyUniform, Trials, discrete_gaussian, exp_enclosure, sample
from protocols.errors import EncodingError
from protocols.prg import Stream

LEVEL = 1e-6
VARIANCES = [1, 2, 3, 5, 10, 100, 12345, 10**6, 2**40, 2**40 + 12345, 2**61 - 1, 2**80]


def fixed(label):
    """Bytes that are the same on every run."""
    return Stream(bytes(32), "test of the discrete gaussian", label.encode())


class Recorded:
    """Given bytes, then those of a generator; it remembers what it gave."""

    def __init__(self, first=b"", seed=0):
        self.rest, self.random, self.given = first, random.Random(seed), b""

    def fill(self, out):
        taken, self.rest = self.rest[: len(out)], self.rest[len(out) :]
        out[:] = taken + self.random.randbytes(len(out) - len(taken))
        self.given += bytes(out)


@functools.lru_cache(maxsize=10_000)
def exponential(exponent, digits=120):
    """exp(-exponent) as a fraction, correct to so many digits: by decimal's own algorithm."""
    with decimal.localcontext(decimal.Context(prec=digits)):
        # The quotient is rounded too: an error of one unit in the last place of the exponent.
        value = (-decimal.Decimal(exponent.numerator) / decimal.Decimal(exponent.denominator)).exp()
    return Fraction(value)


def probabilities(variance, most):
    """P[X = x] for |x| <= most, exact but for float64."""
    weights = [math.exp(-x * x / (2 * variance)) for x in range(-most, most + 1)]
    reach = 40 * math.isqrt(variance) + 40
    total = math.fsum(math.exp(-x * x / (2 * variance)) for x in range(-reach, reach + 1))
    return np.array(weights) / total


def p_value(samples, variance):
    """Of the chi-square test against N_Z(0, variance), in at most about 200 bins of at least 25 expected samples."""
    most = 9 * math.isqrt(variance) + 9
    exact = probabilities(variance, most)
    wanted = max(25 / len(samples), 1 / 200)
    edges, mass = [-most], 0.0
    for x, p in zip(range(-most, most + 1), exact, strict=True):
        mass += p
        if mass >= wanted and x < most:
            edges.append(x + 1)
            mass = 0.0
    if mass < wanted:
        edges.pop()
    edges = np.array(edges)
    expected = np.add.reduceat(exact, edges + most) * len(samples)
    assert np.abs(samples).max() <= most  # nine standard deviations
    observed = np.bincount(np.searchsorted(edges, samples, side="right") - 1, minlength=len(edges))
    return stats.chisquare(observed, expected * len(samples) / expected.sum()).pvalue


# The paper's algorithms 1 to 3, as they are printed, with a uniform integer as the only randomness.


def bernoulli(p, rng):
    return rng.randrange(p.denominator) < p.numerator


def bernoulli_exp(gamma, rng):
    if gamma > 1:
        return all(bernoulli_exp(Fraction(1), rng) for _ in range(math.floor(gamma))) and bernoulli_exp(
            gamma - math.floor(gamma), rng
        )
    k = 1
    while bernoulli(gamma / k, rng):
        k += 1
    return k % 2 == 1


def discrete_laplace(t, rng):
    while True:
        u = rng.randrange(t)
        if not bernoulli_exp(Fraction(u, t), rng):
            continue
        v = 0
        while bernoulli_exp(Fraction(1), rng):
            v += 1
        negative = rng.randrange(2)
        if negative and u + t * v == 0:
            continue
        return (1 - 2 * negative) * (u + t * v)


def paper(variance, rng):
    t = math.isqrt(variance) + 1
    while True:
        y = discrete_laplace(t, rng)
        if bernoulli_exp((abs(y) - Fraction(variance, t)) ** 2 / (2 * variance), rng):
            return y


@pytest.mark.parametrize("variance", [1, 2, 3, 5, 10, 100, 10**6])
def test_law_is_exact(variance):
    assert p_value(sample(400_000, variance, fixed(f"law {variance}")), variance) > LEVEL


@pytest.mark.parametrize("variance", [1, 10])
def test_paper_has_the_same_law(variance):
    rng = random.Random(variance)
    slow = np.array([paper(variance, rng) for _ in range(6_000)])
    assert p_value(slow, variance) > LEVEL
    fast = sample(6_000, variance, fixed(f"paper {variance}"))
    counts = [Counter(x.clip(-2, 2).tolist()) for x in (slow, fast)]
    table = [[count[x] for x in range(-2, 3)] for count in counts]
    assert stats.chi2_contingency(table).pvalue > LEVEL


def test_test_of_the_law_can_fail():
    """A continuous Gaussian that is rounded has variance 13/12 and a law of its own; so has another variance."""
    rounded = np.rint(np.random.default_rng(1).normal(size=400_000)).astype(np.int64)
    assert p_value(rounded, 1) < LEVEL
    assert p_value(sample(400_000, 103, fixed("wrong variance")), 100) < LEVEL
    without_rule_for_zero = sample(400_000, 100, fixed("zero"))
    twice = np.concatenate(
        [without_rule_for_zero, np.zeros((without_rule_for_zero == 0).sum(), dtype=np.int64)]
    )
    assert p_value(twice, 100) < LEVEL


@pytest.mark.parametrize("variance", [2**40, 2**40 + 987_654_321, 2**60, 2**80])
def test_moments_and_shape_of_wide_noise(variance):
    n = 500_000
    samples = sample(n, variance, fixed(f"moments {variance}"))
    x = samples / math.sqrt(variance)
    # Standard errors of the mean, the second, third and fourth moments of a standard Gaussian.
    for k, moment, error in [(1, 0, 1), (2, 1, math.sqrt(2)), (3, 0, math.sqrt(15)), (4, 3, math.sqrt(96))]:
        assert abs((x**k).mean() - moment) < 5 * error / math.sqrt(n)
    assert stats.kstest(x, "norm").pvalue > LEVEL
    # What a float would lose: the lowest bits are uniform, and neighbours independent.
    lowest = np.bincount(samples & 255, minlength=256)
    assert stats.chisquare(lowest).pvalue > LEVEL
    assert abs((x[1:] * x[:-1]).mean()) < 5 / math.sqrt(n)


def test_lowest_bits_show_a_float_sampler():
    float_noise = (np.random.default_rng(1).normal(size=500_000).astype(np.float32) * 2.0**40).astype(
        np.int64
    )
    assert stats.chisquare(np.bincount(float_noise & 255, minlength=256)).pvalue < LEVEL


words = st.integers(0, 2**64 - 1)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(VARIANCES), st.lists(st.tuples(words, words, words), min_size=1, max_size=20))
def test_floating_point_says_what_integers_say(variance, trials):
    check(Trials(variance), trials)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(VARIANCES),
    words,
    st.integers(1, 2**64 - 1),
    st.integers(-300, 300),
    st.sampled_from([0, 1]),
    st.sampled_from([1, 2**20, 2**31, 2**33]),
    st.integers(0, 2**32),
)
def test_next_to_the_probability(variance, first, second, offset, sign, unit, seed):
    """u is put at exp(-γ), and at distances from one unit of its 63 digits to beyond the margin."""
    trials = Trials(variance)
    if first >= trials.limit:
        first %= trials.t
    v = 0
    while Fraction(second, 2**64) < exponential(Fraction(v + 1)):
        v += 1
    y = first % trials.t + trials.t * v
    gamma = Fraction(first % trials.t, trials.t) + (y - Fraction(variance, trials.t)) ** 2 / (2 * variance)
    digits = math.floor(exponential(gamma) * 2**63) + offset * unit
    digits = min(max(digits, 0), 2**63 - 1)
    check(trials, [(first, second, digits << 1 | sign)], seed)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(VARIANCES),
    words,
    st.integers(1, 40),
    st.integers(-300, 300),
    words,
    st.sampled_from([1, 2**20, 2**33, 2**35]),
)
def test_next_to_the_steps_of_v(variance, first, v, offset, third, unit):
    second = min(max(math.floor(exponential(Fraction(v)) * 2**64) + offset * unit, 0), 2**64 - 1)
    check(Trials(variance), [(first, second, third)])


@pytest.mark.parametrize("variance", [1, 2, 10**6, 2**80])
def test_extreme_words(variance):
    trials = Trials(variance)
    firsts = [0, 2**64 - 1, trials.limit - 1, min(trials.limit, 2**64 - 1), trials.t - 1, trials.t]
    ends = [0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1]
    check(trials, [(a, b, c) for a in firsts for b in ends for c in ends])


def check(trials, chosen, seed=0):
    """Where floating point is sure, it is right; integers are right always, by a third way of computing it."""
    values, accepted, unsure = trials.decide(np.array(chosen, dtype=np.uint64).T.copy())
    for i, (first, second, third) in enumerate(chosen):
        source = Recorded(seed=seed)
        exact = trials.decide_exactly(first, second, third, source)
        assert exact == by_definition(trials.variance, first, second, third, source.given)
        if not unsure[i]:
            assert accepted[i] == (exact is not None)
            assert exact is None or values[i] == exact


def by_definition(variance, first, second, third, more):
    """The trial of the module's text. ``more`` are the digits that were drawn, for V first and then for accepting."""
    t = math.isqrt(variance) + 1
    if first >= 2**64 // t * t:
        return None
    # Which digits belong to which u cannot be seen: try each cut, and take the one that decides everything.
    for cut in range(0, len(more) + 1, 8):
        v = fixed_v(second, more[:cut])
        if v is None:
            continue
        u_bits, y = 63 + 8 * (len(more) - cut), first % t + t * v
        u = (third >> 1) << (u_bits - 63) | little(more[cut:])
        p = exponential(Fraction(y * y, 2 * variance) - v + Fraction(variance, 2 * t * t))
        if Fraction(u + 1, 2**u_bits) <= p:
            return None if third & 1 and y == 0 else (1 - 2 * (third & 1)) * y
        if Fraction(u, 2**u_bits) >= p:
            return None
    raise AssertionError("The digits do not decide the trial.")


def little(more):
    """Eight bytes at a time, the later ones lower."""
    value = 0
    for i in range(0, len(more), 8):
        value = value << 64 | int.from_bytes(more[i : i + 8], "little")
    return value


def fixed_v(second, more):
    bits = 64 + 8 * len(more)
    u = second << (bits - 64) | little(more)
    low, high = Fraction(u, 2**bits), Fraction(u + 1, 2**bits)
    v = 0
    while high <= exponential(Fraction(v + 1)):
        v += 1
    return v if low >= exponential(Fraction(v + 1)) else None


def test_margins_are_needed_and_used():
    """At a distance of a unit of the last place floating point must not answer; at 2^-31 it must, or it is useless."""
    trials = Trials(10**6 + 3)
    first, second = 700, 2**63 + 12345  # V = 0
    gamma = Fraction(700, trials.t) + (700 - Fraction(trials.variance, trials.t)) ** 2 / (2 * trials.variance)
    digits = math.floor(exponential(gamma) * 2**63)
    near = [(first, second, (digits + d) << 1) for d in (-(2**30), -1, 0, 1, 2**30)]
    far = [(first, second, (digits + d) << 1) for d in (-(2**32), 2**32)]
    _, accepted, unsure = trials.decide(np.array(near + far, dtype=np.uint64).T.copy())
    assert unsure.tolist() == [True] * 5 + [False] * 2
    assert accepted[-2:].tolist() == [True, False]


def test_doubtful_trials_reach_the_samples():
    """With words that are in doubt, the exact answer is what comes out of ``sample``."""
    trials = Trials(10**6 + 3)
    gamma = Fraction(700, trials.t) + (700 - Fraction(trials.variance, trials.t)) ** 2 / (2 * trials.variance)
    digits = math.floor(exponential(gamma) * 2**63)
    count = 2 * 10 + 16
    for step, expected in [(-1, True), (1, False)]:
        drawn = np.empty((3, count), dtype="<u8")
        drawn[0], drawn[1], drawn[2] = 700, 2**63 + 12345, (digits + step) << 1 | 1
        assert trials.decide(drawn)[2].all()
        samples = sample(10, trials.variance, Recorded(drawn.tobytes()))
        assert (samples == -700).all() == expected


exponents = st.fractions(min_value=0, max_value=60) | st.fractions(
    min_value=0, max_value=2, max_denominator=2**40
)


@settings(max_examples=100, deadline=None)
@given(exponents, st.integers(1, 250))
def test_enclosure_encloses_and_is_narrow(exponent, places):
    low, high = exp_enclosure(exponent, places)
    scaled = exponential(exponent) * 2**places
    slack = Fraction(2**places, 10**110)  # of the oracle
    assert low <= scaled + slack
    assert scaled - slack <= high
    assert high - low <= 2


@settings(max_examples=100, deadline=None)
@given(exponents, st.integers(8, 64), st.integers(-1, 1), st.integers(0, 2**32))
def test_lazy_comparison_is_the_comparison(exponent, count, offset, seed):
    """u starts within a unit of the probability, so that it is seldom decided by the digits at hand."""
    source = Recorded(seed=seed)
    digits = min(max(math.floor(exponential(exponent) * 2**count) + offset, 0), 2**count - 1)
    uniform = LazyUniform(digits, count, source)
    below = uniform.below_exp(exponent)
    assert uniform.digits == digits << 8 * len(source.given) | little(source.given)
    assert uniform.count == count + 8 * len(source.given)
    if exponent == 0:
        assert below
    elif below:
        assert Fraction(uniform.digits + 1, 2**uniform.count) <= exponential(exponent)
    else:
        assert Fraction(uniform.digits, 2**uniform.count) >= exponential(exponent)


def test_lazy_comparison_draws_as_long_as_it_must():
    """All digits of exp(-1) that are handed out agree with u's: it goes on, and decides at the first that does not."""
    digits = math.floor(exponential(Fraction(1)) * 2 ** (64 * 4))
    words = [digits >> 64 * i & (2**64 - 1) for i in (3, 2, 1, 0)]
    for change, expected in [(-2, True), (2, False)]:
        tail = [*words[1:3], words[3] + change]
        source = Recorded(b"".join(word.to_bytes(8, "little") for word in tail))
        assert LazyUniform(words[0], 64, source).below_exp(Fraction(1)) == expected
        assert len(source.given) == 24


def test_system_source():
    np.random.seed(0)
    random.seed(0)
    first = discrete_gaussian(1000, 2**40)
    np.random.seed(0)
    random.seed(0)
    assert (first != discrete_gaussian(1000, 2**40)).sum() > 990
    assert first.dtype == np.int64
    assert first.shape == (1000,)
    assert discrete_gaussian(0, 5).shape == (0,)
    assert discrete_gaussian(1, 5).shape == (1,)
    assert p_value(discrete_gaussian(200_000, 3), 3) > LEVEL


def test_seeds_are_fresh(monkeypatch):
    """A seed is asked for per call, and again when its expansion is used up."""
    seeds = []
    real = module.new_seed

    def counted():
        seeds.append(real())
        return seeds[-1]

    monkeypatch.setattr(module, "new_seed", counted)
    discrete_gaussian(10, 5)
    discrete_gaussian(10, 5)
    assert len(seeds) == 2
    monkeypatch.setattr(module, "_PER_SEED", 3 * 8 * 8192)
    discrete_gaussian(30_000, 5)
    assert len(seeds) >= 8
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("variance", [0, -1, 2**80 + 1, 1.5])
def test_refuses_variance(variance):
    with pytest.raises(EncodingError, match="variance"):
        discrete_gaussian(1, variance)


def test_refuses_size():
    with pytest.raises(EncodingError, match="at least 0"):
        discrete_gaussian(-1, 5)
