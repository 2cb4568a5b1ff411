"""A whole study on the stage: the model is plain averaging, whatever the order of the mail."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from protocols.chain import check_chain
from protocols.mesh import in_process_meshes
from securefl.roles.messages import Announcement, KeyRequest, Refusal
from securefl.roles.records import receipt_name
from securefl.roles.terms import Terms


@pytest.mark.parametrize(("hospitals", "parties", "width"), [(2, 2, 16), (4, 3, 32), (5, 2, 64)])
def test_a_study_ends_with_plain_averaging(theatre, tmp_path, hospitals, parties, width):
    cast = theatre.cast(hospitals, parties, 3, width)
    stage = theatre.stage(cast, tmp_path).run()
    everyone = set(cast.terms.hospitals)
    assert np.array_equal(stage.model, theatre.expected(cast, [everyone] * 3))
    assert [done.settled.signed.outcome.included for done in stage.done] == [sorted(everyone)] * 4
    assert all(done.absent == {} for done in stage.done)


def test_the_statistics_are_the_sums_of_the_hospitals(theatre, tmp_path):
    cast = theatre.cast()
    stage = theatre.stage(cast, tmp_path).run()
    vectors = [theatre.trainer(name).statistics() for name in cast.terms.hospitals]
    assert np.array_equal(stage.coordinator.replica.statistics, np.sum(vectors, axis=0))


def test_the_receipts_verify_to_the_closing_record(theatre, tmp_path):
    cast = theatre.cast()
    stage = theatre.stage(cast, tmp_path).run()
    check_chain(stage.outcomes(), stage.finished.closing, cast.terms.study, cast.terms.signers)
    closing = stage.finished.closing.closing
    assert (closing.rounds, closing.model) == (3, stage.coordinator.replica.state.digest())


@pytest.mark.parametrize("seed", [None, 0])
def test_every_party_has_a_copy_of_every_receipt(theatre, tmp_path, seed):
    stage = theatre.stage(theatre.cast(), tmp_path, seed=seed).run()
    own = stage.store("coordinator")
    for party in stage.cast.terms.parties:
        kept = {name: data for name, data in stage.store(party).items() if name.startswith("receipt-")}
        assert kept == {receipt_name(round_): own[receipt_name(round_)] for round_ in range(3)}


def test_every_role_computes_the_same_replica(theatre, tmp_path):
    stage = theatre.stage(theatre.cast(), tmp_path).run()
    while moves := stage.moves():
        moves[0]()
    stores = [stage.store(name)["memory"] for name in stage.cast.terms.hospitals]
    assert stores == [stage.coordinator.replica.to_bytes()] * len(stores)


@pytest.mark.parametrize("seed", range(5))
def test_any_order_of_the_mail_gives_the_same_bytes(theatre, tmp_path, seed):
    cast = theatre.cast(3, 3, 1)
    first = theatre.stage(cast, tmp_path / "in-order").run()
    other = theatre.stage(cast, tmp_path / "drawn", seed=seed).run()
    assert other.coordinator.replica.state.digest() == first.coordinator.replica.state.digest()
    assert [d.settled.total for d in other.done] == [d.settled.total for d in first.done]
    assert [d.settled.signed.outcome.included for d in other.done] == [sorted(cast.terms.hospitals)] * 2


def test_the_shipped_committee_gives_the_oracles_model(theatre, tmp_path):
    cast = theatre.cast(3, 2, 1)
    before = threading.active_count()
    meshes = in_process_meshes(2)
    stage = theatre.stage(cast, tmp_path, meshes=meshes).run()
    assert np.array_equal(stage.model, theatre.expected(cast, [set(cast.terms.hospitals)]))
    for mesh in meshes:
        mesh.close()
    assert threading.active_count() <= before + 4


def test_an_insecure_run_says_so_in_every_receipt_and_in_its_closing(theatre, tmp_path):
    cast = theatre.cast(3, 2, 1)
    terms = Terms.of(cast.study, cast.consortium, unchecked=True)
    stage = theatre.stage(replace(cast, terms=terms), tmp_path).run()
    everyone = set(cast.terms.hospitals)
    assert np.array_equal(stage.model, theatre.expected(cast, [everyone]))
    outcomes = [signed.outcome for signed in stage.outcomes()]
    assert all(outcome.context.purpose.startswith("insecure-unchecked-") for outcome in outcomes)
    assert stage.finished.closing.closing.unverified == [0, 1]
    assert stage.verified == []
    # No member that was not told so takes part: neither a party, nor a hospital, nor who follows the receipts.
    checked = theatre.stage(cast, tmp_path / "checked")
    request = KeyRequest(context=outcomes[0].context, cohort=sorted(everyone), session=1)
    announcement = Announcement(context=outcomes[0].context, cohort=sorted(everyone), keys=[])
    for member, message in (("party-1", request), ("va", announcement), ("va", stage.recall(0))):
        answer = checked.ask(member, message)
        assert (type(answer), answer.reason) == (Refusal, "other-round")
