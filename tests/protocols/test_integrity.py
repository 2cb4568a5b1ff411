import hashlib
import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import binom, chi2

from protocols import field61
from protocols.canonical import encode
from protocols.contribution import check_signature, sign
from protocols.envelope import SealingKey
from protocols.errors import ChainError, EncodingError, SignatureError
from protocols.integrity import (
    LARGEST,
    PRIME,
    Answer,
    PairMasks,
    answer,
    challenge,
    check_answers,
    check_coins,
    combine,
    commit_coin,
    inner_product,
)
from protocols.prg import Stream, new_seed
from protocols.ring import Encoding, signed
from protocols.sharing import Shape, add_share, share, zeros
from protocols.signing import SigningKey

CONTEXT, OUTCOME, CHI = b"c" * 32, b"o" * 32, bytes(range(32))
NAMES = ["aachen", "bonn", "celle", "dresden", "essen", "fulda"]
KEYS = {name: SealingKey.generate() for name in NAMES}
PUBLICS = {name: key.public for name, key in KEYS.items()}


def among(names):
    return {name: PUBLICS[name] for name in names}


def masks_of(name, names):
    return PairMasks(KEYS[name], name, among(names))


def numbered(tag, i):
    """A coin that a test can draw again."""
    return hashlib.sha256(b"%s %d" % (tag, i)).digest()


class Round:
    """A round that was opened: K updates, their coins and the sum, as the members have them."""

    def __init__(self, updates, total=None, outcome=OUTCOME):
        self.updates, self.outcome = updates, outcome
        self.included = list(updates)
        self.coins = {name: new_seed() for name in updates}
        self.commitments = {name: commit_coin(coin, CONTEXT, name) for name, coin in self.coins.items()}
        self.total = sum(updates.values()) if total is None else total
        self.chi = challenge(outcome, self.coins)
        self.answers = [self.answer(name) for name in updates]

    def answer(self, name, update=None):
        update = self.updates[name] if update is None else update
        return answer(self.outcome, self.chi, update, masks_of(name, self.included))

    def check(self, **other):
        check_coins(other.get("coins", self.coins), self.commitments, CONTEXT)
        check_answers(
            self.outcome,
            self.chi,
            other.get("total", self.total),
            other.get("answers", self.answers),
            other.get("included", self.included),
        )


def updates_of(hospitals, size, width=32, seed=0):
    rng, limit = np.random.default_rng(seed), 2 ** (width - 4) // hospitals
    return {name: rng.integers(-limit, limit, size) for name in NAMES[:hospitals]}


@pytest.fixture(scope="module")
def opened():
    return Round(updates_of(4, 50))


# -- the whole protocol ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [16, 32, 64])
@pytest.mark.parametrize("hospitals", [2, 5])
def test_the_opened_sum_of_shared_updates_passes(width, hospitals):
    size, parties, rng = 1001, 3, np.random.default_rng(width)
    # In the widest ring three bits are left free: the sum stays within 2^60 - 1.
    encoding = Encoding.for_bound(width, 1.0, 8 * hospitals if width == 64 else hospitals)
    vectors = {name: encoding.encode(rng.uniform(-1, 1, size)) for name in NAMES[:hospitals]}
    for vector in vectors.values():
        # The largest sum that there can be, both ways.
        vector[:2] = encoding.encode(np.array([-1.0, 1.0]))
    total = zeros(Shape(size, width))
    for vector in vectors.values():
        for party, plaintext in enumerate(share(vector, parties, 0, b"")):
            add_share(total, plaintext, party, b"")
    updates = {name: vector.view(f"<i{width // 8}") for name, vector in vectors.items()}
    Round(updates, signed(total)).check()


def test_a_sum_of_64_bits_may_use_all_but_three_of_them():
    encoding = Encoding(64, 0, 8 * 5)
    assert 5 * encoding.limit <= LARGEST == 2**60 - 1
    assert 5 * (encoding.limit + 1) > LARGEST
    assert 2 * LARGEST < PRIME


