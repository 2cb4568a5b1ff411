"""Whole exchanges against plain integers, and every refusal of every step."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.contribution import sign
from protocols.errors import EncodingError, ProtocolError, SealError
from protocols.pairwise import (
    Agreement,
    Agreements,
    Client,
    Delivery,
    Keys,
    Masked,
    Memory,
    Parcels,
    Policy,
    Revealed,
    Roster,
    Server,
    SignedKeys,
    StepError,
    Survivors,
    Terms,
    TooFewError,
    default_threshold,
)
from protocols.prg import ring_dtype
from protocols.signing import SigningKey

SIGNING = {f"client-{k}": SigningKey.generate() for k in range(8)}
PINNED = {name: key.public for name, key in SIGNING.items()}


def over_the_wire(message):
    """As another process reads it."""
    return type(message).from_bytes(message.to_bytes())


class Party:
    """A client that lives in its memory's bytes alone, as in a process for each message."""

    def __init__(self, name, policy=None, key=None):
        self.name, self.policy, self.key = name, policy or Policy(), key
        self.memory = Memory().to_bytes()

    def __getattr__(self, step):
        def call(*messages):
            client = Client(self.name, self.policy, Memory.from_bytes(self.memory), self.key)
            answer = getattr(client, step)(*messages)
            self.memory = client.memory.to_bytes()
            return answer

        return call


class Exchange:
    """An exchange that can be taken step by step; ``lost[step]`` are the clients that leave at a step."""

    def __init__(self, n=4, t=None, width=32, size=5, lost=None, signed=False, parties=None, exchange=1):
        self.names = [f"client-{k}" for k in range(n)]
        self.lost = lost or {}
        self.terms = Terms(
            run="run",
            exchange=exchange,
            purpose="train",
            threshold=default_threshold(n) if t is None else t,
            width=width,
            signed=signed,
            details=b"",
        )
        policy = Policy(pinned=PINNED) if signed else Policy()
        self.parties = parties or {
            name: Party(name, policy, SIGNING[name] if signed else None) for name in self.names
        }
        self.server = Server(self.terms, PINNED if signed else None)
        rng = np.random.default_rng(n)
        self.x = {
            name: rng.integers(0, 2**width, size, dtype=np.uint64).astype(ring_dtype(width))
            for name in self.names
        }
        self.here = list(self.names)

    def _stay(self, step):
        self.here = [name for name in self.here if name not in self.lost.get(step, ())]
        return self.here

    def to_keys(self):
        for name in self._stay("advertise"):
            self.server.advertised(over_the_wire(self.parties[name].advertise(self.terms)))
        self.roster = over_the_wire(self.server.roster())
        return self

    def to_shares(self):
        self.to_keys()
        for name in self._stay("share"):
            self.server.shared(name, over_the_wire(self.parties[name].share(self.roster)))
        self.deliveries = self.server.deliveries()
        return self

    def to_masked(self):
        self.to_shares()
        self.U2 = list(self.here)
        for name in self._stay("mask"):
            self.parties[name].receive(over_the_wire(self.deliveries[name]))
            self.server.masked(name, over_the_wire(self.parties[name].mask(self.x[name])))
        self.survivors = over_the_wire(self.server.survivors())
        self.U3 = list(self.here)
        return self

    def to_agreed(self):
        self.to_masked()
        if self.terms.signed:
            for name in self._stay("agree"):
                self.server.agreed(name, over_the_wire(self.parties[name].agree(self.survivors)))
        self.agreements = over_the_wire(self.server.agreements())
        return self

    def to_total(self):
        self.to_agreed()
        for name in self._stay("unmask"):
            answer = self.parties[name].unmask(self.survivors, self.agreements)
            self.server.revealed(name, over_the_wire(answer))
        return self.server.total()

    def plain(self, names):
        width = self.terms.width
        columns = zip(*(self.x[name].tolist() for name in names), strict=True)
        return [sum(column) % 2**width for column in columns]


STEPS = ("advertise", "share", "mask", "agree", "unmask")


