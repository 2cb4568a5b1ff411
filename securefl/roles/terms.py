"""What every role has to know of a study to keep to it, and no more: names, keys, bounds, encodings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from protocols.chain import beginning
from protocols.contribution import RoundContext
from protocols.ring import Encoding
from securefl.consortium import Consortium
from securefl.errors import RefusedError, StudyError
from securefl.study import Study

STATISTICS, UPDATE = "statistics", "update"
STATISTICS_BOUND = 2.0**40
"""Largest absolute entry of the statistics (counts, sums, sums of squares) of one hospital."""
MAX_SIZE = 2**31


@dataclass(frozen=True)
class Terms:
    """The study as roles see it.

    Attributes:
        study: digest of the study, consortium and version.
        hospitals: pinned signing keys by name, in the order of the names.
        parties: pinned signing keys by name, in the order of the ranks.
        minimum: fewest hospitals in an opened sum.
        collusion_bound: parties assumed to work together at most.
        rounds: rounds of training; round 0, the statistics, comes before them.
        statistics, update: how the two kinds of vectors stand in the ring.
        hospital_seconds, party_seconds: longest waits.
        exhibits: a simulation that keeps what roles saw in round 1.
    """

    study: bytes
    hospitals: Mapping[str, bytes]
    parties: Mapping[str, bytes]
    minimum: int
    collusion_bound: int
    rounds: int
    statistics: Encoding
    update: Encoding
    hospital_seconds: float
    party_seconds: float
    exhibits: bool

    @classmethod
    def of(cls, study: Study, consortium: Consortium) -> Terms:
        """The terms of a study among these members.

        Raises:
            StudyError: the members are too few for what the study asks.
        """
        s = study.settings
        hospitals = {name: m.signing_key for name, m in consortium.hospitals.items()}
        parties = {name: m.signing_key for name, m in consortium.parties.items()}
        if len(parties) < 2:
            raise StudyError("The consortium has fewer than two parties: add parties to its committee.")
        if len(hospitals) < s.cohort.minimum_hospitals:
            raise StudyError(
                f"The study wants at least {s.cohort.minimum_hospitals} hospitals and the consortium has "
                f"{len(hospitals)}: add hospitals or lower cohort.minimum_hospitals."
            )
        bound = s.committee.collusion_bound or len(parties) - 1
        if bound > len(parties) - 1:
            raise StudyError(
                f"committee.collusion_bound must be at most {len(parties) - 1}, the parties minus one."
            )
        return cls(
            study=study.digest(consortium.digest()),
            hospitals=hospitals,
            parties=parties,
            minimum=s.cohort.minimum_hospitals,
            collusion_bound=bound,
            rounds=s.training.rounds,
            statistics=Encoding.for_bound(64, STATISTICS_BOUND, len(hospitals)),
            update=Encoding.for_bound(s.aggregation.width, s.aggregation.bound, len(hospitals)),
            hospital_seconds=s.cohort.deadline_seconds,
            party_seconds=s.committee.deadline_seconds,
            exhibits=s.simulation is not None and s.simulation.exhibits,
        )

    @property
    def beginning(self) -> bytes:
        """What the first outcome names as its previous one."""
        return beginning(self.study)

    def encoding(self, purpose: str) -> Encoding:
        """How this round's vectors stand in the ring."""
        return self.statistics if purpose == STATISTICS else self.update

    def least(self, round_: int) -> int:
        """Fewest hospitals in this round's sum: everyone in the statistics round, whose count is the denominator."""
        return len(self.hospitals) if round_ == 0 else self.minimum

    def check_context(self, context: RoundContext) -> None:
        """Refuse a context that this study cannot have."""
        purpose = STATISTICS if context.round == 0 else UPDATE
        if context.study != self.study:
            raise RefusedError("other-study", "This message belongs to another study.")
        if not 0 <= context.round <= self.rounds or context.purpose != purpose or context.attempt < 1:
            raise RefusedError(
                "other-round", f"The study has no round {context.round} for {context.purpose}."
            )
        if context.width != self.encoding(purpose).width or not 1 <= context.size <= MAX_SIZE:
            raise RefusedError("other-encoding", "The vector's width or size is not the study's.")

    def check_cohort(self, cohort: list[str], round_: int) -> None:
        """Refuse a cohort with strangers, out of order, or too small to hide a hospital in."""
        if cohort != sorted(set(cohort)) or not set(cohort) <= set(self.hospitals):
            raise RefusedError(
                "unknown-hospital", "The cohort names someone who is not a hospital of this study."
            )
        if len(cohort) < self.least(round_):
            raise RefusedError(
                "too-few-hospitals",
                f"A sum over {len(cohort)} hospitals is too small: {self.least(round_)} are needed.",
            )
