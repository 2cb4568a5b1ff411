"""What a party checks before it does what it is asked for. Nothing here changes anything, or signs.

Each function raises ``RefusedError`` with the reason that the coordinator is told. ``name`` is the party's own.
"""

from __future__ import annotations

from protocols.chain import Closing
from protocols.contribution import FrozenList, RoundContext, Vote, check_signature, open_share
from protocols.envelope import envelope_digest
from protocols.errors import EncodingError, ProtocolError
from protocols.sharing import Shape, check_share
from protocols.signing import verify
from securefl.errors import RefusedError
from securefl.roles.messages import KeyRequest, Part, Prepare, Release, SignedPrepared
from securefl.roles.party_memory import Attempt, PartyMemory
from securefl.roles.terms import Terms


def check_key_request(terms: Terms, memory: PartyMemory, name: str, message: KeyRequest) -> None:
    """A new attempt of the round that this party waits for, of which nothing was opened."""
    context = message.context
    terms.check_context(context)
    terms.check_committee(context)
    terms.check_cohort(message.cohort, context.round)
    if name not in context.parties:
        raise RefusedError("other-parties", f"{name} is not in this committee.")
    if context.round != memory.round or context.previous != memory.previous:
        raise RefusedError("other-chain", "The round does not continue the chain that this party has.")
    if memory.released:
        raise RefusedError(
            "already-opened", "The sum of this round is being opened: it is finished or it is void."
        )
    if context.attempt <= memory.attempt:
        raise RefusedError("old-attempt", f"Attempt {context.attempt} of this round has been made already.")


def check_part(terms: Terms, attempt: Attempt, name: str, message: Part) -> None:
    """The one contribution of a hospital of the cohort: signed by it, and this party's part opens to a share."""
    contribution = message.contribution
    hospital, held = contribution.hospital, attempt.held.get(contribution.hospital)
    if hospital not in attempt.cohort:
        raise RefusedError("unknown-hospital", f"{hospital} is not in this round's cohort.")
    if held is not None and held != contribution.digest():
        raise RefusedError("second-contribution", f"{hospital} has contributed to this attempt already.")
    if attempt.frozen and held is None:
        raise RefusedError("frozen", "The list of contributions is frozen.")
    parties = attempt.context.parties
    try:
        check_signature(contribution, terms.hospitals[hospital], message.signature)
        if len(contribution.envelopes) != len(parties):
            raise EncodingError("There is not one envelope for each party.")
        if contribution.envelopes[parties.index(name)] != envelope_digest(message.envelope):
            raise EncodingError("The envelope is not the one that the hospital signed.")
        content = open_share(message.envelope, attempt.key, attempt.context, hospital, name)
        check_share(content, Shape(attempt.context.size, attempt.context.width))
    except ProtocolError as error:
        raise RefusedError(
            "bad-contribution", f"The contribution of {hospital} is not valid. {error}"
        ) from error


def check_list(terms: Terms, attempt: Attempt, frozen: FrozenList) -> None:
    """The only list of this attempt, as the terms want it, of contributions that this party holds."""
    if attempt.frozen and attempt.frozen != frozen.digest():
        raise RefusedError("second-list", "Another list has been signed in this attempt.")
    terms.check_list(frozen, attempt.cohort, attempt.context.round)
    if any(attempt.held.get(name) != digest for name, digest in frozen.contributions.items()):
        raise RefusedError("not-held", "The list names a contribution that this party does not hold.")


def check_votes(terms: Terms, attempt: Attempt, name: str, mine: Vote, message: Prepare) -> None:
    """Every party voted for the list that this party signed, and its own vote is among them unchanged."""
    if attempt.frozen != message.frozen.digest():
        raise RefusedError("other-list", "This is not the list that this party signed.")
    if [signed.party for signed in message.votes] != attempt.context.parties:
        raise RefusedError("not-agreed", "The list does not bring every party's vote.")
    for signed in message.votes:
        if signed.vote.frozen != attempt.frozen:
            raise RefusedError("not-agreed", f"{signed.party} voted for another list.")
        try:
            check_signature(signed.vote, terms.parties[signed.party], signed.signature)
        except ProtocolError as error:
            raise RefusedError("not-agreed", f"The list is not signed by {signed.party}.") from error
    if mine not in [signed.vote for signed in message.votes if signed.party == name]:
        raise RefusedError("not-agreed", "This is not the vote that this party gave.")


def check_release(
    terms: Terms, memory: PartyMemory, message: Release
) -> tuple[RoundContext, FrozenList, SignedPrepared]:
    """Every party has its share of this party's sum on disk. Returns what that sum is of."""
    context, frozen, mine = memory.context, memory.frozen, memory.prepared
    if context is None or frozen is None or mine is None or mine.frozen != message.frozen.digest():
        raise RefusedError("not-prepared", "This party has no share of that sum on its disk.")
    if [prepared.party for prepared in message.prepared] != context.parties:
        raise RefusedError("not-agreed", "The release does not bring every party's word that it is prepared.")
    same = (mine.frozen, mine.excluded, mine.session)
    for prepared in message.prepared:
        if (prepared.frozen, prepared.excluded, prepared.session) != same:
            raise RefusedError("not-agreed", f"{prepared.party} has prepared another sum.")
        unsigned = prepared.model_copy(update={"signature": b""}).digest()
        try:
            verify(terms.parties[prepared.party], SignedPrepared.kind, unsigned, prepared.signature)
        except ProtocolError as error:
            raise RefusedError("not-agreed", f"{prepared.party} did not sign that it is prepared.") from error
    return context, frozen, mine


def check_closing_request(terms: Terms, memory: PartyMemory, name: str, closing: Closing) -> bytes:
    """The end of the whole study, and of this party's chain. Returns the digest of what cannot change of it."""
    if (closing.study, closing.last) != (terms.study, memory.previous):
        raise RefusedError("other-chain", "The closing record does not close the chain that this party has.")
    if closing.rounds != memory.round:
        raise RefusedError(
            "other-chain", "The closing record does not count the rounds that this party has seen."
        )
    if closing.rounds != terms.rounds + 1:
        raise RefusedError(
            "other-chain",
            f"The closing record ends the study after {closing.rounds - 1} of {terms.rounds} rounds.",
        )
    if name not in closing.parties:
        raise RefusedError("other-parties", f"{name} is not among those who close the study.")
    try:
        terms.signers.check_members(closing.parties)
    except ProtocolError as error:
        raise RefusedError("other-parties", str(error)) from error
    # A party that dies before it signs is left out of the next record, and a check may end in between: the chain and
    # the model are what cannot change.
    end = closing.model_copy(update={"parties": [], "unverified": [], "verifications": b""}).digest()
    if memory.closed not in (b"", end):
        raise RefusedError("closed", "This party has signed another closing record.")
    return end
