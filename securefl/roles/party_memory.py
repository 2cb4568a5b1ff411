"""What a party remembers: of its study across restarts, of an attempt until the next, of all studies in its ledger."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from protocols.canonical import Record
from protocols.contribution import FrozenList, RoundContext
from protocols.envelope import SealingKey
from protocols.errors import EncodingError
from securefl.errors import EngineError, RefusedError
from securefl.roles.effects import Enter
from securefl.roles.messages import SignedPrepared
from securefl.roles.records import RECEIPT
from securefl.roles.terms import STATISTICS, UPDATE, Terms

MEMORY, SHARE, SPOOL = "memory", "share", "spool-"

_MEND = "put back what its disk last held, never an older copy, and do not run without it."


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
    def recalled(cls, name: str, terms: Terms, stored: Mapping[str, bytes]) -> PartyMemory:
        """What the party has on its disk, or the beginning of the study if nothing is there.

        Raises:
            RefusedError: it is of another study.
            EngineError: it is damaged, or has gone: begun anew, the party might open a round's sum a second time.
        """
        if MEMORY in stored:
            try:
                memory = cls.from_bytes(stored[MEMORY])
            except EncodingError as error:
                raise EngineError(f"The memory of {name} is damaged: {_MEND}") from error
            if memory.study != terms.study:
                raise RefusedError(
                    "other-study", f"The memory of {name} belongs to another study: give it another folder."
                )
            return memory
        # It is written before anything else is.
        if any(left.startswith((RECEIPT, SHARE, SPOOL)) for left in stored):
            raise EngineError(f"The memory of {name} has gone, and others of its files are there: {_MEND}")
        return cls.waiting(terms.study, 0, terms.beginning)

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
    """Over which hospitals the party has opened a sum of updates of one model, in whatever study.

    Attributes:
        cohort: each hospital's pinned signing key, by its name.
    """

    kind = "opened-cohort"
    cohort: dict[str, bytes]


class Ledger:
    """The cohort whose sum this party has opened, by model, over all studies that it serves.

    One for each model: sums over cohorts that differ are linear equations in the hospitals' updates, and a few of them
    give one update away, though no two do (a+b+c, a+d+e and b+c+d+e are enough). The same cohort again is no new
    equation. A hospital is its name and its key: another study may pin a colluder's key under the same name, and the
    difference of the two sums would then be the update of whom it stands for. Whether a study adds noise makes no
    difference: another that does not may have the same model.

    Args:
        stored: what was entered before, by name; read when asked, since other studies enter too.
        hospitals: pinned signing keys by name, of the study that asks.
    """

    def __init__(self, stored: Mapping[str, bytes], hospitals: Mapping[str, bytes]) -> None:
        self._stored, self._hospitals = stored, hospitals

    def check(self, context: RoundContext, included: Collection[str]) -> None:
        """Refuse a cohort other than the one that was opened on this model.

        Raises:
            RefusedError: ``other-cohort``.
            EngineError: what was entered cannot be read: no sum of this model is opened.
        """
        opened, asked = self._opened(context), self._keyed(included)
        if opened is None or opened == asked:
            return
        others = "hospitals with other keys" if opened.keys() == asked.keys() else "other hospitals"
        raise RefusedError(
            "other-cohort",
            f"A sum over {others} was opened on the same model, in this study or in another: have the same hospitals "
            "with the same keys in it, or take another seed, which gives another model.",
        )

    def enter(self, context: RoundContext, included: Collection[str]) -> list[Enter]:
        """What to write before a sum is opened."""
        if self._opened(context) is not None:
            return []
        return [Enter(_place(context), OpenedCohort(cohort=self._keyed(included)).to_bytes())]

    def _keyed(self, included: Collection[str]) -> dict[str, bytes]:
        return {name: self._hospitals[name] for name in included}

    def _opened(self, context: RoundContext) -> dict[str, bytes] | None:
        place = _place(context)
        data = self._stored.get(place)
        if data is None:
            return None
        try:
            return OpenedCohort.from_bytes(data).cohort
        except EncodingError as error:
            raise EngineError(f"{place} in the party's ledger is damaged: {_MEND}") from error


def _place(context: RoundContext) -> str:
    # Not by the purpose: an insecure run has a name of its own for it, and opens sums of the same updates.
    kind = STATISTICS if context.round == 0 else UPDATE
    return f"opened-{kind}-{context.model.hex()[:32]}"
