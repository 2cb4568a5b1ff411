"""Propose, review, approve, deny, revoke: what a decision covers, and what it does not."""

from __future__ import annotations

import shutil

import pytest

from securefl import durable
from securefl.consent import Consent
from securefl.domain.errors import (
    ChangedKeyError,
    DatasetError,
    DecidedError,
    LaunchError,
    ProposalError,
    RelayError,
    UnknownPeerError,
)
from securefl.domain.identity import Identity
from securefl.domain.letters import LogCopy
from securefl.domain.log import verify
from securefl.domain.owner_session import Owner
from securefl.domain.runs import Runs
from securefl.errors import StudyError
from securefl.permit import PermitError
from tests.securefl.domain.sessions.conftest import CANARY, STUDY


def consent(stage, sent, name="north"):
    owner = stage.owners[name]
    permit = owner.decisions.permit_of(sent.proposal)
    return Consent(
        owner.permit_folder(permit.permit.number), owner.identity.signing.public, sent.proposal.study, name, stage.clock
    )  # fmt: skip


def test_a_proposal_is_approved_by_one_and_denied_by_the_other_and_both_reasons_arrive(stage):
    sent = stage.propose()
    assert stage.states(sent) == ["pending", "pending"]
    north, south = (stage.owners[name].request(sent.name) for name in ("north", "south"))

    permit = north.approve("IRB 2026-117").permit
    south.deny("Not this year.")

    status = sent.status()
    assert [(s.state, s.reason) for s in status] == [
        ("approved", "IRB 2026-117"),
        ("denied", "Not this year."),
    ]
    assert (permit.study, permit.proposal) == (sent.proposal.study, sent.proposal.digest())
    assert (permit.hospital, permit.dataset, permit.purpose) == ("north", "heart", "To see who is ill")
    assert permit.expires - permit.not_before == 90 * 86400
    assert consent(stage, sent).refusal() is None
    # Syft's own client tells the same.
    jobs = {job.datasite_owner_email: job.status for job in stage.me.client.jobs}
    assert jobs == {"steward@north.example": "approved", "steward@south.example": "rejected"}
    with pytest.raises(LaunchError, match="south: denied"):
        sent.launch()
    with pytest.raises(DecidedError, match="is denied already"):
        south.approve("after all")
    for owner in stage.owners.values():
        verify(owner.home, owner.identity.signing.public)


def test_nothing_private_reaches_the_share_or_the_researcher(stage):
    stage.propose()
    assert len(stage.me.datasets()) == 2

    def holds(folder) -> bool:
        return any(CANARY.encode() in p.read_bytes() for p in folder.rglob("*") if p.is_file())

    assert not holds(stage.relay)
    assert not holds(stage.root / "me")
    assert not holds(stage.root / "north" / "home")  # Syft's folder of the owner included
    assert holds(stage.root / "north" / "private")
    shutil.copy(stage.root / "north" / "private" / "records.csv", stage.relay)  # the control
    assert holds(stage.relay)


def test_a_file_changed_before_the_review_is_not_what_was_proposed(stage):
    sent = stage.propose()
    request = stage.owners["north"].request(sent.name)
    (file,) = (stage.root / "north" / "home" / "syft").rglob("code/study/study.toml")
    file.write_text(file.read_text().replace("rounds = 5", "rounds = 60"))
    with pytest.raises(ProposalError, match=r"study.toml is not the file that was proposed"):
        request.review()
    with pytest.raises(ProposalError, match="is not the file that was proposed"):
        request.approve("IRB")
    assert stage.states(sent)[0] == "pending"
    assert not (stage.root / "north" / "home" / "permits").exists()


def test_a_file_changed_between_review_and_approval_cannot_be_approved(stage):
    sent = stage.propose()
    request = stage.owners["north"].request(sent.name)
    request.review()
    (stage.owners["north"].study_folder(sent.proposal) / "records.py").write_text("print('other')\n")
    with pytest.raises(ProposalError, match="somebody changed it"):
        request.approve("IRB")