@settings(max_examples=30)
@given(st.data())
def test_the_sum_is_that_of_plain_integers_whoever_leaves_when(data):
    n = data.draw(st.integers(3, 7))
    t = data.draw(st.integers(max(3, n // 2 + 1), n))
    signed = data.draw(st.booleans())
    leaving = data.draw(st.lists(st.tuples(st.integers(0, n - 1), st.sampled_from(STEPS)), max_size=n))
    lost = {step: {f"client-{k}" for k, s in leaving if s == step} for step in STEPS}
    if not signed:
        lost.pop("agree")
    width, size = data.draw(st.sampled_from([16, 32, 64])), data.draw(st.integers(1, 20))
    exchange = Exchange(n, t, width, size, lost, signed)
    gone = set().union(*lost.values())
    if n - len(gone) < t:
        with pytest.raises(TooFewError, match="are needed"):
            exchange.to_total()
        return
    # Shares are held by U1 alone: if that is small, t may be too many, never too few.
    total = exchange.to_total()
    assert total.tolist() == exchange.plain(exchange.U3)


def test_the_default_threshold_is_the_papers():
    assert [default_threshold(n) for n in (3, 4, 5, 6, 10, 20)] == [3, 3, 4, 5, 7, 14]


@pytest.mark.parametrize("n", range(3, 60))
def test_the_default_threshold_holds_against_the_papers_number_of_corrupted_clients(n):
    assert 2 * default_threshold(n) > n + (-(-n // 3) - 1)


def test_ten_exchanges_with_the_same_clients():
    first = Exchange(n=4)
    parties = first.parties
    for number in range(1, 11):
        exchange = Exchange(n=4, parties=parties, exchange=number, lost={"mask": {"client-1"}})
        assert exchange.to_total().tolist() == exchange.plain(exchange.U3)


def test_a_vector_is_not_changed_by_masking():
    exchange = Exchange().to_shares()
    x = exchange.x["client-0"].copy()
    party = exchange.parties["client-0"]
    party.receive(exchange.deliveries["client-0"])
    masked = party.mask(x)
    assert x.tolist() == exchange.x["client-0"].tolist()
    assert masked.y != x.tobytes()


# -- a client's refusals ----------------------------------------------------------------------------------------------


def refused(party, step, *messages, match, error=StepError):
    """The refusal leaves the memory as it was."""
    before = party.memory
    with pytest.raises(error, match=match):
        getattr(party, step)(*messages)
    assert party.memory == before


def test_each_step_is_answered_once():
    exchange = Exchange().to_keys()
    one = exchange.parties["client-0"]
    refused(one, "advertise", exchange.terms, match="not newer")
    one.share(exchange.roster)
    refused(one, "share", exchange.roster, match="not the next one")

    exchange = Exchange().to_masked()
    one, delivery = exchange.parties["client-0"], exchange.deliveries["client-0"]
    refused(one, "receive", delivery, match="not the next one")
    refused(one, "mask", exchange.x["client-0"], match="not the next one")
    agreements = exchange.server.agreements()
    one.unmask(exchange.survivors, agreements)
    refused(one, "unmask", exchange.survivors, agreements, match="not the next one")


def test_after_the_last_step_nothing_secret_is_remembered():
    exchange = Exchange()
    exchange.to_total()
    memory = Memory.from_bytes(exchange.parties["client-0"].memory)
    assert memory == Memory(exchange=1)


def test_after_masking_the_secrets_that_made_the_masks_are_forgotten():
    exchange = Exchange().to_masked()
    memory = Memory.from_bytes(exchange.parties["client-0"].memory)
    assert (memory.c_secret, memory.s_secret, memory.b) == (b"", b"", b"")


def test_a_memory_shows_no_secret():
    client = Client("client-0", Policy())
    client.advertise(Exchange().terms)
    text = repr(client.memory) + str(client.memory)
    assert str(client.memory.c_secret) not in text
    assert str(client.memory.s_secret) not in text


def test_a_client_never_gives_both_secrets_of_one():
    exchange = Exchange(lost={"mask": {"client-3"}}).to_masked()
    agreements = exchange.server.agreements()
    for name in exchange.U3:
        revealed = exchange.parties[name].unmask(exchange.survivors, agreements)
        assert set(revealed.own) == set(exchange.U3)
        assert set(revealed.pair) == {"client-3"}
        # The other list, in which client-3 counts as a survivor, gets no answer any more.
        other = exchange.survivors.model_copy(update={"names": exchange.names})
        refused(exchange.parties[name], "unmask", other, agreements, match="not the next one")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"exchange": 0}, "not newer"),
        ({"threshold": 2}, "too low"),
        ({"signed": True}, "no pinned keys"),
    ],
)
def test_terms_that_cannot_be_kept_are_refused(change, match):
    terms = Exchange().terms.model_copy(update=change)
    refused(Party("client-0"), "advertise", terms, match=match)


def test_a_ring_that_does_not_exist_is_refused():
    terms = Exchange(width=32).terms.model_copy(update={"width": 8})
    refused(Party("client-0"), "advertise", terms, match="16, 32 or 64", error=EncodingError)


def test_a_client_may_ask_for_more_than_the_least():
    party = Party("client-0", Policy(minimum=5))
    refused(party, "advertise", Exchange(n=6, t=4).terms, match="asks for 5")
    with pytest.raises(EncodingError):
        Policy(minimum=2)
    with pytest.raises(EncodingError):
        Policy(corrupted=-1)


@pytest.mark.parametrize("n", range(3, 8))
@pytest.mark.parametrize("corrupted", range(6))
def test_no_sum_is_over_fewer_than_two_honest_clients(n, corrupted):
    """The server and c clients choose the smallest cohort and threshold; c + 2 clients are the fewest that answer."""
    policy = Policy(corrupted=corrupted)
    parties = {f"client-{k}": Party(f"client-{k}", policy) for k in range(n)}
    for t in range(1, n + 1):
        terms = Exchange(n=n, t=t).terms
        if t >= max(3, corrupted + 2):
            assert Client("client-0", policy).advertise(terms)
        else:
            refused(parties["client-0"], "advertise", terms, match=f"asks for {max(3, corrupted + 2)}")


def sum_with_colluders(corrupted, admitted):
    """Client-0 alone with two who work with the server; what is left of the sum without their vectors."""
    policy, colluding = Policy(corrupted=corrupted), Policy()
    parties = {name: Party(name, colluding) for name in ("client-1", "client-2")}
    exchange = Exchange(n=3, t=3, parties={"client-0": Party("client-0", policy), **parties})
    if not admitted:
        refused(exchange.parties["client-0"], "advertise", exchange.terms, match="asks for 4")
        return None
    return exchange.to_total() - exchange.x["client-1"] - exchange.x["client-2"], exchange.x["client-0"]


def test_two_who_work_with_the_server_do_not_get_a_sum_of_one_more():
    assert sum_with_colluders(2, admitted=False) is None


def test_control_where_nobody_is_thought_to_they_read_that_one():
    left, vector = sum_with_colluders(0, admitted=True)
    assert left.tolist() == vector.tolist()


def roster_with(exchange, change):
    members = list(exchange.roster.members)
    return Roster(terms=exchange.roster.terms, members=change(members))


def with_key(member, **keys):
    return member.model_copy(update={"keys": member.keys.model_copy(update=keys)})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda m: [m[1], m[0], *m[2:]], "not listed once each"),
        (lambda m: [m[0], m[0], *m[1:]], "not listed once each"),
        (lambda m: m[1:], "not among"),
        (lambda m: m[:2], "are needed"),
        (lambda m: [*m[:3], with_key(m[3], s_public=m[2].keys.s_public)], "the same"),
        (lambda m: [*m[:3], with_key(m[3], s_public=m[3].keys.c_public)], "the same"),
        (lambda m: [with_key(m[0], c_public=b"\x09" + bytes(31)), *m[1:]], "not its own"),
        (lambda m: [with_key(m[0], s_public=b"\x09" + bytes(31)), *m[1:]], "not its own"),
        (lambda m: [*m[:3], with_key(m[3], terms=bytes(32))], "another exchange"),
    ],
)
def test_a_roster_that_is_not_sound_is_refused(change, match):
    exchange = Exchange(n=4, t=3).to_keys()
    refused(exchange.parties["client-0"], "share", roster_with(exchange, change), match=match)


