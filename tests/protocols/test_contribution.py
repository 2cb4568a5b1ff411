from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.contribution import (
    Contribution,
    FrozenList,
    RoundContext,
    RoundKey,
    Vote,
    binding,
    check_signature,
    check_signatures,
    contribute,
    open_share,
    share_context,
    sign,
    vector_holder,
)
from protocols.envelope import OVERHEAD_BYTES, SealingKey, envelope_digest
from protocols.errors import EncodingError, SealError, SignatureError
from protocols.integrity import commit_coin
from protocols.sharing import Shape, add_share, zeros
from protocols.signing import SigningKey

PARTIES = ("alpha", "beta", "gamma")
CONTEXT = RoundContext(
    study=b"s" * 32,
    round=2,
    attempt=1,
    previous=b"p" * 32,
    purpose="update",
    model=b"m" * 32,
    parties=list(PARTIES),
    width=32,
    size=8,
)
OTHER = {
    "study": b"t" * 32,
    "round": 3,
    "attempt": 2,
    "previous": b"q" * 32,
    "purpose": "statistics",
    "model": b"n" * 32,
    "parties": list(PARTIES[:2]),
    "width": 16,
    "size": 9,
}
X = np.arange(8, dtype=np.uint32) - np.uint32(4)
HOSPITAL = "charite"
COIN = commit_coin(b"r" * 32, CONTEXT.digest(), HOSPITAL)


@pytest.fixture(scope="module")
def keys():
    return {party: SealingKey.generate() for party in PARTIES}


@pytest.fixture(scope="module")
def publics(keys):
    return {party: key.public for party, key in keys.items()}


@pytest.fixture(scope="module")
def contribution(publics):
    return contribute(X, CONTEXT, HOSPITAL, publics, COIN)


@pytest.fixture(scope="module")
def signing_key():
    return SigningKey.generate()


def test_each_party_opens_its_share_and_the_shares_add_up(keys, contribution):
    record, envelopes = contribution
    totals = []
    for index, party in enumerate(PARTIES):
        plaintext = open_share(envelopes[index], keys[party], CONTEXT, HOSPITAL, party)
        total = zeros(Shape(8, 32))
        add_share(total, plaintext, index, share_context(CONTEXT, HOSPITAL))
        totals.append(total)
    assert np.array_equal(np.sum(totals, axis=0, dtype=np.uint32), X)
    assert record.hospital == HOSPITAL
    assert record.context == CONTEXT.digest()
    assert record.envelopes == [envelope_digest(envelope) for envelope in envelopes]
    assert record.coin == COIN


def test_sizes_say_who_holds_the_vector_and_nothing_else(contribution):
    holder = vector_holder(CONTEXT, HOSPITAL, 3)
    sizes = [len(envelope) - OVERHEAD_BYTES for envelope in contribution[1]]
    assert sizes == [1 + (32 if party != holder else 8 * 4) for party in range(3)]


BY_DIGEST = {"model", "parties"}
"""Of a context; not in an envelope's binding, but under the hospital's signature and in the masks."""


def test_every_field_of_the_round_has_another_value_here():
    assert set(OTHER) == set(RoundContext.model_fields)
    assert not any(value == getattr(CONTEXT, field) for field, value in OTHER.items())


@pytest.mark.parametrize("field", sorted(OTHER.keys() - BY_DIGEST))
def test_an_envelope_opens_only_in_its_round(keys, contribution, field):
    envelope = contribution[1][0]
    open_share(envelope, keys["alpha"], CONTEXT, HOSPITAL, "alpha")
    with pytest.raises(SealError):
        open_share(
            envelope, keys["alpha"], CONTEXT.model_copy(update={field: OTHER[field]}), HOSPITAL, "alpha"
        )


@pytest.mark.parametrize("field", sorted(BY_DIGEST))
def test_under_another_model_or_committee_the_shares_are_noise_and_the_signature_does_not_hold(
    keys, contribution, signing_key, field
):
    record, envelopes = contribution
    other = CONTEXT.model_copy(update={field: OTHER[field]})
    total = zeros(Shape(8, 32))
    for index, party in enumerate(PARTIES):
        plaintext = open_share(envelopes[index], keys[party], other, HOSPITAL, party)
        add_share(total, plaintext, index, share_context(other, HOSPITAL))
    assert not np.any(total == X)
    moved = record.model_copy(update={"context": other.digest()})
    assert moved.digest() != record.digest()
    with pytest.raises(SignatureError):
        check_signature(moved, signing_key.public, sign(record, signing_key))


