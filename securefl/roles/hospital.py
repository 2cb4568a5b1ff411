"""A hospital: it keeps the chain, computes the model by itself, and contributes sealed shares of its update.

What it checks before it trains: the study, its steward's consent, the place in the chain, that the announced model is
the one which the previous outcome gives, a cohort and a committee large enough, and that every party's one-round key is
signed by its pinned key. After it has trained it asks for the consent again. When an outcome comes, it checks that its
own contribution stands in it, and takes part in the check of the sum. Why it refuses something is told as one fixed
sentence (``refusals``); figures go into its own log.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from protocols.canonical import Record
from protocols.contribution import RoundContext, check_signature, contribute, sign
from protocols.envelope import SealingKey
from protocols.errors import EncodingError, SignatureError
from protocols.signing import SigningKey
from securefl.consent import NOT_APPROVED
from securefl.errors import RefusedError, StatisticsError
from securefl.roles.effects import COORDINATOR, Effect, Event, Keep, Send
from securefl.roles.messages import (
    Accepted,
    Announcement,
    Behind,
    Challenge,
    Declined,
    Settled,
    SignedContribution,
    Verification,
)
from securefl.roles.pledges import Pledges
from securefl.roles.refusals import told
from securefl.roles.replica import Replica
from securefl.roles.terms import Terms
from securefl.study.training_settings import ServerSettings
from securefl.training.server import Vector

if TYPE_CHECKING:
    from securefl.roles.spending import Spending

log = logging.getLogger(__name__)

MEMORY, ANSWER = "memory", "answer"


class Answer(Record):
    """The contribution that was made to an announcement, so that the same question gets the same bytes again."""

    kind = "hospital-answer"
    announcement: bytes
    attempt: int
    contribution: SignedContribution

    @classmethod
    def recovered(cls, data: bytes) -> Answer | None:
        """Read it back, or None if half of it went with a power failure: the contribution is then made anew."""
        try:
            return cls.from_bytes(data)
        except EncodingError:
            return None


class Trains(Protocol):
    """What a hospital can compute from its records; see ``securefl.training.trainer``."""

    def initial_model(self) -> Vector: ...
    def statistics(self) -> Vector: ...
    def use_statistics(self, total: Vector) -> None: ...
    def update(self, model: Vector, round_: int) -> Vector: ...


class Consents(Protocol):
    """Whether the hospital's steward allows its part in the study; see ``securefl.consent``."""

    def refusal(self) -> str | None: ...


def not_approved(consent: Consents | None, hospital: str) -> str | None:
    """What may be told where the steward does not allow the hospital's part; None if it does.

    Why it does not goes into the hospital's own log, and no further: it has dates, budgets and the steward's words.
    """
    cause = consent.refusal() if consent is not None else None
    if cause is None:
        return None
    log.warning("%s contributes nothing (%s): %s", hospital, NOT_APPROVED, cause)
    return told(NOT_APPROVED)


def declined(consent: Consents | None, context: RoundContext, hospital: str) -> Declined | None:
    """What a hospital answers to an announcement that its steward does not allow; None if it may contribute."""
    sentence = not_approved(consent, hospital)
    if sentence is None:
        return None
    return Declined(context=context.digest(), hospital=hospital, reason=NOT_APPROVED, explanation=sentence)


