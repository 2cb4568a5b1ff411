"""The replica: anyone with the outcomes computes the same bytes, and takes no other outcome."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.chain import SignedOutcome, total_digest
from protocols.contribution import sign
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


def forged(played, opened=None, **fields):
    """An outcome of round 1 that every party signed, different from the one that happened."""
    settled = played.recall(1)
    outcome = settled.signed.outcome.model_copy(update=fields)
    signatures = [sign(outcome, played.cast.keys[p].signing) for p in played.cast.terms.parties]
    signed = SignedOutcome(outcome=outcome, signatures=signatures)
    return Settled(signed=signed, total=settled.total if opened is None else opened)


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        ("other-chain", {"study": bytes(32)}),
        ("other-chain", {"previous": bytes(32)}),
        ("other-chain", {"total": bytes(32)}),
        ("other-chain", {"size": 23}),
        ("too-few-hospitals", {"included": ["va"]}),
        ("unknown-hospital", {"included": ["va", "st-anna"]}),
        ("unknown-hospital", {"included": ["nobody", "st-anna", "va"]}),
    ],
)
def test_an_outcome_that_cannot_be_is_refused_though_everyone_signed_it(played, theatre, code, fields):
    replica = played.follow(Replica.initial(played.cast.terms, theatre.initial_model()), played.recall(0))
    with pytest.raises(RefusedError) as error:
        played.follow(replica, forged(played, **fields))
    assert error.value.reason == code


@pytest.mark.parametrize("fields", [{"purpose": "statistics"}, {"width": 16}, {"width": 7}])
def test_an_outcome_of_another_kind_or_encoding_is_refused(played, theatre, fields):
    replica = played.follow(Replica.initial(played.cast.terms, theatre.initial_model()), played.recall(0))
    with pytest.raises(RefusedError):
        played.follow(replica, forged(played, **fields))


def test_an_outcome_of_another_size_is_refused(played, theatre):
    replica = played.follow(Replica.initial(played.cast.terms, theatre.initial_model()), played.recall(0))
    opened = bytes(4 * 5)
    with pytest.raises(RefusedError, match="not of the model's size"):
        played.follow(replica, forged(played, opened, size=5, total=total_digest(opened)))