def test_an_envelope_opens_only_for_its_sender_and_recipient(keys, contribution):
    envelope = contribution[1][0]
    with pytest.raises(SealError):
        open_share(envelope, keys["alpha"], CONTEXT, "ukb", "alpha")
    with pytest.raises(SealError):
        open_share(envelope, keys["alpha"], CONTEXT, HOSPITAL, "beta")
    with pytest.raises(SealError):
        open_share(envelope, keys["beta"], CONTEXT, HOSPITAL, "alpha")
    with pytest.raises(SealError):
        open_share(contribution[1][1], keys["alpha"], CONTEXT, HOSPITAL, "alpha")


def test_the_binding_takes_everything_from_the_round():
    bound = binding(CONTEXT, HOSPITAL, "alpha").body()
    assert bound == {
        "study": CONTEXT.study,
        "round": 2,
        "attempt": 1,
        "previous": CONTEXT.previous,
        "sender": HOSPITAL,
        "recipient": "alpha",
        "content": "update",
        "width": 32,
        "size": 8,
    }


def test_masks_are_bound_to_the_round_and_to_the_hospital():
    contexts = {share_context(CONTEXT, HOSPITAL), share_context(CONTEXT, "ukb"), share_context(CONTEXT, "")}
    contexts |= {
        share_context(CONTEXT.model_copy(update={field: value}), HOSPITAL) for field, value in OTHER.items()
    }
    assert len(contexts) == 3 + len(OTHER)


def test_shares_read_as_another_hospitals_are_noise(keys, contribution):
    total = zeros(Shape(8, 32))
    for index, party in enumerate(PARTIES):
        plaintext = open_share(contribution[1][index], keys[party], CONTEXT, HOSPITAL, party)
        add_share(total, plaintext, index, share_context(CONTEXT, "ukb"))
    assert not np.any(total == X)


@pytest.mark.parametrize("parties", [2, 3, 4, 5])
def test_the_vector_rotates_over_the_parties(parties):
    rounds = [CONTEXT.model_copy(update={"round": r}) for r in range(parties)]
    for name in ("charite", "ukb", "va"):
        holders = [vector_holder(context, name, parties) for context in rounds]
        assert sorted(holders) == list(range(parties))
        assert holders == [vector_holder(context, name, parties) for context in rounds]
    loads = Counter(vector_holder(CONTEXT, f"hospital-{i}", parties) for i in range(1000))
    # Binomial with 1000 draws: six standard deviations, at most 6 * 15.8.
    assert all(abs(loads[party] - 1000 / parties) < 95 for party in range(parties))


def test_the_holder_does_not_depend_on_what_a_hospital_could_choose_late():
    retry = CONTEXT.model_copy(update={"attempt": 2, "previous": bytes(32)})
    assert vector_holder(retry, HOSPITAL, 3) == vector_holder(CONTEXT, HOSPITAL, 3)


@pytest.mark.parametrize(
    "x",
    [
        X[:-1],
        np.append(X, X[:1]),
        X.astype(np.uint16),
        X.astype(np.uint64),
        X.view(np.int32),
        X.view(np.float32),
        X.reshape(2, 4),
    ],
    ids=lambda x: f"{x.dtype.str}{x.shape}",
)
def test_another_vector_than_the_rounds_is_refused(publics, x):
    with pytest.raises(EncodingError):
        contribute(x, CONTEXT, HOSPITAL, publics, COIN)


def test_one_party_is_no_committee(publics):
    with pytest.raises(EncodingError):
        contribute(X, CONTEXT, HOSPITAL, {"alpha": publics["alpha"]}, COIN)


# -- signatures ------------------------------------------------------------------------------------------------------


