"""A hospital that believes what it is told: it shares its update and seals the shares, and checks nothing before."""

from __future__ import annotations

from collections.abc import Callable

from protocols.contribution import contribute, open_share, share_context, sign
from protocols.envelope import SealingKey
from protocols.integrity import commit_coin
from protocols.prg import RingVector, new_seed
from protocols.sharing import Shape, add_share, zeros
from securefl.audit.stage import Stage
from securefl.roles.messages import Announcement, SignedContribution


def contribution(stage: Stage, name: str, x: RingVector, announcement: Announcement) -> SignedContribution:
    """``x`` shared among whoever the announcement names, sealed to the keys that it brings, signed by the hospital."""
    of = announcement.context
    keys = {signed.key.party: signed.key.public for signed in announcement.keys}
    commitment = commit_coin(new_seed(), of.digest(), name)
    made, envelopes = contribute(x, of, name, keys, commitment)
    signature = sign(made, stage.people.keys[name].signing)
    return SignedContribution(contribution=made, signature=signature, envelopes=envelopes)


def believing(stage: Stage) -> Callable[[str, Announcement], SignedContribution]:
    """The hospitals of a stage, none of which checks an announcement."""
    return lambda name, announcement: contribution(stage, name, stage.update(name), announcement)


def opened_with(
    keys: dict[str, SealingKey], announcement: Announcement, message: SignedContribution
) -> RingVector:
    """What whoever holds all these sealing keys makes of a contribution: the shares, added up.

    Raises:
        SealError: an envelope is sealed to another key.
    """
    of, hospital = announcement.context, message.contribution.hospital
    total = zeros(Shape(of.size, of.width))
    for rank, (party, envelope) in enumerate(zip(of.parties, message.envelopes, strict=True)):
        share = open_share(envelope, keys[party], of, hospital, party)
        add_share(total, share, rank, share_context(of, hospital))
    return total