def test_a_roster_of_another_exchange_is_refused():
    exchange = Exchange().to_keys()
    roster = exchange.roster.model_copy(update={"terms": bytes(32)})
    refused(exchange.parties["client-0"], "share", roster, match="another exchange")


def test_a_threshold_of_half_of_those_listed_is_refused():
    # The server said t = 3 and then lists six clients, three of whose shares it could get of each kind.
    exchange = Exchange(n=6, t=3).to_keys()
    refused(exchange.parties["client-0"], "share", exchange.roster, match="could unmask a client")


@pytest.mark.parametrize(("corrupted", "accepted"), [(1, True), (2, False)])
def test_twice_the_threshold_is_more_than_the_clients_and_the_corrupted_ones(corrupted, accepted):
    parties = {f"client-{k}": Party(f"client-{k}", Policy(corrupted=corrupted)) for k in range(6)}
    exchange = Exchange(n=6, t=4, parties=parties).to_keys()  # 2 * 4 > 6 + c holds for c = 1 alone
    if accepted:
        parties["client-0"].share(exchange.roster)
    else:
        refused(parties["client-0"], "share", exchange.roster, match="could unmask")


def test_points_of_small_order_are_refused():
    exchange = Exchange().to_keys()
    roster = roster_with(exchange, lambda m: [*m[:3], with_key(m[3], c_public=bytes(32))])
    refused(exchange.parties["client-0"], "share", roster, match="not a public key", error=EncodingError)