def test_a_swapped_envelope_is_seen(publics, contribution, signing_key):
    record, envelopes = contribution
    signature = sign(record, signing_key)
    check_signature(record, signing_key.public, signature)
    _, others = contribute(X, CONTEXT, HOSPITAL, publics, COIN)
    for party in range(3):
        # The party compares what it holds with what was signed; the record cannot be made to fit.
        assert envelope_digest(others[party]) != record.envelopes[party]
        digests = list(record.envelopes)
        digests[party] = envelope_digest(others[party])
        with pytest.raises(SignatureError):
            check_signature(record.model_copy(update={"envelopes": digests}), signing_key.public, signature)
    reordered = [record.envelopes[i] for i in (1, 0, 2)]
    with pytest.raises(SignatureError):
        check_signature(record.model_copy(update={"envelopes": reordered}), signing_key.public, signature)
    assert len(set(map(bytes, envelopes))) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"hospital": "ukb"},
        {"context": b"c" * 32},
        {"envelopes": []},
        {"envelopes": [b""] * 3},
        {"coin": b""},
        {"coin": b"o" * 32},
        {"coin": commit_coin(b"q" * 32, CONTEXT.digest(), HOSPITAL)},
    ],
    ids=str,
)
def test_a_contribution_signed_is_that_contribution(contribution, signing_key, change):
    record = contribution[0]
    signature = sign(record, signing_key)
    with pytest.raises(SignatureError):
        check_signature(record.model_copy(update=change), signing_key.public, signature)


@pytest.mark.parametrize("coin", [b"", COIN, b"o" * 32], ids=len)
def test_the_commitment_to_the_coin_is_signed_as_it_was_given(publics, signing_key, coin):
    record, _ = contribute(X, CONTEXT, HOSPITAL, publics, coin)
    assert record.coin == coin
    again = Contribution.from_bytes(record.to_bytes())
    check_signature(again, signing_key.public, sign(record, signing_key))
    assert again.coin == coin


def test_the_coin_stands_in_no_envelope(keys, publics):
    coin = b"a secret that is committed to..."
    commitment = commit_coin(coin, CONTEXT.digest(), HOSPITAL)
    record, envelopes = contribute(X, CONTEXT, HOSPITAL, publics, commitment)
    opened = [
        bytes(open_share(envelope, keys[party], CONTEXT, HOSPITAL, party))
        for party, envelope in zip(PARTIES, envelopes, strict=True)
    ]
    for content in (*opened, record.to_bytes()):
        assert coin not in content
    assert commitment in record.to_bytes()
    assert not any(commitment in content for content in opened)


def test_a_signature_on_one_kind_is_none_on_another(signing_key):
    fields = {"context": b"c" * 32, "hospital": "a", "envelopes": [b"d"], "coin": b"o" * 32}
    record = Contribution(**fields)

    class Lookalike(Contribution):
        kind = "lookalike"

    with pytest.raises(SignatureError):
        check_signature(Lookalike(**fields), signing_key.public, sign(record, signing_key))


def test_as_many_signatures_as_keys_in_their_order():
    keys = [SigningKey.generate() for _ in range(3)]
    publics = [key.public for key in keys]
    record = frozen_list(contributions={"a": b"1"})
    signatures = [sign(record, key) for key in keys]
    check_signatures(record, publics, signatures)
    for wrong in (
        [],
        signatures[:2],
        [*signatures, signatures[0]],
        signatures[::-1],
        [signatures[0]] * 3,
        [*signatures[:2], bytes(64)],
        [*signatures[:2], b""],
    ):
        with pytest.raises(SignatureError):
            check_signatures(record, publics, wrong)


# -- the frozen list -------------------------------------------------------------------------------------------------

# CBOR orders a map's keys by length first: "va" before "cleveland".
NAMES = ["cleveland", "hungarian", "switzerland", "va", "hospital-10", "hospital-2"]
WHY = {"long-beach": "no-answer", "zz": "declined", "b": "bad-contribution"}


def frozen_list(**changes):
    fields = {
        "context": b"c" * 32,
        "cohort": ["a", "b", "d", "e"],
        "contributions": {"a": b"1", "b": b"2"},
        "absent": {"d": "no-answer", "e": "declined"},
    }
    return FrozenList(**{**fields, **changes})


@pytest.mark.parametrize("field", ["contributions", "absent"])
def test_the_list_has_one_order_of_names_also_after_it_was_sent(field):
    values = WHY if field == "absent" else {name: name.encode() for name in NAMES}
    record = frozen_list(**{field: values})
    again = FrozenList.from_bytes(record.to_bytes())
    assert list(getattr(record, field)) == list(getattr(again, field)) == sorted(values)
    assert getattr(again, field) == values
    assert again == record
    assert again.digest() == record.digest()