def test_a_revoked_approval_ends_consent_removes_the_researcher_and_tells_why(stage):
    sent = stage.propose()
    request = stage.owners["north"].request(sent.name)
    request.approve("IRB")
    held = consent(stage, sent)
    assert held.refusal() is None

    request.revoke("A patient has withdrawn consent.")

    assert "A patient has withdrawn consent." in held.refusal()
    assert next((s.state, s.reason) for s in sent.status()) == ("revoked", "A patient has withdrawn consent.")
    assert stage.me.email not in {card.email for card in stage.owners["north"].peers}
    # The old credentials do nothing: a new proposal reaches south only.
    again = stage.propose()
    assert again.name not in {r.name for r in stage.owners["north"].requests()}
    assert again.name in {r.name for r in stage.owners["south"].requests()}
    with pytest.raises(DecidedError, match="no approval to revoke"):
        request.revoke("twice")


def test_who_removes_a_researcher_takes_back_all_its_approvals(stage):
    first, second = stage.propose(), stage.propose()
    owner = stage.owners["north"]
    for sent in (first, second):
        owner.request(sent.name).approve("IRB")
    owner.remove(stage.me.email, "left the laboratory")
    for sent in (first, second):
        assert "left the laboratory" in consent(stage, sent).refusal()
    assert [stage.states(sent)[0] for sent in (first, second)] == ["revoked", "revoked"]


def reopened(stage, name="north"):
    owner = stage.owners[name]
    return Owner(owner.email, owner.home, stage.relay, stage.root / "all" / name, stage.clock)


def test_a_share_that_takes_no_letter_stops_no_revocation_and_the_word_comes_later(stage):
    """A file stands where the letters to the researcher go."""
    sent, other = stage.propose(), stage.propose()
    north = stage.owners["north"]
    for proposal in (sent, other):
        north.request(proposal.name).approve("IRB")
    lane = stage.relay / north.email / "to" / stage.me.email
    lane.rename(stage.root / "lane")
    lane.write_text("no folder")
    north.revoke(sent.name, "A patient has withdrawn consent.")
    assert stage.me.email not in {card.email for card in north.peers}
    assert [stage.actions("north")[-3:]] == [["revoked", "revoked", "peer-removed"]]
    for proposal in (sent, other):
        assert "A patient has withdrawn consent." in consent(stage, proposal).refusal()
    with pytest.raises(DecidedError, match="is revoked: there is no approval to revoke"):
        north.revoke(sent.name, "twice")

    lane.unlink()
    (stage.root / "lane").rename(lane)
    north.requests()
    assert [stage.states(proposal)[0] for proposal in (sent, other)] == ["revoked", "revoked"]


def test_a_revocation_that_a_crash_stopped_halfway_is_finished(stage):
    sent = stage.propose()
    north = stage.owners["north"]
    north.request(sent.name).approve("IRB")
    north.revoke(sent.name, "withdrawn", keep_peer=True)  # what stands on the disk after such a crash
    assert stage.me.email in {card.email for card in north.peers}
    north.revoke(sent.name, "withdrawn")
    assert stage.me.email not in {card.email for card in north.peers}


def forged(stage):
    """Somebody else's card under the steward's name."""
    card = Identity.open(stage.root / "forger", "steward@north.example").signed_card
    (stage.relay / "steward@north.example" / "card.cbor").write_bytes(card)


def away(stage):
    stage.relay.rename(stage.root / "away")