def test_shares_that_do_not_open_or_come_from_nobody_are_refused():
    exchange = Exchange().to_shares()
    one, delivery = exchange.parties["client-0"], exchange.deliveries["client-0"]
    sealed = dict(delivery.sealed)

    def other(changed):
        return Delivery(roster=delivery.roster, sealed=changed)

    flipped = bytes([sealed["client-1"][0] ^ 1]) + sealed["client-1"][1:]
    refused(one, "receive", other({**sealed, "client-1": flipped}), match="does not open", error=SealError)
    swapped = {**sealed, "client-1": sealed["client-2"], "client-2": sealed["client-1"]}
    refused(one, "receive", other(swapped), match="does not open", error=SealError)
    short = {**sealed, "client-1": sealed["client-1"][:-1]}
    refused(one, "receive", other(short), match="length", error=SealError)
    refused(one, "receive", other({**sealed, "mallory": flipped}), match="not listed")
    refused(one, "receive", other({**sealed, "client-0": flipped}), match="not listed")
    refused(one, "receive", other({"client-1": sealed["client-1"]}), match="are needed")
    # What another was sent, and what was sent to it in another exchange.
    theirs = exchange.deliveries["client-1"].sealed["client-2"]
    refused(one, "receive", other({**sealed, "client-2": theirs}), match="does not open", error=SealError)
    again = Exchange(exchange=2).to_shares().deliveries["client-0"]
    refused(one, "receive", again, match="another exchange")
    refused(one, "receive", other(again.sealed), match="does not open", error=SealError)
    one.receive(delivery)


def test_a_vector_of_another_ring_is_refused():
    exchange = Exchange(width=32).to_shares()
    one = exchange.parties["client-0"]
    one.receive(exchange.deliveries["client-0"])
    for wrong in (np.zeros(3, dtype="<u8"), np.zeros(3), np.zeros(0, dtype="<u4")):
        refused(one, "mask", wrong, match="another width|not a vector", error=EncodingError)


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["client-1", "client-2", "client-3"], "left out"),
        (["client-0", "client-1"], "are needed"),
        (["client-1", "client-0", "client-2"], "once each"),
        (["client-0", "client-0", "client-1"], "once each"),
        (["client-0", "client-1", "mallory"], "once each"),
    ],
)
@pytest.mark.parametrize("signed", [False, True])
def test_survivors_that_cannot_be_are_refused(names, match, signed):
    exchange = Exchange(n=4, t=3, signed=signed).to_masked()
    survivors = Survivors(roster=exchange.survivors.roster, names=names)
    one = exchange.parties["client-0"]
    if signed:
        refused(one, "agree", survivors, match=match)
    else:
        refused(one, "unmask", survivors, exchange.server.agreements(), match=match)


def test_survivors_of_another_exchange_are_refused():
    exchange = Exchange().to_masked()
    other = exchange.survivors.model_copy(update={"roster": bytes(32)})
    refused(
        exchange.parties["client-0"], "unmask", other, exchange.server.agreements(), match="another exchange"
    )


# -- pinned keys and the consistency check ----------------------------------------------------------------------------


