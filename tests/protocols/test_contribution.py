from collections import Counter

import numpy as np
import pytest

from protocols.contribution import (
    Contribution,
    FrozenList,
    RoundContext,
    RoundKey,
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
from protocols.sharing import Shape, add_share, zeros
from protocols.signing import SigningKey

PARTIES = ("alpha", "beta", "gamma")
CONTEXT = RoundContext(
    study=b"s" * 32, round=2, attempt=1, previous=b"p" * 32, purpose="update", width=32, size=8
)
OTHER = {
    "study": b"t" * 32,
    "round": 3,
    "attempt": 2,
    "previous": b"q" * 32,
    "purpose": "statistics",
    "width": 16,
    "size": 9,
}
X = np.arange(8, dtype=np.uint32) - np.uint32(4)
HOSPITAL = "charite"


@pytest.fixture(scope="module")
def keys():
    return {party: SealingKey.generate() for party in PARTIES}


@pytest.fixture(scope="module")
def publics(keys):
    return {party: key.public for party, key in keys.items()}


@pytest.fixture(scope="module")
def contribution(publics):
    return contribute(X, CONTEXT, HOSPITAL, publics)


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


def test_sizes_say_who_holds_the_vector_and_nothing_else(contribution):
    holder = vector_holder(CONTEXT, HOSPITAL, 3)
    sizes = [len(envelope) - OVERHEAD_BYTES for envelope in contribution[1]]
    assert sizes == [1 + (32 if party != holder else 8 * 4) for party in range(3)]


@pytest.mark.parametrize("field", RoundContext.model_fields)
def test_an_envelope_opens_only_in_its_round(keys, contribution, field):
    envelope = contribution[1][0]
    open_share(envelope, keys["alpha"], CONTEXT, HOSPITAL, "alpha")
    with pytest.raises(SealError):
        open_share(
            envelope, keys["alpha"], CONTEXT.model_copy(update={field: OTHER[field]}), HOSPITAL, "alpha"
        )


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
        contribute(x, CONTEXT, HOSPITAL, publics)


def test_one_party_is_no_committee(publics):
    with pytest.raises(EncodingError):
        contribute(X, CONTEXT, HOSPITAL, {"alpha": publics["alpha"]})


# -- signatures ------------------------------------------------------------------------------------------------------


def test_a_swapped_envelope_is_seen(publics, contribution, signing_key):
    record, envelopes = contribution
    signature = sign(record, signing_key)
    check_signature(record, signing_key.public, signature)
    _, others = contribute(X, CONTEXT, HOSPITAL, publics)
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
    [{"hospital": "ukb"}, {"context": b"c" * 32}, {"envelopes": []}, {"envelopes": [b""] * 3}],
    ids=str,
)
def test_a_contribution_signed_is_that_contribution(contribution, signing_key, change):
    record = contribution[0]
    signature = sign(record, signing_key)
    with pytest.raises(SignatureError):
        check_signature(record.model_copy(update=change), signing_key.public, signature)


def test_a_signature_on_one_kind_is_none_on_another(signing_key):
    fields = {"context": b"c" * 32, "hospital": "a", "envelopes": [b"d"]}
    record = Contribution(**fields)

    class Lookalike(Contribution):
        kind = "lookalike"

    with pytest.raises(SignatureError):
        check_signature(Lookalike(**fields), signing_key.public, sign(record, signing_key))


def test_as_many_signatures_as_keys_in_their_order():
    keys = [SigningKey.generate() for _ in range(3)]
    publics = [key.public for key in keys]
    record = FrozenList(context=b"c" * 32, contributions={"a": b"1"})
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


def test_the_list_has_one_order_of_names_also_after_it_was_sent():
    # CBOR orders a map's keys by length first: "va" before "cleveland".
    names = ["cleveland", "hungarian", "switzerland", "va", "hospital-10", "hospital-2"]
    record = FrozenList(context=b"c" * 32, contributions={name: name.encode() for name in names})
    again = FrozenList.from_bytes(record.to_bytes())
    assert list(record.contributions) == list(again.contributions) == sorted(names)
    assert again == record
    assert again.digest() == record.digest()
    backwards = FrozenList(context=b"c" * 32, contributions=dict(reversed(record.contributions.items())))
    assert backwards.digest() == record.digest()
    assert list(backwards.contributions) == sorted(names)


def test_every_entry_of_the_list_counts():
    record = FrozenList(context=b"c" * 32, contributions={"a": b"1", "b": b"2"})
    others = [
        FrozenList(context=b"d" * 32, contributions={"a": b"1", "b": b"2"}),
        FrozenList(context=b"c" * 32, contributions={"a": b"2", "b": b"1"}),
        FrozenList(context=b"c" * 32, contributions={"a": b"1"}),
        FrozenList(context=b"c" * 32, contributions={"a": b"1", "b": b"2", "c": b"3"}),
    ]
    assert len({record.digest(), *(other.digest() for other in others)}) == 5


def test_records_are_read_back(contribution):
    for record in (CONTEXT, contribution[0], RoundKey(context=b"c" * 32, party="alpha", public=b"k")):
        assert type(record).from_bytes(record.to_bytes()) == record
