"""What every role has to know of a study to keep to it, and no more: names, keys, bounds, encodings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from protocols.chain import Signers, beginning
from protocols.contribution import FrozenList, RoundContext
from protocols.errors import ChainError, EncodingError
from protocols.norm_bounds import NormCheck, largest_bound
from protocols.ring import Encoding
from securefl.consortium import Consortium
from securefl.errors import RefusedError, StudyError
from securefl.plain_text import is_word
from securefl.roles.messages import MAX_COUNT
from securefl.study import Study
from securefl.study.training_settings import AggregationSettings

if TYPE_CHECKING:
    from securefl.roles.private_terms import PrivateTerms

STATISTICS, UPDATE = "statistics", "update"
INSECURE = "insecure-unchecked-"
"""Before the purpose of every round of a run in which nobody checks norms and sums, and so in all its receipts."""
STATISTICS_BOUND = 2.0**40
"""Largest absolute entry of the statistics (counts, sums, sums of squares) of one hospital."""
MAX_SIZE = 2**31


@dataclass(frozen=True)
class Terms:
    """The study as roles see it.

    Attributes:
        study: digest of the study, consortium and version.
        hospitals: pinned signing keys by name, in the order of the names.
        sealing: the hospitals' pinned sealing keys by name.
        parties: pinned signing keys by name, in the order of the ranks.
        minimum: fewest hospitals in an opened sum.
        colluding: hospitals assumed to work together at most.
        collusion_bound: parties assumed to work together at most.
        minimum_parties: fewest parties of a committee; all, unless the study allows fewer.
        rounds: rounds of training; round 0, the statistics, comes before them.
        statistics, update: how the two kinds of vectors stand in the ring.
        norm_bound: largest L2 norm of an update, which the committee checks; None if it does not.
        hospital_seconds, party_seconds: longest waits.
        exhibits: a simulation that keeps what roles saw in round 1.
        unchecked: norms and sums are not checked. All members must have been told so.
        private: noise, clip and denominator of a study with differential privacy, else None.
        records: fewest and most that a hospital may train on; None where round 0 counts none.
    """

    study: bytes
    hospitals: Mapping[str, bytes]
    sealing: Mapping[str, bytes]
    parties: Mapping[str, bytes]
    minimum: int
    colluding: int
    collusion_bound: int
    minimum_parties: int
    rounds: int
    statistics: Encoding
    update: Encoding
    norm_bound: float | None
    hospital_seconds: float
    party_seconds: float
    exhibits: bool
    unchecked: bool
    private: PrivateTerms | None = None
    records: tuple[int, int] | None = None

    @classmethod
    def of(cls, study: Study, consortium: Consortium, unchecked: bool = False) -> Terms:
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
        minimum_parties = s.committee.minimum_parties or len(parties)
        if not bound < minimum_parties <= len(parties):
            raise StudyError(
                f"committee.minimum_parties must be more than the collusion bound, {bound}, and at most {len(parties)}."
            )
        checks_norms = s.checks_norms
        if checks_norms is not None and consortium.dealer is None and not unchecked:
            raise StudyError(
                f"{checks_norms} needs a dealer: make the consortium with one (--dealer), or leave it out."
            )
        if 2 * minimum_parties <= len(parties):
            # Two committees without a common party could each open a sum of one round.
            raise StudyError(
                f"committee.minimum_parties must be more than half of the {len(parties)} parties: raise it."
            )
        if checks_norms is not None and minimum_parties < len(parties):
            raise StudyError(
                f"{checks_norms} needs the whole committee: leave committee.minimum_parties out."
            )
        private = None
        if s.privacy is not None:
            if minimum_parties < len(parties):
                # The accounting counts on the noise of each honest party.
                raise StudyError(
                    "A private study needs the whole committee: leave committee.minimum_parties out."
                )
            # Late: an accountant takes seconds to import.
            from securefl.roles.private_terms import PrivateTerms

            private = PrivateTerms.of(s.privacy, s.training, s.aggregation, len(hospitals), len(parties))
        return cls(
            study=study.digest(consortium.digest()),
            hospitals=hospitals,
            sealing={name: m.sealing_key for name, m in consortium.hospitals.items()},
            parties=parties,
            minimum=s.cohort.minimum_hospitals,
            colluding=s.cohort.colluding_hospitals,
            collusion_bound=bound,
            minimum_parties=minimum_parties,
            rounds=s.training.rounds,
            statistics=Encoding.for_bound(64, STATISTICS_BOUND, _summands(64, len(hospitals))),
            update=private.encoding if private else _update_encoding(s.aggregation, len(hospitals)),
            norm_bound=None if unchecked else s.aggregation.norm_bound,
            hospital_seconds=s.cohort.deadline_seconds,
            party_seconds=s.committee.deadline_seconds,
            exhibits=s.simulation is not None and s.simulation.exhibits,
            unchecked=unchecked,
            private=private,
            records=None if private else (s.data.minimum_records, s.data.maximum_records),
        )

    @property
    def checks_norms(self) -> bool:
        """Whether the committee checks norms, for which it has a dealer."""
        if self.private is not None:
            return self.private.settings.check_norms and not self.unchecked
        return self.norm_bound is not None

    @property
    def checks_sums(self) -> bool:
        """Whether the hospitals check each sum. Under privacy it has noise in it that nobody but the parties knows."""
        return not self.unchecked and self.private is None

    def noise_variance(self, round_: int) -> int:
        """Variance of the noise that each party adds to its share of a round's sum, in units squared; 0 for none."""
        return self.private.party_variance if self.private is not None and round_ > 0 else 0

    def factor(self, round_: int) -> float:
        """By what an opened sum is multiplied before the server's step; public."""
        return self.private.factor(round_) if self.private is not None else 1.0

    @property
    def signers(self) -> Signers:
        """Whose signatures the chain needs."""
        return Signers(self.parties, self.minimum_parties)

    def norm_check(self, purpose: str, size: int) -> NormCheck | None:
        """What the committee checks of each vector of ``size`` elements; None where it checks nothing.

        Raises:
            StudyError: the ring is too narrow for this bound and this many coordinates.
        """
        if purpose != UPDATE or not self.checks_norms:
            return None
        bound = self.private.norm_bound_units if self.private else self.integer_norm_bound(size)
        try:
            return NormCheck.for_bound(size, self.update.width, bound, private=self.private is not None)
        except EncodingError as error:
            raise StudyError(f"The norm bound cannot be checked. {error}") from error

    def integer_norm_bound(self, size: int) -> int:
        """The norm bound in the ring's units, with room for the rounding of ``size`` coordinates."""
        units = math.ldexp(self.norm_bound or 0.0, self.update.fraction_bits)
        return math.ceil(units * (1 + 2**-40) + math.sqrt(size) / 2)

    @property
    def beginning(self) -> bytes:
        """What the first outcome names as its previous one."""
        return beginning(self.study)

    def encoding(self, purpose: str) -> Encoding:
        """How this round's vectors stand in the ring."""
        return self.statistics if purpose.endswith(STATISTICS) else self.update

    def purpose(self, round_: int) -> str:
        """What a round is for; an insecure run says so here."""
        return (INSECURE if self.unchecked else "") + (STATISTICS if round_ == 0 else UPDATE)

    def least(self, round_: int) -> int:
        """Fewest hospitals in this round's sum: everyone in the statistics round, whose count is the denominator."""
        return len(self.hospitals) if round_ == 0 else self.minimum

    def check_context(self, context: RoundContext) -> None:
        """Refuse a context that this study cannot have."""
        purpose = self.purpose(context.round)
        if context.study != self.study:
            raise RefusedError("other-study", "This message belongs to another study.")
        numbered = 0 <= context.round <= self.rounds and 1 <= context.attempt <= MAX_COUNT
        if not numbered or context.purpose != purpose:
            raise RefusedError(
                "other-round", f"The study has no round {context.round} for {context.purpose}."
            )
        if context.width != self.encoding(purpose).width or not 1 <= context.size <= MAX_SIZE:
            raise RefusedError("other-encoding", "The vector's width or size is not the study's.")
        try:
            self.norm_check(purpose, context.size)
        except StudyError as error:
            raise RefusedError("other-encoding", str(error)) from error

    def check_committee(self, context: RoundContext) -> None:
        """Refuse a committee with strangers, out of order, or smaller than the study allows."""
        try:
            self.signers.check_members(context.parties)
        except ChainError as error:
            raise RefusedError("other-parties", str(error)) from error

    def check_list(self, frozen: FrozenList, cohort: list[str], round_: int) -> None:
        """Refuse a list that does not account for the cohort in fixed words, or is too short to hide a hospital in."""
        if frozen.cohort != cohort or sorted([*frozen.contributions, *frozen.absent]) != cohort:
            raise RefusedError("other-list", "The list does not account for every hospital of the cohort.")
        if not all(map(is_word, frozen.absent.values())):
            raise RefusedError(
                "other-list", "The list says why a hospital is absent in more than a fixed word."
            )
        self.check_cohort(list(frozen.contributions), round_)

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


def _summands(width: int, hospitals: int) -> int:
    # The check of a sum wants three bits free in 64 (``integrity.check_answers``).
    return 8 * hospitals if width == 64 else hospitals


def _update_encoding(settings: AggregationSettings, hospitals: int) -> Encoding:
    """The finest encoding for the bound on coordinates and, if there is one, for the norm check.

    Half of the largest norm that can be checked is left for rounding, which adds at most sqrt(D)/2.
    """
    width, norm_bound = settings.width, settings.norm_bound
    summands = _summands(width, hospitals)
    if norm_bound is None:
        return Encoding.for_bound(width, settings.bound, summands)
    finest = Encoding.for_bound(width, min(settings.bound, norm_bound), summands)
    checked = math.floor(math.log2(largest_bound(width, MAX_SIZE) / 2 / norm_bound))
    return replace(finest, fraction_bits=min(finest.fraction_bits, checked))