@pytest.mark.parametrize("spoil", [away, forged])
def test_what_needs_no_mail_needs_no_share(stage, spoil):
    """A session opened while the share is away, or has another card of this name, revokes and removes all the same."""
    sent, other = stage.propose(), stage.propose()
    for proposal in (sent, other):
        stage.owners["north"].request(proposal.name).approve("IRB")
    spoil(stage)
    north = reopened(stage)
    assert stage.actions("north")[-1] == "not-introduced"
    with pytest.raises((RelayError, ChangedKeyError)):
        north.requests()
    north.revoke(sent.name, "withdrawn", keep_peer=True)
    assert "withdrawn" in consent(stage, sent).refusal()
    assert consent(stage, other).refusal() is None
    north.remove(stage.me.email, "left")
    assert "left" in consent(stage, other).refusal()
    assert stage.me.email not in {card.email for card in north.peers}
    verify(north.home, north.identity.signing.public)
    if spoil is away:
        (stage.root / "away").rename(stage.relay)
        north.requests()
        assert [stage.states(proposal)[0] for proposal in (sent, other)] == ["revoked", "revoked"]


def test_what_is_decided_while_the_share_is_away_is_told_later_by_syft_too(stage):
    sent = stage.propose()
    north = stage.owners["north"]
    request = north.request(sent.name)
    away(stage)
    request.approve("IRB")
    assert consent(stage, sent).refusal() is None
    (stage.root / "away").rename(stage.relay)
    north.requests()
    assert stage.states(sent)[0] == "approved"
    stage.me.datasets()
    assert "approved" in {job.status for job in stage.me.client.jobs}


def test_a_late_approval_does_not_overrule_a_revocation(stage):
    """The share keeps the first letter back until the second has been taken."""
    sent, north = stage.propose(), stage.owners["north"]
    lane = stage.relay / north.email / "to" / stage.me.email
    before = set(lane.iterdir())
    north.request(sent.name).approve("IRB")
    kept = {path: path.read_bytes() for path in set(lane.iterdir()) - before}
    for path in kept:
        path.unlink()
    north.revoke(sent.name, "withdrawn", keep_peer=True)
    assert stage.states(sent)[0] == "revoked"
    for path, data in kept.items():
        path.write_bytes(data)
    assert stage.states(sent)[0] == "revoked"
    assert len(sent.permits()) == 1  # the control: the letter was taken


def test_a_fingerprint_is_compared_without_spaces_and_capitals(stage):
    north, south = stage.owners["north"], stage.owners["south"]
    told = south.fingerprint
    for wrong in ("", told[:-1], told[:-1] + ("1" if told[-1] == "0" else "0"), f"{told}0"):
        with pytest.raises(UnknownPeerError, match="not that one"):
            north.accept(south.email, wrong)
    assert stage.actions("north").count("peer-refused") == 4
    assert south.email not in {card.email for card in north.peers}
    north.accept(south.email, told.upper().replace(" ", ""))
    assert south.email in {card.email for card in north.peers}


def ran(stage, sent, said=b"epoch 1\x1b[2J\n"):
    """What is left of a node that ran and said something."""
    north = stage.owners["north"]
    permit = north.request(sent.name).approve("IRB")
    begun = Runs(north.permit_folder(permit.permit.number)).begin(1)
    durable.write(north.run_folder(permit, begun) / "log", said)
    return north.request(sent.name)


def test_a_nodes_log_is_the_stewards_until_it_is_shared(stage):
    sent = stage.propose()
    pending = stage.owners["north"].request(sent.name)
    assert pending.log == ""
    with pytest.raises(DecidedError, match="has no log"):
        pending.share_log("nothing to read")
    request = ran(stage, sent)
    assert request.log == "epoch 1\x1b[2J\n"
    assert sent.logs() == {}
    request.share_log("Nothing of a patient is in it.")
    assert sent.logs() == {"north": "epoch 1\x1b[2J\n"}
    entry = stage.owners["north"].log.entries()[-1]
    assert (entry.action, entry.reason) == ("log-shared", "Nothing of a patient is in it.")
    # Another steward's word on north's log is none.
    false = LogCopy(proposal=sent.proposal.digest(), hospital="north", log=b"forged")
    stage.owners["south"].mail.send(stage.me.email, LogCopy.topic, false.to_bytes())
    assert sent.logs() == {"north": "epoch 1\x1b[2J\n"}


