"""The accounting against two independent accountants, closed formulas, and exact sums over discrete Gaussians."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import replace
from functools import cache
from itertools import pairwise, product

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from protocols.noise import party_variance
from securefl.privacy import Epsilon, Mechanism, PrivacyError, epsilon_table, multiplier_for, spent
from securefl.privacy.accounting import (
    ORDERS,
    Step,
    composed,
    curve,
    epsilon_of_curve,
    filter_order,
    most,
    pld_epsilon,
)
from tests.work import calls

UNITS = 2**20

CONFIGURATIONS = [
    # sampling rate, noise multiplier, attempts, delta
    (0.1, 1.1, 100, 1e-5),
    (0.2, 5.99, 60, 1e-5),
    (0.2, 1.22, 60, 1e-5),
    (0.05, 4.3, 500, 1e-5),
    (1.0, 10.0, 20, 1e-5),
]

MORE_CONFIGURATIONS = [
    (0.2, 2.41, 60, 1e-5),
    (0.05, 1.0, 500, 1e-5),
    (0.01, 0.8, 1000, 1e-6),
    (0.1, 25.0, 500, 1e-5),
    (0.5, 8.0, 30, 1e-7),
    (1.0, 3.0, 1, 1e-6),
]


def a_mechanism(q, z, parties=3, colluding=1, size=50_000, unit="patient"):
    return Mechanism(unit, q, UNITS, party_variance(UNITS, z, parties, colluding), parties, colluding, size)


@cache
def by_prv(q, z, attempts, delta):
    """prv-accountant's proven lower bound, and its estimate, which is within 0.01 of the truth."""
    from prv_accountant import PoissonSubsampledGaussianMechanism, PRVAccountant

    prv = PoissonSubsampledGaussianMechanism(noise_multiplier=z, sampling_probability=q)
    accountant = PRVAccountant(
        prvs=prv, max_self_compositions=attempts, eps_error=0.01, delta_error=delta / 1e3
    )
    low, estimate, _ = accountant.compute_epsilon(delta=delta, num_self_compositions=attempts)
    return low, estimate


def by_opacus(q, z, attempts, delta, orders=ORDERS):
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = [(z, q, attempts)]
    return accountant.get_epsilon(delta, alphas=list(orders))


def disagreement(found: Epsilon, q, z, attempts, delta) -> str:
    """What is wrong with a claim, as a line of a table; empty if nothing."""
    low, estimate = by_prv(q, z, attempts, delta)
    opacus = by_opacus(q, z, attempts, delta)
    # Its estimate is up to 4e-5 above what our upper bound converges to as its grid gets finer (0.1, 1.1, 100).
    wrong = [
        *(["PLD below"] if found.pld < max(low, estimate * (1 - 1e-4)) else []),
        *(["PLD 2 % above"] if found.pld > 1.02 * estimate else []),
        *(["RDP below"] if found.rdp < opacus - 1e-9 else []),
        *(["RDP 2 % above"] if found.rdp > 1.02 * opacus else []),
        *(["RDP below PLD"] if found.rdp < found.pld else []),
    ]
    row = f"q={q} z={z} T={attempts} delta={delta}: PLD {found.pld:.6f}, prv {estimate:.6f} [{low:.6f}"
    return f"{row}, ], RDP {found.rdp:.6f}, Opacus {opacus:.6f}: {', '.join(wrong)}" if wrong else ""


@pytest.mark.parametrize(
    "configurations",
    [CONFIGURATIONS, pytest.param(MORE_CONFIGURATIONS, marks=pytest.mark.slow)],
    ids=["few", "more"],
)
def test_every_configuration_agrees_with_two_independent_accountants(configurations):
    rows = [
        disagreement(spent(a_mechanism(q, z), attempts, delta, 1), q, z, attempts, delta)
        for q, z, attempts, delta in configurations
    ]
    assert not any(rows), "\n".join(filter(None, rows))


