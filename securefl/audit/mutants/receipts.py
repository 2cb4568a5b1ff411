"""Mutants whose history can be changed: receipts that are not linked, have no end, or need one signature only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from protocols.canonical import Record
from protocols.chain import (
    SignedClosing,
    SignedOutcome,
    Signers,
    beginning,
    check_chain,
    check_link,
    total_digest,
)
from protocols.contribution import check_signature, check_signatures, sign
from protocols.errors import ChainError, ProtocolError, SignatureError
from securefl.audit.registry import Finding, Mutant
from securefl.audit.stage import Stage, staged
from securefl.audit.stage_cast import PARTIES
from securefl.roles.terms import Terms

Verifier = Callable[[Sequence[SignedOutcome], SignedClosing, bytes, Signers], None]


def each_by_itself(
    outcomes: Sequence[SignedOutcome], closing: SignedClosing, study: bytes, signers: Signers
) -> None:
    """The naive verifier: every receipt is of this study, signed by all parties, and later than the one before.

    Raises:
        ChainError: one is not.
    """
    before = -1
    for signed in outcomes:
        context = signed.outcome.context
        check_signatures(signed.outcome, signers.keys(context.parties), signed.signatures)
        if context.study != study or context.round <= before:
            raise ChainError(f"The receipt of round {context.round} is of another study or comes too late.")
        before = context.round
    check_signatures(closing.closing, signers.keys(closing.closing.parties), closing.signatures)


def _shortened(verifier: Verifier) -> tuple[int, int, bool]:
    """Remove one round after the other from a study's receipts: how many such histories are believed, of how many.

    Also whether the whole one is.
    """
    with staged(rounds=2) as stage:
        stage.play()
        outcomes, terms, closing = stage.outcomes(), stage.terms, _closing_of(stage)
    shortened = [
        _believed(verifier, outcomes[:i] + outcomes[i + 1 :], closing, terms) for i in range(len(outcomes))
    ]
    return sum(shortened), len(shortened), _believed(verifier, outcomes, closing, terms)


def _removed_breaks() -> Finding:
    passed, count, whole = _shortened(each_by_itself)
    said = f"{passed} of {count} histories from which a round was taken verify."
    return Finding(passed == count and whole, said, {"believed": passed, "histories": count})


def _removed_caught() -> Finding:
    passed, count, whole = _shortened(check_chain)
    said = f"{passed} of {count} such histories verify; the whole one {'does' if whole else 'does not'}."
    return Finding(passed == 0 and whole, said, {"believed": passed, "histories": count})


# -- no end ----------------------------------------------------------------------------------------------------------


def without_an_end(
    outcomes: Sequence[SignedOutcome], _closing: SignedClosing, study: bytes, signers: Signers
) -> None:
    """The naive verifier: a chain, which is believed as far as it goes.

    Raises:
        ChainError: a link does not hold.
    """
    previous = beginning(study)
    for round_, signed in enumerate(outcomes):
        check_link(signed, study, previous, round_, signers)
        previous = signed.outcome.digest()


def _cut(verifier: Verifier) -> tuple[int, int, bool]:
    """Leave out the last rounds: how many such histories are believed, of how many; also whether the whole one is."""
    with staged(rounds=2) as stage:
        stage.play()
        outcomes, terms, closing = stage.outcomes(), stage.terms, _closing_of(stage)
    cut = [_believed(verifier, outcomes[:end], closing, terms) for end in range(1, len(outcomes))]
    return sum(cut), len(cut), _believed(verifier, outcomes, closing, terms)


def _cut_breaks() -> Finding:
    passed, count, whole = _cut(without_an_end)
    said = f"{passed} of {count} histories whose last rounds are missing verify as whole ones."
    return Finding(passed == count and whole, said, {"believed": passed, "histories": count})


def _cut_caught() -> Finding:
    passed, count, whole = _cut(check_chain)
    said = f"{passed} of {count} such histories verify; the whole one {'does' if whole else 'does not'}."
    return Finding(passed == 0 and whole, said, {"believed": passed, "histories": count})


# -- one signature ---------------------------------------------------------------------------------------------------


def any_signature(
    outcomes: Sequence[SignedOutcome], closing: SignedClosing, study: bytes, signers: Signers
) -> None:
    """The naive verifier: a chain of which each link has a party's signature.

    Raises:
        ChainError: a link has none, or follows another.
    """
    previous = beginning(study)
    for signed in outcomes:
        record = signed.outcome
        if record.context.previous != previous or not _signed_by_any(record, signed.signatures, signers):
            raise ChainError(f"The receipt of round {record.round} does not hold.")
        previous = record.digest()
    if closing.closing.last != previous or not _signed_by_any(closing.closing, closing.signatures, signers):
        raise ChainError("The closing record does not hold.")


def _signed_by_any(record: Record, signatures: Sequence[bytes], signers: Signers) -> bool:
    for key in signers.parties.values():
        for signature in signatures:
            try:
                check_signature(record, key, signature)
            except SignatureError:
                continue
            return True
    return False


def _forged(verifier: Verifier) -> tuple[bool, bool]:
    """The coordinator and one party write another last sum, and close the study with it: believed? The true one?"""
    with staged() as stage:
        stage.play()
        outcomes, terms, closing = stage.outcomes(), stage.terms, _closing_of(stage)
        key = stage.people.keys[PARTIES[0]].signing
    lie = outcomes[-1].outcome.model_copy(update={"total": total_digest(b"another sum")})
    end = closing.closing.model_copy(update={"last": lie.digest()})
    forged = SignedOutcome(outcome=lie, signatures=[sign(lie, key)] * len(PARTIES))
    closed = SignedClosing(closing=end, signatures=[sign(end, key)] * len(PARTIES))
    return (
        _believed(verifier, [*outcomes[:-1], forged], closed, terms),
        _believed(verifier, outcomes, closing, terms),
    )


def _forged_breaks() -> Finding:
    believed, honest = _forged(any_signature)
    said = f"A sum that one party made up is {'believed' if believed else 'refused'}."
    return Finding(believed and honest, said, {"believed": int(believed)})


def _forged_caught() -> Finding:
    believed, honest = _forged(check_chain)
    said = (
        f"The same history is {'believed' if believed else 'refused'}; the true one "
        f"{'is believed' if honest else 'is not'}."
    )
    return Finding(not believed and honest, said, {"believed": int(believed)})


def _closing_of(stage: Stage) -> SignedClosing:
    if stage.finished is None:
        raise ChainError("The study was not closed.")
    return stage.finished.closing


def _believed(
    verifier: Verifier, outcomes: Sequence[SignedOutcome], closing: SignedClosing, terms: Terms
) -> bool:
    try:
        verifier(outcomes, closing, terms.study, terms.signers)
    except ProtocolError:
        return False
    return True


MUTANTS = (
    Mutant(
        "receipts-without-a-chain",
        "receipts-verify-offline",
        "Each receipt is signed by every party and has its round's number, and does not name the one before.",
        _removed_breaks,
        _removed_caught,
    ),
    Mutant(
        "history-without-an-end",
        "receipts-verify-offline",
        "Receipts are a chain that nothing closes: it is believed as far as it goes.",
        _cut_breaks,
        _cut_caught,
    ),
    Mutant(
        "one-signature-is-enough",
        "receipts-verify-offline",
        "A receipt holds if any party of the committee signed it.",
        _forged_breaks,
        _forged_caught,
    ),
)