def test_no_log_is_shared_with_somebody_who_was_removed_nor_said_to_be(stage):
    sent = stage.propose()
    request = ran(stage, sent)
    request.revoke("withdrawn")
    with pytest.raises(UnknownPeerError, match="was removed"):
        request.share_log("too late")
    assert "log-shared" not in stage.actions("north")


def test_a_withdrawn_dataset_is_shown_no_longer_and_approvals_stand(stage):
    sent, north = stage.propose(), stage.owners["north"]
    north.request(sent.name).approve("IRB")
    assert len(stage.me.datasets()) == 2
    north.withdraw("heart", "moved to another system")
    assert list(north.datasets()) == []
    assert [dataset.owner for dataset in stage.me.datasets()] == ["steward@south.example"]
    assert stage.actions("north")[-1] == "withdrawn"
    assert consent(stage, sent).refusal() is None
    with pytest.raises(DatasetError, match="is not published here"):
        north.withdraw("heart", "twice")
    with pytest.raises(DatasetError, match="has published nothing yet"):
        stage.propose()


@pytest.mark.parametrize(
    "limits", [{"epsilon": -1.0}, {"epsilon": float("nan")}, {"delta": 2.0}, {"days": 0}]
)
def test_an_approval_with_limits_that_cannot_be_is_none(stage, limits):
    stage.edit('standardise = "features"', 'standardise = "none"')
    privacy = '[privacy]\nunit = "hospital"\nepsilon = 3.0\ndelta = 1e-5\nclip = 0.5\n'
    (stage.study / "study.toml").write_text((stage.study / "study.toml").read_text() + privacy)
    sent = stage.propose()
    with pytest.raises(PermitError) as error:
        stage.owners["north"].request(sent.name).approve("IRB", **limits)
    assert "does not fit into a permit" in str(error.value)
    assert "\n" not in str(error.value)
    assert stage.owners["north"].request(sent.name).state == "pending"
    assert "approved" not in stage.actions("north")


def test_a_reason_that_is_too_long_changes_nothing(stage):
    sent, north = stage.propose(), stage.owners["north"]
    with pytest.raises(PermitError, match="at most 1000 characters"):
        north.request(sent.name).approve("x" * 1001)
    north.request(sent.name).approve("IRB")
    for act in (north.request(sent.name).revoke, lambda reason: north.remove(stage.me.email, reason)):
        with pytest.raises(
            PermitError, match="Reason does not fit into a revocation: string should have at most"
        ):
            act("x" * 1001)
    assert stage.actions("north")[-1] == "approved"
    assert consent(stage, sent).refusal() is None


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda s: s.edit('name = "Heart disease"', 'name = "Heart\\ndisease"'), "The study's name does not fit"),
        (lambda s: (s.study / "two words.py").touch(), "This cannot be a file's name in a proposal: 'two words.py'"),
    ],
)  # fmt: skip
def test_a_study_with_names_that_cannot_be_is_not_proposed(stage, spoil, sentence):
    spoil(stage)
    with pytest.raises(ProposalError) as error:
        stage.propose()
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)


def test_an_approval_expires_by_the_hospitals_clock(stage):
    sent = stage.propose()
    stage.owners["north"].request(sent.name).approve("IRB", days=1)
    held = consent(stage, sent)
    stage.clock.now += 86399
    assert held.refusal() is None
    stage.clock.now += 1
    assert "expired" in held.refusal()


def test_an_old_permit_does_not_fit_the_same_study_proposed_again(stage):
    old = stage.propose()
    permit = stage.owners["north"].request(old.name).approve("IRB")
    new = stage.propose()
    assert old.proposal.study == new.proposal.study
    assert old.proposal.digest() != new.proposal.digest()
    assert permit.permit.proposal != new.proposal.digest()
    assert stage.states(new)[0] == "pending"