@pytest.mark.parametrize("configuration", CONFIGURATIONS[1:3])
@pytest.mark.parametrize("fault", ["no sampling", "a round less", "a colluder less", "twice the norm"])
def test_a_faulty_accountant_is_found_out(configuration, fault):
    q, z, attempts, delta = configuration
    mechanism = a_mechanism(q, z)
    found = {
        "no sampling": lambda: spent(replace(mechanism, sampling_rate=1.0), attempts, delta, 1),
        "a round less": lambda: spent(mechanism, attempts - 1, delta, 1),
        "a colluder less": lambda: spent(mechanism, attempts, delta, 0),
        "twice the norm": lambda: spent(replace(mechanism, clip_units=2 * UNITS), attempts, delta, 1),
    }[fault]()
    assert disagreement(found, q, z, attempts, delta)


def test_published_values():
    step = Step(0.1, 1.1, 1.1)
    assert composed(((step, 100),), 1e-5).pld == pytest.approx(5.913, abs=0.001)
    # 6.621 is with the library's fractional orders; with integer orders alone the bound is 1.9 % higher.
    accountant = RdpAccountant()
    accountant.compose(PoissonSampledDpEvent(0.1, GaussianDpEvent(1.1)), 100)
    assert accountant.get_epsilon(1e-5) == pytest.approx(6.621, abs=0.001)
    assert composed(((step, 100),), 1e-5).rdp == pytest.approx(6.745, abs=0.001)


@pytest.mark.parametrize(
    ("epsilon", "sigma"),
    [(1, 5.99), *(pytest.param(*row, marks=pytest.mark.slow) for row in ((3, 2.41), (8, 1.22)))],
)
def test_published_multipliers(epsilon, sigma):
    assert multiplier_for(0.2, 60, epsilon, 1e-5) == pytest.approx(sigma, abs=0.006)


# Exact sums over discrete Gaussians.


def discrete(variance: float, reach: int = 60) -> dict[int, float]:
    weights = {x: math.exp(-x * x / (2 * variance)) for x in range(-reach, reach + 1)}
    total = math.fsum(weights.values())
    return {x: w / total for x, w in weights.items()}


def shifted(p, v):
    return {x: p.get(x - v, 0.0) for x in p}


def mixed(p, q, v):
    moved = shifted(p, v)
    return {x: (1 - q) * p[x] + q * moved[x] for x in p}


def renyi(p, q, order) -> float:
    terms = [order * math.log(p[x]) + (1 - order) * math.log(q[x]) for x in p if p[x] and q[x]]
    return (max(terms) + math.log(math.fsum(math.exp(t - max(terms)) for t in terms))) / (order - 1)


def hockey_stick(p, q, epsilon) -> float:
    """The exact delta at epsilon, for the worse of the two directions."""
    one = math.fsum(max(0.0, p[x] - math.exp(epsilon) * q[x]) for x in p)
    other = math.fsum(max(0.0, q[x] - math.exp(epsilon) * p[x]) for x in p)
    return max(one, other)


def a_small(variance, norm_, q=1.0, parties=1, size=1, unit="patient"):
    return Mechanism(unit, q, norm_, variance, parties, 0, size)


@pytest.mark.parametrize(("variance", "v"), [(1, 1), (2, 1), (4, 2), (4, 3), (20, 5)])
@pytest.mark.parametrize("q", [0.01, 0.3, 0.9, 1.0])
def test_integer_orders_are_exact_for_the_discrete_gaussian(variance, v, q):
    step = Step.of(a_small(variance, v, q), 0)
    p = discrete(variance, 100)
    with_unit = mixed(p, q, v)
    for order, bound in zip(ORDERS[:5], curve(step), strict=False):
        assert renyi(with_unit, p, order) == pytest.approx(bound, rel=1e-8, abs=1e-12)
        # Adding loses no more than removing, which is what the bound is computed for.
        assert renyi(p, with_unit, order) <= bound * (1 + 1e-9) + 1e-12


