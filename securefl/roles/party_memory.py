"""What a party remembers: of its study across restarts, of an attempt until the next, of all studies in its ledger."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from protocols.canonical import Record
from protocols.contribution import FrozenList, RoundContext
from protocols.envelope import SealingKey
from securefl.errors import RefusedError
from securefl.roles.effects import Enter
from securefl.roles.messages import SignedPrepared
from securefl.roles.terms import STATISTICS, UPDATE

MEMORY, SHARE, SPOOL = "memory", "share", "spool-"


class PartyMemory(Record):
    """What a party keeps across a restart.

    Attributes:
        round, previous: the round it waits for, and the last outcome's digest.
        attempt: the highest attempt of that round it has given a key for.
        context, frozen, prepared: what its share on disk belongs to, if there is one.
        released: its opening share may have left; nothing but these bytes may leave in this round.
        closed: digest of what it signed as the end, chain and model; empty while the study is open.
    """

    kind = "party-memory"
    study: bytes
    round: int
    previous: bytes
    attempt: int
    context: RoundContext | None
    frozen: FrozenList | None
    prepared: SignedPrepared | None
    released: bool
    closed: bytes

    @classmethod
    def waiting(cls, study: bytes, round_: int, previous: bytes, attempt: int = 0) -> PartyMemory:
        """Before a round's first attempt, or at the beginning of a further one."""
        return cls(
            study=study,
            round=round_,
            previous=previous,
            attempt=attempt,
            context=None,
            frozen=None,
            prepared=None,
            released=False,
            closed=b"",
        )


@dataclass(frozen=True)
class Attempt:
    """An unfinished attempt: what a restart forgets.

    Attributes:
        key: the sealing key of this attempt.
        coin_part: this party's part of the norm check's coin, told to nobody before every party has voted.
        held: digest of the contribution by hospital.
        frozen: digest of the list that it voted for; empty before.
    """

    context: RoundContext
    cohort: list[str]
    session: int
    key: SealingKey = field(default_factory=SealingKey.generate, repr=False)
    coin_part: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    held: Mapping[str, bytes] = field(default_factory=dict)
    frozen: bytes = b""


class OpenedCohort(Record):
    """Over which hospitals the party has opened a sum of updates of one model, in whatever study."""

    kind = "opened-cohort"
    cohort: list[str]


class Ledger:
    """The cohort whose sum this party has opened, by model, over all studies that it serves.

    One for each model: sums over cohorts that differ are linear equations in the hospitals' updates, and a few of them
    give one update away, though no two do (a+b+c, a+d+e and b+c+d+e are enough). The same cohort again is no new
    equation. Whether a study adds noise makes no difference: another that does not may have the same model.
    """

    def __init__(self, stored: Mapping[str, bytes]) -> None:
        self._stored = stored

    def check(self, context: RoundContext, included: Collection[str]) -> None:
        """Refuse a cohort other than the one that was opened on this model."""
        opened = self._opened(context)
        if opened and set(opened) != set(included):
            raise RefusedError(
                "other-cohort",
                "A sum over other hospitals was opened on the same model, in this study or in another: have the same "
                "hospitals in it, or take another seed, which gives another model.",
            )

    def enter(self, context: RoundContext, included: Sequence[str]) -> list[Enter]:
        """What to write before a sum is opened."""
        if self._opened(context):
            return []
        return [Enter(_place(context), OpenedCohort(cohort=list(included)).to_bytes())]

    def _opened(self, context: RoundContext) -> list[str]:
        data = self._stored.get(_place(context))
        return OpenedCohort.from_bytes(data).cohort if data else []


def _place(context: RoundContext) -> str:
    # Not by the purpose: an insecure run has a name of its own for it, and opens sums of the same updates.
    kind = STATISTICS if context.round == 0 else UPDATE
    return f"opened-{kind}-{context.model.hex()[:32]}"
