"""Mutants of every kind of message, at every point of a run: a typed refusal that changes nothing, or what was meant.

Real runs, with and without a norm bound, with parties that are lost, a hospital that declines, one that is behind and
one whose part is refused, are stopped before each message. Mutants of the message that is due, and of others, are
handed to the machine that waits there; ``rightful`` says what it may take. The controls take one check out of a machine
each, and must be found.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import cbor2
import numpy as np
import pytest
from hypothesis import strategies as st

from protocols import integrity
from protocols.canonical import decode, encode
from protocols.chain import check_chain
from protocols.errors import EncodingError
from securefl.errors import EngineError, RefusedError
from securefl.roles import hospital, messages, party, party_checks, pledges, replica, sum_check
from securefl.roles.coordinator import CoordinatorMachine
from securefl.roles.effects import COORDINATOR
from securefl.roles.messages import Message, read_message
from securefl.roles.party import PartyMachine
from securefl.roles.party_memory import Ledger
from securefl.roles.terms import Terms

from .fuzz.corpus import Corpus
from .fuzz.encodings import irregular, written
from .fuzz.free import FREE
from .fuzz.fuzzing import (
    CHOICES,
    ChangedError,
    MovedError,
    UntypedError,
    case,
    drawn_from,
    fuzzed,
    hand_over,
    several,
    signed_case,
)
from .fuzz.hostile import SIGNED
from .fuzz.mutation import changed_tree

KINDS = sorted(kind.kind for kind in messages.KINDS)
CASES = 400
"""Of each of the 25 kinds."""
LONG = st.binary(min_size=192, max_size=192)


@pytest.fixture(scope="module")
def corpus(theatre, tmp_path_factory) -> Corpus:
    return Corpus.played(theatre, tmp_path_factory.mktemp("fuzz"))


def test_the_runs_have_every_kind_of_message(corpus):
    assert len(KINDS) * CASES >= 10_000
    assert sorted(corpus.due) == KINDS
    assert sorted(corpus.messages) == KINDS
    assert {world.terms.norm_bound for world in corpus.worlds} == {None, 100.0}


def test_what_is_free_is_a_field(corpus):
    for (kind, _role), paths in FREE.items():
        for path in paths:
            bodies = [read_message(data).body() for data in corpus.messages[kind]]
            for name in path:
                bodies = [body[name] for body in bodies]


def test_a_real_message_is_taken_where_it_is_due(corpus):
    # What must hold before the fuzzing says anything: the specification and the machines agree on what is real.
    refused = Counter()
    for world in corpus.worlds:
        for point in world.points:
            if hand_over(point, point.due, point.sender).word == "refused":
                refused[point.role, read_message(point.due).kind] += 1
    assert refused.pop(("party", "part")) == 1  # the one that was spoilt on its way
    # Nobody waits for an acceptance; the others came after the party was lost that was to answer too.
    late = {"accepted", "signed-vote", "signed-prepared", "opened", "coin-revealed"}
    assert set(refused) <= {(COORDINATOR, kind) for kind in late}


@pytest.mark.parametrize("kind", KINDS)
def test_a_mutant_is_refused_or_means_the_same(corpus, kind):
    found = fuzzed(partial(case, corpus, kind), CASES)
    assert sum(found.values()) >= CASES
    assert found["refused"] >= CASES // 4


@pytest.mark.parametrize("role", ["party", "hospital"])
def test_no_sequence_of_messages_leads_astray(corpus, role):
    found = fuzzed(lambda pick: tuple(several(corpus, role, pick, 6)), 200, LONG)
    words = Counter(word for words, count in found.items() for word in words * count)
    assert words["refused"] > 200
    assert words["meant"] + words["the same"] > 200


@pytest.mark.parametrize("kind", SIGNED)
def test_whatever_is_signed_ends_typed(corpus, kind):
    found = fuzzed(partial(signed_case, corpus, kind), 120)
    assert found["refused"] > 10
    assert found["refused"] < 120


# -- bytes -----------------------------------------------------------------------------------------------------


def test_no_other_bytes_than_the_canonical_ones_are_read(corpus):
    def check(pick):
        data = pick(corpus.messages[pick(KINDS)])
        tree = decode(data)
        assert (
            written(tree, lambda place, value, regular: regular) == data
        )  # the writer is right but for one place
        other = irregular(pick, tree)
        try:
            read = read_message(other)
        except EncodingError:
            return "refused"
        assert read.to_bytes() == other
        return "another value"

    found = fuzzed(check, 1500)
    assert found["refused"] > 1400


# -- the study after it ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_study_in_which_one_message_was_changed_ends_right_or_typed(theatre, tmp_path, corpus):
    # What the coordinator only carries, or checks later, comes out here: no changed message ends in a wrong study.
    cast = theatre.cast(3, 2, 1)
    draw = np.random.default_rng(1)
    ended = Counter(
        played_on(theatre, cast, tmp_path / str(number), drawn_from(draw.bytes(64)), corpus)
        for number in range(60)
    )
    assert ended["right"] > 20
    assert ended["EngineError"] > 5


WAITED_FOR = {
    "key-request",
    "signed-round-key",
    "signed-vote",
    "signed-prepared",
    "opened",
    "closing-signature",
}
"""A party that answers with something else than was asked is taken to be late, and waited for."""


def played_on(theatre, cast, folder, pick, corpus) -> str:
    """How a study ends in which one message, to the coordinator or from it, has another field or two."""
    stage = theatre.stage(cast, folder)
    left, kinds = pick(range(75)), set()

    def tamper(sender: str, recipient: str, message: Message) -> Message:
        nonlocal left
        left -= 1
        for _ in range(20 if left == -1 else 0):
            try:
                changed = read_message(encode(changed_tree(pick, decode(message.to_bytes()), corpus.pool)))
            except EncodingError:
                continue
            kinds.add(message.kind)
            return changed
        return message

    stage.tamper = tamper
    try:
        stage.run()
    except (EngineError, RefusedError) as error:
        return type(error).__name__
    except AssertionError as error:
        if "standstill" not in str(error) or not kinds <= WAITED_FOR:
            raise
        return "waits"
    check_chain(stage.outcomes(), stage.finished.closing, cast.terms.study, cast.terms.signers)
    included = [set(signed.outcome.included) for signed in stage.outcomes()]
    assert np.array_equal(stage.model, theatre.expected(cast, included[1:]))
    assert stage.finished.closing.closing.model == stage.coordinator.replica.state.digest()
    return "right"


# -- controls ----------------------------------------------------------------------------------------------------


def nothing(*_: Any, **__: Any) -> None:
    return None


def lenient(data: bytes, *_: int) -> Any:
    try:
        return cbor2.loads(data)
    except Exception as error:
        raise EncodingError("not CBOR") from error


def hasty(self: PartyMachine, message: Any) -> Any:
    self._spooled.add("spool-")
    return PartyMachine._part_(self, message)


CONTROLS = {
    "parts unsigned": (party_checks, "check_signature", nothing, "part", ChangedError),
    "votes unchecked": (party, "check_votes", nothing, "prepare", (ChangedError, UntypedError)),
    "prepared unsigned": (party_checks, "verify", nothing, "release", ChangedError),
    "outcomes unsigned, to parties": (party, "check_link", nothing, "settled", ChangedError),
    "outcomes unsigned, to hospitals": (replica, "check_link", nothing, "settled", ChangedError),
    "keys unsigned": (hospital, "check_signature", nothing, "announcement", ChangedError),
    "any cohort": (Terms, "check_cohort", nothing, "key-request", ChangedError),
    "any context": (Terms, "check_context", nothing, "key-request", ChangedError),
    "any committee": (Terms, "check_committee", nothing, "key-request", ChangedError),
    "any list": (Terms, "check_list", nothing, "freeze", ChangedError),
    "no ledger": (Ledger, "check", nothing, "freeze", ChangedError),
    "coins unchecked": (integrity, "check_coins", nothing, "challenge", ChangedError),
    "answers unsigned": (sum_check, "check_signature", nothing, "verification", ChangedError),
    "anything awaited": (
        CoordinatorMachine,
        "_awaited",
        lambda *_: True,
        "signed-vote",
        (ChangedError, UntypedError),
    ),
    "any encoding": (messages, "decode", lenient, "held", ChangedError),
    "state before checks": (PartyMachine, "_part", hasty, "part", MovedError),
    "a lost error": (pledges, "ProtocolError", KeyError, "challenge", UntypedError),
}


@pytest.mark.parametrize("control", CONTROLS)
def test_a_machine_without_one_check_is_found(corpus, monkeypatch, control):
    owner, name, instead, kind, fault = CONTROLS[control]
    monkeypatch.setattr(PartyMachine, "_part_", PartyMachine._part, raising=False)
    monkeypatch.setattr(owner, name, instead)
    with pytest.raises(fault):
        fuzzed(partial(case, corpus, kind), 1000, CHOICES, shrink=False)