def test_in_several_coordinates_only_the_norm_counts():
    p, q, (a, b) = discrete(3, 25), 0.2, (1, -2)
    plane = {(x, y): p[x] * p[y] for x, y in product(p, p)}
    moved = {(x, y): p.get(x - a, 0.0) * p.get(y - b, 0.0) for x, y in plane}
    with_unit = {xy: (1 - q) * plane[xy] + q * moved[xy] for xy in plane}
    z = math.sqrt(3 / 5)
    for order, bound in zip(ORDERS[:3], curve(Step(q, z, z)), strict=False):
        assert renyi(with_unit, plane, order) == pytest.approx(bound, rel=1e-8)


def test_between_the_integers_and_for_other_shifts_it_is_not_exact():
    # The control: the same comparison fails where no integer k v leaves the constants alone.
    variance, order = 0.15, 2.5
    p = discrete(variance)
    continuous = order / (2 * variance)
    assert renyi(shifted(p, 1), p, order) != pytest.approx(continuous, rel=1e-3)
    assert renyi(shifted(p, 1), p, 2) == pytest.approx(2 / (2 * variance), rel=1e-9)
    half = {x: math.exp(-((x - 0.5) ** 2) / (2 * variance)) for x in p}
    half = {x: w / math.fsum(half.values()) for x, w in half.items()}
    assert renyi(half, p, 2) != pytest.approx(2 * 0.25 / (2 * variance), rel=1e-3)


@pytest.mark.parametrize(("variance", "norm_"), [(9, 2), (20, 5), (400, 20), (400, 60)])
@pytest.mark.parametrize("q", [0.1, 1.0])
def test_the_exact_delta_of_one_attempt_is_within_the_claim(variance, norm_, q):
    p = discrete(variance, 40 * math.isqrt(variance))
    for delta in (1e-3, 1e-6):
        claim = spent(a_small(variance, norm_, q), 1, delta, 0)
        for epsilon in (claim.rdp, claim.pld):
            assert hockey_stick(mixed(p, q, norm_), p, epsilon) <= delta * (1 + 1e-9)
        if variance == 400:  # there the discrete is almost the continuous one: the claim is tight
            assert hockey_stick(mixed(p, q, norm_), p, 0.97 * claim.pld) > delta


def test_the_exact_delta_of_two_attempts_and_of_three_parties_is_within_the_claim():
    q, norm_, one = 0.3, 2, discrete(2, 20)
    summed = np.array(list(one.values()))
    summed = np.convolve(np.convolve(summed, summed), summed)
    noise = dict(zip(range(-60, 61), summed / summed.sum(), strict=True))
    with_unit = mixed(noise, q, norm_)
    twice = {(x, y): noise[x] * noise[y] for x, y in product(noise, noise)}
    with_twice = {(x, y): with_unit[x] * with_unit[y] for x, y in twice}
    claim = spent(a_small(2, norm_, q, parties=3), 2, 1e-4, 0)
    for epsilon in (claim.rdp, claim.pld):
        assert hockey_stick(with_twice, twice, epsilon) <= 1e-4
    # The Rényi bound of one attempt would not cover two.
    assert hockey_stick(with_twice, twice, spent(a_small(2, norm_, q, parties=3), 1, 1e-4, 0).rdp) > 1e-4


def test_what_hospitals_noise_does_for_a_patient_is_within_the_doubled_claim():
    # The patient's hospital is in both data sets; its update moves from one end of the ball to the other.
    p, q, norm_, delta = discrete(100, 300), 0.4, 10, 1e-4
    claim = composed(((Step.of(a_small(100, norm_, q, unit="hospital"), 0).doubled(), 1),), delta)
    for epsilon in (claim.rdp, claim.pld):
        assert hockey_stick(mixed(p, q, norm_), mixed(p, q, -norm_), epsilon) <= delta
    undoubled = spent(a_small(100, norm_, q), 1, delta, 0)
    assert hockey_stick(mixed(p, q, norm_), mixed(p, q, -norm_), undoubled.pld) > delta


