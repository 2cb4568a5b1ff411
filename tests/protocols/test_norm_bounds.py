"""The bounds against exact probabilities, enumerated where they can be, and against simulation where they cannot.

What is exact here is computed from the rows' definition alone: the distribution of one row's projection modulo L by
adding one coordinate after the other, that of a sum of squares by convolution.
"""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from protocols import norm_bounds
from protocols.errors import EncodingError
from protocols.norm_bounds import (
    NormCheck,
    far_tail,
    honest_refusal,
    laplace,
    largest_bound,
    lower_tail,
    passing,
    planned_passing,
    reach,
    row_tail,
    spread,
    upper_tail,
)

L = 2**16
BETA = 2**12
"""The largest range of a ring of 16 bits."""
GENERATOR = np.random.default_rng(20240)
SIZE = 10**6
SIGNS, ROWS = np.array([-1, 1]), np.array([-1, 0, 0, 1])


def norm(u):
    return math.sqrt(sum(int(v) ** 2 for v in u))


def small_check(bound, rows=4, width=16, row_bits=12, ratio=1.7):
    threshold = int(ratio * rows * bound**2 / 2)
    return NormCheck(SIZE, width, bound, rows, row_bits, threshold, False)


def accepted(check, projections):
    """The check itself, on signed projections (..., m)."""
    beta = 2**check.row_bits
    y = projections.astype(np.int64)
    in_range = np.all((-beta <= y) & (y < beta), axis=-1)
    squares = np.sum(np.where(in_range[..., None], y, 0) ** 2, axis=-1)
    return in_range & (squares <= check.threshold)


def projected(u, check, trials, entries=ROWS):
    """(trials, m) signed: draws of a whole check's projections."""
    matrix = GENERATOR.choice(entries, size=(trials * check.rows, len(u)))
    wrapped = matrix @ np.array(u, dtype=np.int64)  # modulo 2^64, by itself
    return wrapped.astype(f"<i{check.width // 8}").reshape(trials, check.rows)


def rate_at_least(successes, trials):
    """What the true rate lies above, but for one chance in a million."""
    return stats.beta.ppf(1e-6, successes, trials - successes + 1) if successes else 0.0


