"""The replica: anyone with the outcomes computes the same bytes, and takes no other outcome."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.chain import SignedOutcome, total_digest
from protocols.contribution import FrozenList, sign
from securefl.errors import RefusedError
from securefl.roles.messages import Settled
from securefl.roles.replica import Replica


@pytest.fixture(scope="module")
def played(theatre, tmp_path_factory):
    return theatre.stage(theatre.cast(3, 2, 1), tmp_path_factory.mktemp("replica")).run()


def test_it_is_one_file_that_reads_back_as_it_was(played):
    replica = played.coordinator.replica
    again = Replica.from_bytes(replica.to_bytes())
    assert again.to_bytes() == replica.to_bytes()
    assert again.place == replica.place
    assert again.state.digest() == replica.state.digest()
    first = Replica.initial(played.cast.terms, np.arange(3.0))
    assert Replica.from_bytes(first.to_bytes()).statistics.size == 0


def test_the_statistics_leave_the_model_as_it_was(played, theatre):
    start = Replica.initial(played.cast.terms, theatre.initial_model())
    after = played.follow(start, played.recall(0))
    assert np.array_equal(after.state.model, start.state.model)
    assert (after.place.round, after.state.round, after.statistics.size) == (1, 0, 3)
    assert start.place.round == 0  # what it was is unchanged


def test_following_twice_or_out_of_order_is_refused(played, theatre):
    start = Replica.initial(played.cast.terms, theatre.initial_model())
    with pytest.raises(RefusedError, match="stands where round 0 belongs"):
        played.follow(start, played.recall(1))
    after = played.follow(start, played.recall(0))
    with pytest.raises(RefusedError) as error:
        played.follow(after, played.recall(0))
    assert error.value.reason == "other-chain"


def forged(played, opened=None, included=None, context=None, **fields):
    """An outcome of round 1 that every party signed, different from the one that happened."""
    settled = played.recall(1)
    outcome = settled.signed.outcome
    now = outcome.context.model_copy(update=context or {})
    frozen = outcome.frozen.model_copy(update={"context": now.digest()})
    if included is not None:
        listed = dict.fromkeys(included, bytes(32))
        frozen = FrozenList(context=now.digest(), cohort=included, contributions=listed, absent={})
    outcome = outcome.model_copy(update={"context": now, "frozen": frozen, **fields})
    signatures = [sign(outcome, played.cast.keys[p].signing) for p in played.cast.terms.parties]
    signed = SignedOutcome(outcome=outcome, signatures=signatures)
    return Settled(signed=signed, total=settled.total if opened is None else opened)


@pytest.fixture(scope="module")
def after_statistics(played, theatre):
    """The replica that waits for round 1; the control is that it takes the outcome that happened, signed anew."""
    replica = played.follow(Replica.initial(played.cast.terms, theatre.initial_model()), played.recall(0))
    assert played.follow(replica, forged(played)).place.round == 2
    return replica


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        ("other-chain", {"context": {"study": bytes(32)}}),
        ("other-chain", {"context": {"previous": bytes(32)}}),
        ("other-chain", {"context": {"model": bytes(32)}}),
        ("other-chain", {"context": {"parties": ["party-1"]}}),
        ("other-chain", {"context": {"parties": ["party-2", "party-1"]}}),
        ("other-chain", {"total": bytes(32)}),
        ("other-chain", {"context": {"size": 23}}),
        ("other-chain", {"excluded": {"mayo-clinic-rochester": "norm-too-large"}}),  # not on the list at all
        ("other-round", {"context": {"purpose": "statistics"}}),
        ("other-encoding", {"context": {"width": 16}}),
        ("other-encoding", {"context": {"width": 7}}),
        ("too-few-hospitals", {"included": ["va"]}),
        ("too-few-hospitals", {"excluded": {"va": "norm-too-large", "charite": "norm-too-large"}}),
        ("unknown-hospital", {"included": ["nobody", "st-anna", "va"]}),
    ],
)
def test_an_outcome_that_cannot_be_is_refused_though_everyone_signed_it(
    played, after_statistics, code, fields
):
    with pytest.raises(RefusedError) as error:
        played.follow(after_statistics, forged(played, **fields))
    assert error.value.reason == code


def test_the_hospitals_of_an_outcome_come_in_the_order_of_their_names(played):
    # Whatever order an encoding brings, there is one list, hence one order to add and to name them in.
    one, other = (forged(played, included=names) for names in (["st-anna", "va"], ["va", "st-anna"]))
    assert one.signed.outcome.included == other.signed.outcome.included == ["st-anna", "va"]


def test_an_outcome_of_another_size_is_refused(played, after_statistics):
    opened = bytes(4 * 5)
    with pytest.raises(RefusedError, match="not of the model's size"):
        played.follow(
            after_statistics, forged(played, opened, context={"size": 5}, total=total_digest(opened))
        )
