"""Checks a run's receipts as anyone can who has them and the parties' pinned keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from protocols.canonical import Record
from protocols.chain import (
    Closing,
    SignedClosing,
    SignedOutcome,
    beginning,
    check_chain,
    check_link,
    total_digest,
)
from protocols.contribution import check_signature
from protocols.errors import ChainError, EncodingError, SignatureError
from securefl.report.evidence import Evidence
from securefl.roles.coordinator import receipt_name, sum_name
from securefl.run_folder import RunFolder

Verdict = Literal["complete", "open", "broken", "unchecked"]


@dataclass(frozen=True)
class Receipt:
    """One outcome of the chain. ``signers`` says for each party whether its signature verifies."""

    round: int
    attempt: int
    included: Sequence[str]
    digest: str
    signers: Mapping[str, bool]


@dataclass(frozen=True)
class Receipts:
    """What the check found.

    Attributes:
        verdict: "complete" (the whole chain holds, to its closing record), "open" (it holds so far), "broken", or
            "unchecked" (there is nothing, or no key, to check).
        sentence: the same in words; for a broken chain, the first thing that does not hold.
        links: outcomes, as far as they can be read.
        closing: the closing record, if it is there and can be read.
        closers: as ``Receipt.signers``, for the closing record.
    """

    verdict: Verdict
    sentence: str
    links: Sequence[Receipt]
    closing: Closing | None
    closers: Mapping[str, bool]


def check_receipts(run: RunFolder, evidence: Evidence) -> Receipts:
    """Check the chain, the sums beside it and the study's digest; never raises for a chain that does not hold."""
    keys = evidence.terms.parties if evidence.terms else {}
    outcomes: list[SignedOutcome] = []
    closing: SignedClosing | None = None
    fault: str | None = None
    try:
        outcomes.extend(_outcomes(run))
        closing = run.closing()
    except EncodingError as error:
        # What was read before the damaged file stays in ``outcomes`` and is shown.
        fault = f"A receipt is damaged: {error}"
    links = [_receipt(signed, keys) for signed in outcomes]
    closers = _signers(closing.closing, closing.signatures, keys) if closing else {}
    verdict, sentence = _judge(run, evidence, outcomes, closing) if fault is None else ("broken", fault)
    return Receipts(verdict, sentence, links, closing.closing if closing else None, closers)


def _outcomes(run: RunFolder) -> Iterator[SignedOutcome]:
    store, round_ = run.store(), 0
    while receipt_name(round_) in store:
        try:
            yield SignedOutcome.from_bytes(store[receipt_name(round_)])
        except EncodingError as error:
            raise EncodingError(f"that of round {round_}. {error}") from error
        round_ += 1


def _judge(
    run: RunFolder, evidence: Evidence, outcomes: Sequence[SignedOutcome], closing: SignedClosing | None
) -> tuple[Verdict, str]:
    terms = evidence.terms
    if terms is None:
        return "unchecked", "The parties' pinned keys cannot be read, so the receipts were not checked."
    if not outcomes and closing is None:
        return "unchecked", "There is no receipt yet."
    if terms.study.hex() != evidence.info.get("study"):
        return "broken", (
            "The study, its members or the version of securefl are not the ones that this run was started with."
        )
    keys = list(terms.parties.values())
    try:
        if closing is not None:
            check_chain(outcomes, closing, terms.study, keys)
        else:
            previous = beginning(terms.study)
            for round_, signed in enumerate(outcomes):
                check_link(signed, terms.study, previous, round_, keys)
                previous = signed.outcome.digest()
        _check_sums(run, outcomes)
        _check_model(evidence, closing)
    except ChainError as error:
        return "broken", str(error)
    count = f"{len(outcomes)} outcomes" if len(outcomes) != 1 else "one outcome"
    if closing is None:
        return "open", f"The chain holds so far: {count}, signed by every party. The study is not closed yet."
    return "complete", f"The chain holds: {count} and the closing record, signed by every party."


def _check_sums(run: RunFolder, outcomes: Sequence[SignedOutcome]) -> None:
    store = run.store()
    for outcome in (signed.outcome for signed in outcomes):
        name = sum_name(outcome.round)
        if name not in store or total_digest(store[name]) != outcome.total:
            raise ChainError(f"The opened sum of round {outcome.round} is not the one that was signed.")


def _check_model(evidence: Evidence, closing: SignedClosing | None) -> None:
    claimed = evidence.summary.get("model")
    if closing is not None and claimed is not None and claimed != closing.closing.model.hex():
        raise ChainError("The final figures are of another model than the one that the parties signed.")


def _receipt(signed: SignedOutcome, keys: Mapping[str, bytes]) -> Receipt:
    outcome = signed.outcome
    return Receipt(
        round=outcome.round,
        attempt=outcome.attempt,
        included=outcome.included,
        digest=outcome.digest().hex(),
        signers=_signers(outcome, signed.signatures, keys),
    )


def _signers(record: Record, signatures: Sequence[bytes], keys: Mapping[str, bytes]) -> dict[str, bool]:
    return {
        party: rank < len(signatures) and _verifies(record, key, signatures[rank])
        for rank, (party, key) in enumerate(keys.items())
    }


def _verifies(record: Record, key: bytes, signature: bytes) -> bool:
    try:
        check_signature(record, key, signature)
    except SignatureError:
        return False
    return True