@settings(max_examples=100)
@given(
    errors=st.lists(st.integers(-(2**32), 2**32), min_size=1, max_size=30),
    place=st.integers(0, 29),
    seed=st.integers(0, 100),
)
def test_any_other_sum_is_refused(errors, place, seed):
    error = np.array(errors)
    error[place % error.size] += not error.any()
    honest = Round(updates_of(2, error.size, seed=seed))
    honest.check()
    with pytest.raises(ChainError, match="not that of the hospitals' updates"):
        honest.check(total=honest.total + error)


def test_what_lying_parties_would_like_to_publish_is_refused(opened):
    first, *others = opened.updates.values()
    one = np.zeros(50, np.int64)
    one[17] = 1
    for lie in (
        opened.total + one,
        opened.total - one,
        opened.total[::-1].copy(),
        -opened.total,
        2 * opened.total,
        0 * opened.total,
        sum(others),  # one hospital left out
        opened.total + first,  # or added twice
        opened.total[:-1],
        np.append(opened.total, 1),
    ):
        with pytest.raises(ChainError, match="not that of the hospitals' updates"):
            opened.check(total=lie)
    opened.check()


def test_a_hospital_that_answers_for_another_update_is_noticed(opened):
    wrong = opened.answer("bonn", opened.updates["bonn"] + 1)
    answers = [wrong if given.hospital == "bonn" else given for given in opened.answers]
    with pytest.raises(ChainError, match="or a hospital answered wrongly"):
        opened.check(answers=answers)


def test_multiples_of_the_prime_are_refused_although_the_equation_holds():
    # Control: without the bound on the sum's entries this lie passes, with certainty.
    updates = {name: np.array([2**58, -(2**58), 7]) for name in NAMES[:2]}
    honest = Round(updates)
    for multiple in ([PRIME, 0, 0], [-2 * PRIME, PRIME, 0], [0, 0, -PRIME]):
        lie = honest.total + np.array(multiple)
        assert inner_product(honest.chi, lie) == inner_product(honest.chi, honest.total)
        with pytest.raises(ChainError, match="beyond 2\\^60 - 1"):
            honest.check(total=lie)
    honest.check()


@pytest.mark.parametrize("entry", [LARGEST, -LARGEST])
def test_the_largest_entries_are_allowed_and_the_next_are_not(entry):
    updates = {"aachen": np.array([entry, 0]), "bonn": np.array([0, 0])}
    Round(updates).check()
    updates["bonn"][0] = np.sign(entry)
    with pytest.raises(ChainError, match="beyond"):
        Round(updates).check()


@pytest.mark.parametrize("dtype", [np.uint64, np.int32, np.float64])
def test_a_sum_is_of_64_bits_signed(opened, dtype):
    with pytest.raises(EncodingError, match="signed integers of 64 bits"):
        opened.check(total=opened.total.astype(dtype))


# -- whose answers ---------------------------------------------------------------------------------------------------


def test_the_order_of_answers_and_names_does_not_matter(opened):
    opened.check(answers=opened.answers[::-1], included=opened.included[::-1])


def test_without_every_answer_a_sum_is_unverified(opened):
    for left in range(4):
        with pytest.raises(ChainError, match=rf"unverified: no answer from {', '.join(NAMES[left:4])}\.$"):
            opened.check(answers=opened.answers[:left])


def test_no_hospital_answers_for_another_twice_or_uninvited(opened):
    first, *others = opened.answers
    with pytest.raises(ChainError, match="aachen answered twice"):
        opened.check(answers=[*opened.answers, first])
    with pytest.raises(ChainError, match="aachen answered twice"):
        opened.check(answers=[first, first, *others[1:]])
    stranger = first.model_copy(update={"hospital": "essen"})
    with pytest.raises(ChainError, match="essen answered and is not included"):
        opened.check(answers=[*opened.answers, stranger])
    with pytest.raises(ChainError, match="aachen answered and is not included"):
        opened.check(included=opened.included[1:])
    with pytest.raises(ChainError, match="no answer from essen"):
        opened.check(included=[*opened.included, "essen"])