def test_a_server_with_keys_of_its_own_is_refused_under_pinned_keys_and_reads_all_without():
    for signed in (True, False):
        exchange = Exchange(n=4, t=3, signed=signed).to_keys()
        fake = Client("client-3", Policy())
        mine = fake.advertise(exchange.terms.model_copy(update={"signed": False}))
        mine = mine.model_copy(
            update={"keys": mine.keys.model_copy(update={"terms": exchange.terms.digest()})}
        )
        roster = roster_with(exchange, lambda m, mine=mine: [*m[:3], mine])
        if signed:
            refused(exchange.parties["client-0"], "share", roster, match="not by the key that is pinned")
        else:
            # The control: nothing tells the client, and its shares open for the server.
            parcels = exchange.parties["client-0"].share(roster)
            fake.memory = fake.memory.model_copy(update={"terms": exchange.terms})
            from protocols.pairwise.keys import open_shares

            opened = open_shares(
                fake.memory.c_secret,
                roster.digest(),
                roster.of("client-0"),
                roster.of("client-3"),
                parcels.sealed["client-3"],
            )
            assert len(opened[0]) == 32


def test_somebody_whose_key_is_not_pinned_is_refused():
    exchange = Exchange(n=4, t=3, signed=True).to_keys()
    stranger = with_key(exchange.roster.members[3], name="mallory")
    refused(
        exchange.parties["client-0"],
        "share",
        roster_with(exchange, lambda m: [*m[:3], stranger]),
        match="whose key is not pinned",
    )


def test_with_pinned_keys_an_unsigned_exchange_is_refused():
    party = Party("client-0", Policy(pinned=PINNED), SIGNING["client-0"])
    refused(party, "advertise", Exchange().terms, match="signed exchanges only")


def test_a_client_whose_own_key_is_not_the_pinned_one_does_not_start():
    with pytest.raises(EncodingError, match="pinned for it"):
        Client("client-0", Policy(pinned=PINNED), key=SIGNING["client-1"])
    with pytest.raises(EncodingError, match="pinned for it"):
        Client("client-0", Policy(pinned=PINNED))


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        (PINNED["client-0"].hex(), "not 32 bytes"),
        (bytearray(PINNED["client-0"]), "not 32 bytes"),
        (PINNED["client-0"][:31], "not 32 bytes"),
        (PINNED["client-0"] + b"\n", "not 32 bytes"),
        (PINNED["client-1"], "same key"),
    ],
    ids=["text", "bytearray", "short", "long", "twice"],
)
def test_pinned_keys_that_are_none_are_refused_where_they_are_given(changed, match):
    with pytest.raises(EncodingError, match=match):
        Policy(pinned={**PINNED, "client-0": changed})


def test_under_pinned_keys_a_sum_opens_only_as_agreed():
    exchange = Exchange(n=5, t=4, signed=True).to_agreed()
    one, agreements = exchange.parties["client-0"], exchange.agreements
    four = Survivors(roster=exchange.survivors.roster, names=exchange.names[:4])
    refused(one, "unmask", four, agreements, match="other clients than those that this client agreed to")
    few = Agreements(roster=agreements.roster, signatures=dict(list(agreements.signatures.items())[:3]))
    refused(one, "unmask", exchange.survivors, few, match="Only 3 clients agree")
    swapped = {**agreements.signatures, "client-1": agreements.signatures["client-2"]}
    refused(
        one,
        "unmask",
        exchange.survivors,
        Agreements(roster=agreements.roster, signatures=swapped),
        match="not by the key",
    )
    stranger = {**agreements.signatures, "mallory": agreements.signatures["client-2"]}
    refused(
        one,
        "unmask",
        exchange.survivors,
        Agreements(roster=agreements.roster, signatures=stranger),
        match="who is not in the sum",
    )
    elsewhere = agreements.model_copy(update={"roster": bytes(32)})
    refused(one, "unmask", exchange.survivors, elsewhere, match="another exchange")
    one.unmask(exchange.survivors, agreements)


def test_two_lists_cannot_both_be_agreed_on():
    """The active server's attack: one list for one half of the clients, another for the rest, to get both secrets."""
    exchange = Exchange(n=5, t=4, signed=True).to_masked()
    roster, names = exchange.survivors.roster, exchange.names
    without_last = Survivors(roster=roster, names=names[:4])
    signatures = {n: exchange.parties[n].agree(without_last).signature for n in names[:2]}
    others = {n: exchange.parties[n].agree(exchange.survivors).signature for n in names[2:]}
    for survivors, signed_by in ((without_last, signatures), (exchange.survivors, others)):
        for name in signed_by:
            agreements = Agreements(roster=roster, signatures=signed_by)
            refused(exchange.parties[name], "unmask", survivors, agreements, match="clients agree")