def test_being_left_out_is_taken_off_delta():
    p, norm_, refused, delta = discrete(100, 300), 10, 4e-4, 1e-3
    # With the unit, the hospital is visibly left out now and then; without it, never.
    left_out = max(p) + 1
    without = {**p, left_out: 0.0}
    with_unit = {**{x: (1 - refused) * w for x, w in shifted(p, norm_).items()}, left_out: refused}
    claim = spent(a_small(100, norm_), 1, delta, 0, extra_delta=refused)
    assert hockey_stick(with_unit, without, claim.pld) <= delta
    assert claim.pld > spent(a_small(100, norm_), 1, delta, 0).pld
    ignored = spent(a_small(10_000, 100), 1, delta, 0)  # the same noise, finer: tight
    assert hockey_stick(with_unit, without, ignored.pld) > delta
    assert spent(a_small(100, norm_), 3, delta, 0, extra_delta=refused) == Epsilon(math.inf, math.inf)


def test_without_sampling_it_is_the_gaussian_formula():
    for z, attempts, delta in ((2.0, 1, 1e-5), (30.0, 200, 1e-6), (83.42, 500, 1e-5)):
        mu = math.sqrt(attempts) / z
        found = spent(a_mechanism(1.0, z), attempts, delta, 1).pld
        below = found * 0.999

        def exact(epsilon, mu=mu):
            return norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)

        assert exact(found) <= delta * (1 + 1e-6)
        assert exact(below) > delta


# The functions that are built on it.


@pytest.mark.parametrize(("q", "attempts", "epsilon", "delta"), [(0.2, 30, 3, 1e-5), (1.0, 40, 0.3, 1e-6)])
def test_a_calibrated_multiplier_is_enough_and_hardly_more(q, attempts, epsilon, delta):
    z = multiplier_for(q, attempts, epsilon, delta)
    assert spent(a_mechanism(q, z), attempts, delta, 1).pld <= epsilon
    assert spent(a_mechanism(q, z * 0.9998), attempts, delta, 1).pld > epsilon
    assert float(f"{z:.5g}") == z
    # The parties' integers, a large model and wide noise of 16 parties stay within the room that was left.
    coarse = Mechanism("patient", q, 2**12, party_variance(2**12, z, 16, 5), 16, 5, 10**7)
    assert spent(coarse, attempts, delta, 5).pld <= epsilon
    # One attempt more is beyond it.
    assert spent(a_mechanism(q, z), attempts + 1, delta, 1).pld > epsilon


def test_a_calibration_leaves_room_for_refusals():
    plain, with_room = (multiplier_for(0.2, 60, 3, 1e-5, extra) for extra in (0.0, 2.0**-24))
    assert with_room > plain
    assert spent(a_mechanism(0.2, with_room), 60, 1e-5, 1, 2.0**-24).pld <= 3
    assert spent(a_mechanism(0.2, plain), 60, 1e-5, 1, 2.0**-24).pld > 3


@pytest.mark.slow
@settings(max_examples=3, deadline=None)
@given(
    st.sampled_from([0.02, 0.3, 1.0]),
    st.floats(1.0, 20.0),
    st.integers(1, 200),
    st.sampled_from([1e-4, 1e-6]),
)
def test_more_of_anything_costs_more(q, z, attempts, delta):
    here = spent(a_mechanism(q, z), attempts, delta, 1)
    for more in (
        spent(a_mechanism(q, z), attempts * 2, delta, 1),
        spent(a_mechanism(q, z), attempts, delta, 2),
        spent(a_mechanism(q, z), attempts, delta / 10, 1),
        spent(a_mechanism(q, z / 1.2), attempts, delta, 1),
    ):
        assert more.rdp > here.rdp
        assert more.pld > here.pld
    assert here.pld <= here.rdp * (1 + 1e-6)