@pytest.mark.parametrize(
    ("changed", "says"),
    [({"outcome": b"p" * 32}, "another outcome"), ({"challenge": b"p" * 32}, "another c")],
)
def test_all_answer_one_challenge_of_one_outcome(opened, changed, says):
    answers = [given.model_copy(update=changed) for given in opened.answers]
    with pytest.raises(ChainError, match=f"dresden answered .*{says}"):
        opened.check(answers=[*opened.answers[:3], answers[3]])
    with pytest.raises(ChainError, match=says):
        opened.check(answers=answers)


def test_an_answer_has_one_form():
    fields = {"outcome": OUTCOME, "challenge": CHI, "hospital": "bonn", "value": 5}
    for value in (0, PRIME - 1):
        given = Answer(**fields | {"value": value})
        assert Answer.from_bytes(given.to_bytes()) == given
    for wrong in (
        {"value": PRIME},
        {"value": PRIME + 5},
        {"value": -1},
        {"value": True},
        {"value": 5.0},
        {"outcome": b"o" * 31},
        {"challenge": b"o" * 33},
    ):
        with pytest.raises(ValidationError):
            Answer(**fields | wrong)
        with pytest.raises(EncodingError, match="malformed"):
            Answer.from_bytes(encode(["integrity-answer", fields | wrong]))


def test_an_answer_is_signed_by_its_hospital(opened):
    key, (given, *_) = SigningKey.generate(), opened.answers
    signature = sign(given, key)
    check_signature(given, key.public, signature)
    other = given.model_copy(update={"value": (given.value + 1) % PRIME})
    with pytest.raises(SignatureError):
        check_signature(other, key.public, signature)


# -- coins -----------------------------------------------------------------------------------------------------------


def test_a_commitment_is_to_one_coin_of_one_hospital_in_one_round():
    coin, other = new_seed(), new_seed()
    commitments = {
        commit_coin(coin, CONTEXT, "bonn"),
        commit_coin(other, CONTEXT, "bonn"),
        commit_coin(coin, b"d" * 32, "bonn"),
        commit_coin(coin, CONTEXT, "aachen"),
    }
    assert len(commitments) == 4
    assert {len(commitment) for commitment in commitments} == {32}
    assert commit_coin(coin, CONTEXT, "bonn") in commitments


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_coin_has_32_bytes(size):
    with pytest.raises(EncodingError, match=f"32 bytes, this one has {size}"):
        commit_coin(bytes(size), CONTEXT, "bonn")
    with pytest.raises(EncodingError, match=f"32 bytes, this one has {size}"):
        challenge(OUTCOME, {"bonn": bytes(size)})


def test_coins_are_those_that_were_committed_to(opened):
    coins = opened.coins
    for wrong, says in (
        ({**coins, "celle": new_seed()}, "celle revealed another coin"),
        ({**coins, "celle": coins["bonn"]}, "celle revealed another coin"),
        ({**coins, "celle": b"short"}, "celle revealed another coin"),
        ({**coins, "bonn": coins["celle"], "celle": coins["bonn"]}, "bonn revealed another coin"),
        ({name: coins[name] for name in NAMES[:3]}, "dresden did not reveal its coin"),
        ({**coins, "essen": new_seed()}, "essen revealed a coin and is not included"),
    ):
        with pytest.raises(ChainError, match=says):
            check_coins(wrong, opened.commitments, CONTEXT)
    with pytest.raises(ChainError, match="aachen revealed another coin"):
        check_coins(coins, opened.commitments, b"d" * 32)
    check_coins(coins, opened.commitments, CONTEXT)


def test_a_challenge_is_of_the_outcome_and_every_coin(opened):
    coins = opened.coins
    swapped = {**coins, "bonn": coins["celle"], "celle": coins["bonn"]}
    challenges = {
        challenge(OUTCOME, coins),
        challenge(b"p" * 32, coins),
        challenge(OUTCOME, swapped),
        challenge(OUTCOME, {name: coins[name] for name in NAMES[:3]}),
        *(challenge(OUTCOME, {**coins, name: new_seed()}) for name in coins),
    }
    assert len(challenges) == 8
    assert {len(chi) for chi in challenges} == {32}
    assert challenge(OUTCOME, dict(reversed(coins.items()))) == challenge(OUTCOME, coins)