def test_control_without_the_check_two_lists_are_both_opened():
    """Unsigned, the same server gets shares of both secrets of the last client; t > n/2 keeps them below t of each."""
    exchange = Exchange(n=5, t=4).to_masked()
    roster, names = exchange.survivors.roster, exchange.names
    without_last = Survivors(roster=roster, names=names[:4])
    empty = Agreements(roster=roster, signatures={})
    pair = [exchange.parties[n].unmask(without_last, empty).pair for n in names[:2]]
    own = [exchange.parties[n].unmask(exchange.survivors, empty).own for n in names[2:]]
    assert all("client-4" in shares for shares in pair)
    assert all("client-4" in shares for shares in own)
    assert len(pair) < exchange.terms.threshold > len(own)


def test_in_an_unsigned_exchange_nobody_signs_a_sum():
    exchange = Exchange().to_masked()
    refused(exchange.parties["client-0"], "agree", exchange.survivors, match="not signed")


# -- the server's refusals --------------------------------------------------------------------------------------------


def test_the_server_refuses_keys_that_come_twice_late_or_from_elsewhere():
    exchange = Exchange()
    keys = exchange.parties["client-0"].advertise(exchange.terms)
    exchange.server.advertised(keys)
    with pytest.raises(StepError, match="twice"):
        exchange.server.advertised(keys)
    with pytest.raises(StepError, match="another exchange"):
        exchange.server.advertised(with_key(keys, name="client-1", terms=bytes(32)))
    with pytest.raises(StepError, match="or are none"):
        exchange.server.advertised(with_key(keys, name="client-1", c_public=b"short"))
    exchange = Exchange().to_keys()
    with pytest.raises(StepError, match="too late"):
        exchange.server.advertised(with_key(keys, name="late"))


def test_the_server_refuses_what_is_not_signed_by_the_pinned_key():
    exchange = Exchange(signed=True)
    keys = {name: party.advertise(exchange.terms) for name, party in exchange.parties.items()}
    stranger = SigningKey.generate()
    for wrong in (
        keys["client-0"].model_copy(update={"signature": keys["client-1"].signature}),
        keys["client-0"].model_copy(update={"signature": b""}),
        with_key(keys["client-0"], name="client-1"),
        with_key(keys["client-0"], name="mallory"),
    ):
        with pytest.raises(StepError, match=r"not by the key|not pinned"):
            exchange.server.advertised(wrong)
    with pytest.raises(StepError, match="not pinned"):
        Server(exchange.terms).advertised(keys["client-0"])
    exchange = Exchange(signed=True).to_masked()
    agreed = {name: exchange.parties[name].agree(exchange.survivors) for name in exchange.U3}
    for signature in (agreed["client-1"].signature, sign(exchange.survivors, stranger)):
        with pytest.raises(StepError, match="not by the key"):
            exchange.server.agreed("client-0", agreed["client-0"].model_copy(update={"signature": signature}))
    exchange.server.agreed("client-0", agreed["client-0"])


ORDER_EIGHT = bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")
"""The x-coordinate of a point of order 8 on Curve25519: whoever agrees with it on a secret gets zeros."""


@pytest.mark.parametrize(
    "bad",
    [
        lambda keys, first: {"c_public": bytes(32)},
        lambda keys, first: {"s_public": (1).to_bytes(32, "little")},
        lambda keys, first: {"s_public": ORDER_EIGHT},
        lambda keys, first: {"c_public": keys.s_public},
        lambda keys, first: {"c_public": first.c_public},
        lambda keys, first: {"s_public": first.c_public},
    ],
)
def test_a_client_with_a_bad_key_leaves_and_the_others_have_their_sum(bad):
    exchange = Exchange()
    messages = {name: exchange.parties[name].advertise(exchange.terms) for name in exchange.names}
    first = messages["client-0"].keys
    assert exchange.server.advertised(messages["client-0"]) == "client-0"
    with pytest.raises(ProtocolError, match=r"are the same|not a public key"):
        exchange.server.advertised(with_key(messages["client-3"], **bad(messages["client-3"].keys, first)))
    for name in ("client-1", "client-2"):
        exchange.server.advertised(messages[name])
    exchange.here = exchange.names[:3]
    exchange.to_keys = lambda: exchange
    exchange.roster = over_the_wire(exchange.server.roster())
    assert exchange.to_total().tolist() == exchange.plain(exchange.names[:3])