class HospitalMachine:
    """One hospital's part in one study.

    Args:
        name: its name.
        terms: the study's.
        key, sealing: its private keys.
        trainer: its records and model.
        server: how an opened sum becomes the next model.
        trainable: leading coordinates of the model that are parameters.
        stored: what it persisted before, by name; empty at first.
        spending: its privacy ledger, over all studies on its data set; a private study needs it.
        consent: its steward's; asked at every announcement, and again before the contribution leaves. None where
            nobody has to allow anything.
    """

    def __init__(
        self,
        name: str,
        terms: Terms,
        key: SigningKey,
        sealing: SealingKey,
        trainer: Trains,
        server: ServerSettings,
        trainable: int,
        stored: Mapping[str, bytes],
        spending: Spending | None = None,
        consent: Consents | None = None,
    ) -> None:
        self.name = name
        self._terms, self._key, self._trainer = terms, key, trainer
        self._server, self._trainable = server, trainable
        self._spending, self._consent = spending, consent
        # A memory that a power failure took is no loss: the hospital is behind, and is sent the outcomes again.
        remembered = Replica.recovered(stored[MEMORY]) if MEMORY in stored else None
        self._replica = remembered or Replica.initial(terms, trainer.initial_model())
        if self._replica.statistics.size:
            trainer.use_statistics(self._replica.statistics)
        self._pledges = Pledges(name, terms, key, sealing, stored)
        self._answer = Answer.recovered(stored[ANSWER]) if ANSWER in stored else None
        if self._replica.place.study != terms.study:
            raise RefusedError(
                "other-study", f"The memory of {name} belongs to another study: give it another folder."
            )

    @property
    def round(self) -> int:
        """The round it waits for; all outcomes before it are applied."""
        return self._replica.place.round

    def handle(self, event: Event) -> list[Effect]:
        """Take an announcement, an outcome, or what checks a sum; anything else is refused.

        Raises:
            RefusedError: its message is the fixed sentence for its reason.
        """
        try:
            return self._handled(event)
        except RefusedError as error:
            raise self._fixed(error.reason, error) from error
        except EncodingError as error:
            raise self._fixed("malformed", error) from error
        except StatisticsError as error:
            raise self._fixed("impossible-statistics", error) from error

    def _fixed(self, reason: str, error: Exception) -> RefusedError:
        log.warning("%s refuses (%s): %s", self.name, reason, error)
        return RefusedError(reason, told(reason))

    def _handled(self, event: Event) -> list[Effect]:
        match event:
            case Announcement():
                return self._announced(event)
            case Settled():
                return self._settled(event)
            case Challenge():
                return self._pledges.challenged(event)
            case Verification():
                return self._pledges.verified(event)
            case _:
                raise RefusedError("unexpected", "A hospital does not take messages of this kind.")

    def _announced(self, message: Announcement) -> list[Effect]:
        context = message.context
        self._terms.check_context(context)
        self._terms.check_committee(context)
        # Before an answer that was given already, too: what is revoked is not sent again.
        if (answer := declined(self._consent, context, self.name)) is not None:
            return [Send(COORDINATOR, answer)]
        self._pledges.check_not_failed()
        if context.round > self._replica.place.round:
            return [Send(COORDINATOR, Behind(hospital=self.name, round=self._replica.place.round))]
        if context.round < self._replica.place.round or context.previous != self._replica.place.previous:
            raise RefusedError(
                "other-chain", "The announcement does not continue the chain that this hospital has."
            )
        self._terms.check_cohort(message.cohort, context.round)
        if self.name not in message.cohort:
            raise RefusedError("not-in-cohort", f"{self.name} is not in the announced cohort.")
        if context.model != self._replica.state.digest():
            raise RefusedError(
                "other-model", "The announced model is not the one that the previous outcome gives."
            )
        keys = self._round_keys(message)
        announced = message.digest()
        if self._answer is not None and self._answer.announcement == announced:
            return [Send(COORDINATOR, self._answer.contribution)]
        if self._answer is not None and self._answer.contribution.contribution.context == context.digest():
            raise RefusedError("second-announcement", "Another announcement of this attempt was answered.")
        if self._answer is not None and context.attempt < self._answer.attempt:
            # Its pledge would take the place of the later attempt's, whose sum then could not be checked.
            raise RefusedError("earlier-attempt", "A later attempt of this round was answered already.")
        return self._contribute(context, keys, announced)

    def _round_keys(self, message: Announcement) -> dict[str, bytes]:
        if [signed_key.key.party for signed_key in message.keys] != message.context.parties:
            raise RefusedError(
                "other-parties", "The announcement does not bring one key for each party, in order."
            )
        keys = {}
        for signed_key in message.keys:
            key = signed_key.key
            if key.context != message.context.digest():
                raise RefusedError(
                    "other-key", f"The sealing key of {key.party} belongs to another round or attempt."
                )
            try:
                check_signature(key, self._terms.parties[key.party], signed_key.signature)
            except SignatureError as error:
                raise RefusedError(
                    "key-not-pinned",
                    f"The sealing key of {key.party} is not signed by the key pinned for it.",
                ) from error
            keys[key.party] = key.public
        return keys

    def _contribute(self, context: RoundContext, keys: dict[str, bytes], announced: bytes) -> list[Effect]:
        charged = self._charge(context, announced)
        values = self._values(context.round)
        if values.size != context.size:
            raise RefusedError(
                "other-size", f"The round wants {context.size} numbers, the model has {values.size}."
            )
        try:
            x = self._terms.encoding(context.purpose).encode(values)
        except EncodingError as error:
            refused = self._fixed("update-not-encodable", error)
            unfit = Declined(
                context=context.digest(), hospital=self.name, reason=refused.reason, explanation=str(refused)
            )
            return [*charged, Send(COORDINATOR, unfit)]
        coin, commitment = self._pledges.new_coin(context) if self._terms.checks_sums else (b"", b"")
        contribution, envelopes = contribute(x, context, self.name, keys, commitment)
        message = SignedContribution(
            contribution=contribution, signature=sign(contribution, self._key), envelopes=envelopes
        )
        # Training may take hours: what was revoked meanwhile does not leave. A charge without a contribution is safe.
        if (answer := declined(self._consent, context, self.name)) is not None:
            return [*charged, Send(COORDINATOR, answer)]
        self._answer = Answer(announcement=announced, attempt=context.attempt, contribution=message)
        checks = self._terms.checks_sums
        pledged = self._pledges.pledge(context.round, contribution, coin, x) if checks else []
        return [*charged, *pledged, Keep(ANSWER, self._answer.to_bytes()), Send(COORDINATOR, message)]

    def _charge(self, context: RoundContext, announced: bytes) -> list[Effect]:
        """What a private round costs, durable before the contribution leaves."""
        if self._terms.private is None or context.round == 0:
            return []
        if self._spending is None:
            raise RefusedError("no-ledger", f"{self.name} has no privacy ledger: a private study needs one.")
        return [self._spending.charge(context, announced)]

    def _values(self, round_: int) -> Vector:
        if round_ == 0:
            return self._trainer.statistics()
        return self._trainer.update(self._replica.state.model, round_)

    def _settled(self, message: Settled) -> list[Effect]:
        round_ = message.signed.outcome.round
        accepted = Send(COORDINATOR, Accepted(member=self.name, round=round_))
        if round_ < self._replica.place.round:
            return [*self._pledges.reveal_again(round_), accepted]
        replica = self._replica.follow(message, self._terms, self._server, self._trainable)
        revealed = self._pledges.settled(message.signed.outcome, message.total)
        if round_ == 0:
            self._trainer.use_statistics(replica.statistics)
        self._replica, self._answer = replica, None
        # The model last: killed before it, the hospital is behind, is sent the outcome again, and reveals then.
        return [*revealed, Keep(MEMORY, self._replica.to_bytes()), Keep(ANSWER, b""), accepted]
