"""Walks a run's chain of outcomes: signatures, the study's rules, sums, models, the hospitals' checks, the closing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from protocols.chain import (
    Closing,
    Outcome,
    SignedClosing,
    SignedOutcome,
    check_closing,
    check_link,
    digest_of_verifications,
    total_digest,
)
from protocols.errors import ChainError, ProtocolError, WrongSumError
from securefl.audit.founding import Founding, Receipts
from securefl.audit.model import InitialModel
from securefl.audit.verdict import (
    Check,
    Receipt,
    SumCheck,
    checking,
    receipt_of,
    rounds,
    signers_of,
)
from securefl.errors import DataError, EngineError, ModelError
from securefl.roles.messages import Settled, Verification
from securefl.roles.party import NORM_TOO_LARGE
from securefl.roles.records import CLOSING, receipt_name, sum_name, verification_name
from securefl.roles.replica import Replica
from securefl.roles.sum_check import check_verification
from securefl.training.determinism import fingerprint
from securefl.training.server import Vector

RECEIPT_NAME = re.compile(r"receipt-(\d{6,})")


class ChainWalk:
    """One walk along the chain, from the beginning of the study.

    Args:
        founding: the study, which was checked.
        receipts: the files.
        remembered: the round of training whose model is to be kept, None for none.
        workplace: an empty folder, for as long as the walk is used. The study's model is built there, of the bytes
            that were signed and no others that lie in the run's folder.

    Attributes:
        seen: the rounds so far, the one that does not hold included if it can be read.
        closing: the closing record, once it was read; ``closers`` says whose signatures on it verify.
        closed: whether the closing record is there and holds.
        model: what training started from; None before round 0, and if it cannot be built here.
        replica: the model after the rounds so far; None with ``model``.
        weights: those after the round to be remembered; None if it was not reached.
    """

    def __init__(
        self, founding: Founding, receipts: Receipts, remembered: int | None, workplace: Path
    ) -> None:
        self._founding, self._terms, self._receipts = founding, founding.terms, receipts
        self._remembered, self._workplace = remembered, workplace
        self._records: list[bytes] = []
        self.seen: list[Receipt] = []
        self.closing: Closing | None = None
        self.closers: Mapping[str, bool] = {}
        self.closed = False
        self.model: InitialModel | None = None
        self.replica: Replica | None = None
        self.weights: Vector | None = None

    @property
    def last(self) -> bytes:
        """What the next outcome, or the closing record, must name as the one before."""
        return bytes.fromhex(self.seen[-1].digest) if self.seen else self._terms.beginning

    # -- rounds --------------------------------------------------------------------------------------------------

    def check_rounds(self) -> Iterator[Check]:
        """One check a round; a BrokenError names the first that does not hold."""
        matches = (RECEIPT_NAME.fullmatch(name) for name in self._receipts.names)
        count = 1 + max((int(match[1]) for match in matches if match), default=-1)
        for round_ in range(count):
            with checking(f"round {round_}"):
                yield from self._check_round(round_)
        with checking("receipts"):
            self._check_strays()

    def _check_round(self, round_: int) -> Iterator[Check]:
        signed = self._receipts.record(SignedOutcome, receipt_name(round_))
        outcome, sum_check = signed.outcome, SumCheck.NOT_REACHED
        signers = signers_of(outcome, outcome.context.parties, signed.signatures, self._terms.parties)
        try:
            self._check_link(signed, round_, signers)
            self._check_rules(outcome)
            total = self._receipts.read(sum_name(round_))
            if total_digest(total) != outcome.total:
                raise ChainError(f"receipts/{sum_name(round_)} is not the sum that the parties signed.")
            if round_ == 0:
                yield from self._build_model()
            self._follow(Settled(signed=signed, total=total))
            sum_check = self._check_sum(outcome, total)
        except WrongSumError:
            sum_check = SumCheck.WRONG
            raise
        finally:
            self.seen.append(receipt_of(signed, signers, sum_check))
        yield _round_check(self.seen[-1])

    def _check_link(self, signed: SignedOutcome, round_: int, signers: Mapping[str, bool]) -> None:
        try:
            check_link(signed, self._terms.study, self.last, round_, self._terms.signers)
        except ChainError as error:
            cause = error.__cause__
            unsigned = ", ".join(name for name, verifies in signers.items() if not verifies)
            why = (
                f" {cause}"
                if isinstance(cause, ChainError)
                else f" Not by {unsigned}."
                if cause and unsigned
                else ""
            )
            raise ChainError(f"receipts/{receipt_name(round_)}: {error}{why}") from error

    def _check_rules(self, outcome: Outcome) -> None:
        """What the parties' machines would have refused, had they followed the protocol."""
        terms, context, frozen = self._terms, outcome.context, outcome.frozen
        terms.check_context(context)
        terms.check_cohort(frozen.cohort, context.round)
        terms.check_list(frozen, frozen.cohort, context.round)
        terms.check_cohort(outcome.included, context.round)
        checks_norms = terms.norm_check(context.purpose, context.size) is not None
        for hospital, reason in outcome.excluded.items():
            if reason != NORM_TOO_LARGE or not checks_norms:
                raise ChainError(f"{hospital} was excluded for {reason}, which this study has no rule for.")

    def _build_model(self) -> Iterator[Check]:
        study = self._founding.study
        try:
            origin = study.folder / str(self._founding.info.get("folder", ""))
            self.model = InitialModel.of(study.copy_to(self._workplace), self._terms, origin)
        except (DataError, ModelError, EngineError) as error:
            yield Check("initial model", "unchecked", f"No model can be computed here. {error}")
            return
        self._move_to(self.model.start)

    def _follow(self, settled: Settled) -> None:
        context = settled.signed.outcome.context
        if self.model is None or self.replica is None:
            return
        if context.model != self.replica.state.digest():
            begun = self._founding.info.get("fingerprint")
            elsewhere = context.round == 0 and begun not in (None, fingerprint())
            hint = f" The run began on {begun}, this is {fingerprint()}." if elsewhere else ""
            file = f"receipts/{receipt_name(context.round)}"
            raise ChainError(f"{file} is of another model than the outcomes before it give.{hint}")
        if context.round == 0 and context.size != self.model.statistics:
            raise ChainError(f"The statistics have {context.size} numbers and not {self.model.statistics}.")
        server, trainable = self._founding.study.settings.server, self.model.layout.trainable_size
        self._move_to(self.replica.follow(settled, self._terms, server, trainable))

    def _move_to(self, replica: Replica) -> None:
        self.replica = replica
        if replica.state.round == self._remembered:
            self.weights = replica.state.model

    def _check_sum(self, outcome: Outcome, total: bytes) -> SumCheck:
        name = verification_name(outcome.round)
        if name not in self._receipts.names:
            self._records.append(b"")
            return SumCheck.UNVERIFIED
        record = self._receipts.record(Verification, name)
        try:
            check_verification(record, outcome, total, self._terms)
        except WrongSumError as error:
            raise WrongSumError(f"WRONG SUM, by receipts/{name}. {error}") from error
        except ProtocolError as error:
            raise ChainError(f"receipts/{name} is not a whole check of this sum. {error}") from error
        self._records.append(record.digest())
        return SumCheck.VERIFIED

    def _check_strays(self) -> None:
        kinds = (receipt_name, sum_name, verification_name)
        expected = {name(receipt.round) for receipt in self.seen for name in kinds} | {CLOSING}
        if CLOSING not in self._receipts.names:
            expected.add(sum_name(len(self.seen)))  # it is written just before its receipt
        strays = sorted(self._receipts.names - expected)
        if strays:
            raise ChainError(f"receipts/{strays[0]} belongs to no receipt of this chain.")

    # -- the end -------------------------------------------------------------------------------------------------

    def check_closing(self) -> Iterator[Check]:
        """The closing record, if it is there, ends these rounds and no others; a BrokenError says what differs."""
        if CLOSING not in self._receipts.names:
            return
        with checking(CLOSING):
            signed = self._receipts.record(SignedClosing, CLOSING)
            end = self.closing = signed.closing
            self.closers = signers_of(end, end.parties, signed.signatures, self._terms.parties)
            self._check_end(signed)
        self.closed = True
        unverified = f", {rounds(end.unverified)} unchecked by the hospitals" if end.unverified else ""
        says = (
            f"{end.rounds} outcomes{unverified}, model {end.model.hex()}; signed by {', '.join(end.parties)}."
        )
        yield Check(CLOSING, "holds", says)

    def _check_end(self, signed: SignedClosing) -> None:
        end, terms, count = signed.closing, self._terms, len(self.seen)
        try:
            check_closing(signed, terms.study, count, self.last, terms.signers)
        except ChainError as error:
            raise ChainError(f"receipts/{CLOSING}: {error}") from error
        if count != terms.rounds + 1:
            raise ChainError(f"receipts/{CLOSING} ends the study after {count - 1} of {terms.rounds} rounds.")
        if self.replica and end.model != self.replica.state.digest():
            raise ChainError(f"receipts/{CLOSING} names another model than the outcomes give.")
        unverified = [round_ for round_, record in enumerate(self._records) if not record]
        differing = sorted(set(end.unverified) ^ set(unverified))
        if differing:
            says = "is missing" if differing[0] in unverified else "is there"
            raise ChainError(
                f"receipts/{verification_name(differing[0])} {says}, and receipts/{CLOSING} says otherwise."
            )
        if end.unverified != unverified or end.verifications != digest_of_verifications(self._records):
            raise ChainError(f"receipts/{CLOSING} is over other checks of the sums than those in receipts/.")


def _round_check(receipt: Receipt) -> Check:
    reasons = ", ".join(f"{hospital}: {reason}" for hospital, reason in receipt.absent.items())
    counted = (
        f"{len(receipt.included)} of {len(receipt.cohort)} hospitals{f' ({reasons})' if reasons else ''}"
    )
    verified = receipt.sum_check == SumCheck.VERIFIED
    checked = "sum checked by them" if verified else "sum NOT checked by them"
    says = f"{counted}; {checked}; signed by {len(receipt.committee)} parties."
    return Check(f"round {receipt.round}", "holds" if verified else "unverified", says)