@pytest.mark.parametrize("root", ["../database", "../data/../../etc", "/etc", "data", ".."])
def test_a_study_that_reads_elsewhere_than_its_dataset_is_not_approved(stage, root):
    stage.edit('source = "module"\nmodule = "records.py:build"', f'source = "npz"\nroot = "{root}"')
    sent = stage.propose()
    with pytest.raises(StudyError, match=r"ask for `root"):
        stage.owners["north"].request(sent.name).approve("IRB")


@pytest.mark.parametrize("root", ["../data", "../data/records.csv"])
def test_a_study_that_reads_its_dataset_is_approved(stage, root):
    stage.edit('source = "module"\nmodule = "records.py:build"', f'source = "npz"\nroot = "{root}"')
    sent = stage.propose()
    assert stage.owners["north"].request(sent.name).approve("IRB")


def test_a_study_with_other_members_is_not_approved(stage):
    sent = stage.propose()
    other = stage.root / "all" / "north" / "consortium.toml"
    other.write_text(other.read_text().replace("epoch = 1", "epoch = 2"))
    with pytest.raises(StudyError, match="names other members or keys"):
        stage.owners["north"].request(sent.name).approve("IRB")


def test_a_private_study_has_a_budget(stage):
    stage.edit('standardise = "features"', 'standardise = "none"')
    privacy = '[privacy]\nunit = "hospital"\nepsilon = 3.0\ndelta = 1e-5\nclip = 0.5\n'
    (stage.study / "study.toml").write_text((stage.study / "study.toml").read_text() + privacy)
    sent = stage.propose()
    permit = stage.owners["north"].request(sent.name).approve("IRB", epsilon=1.5).permit
    assert (permit.epsilon, permit.unit) == ("1.5", "hospital")
    # More than the study promises is never given.
    assert stage.owners["south"].request(sent.name).approve("IRB", epsilon=8.0).permit.epsilon == "3.0"


def test_an_epsilon_for_a_study_without_privacy_is_refused(stage):
    sent = stage.propose()
    with pytest.raises(StudyError, match=r"has no \[privacy\]"):
        stage.owners["north"].request(sent.name).approve("IRB", epsilon=1.0)


def test_a_proposal_asks_every_hospital_of_its_study(stage):
    with pytest.raises(ProposalError, match="ask each once"):
        stage.me.propose(
            stage.study, ["steward@north.example"], purpose="x", operators=[stage.operator.email]
        )


def test_strangers_and_unpublished_datasets_cannot_be_asked(stage):
    with pytest.raises(UnknownPeerError):
        stage.me.propose(stage.study, ["who@else.example"], purpose="x", operators=[stage.operator.email])
    with pytest.raises(DatasetError, match="has published heart"):
        stage.propose(datasets={"steward@north.example": "lungs"})


def test_a_simulation_cannot_be_proposed(stage):
    stage.edit('file = "consortium.toml"', 'hospitals = ["north", "south"]')
    (stage.study / "study.toml").write_text((stage.study / "study.toml").read_text() + "\n[simulation]\n")
    with pytest.raises(ProposalError, match="is a simulation"):
        stage.propose()


def test_a_second_session_of_the_same_steward_sees_and_decides_the_same(stage):
    sent = stage.propose()
    first, second = stage.owners["north"], reopened(stage)
    second.request(sent.name).approve("from the notebook")
    assert first.request(sent.name).state == "approved"
    with pytest.raises(DecidedError):
        first.request(sent.name).deny("too late")


def test_a_job_that_is_no_proposal_is_turned_down_and_the_next_is_not(stage):
    code = stage.root / "code"
    code.mkdir()
    (code / "main.py").write_text("print('hello')\n")
    with stage.me.syft() as client:
        client.submit_python_job("steward@north.example", str(code), "plain-job", force_submission=True)
    sent = stage.propose()
    assert [request.name for request in stage.owners["north"].requests()] == [sent.name]
    assert "job-refused" in stage.actions("north")


def test_the_example_study_is_text_and_small():
    assert sum(path.stat().st_size for path in STUDY.rglob("*.*") if path.is_file()) < 10_000
