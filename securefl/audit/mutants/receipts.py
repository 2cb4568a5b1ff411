"""A mutant whose history can be shortened: receipts that are signed one by one, and not linked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from protocols.chain import SignedClosing, SignedOutcome, Signers, check_chain
from protocols.contribution import check_signatures
from protocols.errors import ChainError, ProtocolError
from securefl.audit.registry import Finding, Mutant
from securefl.audit.stage import staged

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
        outcomes, terms, finished = stage.outcomes(), stage.terms, stage.finished
    if finished is None:
        raise ChainError("The study was not closed.")

    def believed(some: Sequence[SignedOutcome]) -> bool:
        try:
            verifier(some, finished.closing, terms.study, terms.signers)
        except ProtocolError:
            return False
        return True

    shortened = [believed(outcomes[:i] + outcomes[i + 1 :]) for i in range(len(outcomes))]
    return sum(shortened), len(shortened), believed(outcomes)


def _removed_breaks() -> Finding:
    passed, count, whole = _shortened(each_by_itself)
    said = f"{passed} of {count} histories from which a round was taken verify."
    return Finding(passed == count and whole, said, {"believed": passed, "histories": count})


def _removed_caught() -> Finding:
    passed, count, whole = _shortened(check_chain)
    said = f"{passed} of {count} such histories verify; the whole one {'does' if whole else 'does not'}."
    return Finding(passed == 0 and whole, said, {"believed": passed, "histories": count})


MUTANTS = (
    Mutant(
        "receipts-without-a-chain",
        "receipts-verify-offline",
        "Each receipt is signed by every party and has its round's number, and does not name the one before.",
        _removed_breaks,
        _removed_caught,
    ),
)