def row_distribution(u, modulus=L):
    """The probabilities of <r, u> modulo L, in the order of :func:`signed`."""
    p = np.zeros(modulus)
    p[0] = 1.0
    for v in u:
        p = p / 2 + np.roll(p, int(v)) / 4 + np.roll(p, -int(v)) / 4
    return np.roll(p, modulus // 2)


def signed(modulus=L):
    return np.arange(-modulus // 2, modulus // 2)


def passes_twice(p, check):
    """The exact probability that a vector with this distribution passes two rows in a ring of 16 bits."""
    assert (check.rows, check.width) == (2, 16)
    window = p[L // 2 - 2**check.row_bits : L // 2 + 2**check.row_bits]
    squares = np.arange(-(2**check.row_bits), 2**check.row_bits) ** 2
    order = np.argsort(squares)
    total, ascending = np.concatenate([[0.0], np.cumsum(window[order])]), squares[order]
    return float(window @ total[np.searchsorted(ascending, check.threshold - squares, side="right")])


def sum_of_squares(u, rows, longest):
    """The probabilities of sum <r_i, u>^2 = 0, 1, ... longest over the integers, and of more than that, exactly."""
    one = {}
    for entries in itertools.product((-1, 0, 1), repeat=len(u)):
        value = sum(e * int(v) for e, v in zip(entries, u, strict=True)) ** 2
        one[value] = one.get(value, 0.0) + math.prod(0.5 if e == 0 else 0.25 for e in entries)
    p, beyond = np.zeros(longest + 1), 0.0
    p[0] = 1.0
    for _ in range(rows):
        step = np.zeros_like(p)
        lost = 0.0
        for value, chance in one.items():
            kept = max(longest + 1 - value, 0)
            step[longest + 1 - kept :] += chance * p[:kept]
            lost += chance * float(p[kept:].sum())
        p, beyond = step, beyond + lost
    return p, beyond


def exactly_passes(u, check):
    return float(sum_of_squares(u, check.rows, check.threshold)[0].sum())


def log2(x):
    return math.log2(x) if x > 0 else -math.inf


# -- the numbers that a study gets -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("private", "refusal", "rows"), [(False, -20.0, 160), (True, -40.0, 208)])
def test_the_ratios_are_what_the_formulas_give(private, refusal, rows):
    chosen = norm_bounds._PRIVATE if private else norm_bounds._PUBLIC
    assert chosen.rows == rows
    assert (chosen.reach, chosen.spread) == (reach(rows, refusal), spread(rows, refusal))
    # Neither is larger than it need be.
    assert 2 * rows * math.exp(-((chosen.reach / 4096) ** 2)) <= 2**refusal / 16
    assert 2 * rows * math.exp(-(((chosen.reach - 1) / 4096) ** 2)) > 2**refusal / 16
    chernoff = [-rows / 2 * (x - 1 - math.log(x)) for x in (chosen.spread / 4096, (chosen.spread - 1) / 4096)]
    assert math.exp(chernoff[0]) <= 2**refusal * 15 / 16 < math.exp(chernoff[1])


@pytest.mark.parametrize("width", [16, 32, 64])
@pytest.mark.parametrize(("private", "refusal", "rows"), [(False, -20.0, 160), (True, -40.0, 208)])
def test_every_check_keeps_both_promises(width, private, refusal, rows):
    largest = largest_bound(width, SIZE, private)
    bounds = {1, 2, 3, 4, 5, 7, 100, 431, largest // 2, largest // 2 + 1, largest - 1, largest}
    for bound in bounds:
        check = NormCheck.for_bound(SIZE, width, bound, private)
        assert (check.size, check.width, check.bound, check.rows) == (SIZE, width, bound, rows)
        assert not check.direct
        assert honest_refusal(check) <= refusal
        assert passing(check, 2.0) <= -30
        assert passing(check, 2.0) <= planned_passing(rows, 2.0, refusal) <= -30
        assert check.rows * 4**check.row_bits < 2**63
        assert 2**check.row_bits <= min(2 ** (width - 4), 2**27)
        # The range is the smallest power of two that will do, T the largest integer.
        assert 2**check.row_bits >= reach(rows, refusal) * bound / 4096 > 2 ** (check.row_bits - 1)
        assert 0 <= spread(rows, refusal) * rows * bound**2 - 8192 * check.threshold < 8192


def test_why_there_are_160_rows_and_208():
    assert planned_passing(144, 2.0) > -30 > planned_passing(160, 2.0)
    assert planned_passing(192, 2.0, -40.0) > -30 > planned_passing(208, 2.0, -40.0)


@pytest.mark.parametrize("width", [16, 32, 64])
@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("size", [1, 100, 10**6])
def test_the_largest_bound_is_the_last_that_is_accepted(width, private, size):
    largest = largest_bound(width, size, private)
    NormCheck.for_bound(size, width, largest, private)
    for bad in (largest + 1, 0, -1):
        with pytest.raises(EncodingError, match=f"bounds of 1 to {largest} units.*: take a"):
            NormCheck.for_bound(size, width, bad, private)


def test_a_narrow_ring_names_the_wider_one():
    with pytest.raises(EncodingError, match="take a ring of 32 bits, a coarser encoding or a smaller bound"):
        NormCheck.for_bound(SIZE, 16, 10_000)
    with pytest.raises(EncodingError, match="not 1000000000: take a coarser encoding or a smaller bound"):
        NormCheck.for_bound(SIZE, 32, 10**9)
    with pytest.raises(EncodingError, match="take a finer encoding"):
        NormCheck.for_bound(SIZE, 32, 0)


GOOD = NormCheck.for_bound(SIZE, 32, 1000)


@pytest.mark.parametrize(
    "fault",
    [
        {"size": 0},
        {"bound": 0},
        {"rows": 0},
        {"threshold": -1},
        {"threshold": 2**63},
        {"row_bits": -1},
        {"row_bits": 28},
        {"rows": 512, "row_bits": 27},
        {"width": 16, "row_bits": 13},
        {"width": 8},
        {"width": 33},
        {"size": 2**31},
        {"direct": True},
    ],
    ids=str,
)
def test_a_check_that_could_not_be_run_is_refused(fault):
    with pytest.raises(EncodingError):
        dataclasses.replace(GOOD, **fault)


def test_the_largest_matrix_is_what_a_seed_gives():
    largest = (2**38 - 2**12) // 160
    assert 160 * -(-largest // 4) <= 2**36
    NormCheck.for_bound(largest, 32, 1000)
    with pytest.raises(EncodingError, match=f"at most {largest} elements"):
        NormCheck.for_bound(largest + 1, 32, 1000)


# -- short vectors ---------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.integers(-200, 200), min_size=1, max_size=30), st.integers(1, 300), st.booleans())
@example([3, 4], 5, False)
@example([3, 4], 4, False)
@example([16], 16, False)
def test_a_short_vector_is_accepted_exactly_within_the_bound(u, bound, private):
    check = NormCheck.for_bound(len(u), 16, bound, private)
    assert check.direct
    assert check.rows == len(u)
    assert bool(accepted(check, np.array(u))) == (sum(v * v for v in u) <= bound**2)
    assert (honest_refusal(check), passing(check, 1.01), passing(check, 1.0)) == (-math.inf, -math.inf, 0.0)


@pytest.mark.parametrize(("private", "rows"), [(False, 160), (True, 208)])
def test_short_is_up_to_the_number_of_rows(private, rows):
    assert NormCheck.for_bound(rows, 32, 10, private).direct
    assert not NormCheck.for_bound(rows + 1, 32, 10, private).direct
    for faulty in ({"threshold": 99}, {"row_bits": 3}, {"rows": rows - 1}):
        with pytest.raises(EncodingError, match="direct"):
            dataclasses.replace(NormCheck.for_bound(rows, 32, 10, private), **faulty)


# -- one row ---------------------------------------------------------------------------------------------------------


NARROW = 256
"""No projection of the small vectors wraps around modulo this."""
small_vectors = st.lists(st.integers(-9, 9), min_size=1, max_size=7).filter(any)


@settings(deadline=None, max_examples=60)
@given(small_vectors)
@example([1])
@example([1] * 7)
def test_a_row_reaches_no_farther_than_its_bound(u):
    p = row_distribution(u, NARROW)
    for b in range(1, sum(map(abs, u)) + 1):
        assert log2(float(p[np.abs(signed(NARROW)) >= b].sum())) <= row_tail(b / norm(u)) + 1e-9


def test_control_half_a_row_tail_is_exceeded():
    # As if the rows had entries +1 and -1 in a quarter of the places.
    p = row_distribution([1] * 40, NARROW)
    excess = [
        log2(float(p[np.abs(signed(NARROW)) >= b].sum())) - row_tail(math.sqrt(2) * b / norm([1] * 40))
        for b in range(5, 20)
    ]
    assert max(excess) > 1


@settings(deadline=None, max_examples=60)
@given(small_vectors, st.floats(-1.5, 1.5), st.sampled_from([0.01, 0.3, 1.0, 1.35, 2.0, 2.4, 3.0, 4.9]))
@example([1], 0.0, 4.9)
@example([3, 1, 1, 1, 1], 0.5, 2.4)
def test_the_laplace_transform_is_bounded_about_any_centre(u, shift, s):
    centre = shift * norm(u)
    mean = float(row_distribution(u, NARROW) @ np.exp(-s * ((signed(NARROW) - centre) / norm(u)) ** 2))
    assert mean <= laplace(s)


def test_the_laplace_bound_is_hardly_above_the_worst_vector():
    for s in (0.1, 1.0, 1.35, 2.0, 2.2):  # many equal entries: the normal's
        assert (1 + s) ** -0.5 <= laplace(s) <= (1 + s) ** -0.5 + 1e-11
    for s in (2.5, 3.5, 4.9):  # one entry
        assert (1 + math.exp(-s)) / 2 <= laplace(s) <= (1 + math.exp(-s)) / 2 + 0.002


def test_control_the_normal_s_laplace_transform_is_not_a_bound():
    mean = float(row_distribution([100], NARROW) @ np.exp(-3.0 * (signed(NARROW) / 100) ** 2))
    assert mean == pytest.approx((1 + math.exp(-3.0)) / 2)
    assert mean > (1 + 3.0) ** -0.5 + 0.02


def test_the_two_parts_of_the_laplace_bound_move_as_the_proof_says():
    for s in (0.5, 2.0, 4.9):
        a = np.linspace(0.01, math.sqrt(s / 2), 200)
        first, second = norm_bounds._first(a, s), norm_bounds._second(a)
        assert np.all(np.diff(first) <= 1e-12)
        assert np.all(np.diff(second) >= -1e-12)
        # Together, for a vector of one entry, they are the whole expectation.
        assert first[-1] + second[-1] == pytest.approx((1 + math.exp(-s)) / 2, abs=1e-12)


# -- sums of squares, over the integers ------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-6, 6), min_size=1, max_size=5).filter(any), st.integers(1, 12))
@example([1], 12)
@example([1, 1, 1, 1, 1], 12)
@example([6, 1], 3)
def test_both_tails_bound_the_exact_ones(u, rows):
    mean = rows * norm(u) ** 2 / 2
    longest = int(6 * mean)
    p, beyond = sum_of_squares(u, rows, longest)
    assert float(p.sum()) + beyond == pytest.approx(1)
    below = np.cumsum(p)
    above = beyond + np.cumsum(p[::-1])[::-1]
    for t in range(0, longest + 1, max(1, longest // 60)):
        assert log2(float(below[t])) <= lower_tail(rows, t / mean) + 1e-9
        assert log2(float(above[t])) <= upper_tail(rows, t / mean) + 1e-9


HONEST = [[60], [42, 42], [30] * 4, [24] * 6, [50, 20, 20, 10], [56, 8]]


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("u", HONEST, ids=str)
def test_the_real_checks_exactly_for_vectors_of_few_entries(u, private):
    bound = math.ceil(norm(u))
    check = NormCheck.for_bound(SIZE, 32, bound, private)
    assert sum(map(abs, u)) < 2**check.row_bits  # no row ever leaves the range
    scale = math.gcd(*u)
    reduced = [v // scale for v in u]
    p, beyond = sum_of_squares(reduced, check.rows, check.threshold // scale**2)
    assert log2(beyond) <= honest_refusal(check)
    # The same vector, held against half the bound.
    half = NormCheck.for_bound(SIZE, 32, bound // 2, private)
    passed = float(p[: half.threshold // scale**2 + 1].sum())
    assert log2(passed) <= passing(half, norm(u) / half.bound) <= -25


def test_how_much_of_the_bounds_is_used_by_chi_square():
    # Many equal entries come arbitrarily near to chi-square: neither bound can be much lower than it is.
    honest = log2(stats.chi2.sf(160 * spread(160, -20.0) / 4096, 160))
    cheating = log2(stats.chi2.cdf(160 * spread(160, -20.0) / 4096 / 4, 160))
    assert -25 < honest < -20
    assert -37 < cheating < planned_passing(160, 2.0) < -30


def test_control_wrong_formulas_are_exceeded():
    # Rows taken to be of +1 and -1 only: twice the variance.
    few = log2(float(sum_of_squares([1, 1, 1], 12, 12)[0].sum()))
    assert lower_tail(12, 12 / 18) > few > lower_tail(12, 12 / 36)
    # Chernoff's bound for m degrees of freedom in place of m/2.
    many = log2(sum_of_squares([1] * 5, 40, 199)[1])
    assert upper_tail(40, 2.0) > many > 2 * upper_tail(40, 2.0)
    # Chi-square's lower tail, for a vector of one entry: no row sees it with 2^-m.
    seen_by_none = log2(float(sum_of_squares([100], 12, 600)[0].sum()))
    chi_square = log2(stats.chi2.cdf(2 * 600 / 100**2, 12))
    assert lower_tail(12, 600 / (12 * 100**2 / 2)) > seen_by_none == -12 > chi_square


# -- wrap-around -----------------------------------------------------------------------------------------------------


def hostile_vectors():
    """Vectors over Z_2^16 that aim at the wrap-around, or just are long, by name."""
    rng = np.random.default_rng(7)
    yield "one_huge", [L // 2]
    for count in (2, 3, 4, 16):
        yield f"{count}_halves_of_the_ring", [L // 2] * count
        yield f"{count}_thirds_of_the_ring", [L // 3] * count
        yield f"{count}_quarters_of_the_ring", [L // 4] * count
    for edge in (-1, 0, 1):
        for count in (1, 2, 7, 64):
            yield f"{count}_times_2_beta_{edge:+}", [2 * BETA + edge] * count
    for count in (1, 4, 30, 200):
        for length in (L // 6 - 100, L // 6 + 100, L // 3, 3 * L):
            value = round(length / math.sqrt(count))
            if value < L // 2:
                yield f"{count}_equal_of_norm_{length}", [value] * count
                yield f"{count}_alternating_of_norm_{length}", [value, -value] * (count // 2) + [value]
    for length in (2000, L // 6, L, 20 * L):
        yield f"gaussian_of_norm_{length}", np.rint(rng.normal(size=300) * length / math.sqrt(300)).tolist()
    yield "powers_of_two", [2**i for i in range(16)]
    yield "one_large_among_small", [2 * BETA - 1] + [3] * 100
    yield "uniform", rng.integers(-L // 2, L // 2, 100).tolist()


HOSTILE = dict(hostile_vectors())
hostile = pytest.mark.parametrize("u", HOSTILE.values(), ids=HOSTILE)


@hostile
def test_two_rows_exactly_in_a_ring_of_16_bits(u):
    used, p = False, row_distribution(u)
    for bound, row_bits in ((100, 8), (100, 12), (500, 12), (863, 12), (1000, 11)):
        for ratio in (1.0, 1.7, 4.0):
            check = small_check(bound, rows=2, row_bits=row_bits, ratio=ratio)
            limit = passing(check, norm(u) / bound)
            assert passes_twice(p, check) <= 2**limit * (1 + 1e-9)
            used |= limit < -0.5
    assert used


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.one_of(
            st.integers(-L // 2, L // 2),
            st.sampled_from([L // 2, L // 4, 2 * BETA, 2 * BETA - 1, BETA, L // 6, L // 7]),
        ),
        min_size=1,
        max_size=12,
    ).filter(any),
    st.sampled_from([50, 300, 863]),
)
def test_two_rows_exactly_for_any_vector(u, bound):
    check = small_check(bound, rows=2)
    assert passes_twice(row_distribution(u), check) <= 2 ** passing(check, norm(u) / bound) * (1 + 1e-9)


@hostile
def test_one_row_stays_in_range_as_seldom_as_the_cases_say(u):
    p = row_distribution(u)
    in_range = float(p[np.abs(signed() + 0.5) < BETA].sum())
    if max(map(abs, u)) >= 2 * BETA:
        assert in_range <= 0.5 + 1e-12
    elif norm(u) > L / 6:
        assert in_range <= 2 ** far_tail(1, 1 / 16)
    else:
        assert norm(u) <= L / 6


def test_the_cases_are_all_met():
    large = [max(map(abs, u)) >= 2 * BETA for u in HOSTILE.values()]
    far = [norm(u) > L / 6 for u in HOSTILE.values()]
    met = set(zip(large, far, strict=True))
    assert {(True, True), (False, True), (False, False)} <= met
    # Half of the rows do miss a large entry, and some vectors beyond L/6 are seen by little more than half.
    assert float(row_distribution([L // 2])[L // 2]) == 0.5
    far_off = float(row_distribution([round(L / 6 / 5)] * 26)[L // 2 - BETA : L // 2 + BETA].sum())
    assert 0.3 < far_off < 2 ** far_tail(1, 1 / 16) < 0.85


def test_the_far_tail_is_what_its_proof_adds_up():
    # At the normal's transform, the best s is known: 1 + s = 1 / (2 x) for x = (beta / ||u_S||)^2.
    for window in (1 / 16, 1 / 20, 1 / 32):
        x = 36 * window**2
        nearest = math.sqrt(2 * x) * math.exp(0.5 - x)
        others = 2 * math.exp(-((0.5 - window) ** 2) / (1 / 36 + 4 * window**2))
        assert nearest + others < 2 ** far_tail(1, window)
        assert far_tail(160, window) == pytest.approx(160 * far_tail(1, window))
    assert 2 ** far_tail(1, 1 / 16) < math.sqrt(9 / 32) * math.exp(23 / 64) + 2 * math.exp(-4.41) + 0.005
    # Chernoff's step costs the most: exact vectors come near to it before that step, not after.
    u = [round(L / 6 / 10)] * 101
    p = row_distribution(u)
    before = min(
        float(p @ np.exp(s * ((BETA**2) - signed() ** 2.0) / (L / 6) ** 2)) for s in np.arange(1, 5, 0.1)
    )
    assert 0.74 < before < 2 ** far_tail(1, 1 / 16)


def test_beyond_a_sixth_of_the_ring_the_far_tail_is_the_bound():
    check = small_check(500)
    edge = L / 6 / 500
    for slack in (1.001 * edge, 3 * edge, 100 * edge):
        assert passing(check, slack) == far_tail(4, 1 / 16) > -4
    assert passing(check, 0.999 * edge) >= far_tail(4, 1 / 16)
    # A smaller range leaves less room for it.
    assert passing(small_check(100, row_bits=10), 200.0) == far_tail(4, 1 / 64) < far_tail(4, 1 / 16)


@pytest.mark.parametrize("width", [16, 32, 64])
def test_two_entries_of_half_the_ring_are_seen_but_not_by_rows_of_signs(width):
    check = NormCheck.for_bound(SIZE, width, 500)
    for count in (2, 4, 20):
        u = np.full(count, 2 ** (width - 1), dtype=np.uint64).view(np.int64)
        assert not np.any(accepted(check, projected(u, check, 200)))
        # Control: an even number of them vanishes in every row of +1 and -1, whatever it is drawn with.
        assert np.all(accepted(check, projected(u, check, 200, SIGNS)))


# -- simulation ------------------------------------------------------------------------------------------------------


def shapes(length, size=48):
    """Vectors of about this norm, at most."""
    spike = np.zeros(size)
    spike[5] = 1
    sparse = np.zeros(size)
    sparse[[3, 17, 40]] = (2, -1, 2)
    gaussian = np.random.default_rng(3).normal(size=size)
    falling = 0.7 ** np.arange(size)
    alternating = np.where(np.arange(size) % 2, 1, -1)
    for name, shape in (
        ("spike", spike),
        ("sparse", sparse),
        ("gaussian", gaussian),
        ("falling", falling),
        ("equal", np.ones(size)),
        ("alternating", alternating),
    ):
        yield name, np.trunc(length * shape / np.linalg.norm(shape)).astype(np.int64)


TRIALS = 3000


@pytest.mark.parametrize("width", [16, 32, 64])
@pytest.mark.parametrize("rows", [4, 8, 16])
def test_simulated_vectors_pass_no_oftener_than_bounded(width, rows):
    bound, visible = 400, 0
    check = small_check(bound, rows, width, row_bits=12)
    for slack in (1.3, 1.7, 2.0, 2.5, 4.0, 30.0):
        for _, u in shapes(slack * bound):
            limit = passing(check, norm(u) / bound)
            passed = int(np.sum(accepted(check, projected(u, check, TRIALS))))
            assert rate_at_least(passed, TRIALS) <= 2**limit
            # Not vacuous: it is below certainty, and yet what it bounds does happen.
            visible += limit < -1 and passed > 0
    assert visible >= 5


@pytest.mark.parametrize("rows", [4, 8, 16])
def test_simulated_honest_vectors_are_refused_no_oftener_than_bounded(rows):
    bound, visible = 400, 0
    for ratio, row_bits in ((2.5, 12), (2.0, 12), (10.0, 10)):  # too large a sum, or too large a row
        check = small_check(bound, rows, 32, row_bits, ratio)
        for _, u in shapes(bound):
            assert norm(u) <= bound
            refused = TRIALS - int(np.sum(accepted(check, projected(u, check, TRIALS))))
            assert rate_at_least(refused, TRIALS) <= 2 ** honest_refusal(check)
            visible += honest_refusal(check) < -0.3 and refused > 0
    assert visible >= 5


def test_control_the_simulation_sees_a_bound_that_is_too_low():
    check = small_check(400, 16, 32)
    excess = []
    for _, u in shapes(1.7 * 400):
        passed = int(np.sum(accepted(check, projected(u, check, TRIALS))))
        # As if the rows had only entries +1 and -1.
        wrong = lower_tail(16, 2 * check.threshold / (16 * norm(u) ** 2) / 2)
        excess.append(rate_at_least(passed, TRIALS) > 2**wrong)
    assert any(excess)


def test_the_real_check_lets_honest_vectors_pass_and_stops_long_ones():
    for width, private in itertools.product((16, 32, 64), (False, True)):
        check = NormCheck.for_bound(SIZE, width, 600, private)
        for _, u in shapes(600):
            assert np.all(accepted(check, projected(u, check, 50)))
        for length in (1200, 5000, 30_000):
            for _, u in shapes(length):
                assert not np.any(accepted(check, projected(u, check, 50)))


# -- as functions ----------------------------------------------------------------------------------------------------


def test_the_bounds_behave_as_probabilities():
    check = NormCheck.for_bound(SIZE, 32, 1000)
    slacks = [0.0, 0.5, 1.0, 1.01, 1.2, 1.5, 1.9, 2.0, 3.0, 10.0, 1e3, 1e6, 1e12, math.inf]
    for values in (
        [passing(check, slack) for slack in slacks],
        [planned_passing(160, slack) for slack in slacks],
    ):
        assert values[:4] == [0.0] * 4
        assert all(later <= earlier for earlier, later in itertools.pairwise(values))
        assert all(-160 <= value <= 0 for value in values)
    plans = [planned_passing(rows, 2.0) for rows in (1, 4, 16, 64, 128, 160)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(plans))
    assert plans[0] == 0.0
    # More rows give a row that wraps more chances: nothing below 2^-37 is promised for the largest bound of a ring.
    assert -37 < planned_passing(400, 2.0) < -35
    # A threshold below the mean refuses honest vectors, and the bound says so.
    assert honest_refusal(dataclasses.replace(check, threshold=10**6)) == 0.0
