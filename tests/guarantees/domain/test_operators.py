"""Operators launch what every hospital approved, and hand over a run to whom the proposal names; nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.signing import SigningKey
from securefl.domain.letters import LaunchOrder, Notice
from securefl.domain.parcel import Piece
from securefl.domain.proposal import Proposal, SignedProposal, Site
from securefl.errors import SecureFLError
from securefl.permit import EndorsedPermit, SignedPermit
from securefl.study import Study
from tests.guarantees.domain.conftest import NOW, OPERATOR, OWNER, RESEARCHER, SOUTH, Domain


@pytest.fixture
def party(domain):
    """The operator of a party whose own process is not what is tested here."""
    (domain.ops.folder / "start.sh").write_text("#!/bin/sh\nexit 0\n")
    return domain


def ordered(
    domain: Domain, proposal: Proposal, permits: list[EndorsedPermit], files: dict[str, bytes] | None = None
) -> str:
    """What the operator does with a launch order of the researcher's."""
    if files is None:
        files = dict(Study.load(domain.folder / "studies" / "study").files)
    signed = SignedProposal.sign(proposal, domain.me.identity.signing)
    order = LaunchOrder(proposal=signed, files=files, permits=permits)
    domain.me.mail.send(OPERATOR, LaunchOrder.topic, order.to_bytes())
    domain.ops.step()
    return [e.action for e in domain.ops.log.entries() if e.action.startswith("launch")][-1]


def whole(proposal: Proposal, data: bytes) -> Piece:
    """A finished run that is nothing but a model."""
    return Piece(
        proposal=proposal.digest(),
        name="model.safetensors",
        offset=0,
        data=data,
        bytes_in_all=len(data),
        last=True,
    )


def approved(domain: Domain, proposal: Any) -> list[EndorsedPermit]:
    """Both hospitals' permits for a proposal."""
    return [o.endorse(o.request(proposal.name).approve("fine")) for o in (domain.north, domain.south)]


def self_made(given: list[EndorsedPermit], proposal: Proposal, key: SigningKey) -> list[SignedPermit]:
    """The hospitals' permits for another proposal, in their words, signed by whoever likes to."""
    return [
        SignedPermit.of(e.signed.permit.model_copy(update={"proposal": proposal.digest()}), key)
        for e in given
    ]


def test_only_what_every_hospital_of_the_study_approved_is_launched(party):
    """No permits, one of two, those of another proposal, other files; a proposal that asks fewer than its study has."""
    sent, other = party.propose(), party.propose("other", name='"Another"', learning_rate="0.2")
    mine, others = approved(party, sent), approved(party, other)
    fewer = sent.proposal.model_copy(update={"sites": []})
    files = dict(Study.load(party.folder / "studies" / "study").files)

    assert ordered(party, sent.proposal, []) == "launch-refused"
    assert ordered(party, sent.proposal, mine[:1]) == "launch-refused"
    assert ordered(party, sent.proposal, others) == "launch-refused"
    assert (
        ordered(party, sent.proposal, mine, {**files, "parts/layers.py": b"WIDTH = 9\n"}) == "launch-refused"
    )
    assert ordered(party, fewer, []) == "launch-refused"
    party.clock.now = NOW + 1000 * 86_400
    assert ordered(party, sent.proposal, mine) == "launch-refused"
    assert not list((party.ops.folder / "study").glob("*.toml"))

    party.clock.now = NOW
    assert ordered(party, sent.proposal, mine) == "launched"


def test_nobody_but_a_hospital_speaks_for_it(party):
    """Who is whose steward is the researcher's text: she names herself, or one steward, for both hospitals."""
    sent = party.propose()
    mine = approved(party, sent)
    own, south = party.me.identity.signing, party.south.identity.signing
    for who, key, endorse in (
        (party.me, own, lambda signed: EndorsedPermit.of(signed, own)),
        (party.south, south, lambda signed: EndorsedPermit.of(signed, south)),
        (party.south, south, party.south.endorse),
    ):
        sites = [Site(steward=who.email, hospital=h, dataset="records") for h in ("north", "south")]
        proposal = sent.proposal.model_copy(update={"sites": sites})
        permits = [endorse(signed) for signed in self_made(mine, proposal, key)]
        assert ordered(party, proposal, permits) == "launch-refused"
        moved = [
            EndorsedPermit(signed=signed, signature=old.signature)
            for signed, old in zip(self_made(mine, proposal, key), mine, strict=True)
        ]
        assert ordered(party, proposal, moved) == "launch-refused"
    assert not list((party.ops.folder / "study").glob("*.toml"))
    assert ordered(party, sent.proposal, mine) == "launched"