@pytest.mark.parametrize(("outcome", "coins"), [(b"o" * 31, {"bonn": bytes(32)}), (OUTCOME, {})])
def test_a_challenge_of_nothing_is_refused(outcome, coins):
    with pytest.raises(EncodingError, match="outcome's digest and a coin"):
        challenge(outcome, coins)


# -- the inner product with a challenge ------------------------------------------------------------------------------


@given(
    values=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=40),
    chi=st.binary(min_size=32, max_size=32),
)
def test_an_inner_product_by_pythons_integers(values, chi):
    words = Stream(chi, "integrity-challenge", b"").ring_vector(len(values), 64)
    expected = sum(int(word) % 2**61 * value for word, value in zip(words, values, strict=True)) % PRIME
    assert inner_product(chi, np.array(values)) == expected


@given(st.lists(st.tuples(*[st.integers(-(2**31), 2**31 - 1)] * 3), min_size=1, max_size=40))
def test_an_inner_product_is_linear(rows):
    vectors = np.array(rows).T
    parts = [inner_product(CHI, vector.astype(np.int32)) for vector in vectors]
    assert sum(parts) % PRIME == inner_product(CHI, vectors.sum(axis=0))


def test_a_challenge_has_32_bytes():
    with pytest.raises(EncodingError, match="32 bytes"):
        inner_product(bytes(31), np.array([1]))


# -- why there are coins, and why they are committed to --------------------------------------------------------------