def test_the_table_has_a_row_for_each_number_of_colluders():
    mechanism = a_mechanism(0.1, 2.0, parties=5, colluding=2)
    table = epsilon_table(mechanism, 30, 1e-5)
    assert [c for c, _ in table] == [0, 1, 2, 3, 4]
    assert all(e.pld < f.pld < math.inf for (_, e), (_, f) in pairwise(table))
    assert table[2][1] == spent(mechanism, 30, 1e-5, 2)


def test_kinds_of_attempts_compose():
    one, other = Step(0.1, 2.0, 2.0), Step(1.0, 20.0, 20.0)
    both = composed(((one, 30), (other, 10)), 1e-5)
    assert both.pld == pytest.approx(composed(((other, 10), (one, 30)), 1e-5).pld, rel=1e-3)
    assert both.pld == pytest.approx(composed(((one, 15), (other, 10), (one, 15)), 1e-5).pld, rel=1e-3)
    alone = [composed((part,), 1e-5).pld for part in ((one, 30), (other, 10))]
    assert max(alone) < both.pld < sum(alone)
    assert composed((), 1e-5) == composed(((one, 0),), 1e-5) == Epsilon(0.0, 0.0)


def test_how_many_fit_is_the_last_that_does():
    step = Step(0.2, 3.0, 3.0)
    fit = most(step, 1000, 3.0, 1e-5)
    assert pld_epsilon(((step, fit),), 1e-5) <= 3 < pld_epsilon(((step, fit + 1),), 1e-5)
    assert most(step, 5, 3.0, 1e-5) == 5
    assert most(step, 5, 0.01, 1e-5) == 0


@pytest.mark.parametrize("epsilon", [0.5, 3.0, 10.0])
@pytest.mark.parametrize("step", [Step(1.0, 2.0, 2.0), Step(0.2, 1.1, 1.1), Step(0.01, 0.8, 0.8)])
def test_the_filters_order_is_the_one_at_which_most_of_the_first_kind_fit(step, epsilon):
    rhos = dict(zip(ORDERS, curve(step), strict=True))
    order = filter_order(rhos, epsilon, 1e-5)

    def fit(at):
        def allowed(count):
            kinds = ((step, count),)
            return epsilon_of_curve([at], [count * rhos[at]], kinds, 1e-5) <= epsilon

        return bisect_left(range(1, 20_000), True, key=lambda count: not allowed(count))

    assert fit(order) == max(map(fit, ORDERS))


def test_coarse_integers_give_no_promise_rather_than_a_wrong_one():
    # Noise of less than a unit is no Gaussian: the closeness terms say so.
    assert spent(Mechanism("patient", 0.1, 1, 1, 3, 1, 50_000), 1, 1e-5, 2).pld == math.inf


@pytest.mark.parametrize(
    "call",
    [
        lambda: multiplier_for(0.0, 10, 1, 1e-5),
        lambda: multiplier_for(0.1, 0, 1, 1e-5),
        lambda: multiplier_for(0.1, 10, 0, 1e-5),
        lambda: multiplier_for(0.1, 10, 1, 0.0),
        lambda: multiplier_for(0.1, 10, 1, 1e-5, 1e-6),  # all of delta is gone
        lambda: spent(a_mechanism(0.1, 1), -1, 1e-5, 1),
        lambda: spent(a_mechanism(0.1, 1), 1, 1.0, 1),
        lambda: spent(a_mechanism(0.1, 1), 1, 1e-5, 3),
        lambda: spent(a_mechanism(0.1, 1), 1, 1e-5, 1, extra_delta=-1e-9),
    ],
)
def test_what_has_no_meaning_is_refused(call):
    with pytest.raises(PrivacyError):
        call()


def test_a_study_of_500_rounds_is_accounted_for_as_quickly_as_one_of_few():
    spent(a_mechanism(0.5, 3.0), 1, 1e-5, 1)  # the library is imported

    def work(rounds, multiplier):  # which is another each time: nothing of it is cached
        return calls(lambda: spent(a_mechanism(0.0731, multiplier), rounds, 1e-5, 1))

    assert work(500, 1.37) < 1.2 * work(50, 1.3700001)