def test_the_server_refuses_parcels_that_are_not_one_for_each():
    exchange = Exchange().to_keys()
    parcels = exchange.parties["client-0"].share(exchange.roster)
    less = {name: sealed for name, sealed in parcels.sealed.items() if name != "client-1"}
    for wrong in (less, {**parcels.sealed, "client-0": b""}, {**parcels.sealed, "client-1": b"short"}):
        with pytest.raises(StepError, match="one sealed share"):
            exchange.server.shared("client-0", parcels.model_copy(update={"sealed": wrong}))
    with pytest.raises(StepError, match="has left"):
        exchange.server.shared("mallory", parcels)
    exchange.server.shared("client-0", parcels)
    with pytest.raises(StepError, match="twice"):
        exchange.server.shared("client-0", parcels)
    with pytest.raises(StepError, match="another exchange"):
        exchange.server.shared("client-1", parcels.model_copy(update={"roster": bytes(32)}))


def test_the_server_refuses_vectors_of_another_size_twice_or_late():
    exchange = Exchange(size=5).to_shares()
    server, digest = exchange.server, exchange.roster.digest()
    with pytest.raises(EncodingError):
        server.masked("client-0", Masked(roster=digest, y=b""))
    server.masked("client-0", Masked(roster=digest, y=bytes(20)))
    with pytest.raises(EncodingError):
        server.masked("client-1", Masked(roster=digest, y=bytes(24)))
    with pytest.raises(StepError):
        server.masked("client-0", Masked(roster=digest, y=bytes(20)))
    server.masked("client-1", Masked(roster=digest, y=bytes(20)))
    server.masked("client-2", Masked(roster=digest, y=bytes(20)))
    assert server.survivors().names == ["client-0", "client-1", "client-2"]
    with pytest.raises(StepError):
        server.masked("client-3", Masked(roster=digest, y=bytes(20)))


def test_the_server_notices_a_share_that_was_changed():
    for kind in ("own", "pair"):
        exchange = Exchange(n=4, t=3, lost={"mask": {"client-3"}}).to_agreed()
        for name in exchange.U3:
            revealed = exchange.parties[name].unmask(exchange.survivors, exchange.agreements)
            if name == "client-1":
                shares = getattr(revealed, kind)
                first = next(iter(shares))
                wrong = {**shares, first: bytes([*shares[first][:-1], shares[first][-1] ^ 1])}
                revealed = revealed.model_copy(update={kind: wrong})
            exchange.server.revealed(name, revealed)
        with pytest.raises(StepError, match="wrong share"):
            exchange.server.total()


def test_the_server_refuses_revelations_that_are_not_one_share_each():
    exchange = Exchange(n=4, t=3, lost={"mask": {"client-3"}}).to_agreed()
    revealed = exchange.parties["client-0"].unmask(exchange.survivors, exchange.agreements)
    for wrong in ({"own": {}}, {"pair": {}}, {"pair": {**revealed.pair, "client-0": bytes(32)}}):
        with pytest.raises(StepError, match="not one share"):
            exchange.server.revealed("client-0", revealed.model_copy(update=wrong))
    with pytest.raises(StepError, match="length"):
        exchange.server.revealed("client-0", revealed.model_copy(update={"pair": {"client-3": b"x"}}))
    with pytest.raises(StepError):
        exchange.server.revealed("client-3", revealed)


def test_no_message_of_one_kind_is_read_as_another():
    exchange = Exchange().to_agreed()
    kinds = (
        Terms,
        SignedKeys,
        Roster,
        Parcels,
        Delivery,
        Masked,
        Survivors,
        Agreement,
        Agreements,
        Revealed,
        Memory,
    )
    for message in (exchange.terms, exchange.roster, exchange.survivors, exchange.agreements):
        for kind in kinds:
            if kind is not type(message):
                with pytest.raises(ProtocolError):
                    kind.from_bytes(message.to_bytes())


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_refused(data):
    for kind in (Terms, Roster, Delivery, Survivors, Agreements, Keys):
        with pytest.raises(ProtocolError):
            kind.from_bytes(data)