def test_the_permits_of_a_launch_are_kept_for_whoever_audits_the_run_and_no_others(party):
    sent, other = party.propose(), party.propose("other", name='"Another"', learning_rate="0.2")
    mine, (foreign, _) = approved(party, sent), approved(party, other)
    stranger = foreign.signed.permit.model_copy(update={"hospital": "elsewhere"})
    more = EndorsedPermit.of(SignedPermit.of(stranger, party.me.identity.signing), party.me.identity.signing)
    assert ordered(party, sent.proposal, [*mine, more]) == "launched"
    out = party.ops.folder / "home" / f"run-{sent.proposal.number.hex()}"
    party.ops._add_permits(sent.proposal)
    kept = {path.name: path.read_bytes() for path in (out / "permits").iterdir()}
    assert kept == {f"{e.signed.permit.hospital}.cbor": e.to_bytes() for e in mine}


NAMES = [
    "study/../../escaped",
    "/etc/passwd",
    "study/a",
    "study/a/b",
    "study/" + "x" * 300,
    "study/a\0b",
    ".ssh/x",
    "receipts/round-1",
    "receipts/round-1/x",
    "",
    "study",
]


def test_a_finished_run_with_hostile_names_stops_no_service(domain):
    """Pieces of a run from the operator whom the proposal names; the service takes the next letter all the same."""
    sent = domain.propose()
    domain.north.request(sent.name).deny("no")
    for name in NAMES:
        piece = Piece(
            proposal=sent.proposal.digest(), name=name, offset=0, data=b"evil", bytes_in_all=8, last=False
        )
        domain.ops.mail.send(OWNER, Piece.topic, piece.to_bytes())
    notice = Notice(proposal=sent.proposal.digest(), member="uni", state="ready", reason="honest", time=NOW)
    domain.ops.mail.send(OWNER, Notice.topic, notice.to_bytes())
    domain.north.serving().step()
    actions = [entry.action for entry in domain.north.log.entries()]
    assert "letter-refused" in actions
    assert actions[-1] == "operator-ready"
    assert not list(domain.folder.rglob("escaped"))


def test_a_bogus_run_does_not_keep_the_true_one_away(domain):
    """A complete run of nonsense, from others than the proposal names, and from the operator itself."""
    sent = domain.propose()
    domain.north.request(sent.name).approve("fine")
    folder = domain.north.home / "releases" / sent.proposal.digest().hex()

    def sends(by: object, data: bytes) -> None:
        piece = Piece(
            proposal=sent.proposal.digest(),
            name="model.safetensors",
            offset=0,
            data=data,
            bytes_in_all=len(data),
            last=True,
        )
        by.mail.send(OWNER, Piece.topic, piece.to_bytes())  # type: ignore[attr-defined]
        domain.north.serving().step()

    for other in (domain.me, domain.south):
        sends(other, b"evil")
        assert not folder.exists()
    sends(domain.ops, b"evil")
    (release,) = domain.north.releases()
    with pytest.raises(SecureFLError):
        release.approve("unchecked")
    sends(domain.ops, b"true")
    assert (folder / "result" / "model.safetensors").read_bytes() == b"true"


def test_only_the_approver_releases(domain):
    """The other steward, and the operator, send the researcher a model themselves."""
    sent = domain.propose()
    for by in (domain.south, domain.ops):
        piece = Piece(
            proposal=sent.proposal.digest(),
            name="model.safetensors",
            offset=0,
            data=b"evil",
            bytes_in_all=4,
            last=True,
        )
        by.mail.send(RESEARCHER, Piece.topic, piece.to_bytes())
    with pytest.raises(SecureFLError, match="not released"):
        sent.result(domain.folder / "result")
    assert SOUTH in {status.steward for status in sent.status()}


def test_a_share_that_vanishes_ends_no_service(domain):
    """Disconnected for a while: the services say so, and go on when it is back."""
    (domain.ops.folder / "start.sh").write_text("#!/bin/sh\nexit 0\n")
    aside = domain.folder / "aside"
    serving = domain.north.serving()
    domain.relay.rename(aside)
    serving.step()
    domain.ops.step()
    aside.rename(domain.relay)
    sent = domain.propose()
    serving.step()
    domain.ops.step()
    assert domain.north.request(sent.name).state == "pending"
