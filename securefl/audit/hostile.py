"""A hostile coordinator: it writes what it likes in the order of a round, and holds nobody's key.

Also the small things that several attacks need: shares added up, coordinates compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from protocols.chain import SignedOutcome
from protocols.contribution import FrozenList, RoundContext
from protocols.prg import RingVector
from protocols.ring import from_bytes
from securefl.audit.stage import Stage
from securefl.audit.stage_cast import HOSPITALS, PARTIES
from securefl.roles.messages import (
    Announcement,
    Freeze,
    KeyRequest,
    Message,
    Opened,
    Part,
    Prepare,
    Refusal,
    Release,
    Settled,
    SignedContribution,
)
from securefl.roles.terms import STATISTICS, UPDATE

Answers = Callable[[str, Announcement], Message]
"""How a hospital answers an announcement."""


@dataclass(frozen=True)
class Attempted:
    """How far an attempt came.

    Attributes:
        total: the sum, if it was opened.
        settled: the same with the parties' signatures.
        refusals: of those who ended it.
        announcement, contributions: what was asked and answered, as far as it came.
    """

    total: RingVector | None = None
    settled: Settled | None = None
    refusals: tuple[Refusal, ...] = ()
    announcement: Announcement | None = None
    contributions: Mapping[str, SignedContribution] | None = None

    @property
    def reasons(self) -> set[str]:
        """The refusals' fixed words."""
        return {refusal.reason for refusal in self.refusals}


def context(stage: Stage, attempt: int = 1, **changes: Any) -> RoundContext:
    """The context of the round that comes next, or one that differs from it."""
    replica = stage.replica
    purpose = STATISTICS if replica.place.round == 0 else UPDATE
    made = RoundContext(
        study=stage.terms.study,
        round=replica.place.round,
        attempt=attempt,
        previous=replica.place.previous,
        purpose=purpose,
        model=replica.state.digest(),
        parties=list(PARTIES),
        width=stage.terms.encoding(purpose).width,
        size=stage.sizes[purpose],
    )
    return made.model_copy(update=changes)


def try_round(
    stage: Stage,
    of: RoundContext,
    listed: Sequence[str] = HOSPITALS,
    cohort: Sequence[str] = HOSPITALS,
    session: int = 1,
    answers: Answers | None = None,
) -> Attempted:
    """Drive an attempt until somebody refuses, or the sum is open.

    Args:
        of: the attempt.
        listed: whose contributions are to be added.
        cohort: who is asked.
        session: a new number makes the parties meet anew.
        answers: in place of the hospitals on the stage.
    """
    keys = stage.ask_all(dict.fromkeys(PARTIES, KeyRequest(context=of, cohort=list(cohort), session=session)))
    if refused := _refusals(keys):
        return Attempted(refusals=refused)
    announcement = Announcement(context=of, cohort=list(cohort), keys=_in_order(keys))
    said = {h: answers(h, announcement) if answers else stage.ask(h, announcement) for h in listed}
    if refused := _refusals(said):
        return Attempted(refusals=refused, announcement=announcement)
    given: dict[str, Any] = said
    for message in given.values():
        parts = {
            party: Part(contribution=message.contribution, signature=message.signature, envelope=envelope)
            for party, envelope in zip(PARTIES, message.envelopes, strict=True)
        }
        if refused := _refusals(stage.ask_all(parts)):
            return Attempted(None, None, refused, announcement, given)
    frozen = FrozenList(
        context=of.digest(),
        cohort=list(cohort),
        contributions={h: message.contribution.digest() for h, message in given.items()},
        absent={h: "no-answer" for h in cohort if h not in given},
    )
    votes = stage.ask_all(dict.fromkeys(PARTIES, Freeze(frozen=frozen)))
    if refused := _refusals(votes):
        return Attempted(None, None, refused, announcement, given)
    prepared = stage.ask_all(dict.fromkeys(PARTIES, Prepare(frozen=frozen, votes=_in_order(votes))))
    if refused := _refusals(prepared):
        return Attempted(None, None, refused, announcement, given)
    release = Release(frozen=frozen, prepared=_in_order(prepared), session=session)
    opened = stage.ask_all(dict.fromkeys(PARTIES, release))
    settled = _settled(opened)
    total = None if settled is None else from_bytes(settled.total, of.width, of.size)
    return Attempted(total, settled, _refusals(opened), announcement, given)


def _settled(opened: Mapping[str, Message]) -> Settled | None:
    said = [opened[p] for p in PARTIES if p in opened]
    agreed = [message for message in said if isinstance(message, Opened)]
    if len(agreed) < len(PARTIES):
        return None
    signed = SignedOutcome(outcome=agreed[0].outcome, signatures=[o.signature for o in agreed])
    return Settled(signed=signed, total=agreed[0].total)


def _refusals(answers: Mapping[str, Message]) -> tuple[Refusal, ...]:
    return tuple(answer for answer in answers.values() if isinstance(answer, Refusal))


def _in_order(answers: Mapping[str, Any]) -> list[Any]:
    return [answers[party] for party in PARTIES]


def same(found: Any, truth: Any) -> int:
    """How many coordinates of a vector are the true ones."""
    return int(np.count_nonzero(np.asarray(found) == np.asarray(truth)))