def small_zero(a, b):
    """x, y of at most half the bits of p with a x + b y = 0 mod p: Euclid's algorithm, stopped half way."""
    c = -a * pow(b, -1, PRIME) % PRIME
    (r, t), (s, u) = (PRIME, 0), (c, 1)
    while s > math.isqrt(PRIME):
        (r, t), (s, u) = (s, u), (r - r // s * s, t - r // s * u)
    return u, s


def test_parties_that_know_the_challenge_before_they_sign_choose_a_wrong_sum_that_passes():
    # Control: a challenge from the coins alone, revealed too early; sums of 32 bits.
    honest = Round(updates_of(3, 10, seed=1))
    first, second = Stream(honest.chi, "integrity-challenge", b"").ring_vector(2, 64) % 2**61
    error = np.zeros(10, np.int64)
    error[:2] = small_zero(int(first), int(second))
    assert 0 < abs(error).max() < 2**31
    lie = honest.total + error
    check_answers(OUTCOME, honest.chi, lie, honest.answers, honest.included)
    # With a challenge that nobody knew when the sum was signed, the same lie is refused.
    later = Round(honest.updates, lie)
    with pytest.raises(ChainError, match="not that of the hospitals' updates"):
        later.check()


BITS = 7
"""In place of 61 (127 is prime), so that one wrong sum in 64 passes."""


def passes(error, chi):
    """Whether a sum that is wrong by ``error`` passes; the masks cancel, the updates too."""
    return field61.inner_product(Stream(chi, "integrity-challenge", b""), error, BITS) == 0


def test_a_wrong_sum_passes_as_often_as_promised_and_no_more():
    trials, error = 4000, np.array([1, 0, 0])
    coins = [{"bonn": numbered(b"bonn", i)} for i in range(trials)]
    found = sum(passes(error, challenge(OUTCOME, drawn)) for drawn in coins)
    low, high = binom.interval(1 - 1e-9, trials, 2 / 2**BITS)
    assert low <= found <= high
    assert high < trials * 4 / 2**BITS


def test_without_coins_the_parties_try_outcomes_until_one_passes():
    # Control: a challenge that is a function of what the parties sign, so that they know its coins beforehand.
    known = {"bonn": bytes(32), "celle": bytes(32)}
    errors = {numbered(b"outcome", i): np.array([i, 3, 1]) for i in range(4000)}
    found = [outcome for outcome, error in errors.items() if passes(error, challenge(outcome, known))]
    assert found
    # One honest coin that comes after the outcome, and such an outcome is worth no more than another.
    fresh = {**known, "celle": numbered(b"celle", 0)}
    again = sum(passes(errors[outcome], challenge(outcome, fresh)) for outcome in found)
    assert again <= binom.isf(1e-9, len(found), 2 / 2**BITS) < len(found)


def test_the_last_to_reveal_without_a_commitment_chooses_a_challenge_that_passes():
    error = np.array([5, -3, 0, 1])
    others = {"aachen": new_seed(), "bonn": new_seed()}
    ground = next(
        coin
        for coin in (numbered(b"celle", i) for i in range(20_000))
        if passes(error, challenge(OUTCOME, {**others, "celle": coin}))
    )
    # Having committed before, it can reveal that coin no more.
    committed = {**others, "celle": numbered(b"committed", 0)}
    commitments = {name: commit_coin(coin, CONTEXT, name) for name, coin in committed.items()}
    check_coins(committed, commitments, CONTEXT)
    with pytest.raises(ChainError, match="celle revealed another coin"):
        check_coins({**others, "celle": ground}, commitments, CONTEXT)


def test_what_is_not_promised_an_included_hospital_that_lies_with_the_parties(opened):
    error = np.arange(50)
    accomplice = opened.answer("celle", opened.updates["celle"] + error)
    answers = [accomplice if given.hospital == "celle" else given for given in opened.answers]
    opened.check(total=opened.total + error, answers=answers)
    # It had to sign an answer that is not that of its update: whoever sees the update can show it.
    assert accomplice != opened.answer("celle")


# -- masks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hospitals", [2, 3, 4, 6])
def test_masks_cancel_over_all_included_hospitals_and_no_fewer(hospitals):
    names = NAMES[:hospitals]
    masks = {name: masks_of(name, names).mask(b"context") for name in names}
    assert all(0 <= mask < PRIME for mask in masks.values())
    assert sum(masks.values()) % PRIME == 0
    for size in range(1, hospitals):
        for some in itertools.combinations(names, size):
            assert sum(masks[name] for name in some) % PRIME != 0


def test_a_mask_is_of_one_context_one_pair_and_one_order_of_names():
    names = NAMES[:3]
    masks = {masks_of(name, names).mask(context) for name in names for context in (b"", b"a", b"b")}
    assert len(masks) == 9
    assert masks_of("bonn", names).mask(b"a") == masks_of("bonn", names[::-1]).mask(b"a")
    renamed = {"xanten": KEYS["aachen"], "bonn": KEYS["bonn"]}
    other = PairMasks(KEYS["bonn"], "bonn", {name: key.public for name, key in renamed.items()})
    assert other.mask(b"a") not in (
        masks_of("bonn", names[:2]).mask(b"a"),
        masks_of("aachen", names[:2]).mask(b"a"),
    )


def test_an_answers_mask_is_of_its_outcome_and_challenge():
    masks, update = masks_of("bonn", NAMES[:3]), np.array([1, 2, 3])
    drawn = {
        (given.value - inner_product(chi, update)) % PRIME
        for outcome in (OUTCOME, b"p" * 32)
        for chi in (CHI, bytes(32))
        for given in (answer(outcome, chi, update, masks), answer(outcome, chi, update, masks))
    }
    assert len(drawn) == 4


def test_masks_need_this_hospital_and_another():
    with pytest.raises(EncodingError, match="bonn is not included"):
        PairMasks(KEYS["bonn"], "bonn", among(["aachen", "celle"]))
    with pytest.raises(EncodingError, match="pinned sealing key is another"):
        PairMasks(KEYS["bonn"], "bonn", {**among(["aachen"]), "bonn": PUBLICS["celle"]})
    with pytest.raises(EncodingError, match="at least two"):
        masks_of("bonn", ["bonn"])


@pytest.mark.parametrize("public", [b"short", PUBLICS["celle"][:1184] + bytes(32)], ids=["short", "order 1"])
def test_a_pinned_key_that_is_none_is_refused(public):
    masks = PairMasks(KEYS["bonn"], "bonn", {**among(["bonn"]), "celle": public})
    with pytest.raises(EncodingError, match="public sealing key"):
        masks.mask(b"")


def test_no_key_is_printed():
    masks = masks_of("bonn", NAMES[:3])
    assert KEYS["bonn"].private_bytes()[64:].hex() not in repr(masks) + str(masks) + str(vars(masks))


# -- what answers tell -----------------------------------------------------------------------------------------------

P = 7
PAIRS = [("b", "c"), ("b", "d"), ("c", "d")]


def views(products, pairs=PAIRS, elements=None):
    """How often each triple of answers by the honest b, c, d comes, over all elements that their pairs may share.

    What each shares with those who collude is known to them, and left out.
    """
    seen = Counter()
    for drawn in elements or itertools.product(range(P), repeat=len(pairs)):
        of = {name: {} for name in "bcd"}
        for (first, second), element in zip(pairs, drawn, strict=True):
            of[first][second] = of[second][first] = element
        masks = [combine(name, of[name], P) for name in "bcd"]
        seen[tuple((product + mask) % P for product, mask in zip(products, masks, strict=True))] += 1
    return {answers: Fraction(times, seen.total()) for answers, times in seen.items()}


def test_the_answers_of_honest_hospitals_are_uniform_but_for_their_sum():
    simulated = {
        answers: Fraction(1, P * P)
        for answers in itertools.product(range(P), repeat=3)
        if sum(answers) % P == 5
    }
    for products in ((5, 0, 0), (0, 0, 5), (1, 2, 2), (6, 6, 0)):
        assert views(products) == simulated
    assert views((5, 0, 1)).keys().isdisjoint(simulated)


@pytest.mark.parametrize(
    ("pairs", "elements"),
    [
        (PAIRS[:1], None),  # d shares a key with no honest hospital
        (PAIRS, [(0, 0, 0)]),  # masks that everybody can compute
        (PAIRS, [(e, e, e) for e in range(P)]),  # one element for all pairs
    ],
    ids=["two pairs less", "no keys", "one key"],
)
def test_control_with_fewer_keys_the_answers_tell_more(pairs, elements):
    assert views((5, 0, 0), pairs, elements) != views((1, 2, 2), pairs, elements)


def stripped(update, context, included):
    """What is left of bonn's masked number when aachen, and all after the third, take off what they share with it."""
    value = inner_product(CHI, update) + masks_of("bonn", included).mask(context)
    for peer in ("aachen", *included[3:]):
        # Two alone: a colluder's mask is then the element that it shares with bonn.
        value += PairMasks(KEYS[peer], peer, among([peer, "bonn"])).mask(context)
    return value % PRIME


def uniform(values):
    """Whether 16 equal classes are about equally full; false for one of 10^9 uniform samples."""
    counts = np.bincount([value >> 57 for value in values], minlength=16)
    return float(((counts - len(values) / 16) ** 2).sum() / (len(values) / 16)) < chi2.isf(1e-9, 15)


def test_one_other_honest_hospital_hides_an_answer():
    update, contexts = np.arange(100), [bytes([i]) for i in range(200)]
    assert uniform([stripped(update, context, NAMES[:3]) for context in contexts])
    assert uniform([stripped(update, context, NAMES[:4]) for context in contexts])
    # Control: if all others collude, the answer is bare. They know it from the sum anyhow.
    alone = [stripped(update, context, NAMES[:2]) for context in contexts]
    assert not uniform(alone)
    assert set(alone) == {inner_product(CHI, update)}


def test_a_mask_that_is_used_twice_tells_an_equation():
    update, guess, masks = np.arange(100), np.arange(100)[::-1].copy(), masks_of("bonn", NAMES[:3])
    other = bytes(32)

    def difference(contexts):
        first, second = (
            inner_product(chi, update) + masks.mask(context)
            for chi, context in zip((CHI, other), contexts, strict=True)
        )
        return (first - second) % PRIME

    def equation(candidate):
        return (inner_product(CHI, candidate) - inner_product(other, candidate)) % PRIME

    # Control: one context for two challenges confirms a guess of the update.
    assert difference((b"same", b"same")) == equation(update) != equation(guess)
    assert difference((b"one", b"two")) not in (equation(update), equation(guess))
    # ``answer`` has a context for each challenge.
    first, second = (answer(OUTCOME, chi, update, masks).value for chi in (CHI, other))
    assert (first - second) % PRIME not in (equation(update), equation(guess))