@given(st.permutations(NAMES), st.permutations(sorted(WHY)))
def test_the_digest_does_not_depend_on_the_order_in_which_a_list_was_made(names, absent):
    record = frozen_list(
        contributions={name: name.encode() for name in names}, absent={name: WHY[name] for name in absent}
    )
    reference = frozen_list(contributions={name: name.encode() for name in NAMES}, absent=WHY)
    assert record.to_bytes() == reference.to_bytes()
    assert record.digest() == reference.digest()
    assert list(record.contributions) == sorted(NAMES)
    assert list(record.absent) == sorted(WHY)


def test_the_order_of_the_cohort_is_kept_and_counts():
    first, second = frozen_list(), frozen_list(cohort=["b", "a", "d", "e"])
    assert FrozenList.from_bytes(second.to_bytes()).cohort == ["b", "a", "d", "e"]
    assert first.digest() != second.digest()


def test_every_entry_of_the_list_counts():
    record = frozen_list()
    others = [
        frozen_list(context=b"d" * 32),
        frozen_list(contributions={"a": b"2", "b": b"1"}),
        frozen_list(contributions={"a": b"1"}),
        frozen_list(contributions={"a": b"1", "b": b"2", "c": b"3"}),
        frozen_list(cohort=["a", "b", "d"]),
        frozen_list(cohort=["a", "b", "d", "e", "f"]),
        frozen_list(cohort=[]),
        frozen_list(absent={}),
        frozen_list(absent={"d": "no-answer"}),
        frozen_list(absent={"d": "declined", "e": "no-answer"}),
        frozen_list(absent={"d": "no-answer", "f": "declined"}),
    ]
    assert len({record.digest(), *(other.digest() for other in others)}) == 12


@pytest.mark.parametrize("field", FrozenList.model_fields)
def test_no_field_of_the_list_is_left_out(field):
    value = frozen_list().body()
    del value[field]
    with pytest.raises(EncodingError, match=f"malformed at {field}"):
        FrozenList.from_value([FrozenList.kind, value])


# -- the vote --------------------------------------------------------------------------------------------------------


def test_a_vote_is_for_one_list_and_binds_the_party_to_one_commitment(signing_key):
    vote = Vote(frozen=frozen_list().digest(), commitment=b"k" * 32)
    signature = sign(vote, signing_key)
    check_signature(Vote.from_bytes(vote.to_bytes()), signing_key.public, signature)
    for change in (
        {"commitment": b""},
        {"commitment": b"l" * 32},
        {"frozen": b""},
        {"frozen": frozen_list(absent={"d": "declined", "e": "declined"}).digest()},
        {"frozen": vote.commitment, "commitment": vote.frozen},
    ):
        with pytest.raises(SignatureError):
            check_signature(vote.model_copy(update=change), signing_key.public, signature)


def test_a_vote_without_a_norm_check_has_no_commitment_and_is_another_vote(signing_key):
    without = Vote(frozen=b"f" * 32, commitment=b"")
    check_signature(without, signing_key.public, sign(without, signing_key))
    with pytest.raises(SignatureError):
        check_signature(
            Vote(frozen=b"f" * 32, commitment=b"k" * 32), signing_key.public, sign(without, signing_key)
        )


def test_a_signature_on_the_list_itself_is_no_vote(signing_key):
    record = frozen_list()
    vote = Vote(frozen=record.digest(), commitment=b"")
    with pytest.raises(SignatureError):
        check_signature(vote, signing_key.public, sign(record, signing_key))
    with pytest.raises(SignatureError):
        check_signature(record, signing_key.public, sign(vote, signing_key))


def test_records_are_read_back(contribution):
    for record in (
        CONTEXT,
        contribution[0],
        RoundKey(context=b"c" * 32, party="alpha", public=b"k"),
        frozen_list(),
        Vote(frozen=b"f" * 32, commitment=b"k" * 32),
    ):
        assert type(record).from_bytes(record.to_bytes()) == record


@pytest.mark.parametrize("field", ["model", "parties"])
def test_a_context_names_its_model_and_its_committee(field):
    assert CONTEXT.model_copy(update={field: OTHER[field]}).digest() != CONTEXT.digest()
    value = CONTEXT.body()
    del value[field]
    with pytest.raises(EncodingError, match=f"malformed at {field}"):
        RoundContext.from_value([RoundContext.kind, value])


def test_the_order_of_the_committee_counts():
    backwards = CONTEXT.model_copy(update={"parties": list(PARTIES[::-1])})
    assert backwards.digest() != CONTEXT.digest()
