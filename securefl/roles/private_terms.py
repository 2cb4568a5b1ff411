"""What privacy asks of a round: how updates stand in the ring, how much noise a party adds, what the sum is divided by.

Everything here follows from the study and the number of members; every role computes it by itself. In particular each
party computes the noise that the target needs, and does not take it from anybody.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from protocols.errors import EncodingError
from protocols.noise import party_variance
from protocols.norm_bounds import largest_bound
from protocols.ring import Encoding
from securefl.errors import StudyError
from securefl.privacy.accounting import BLUR, multiplier_for
from securefl.privacy.mechanism import Mechanism
from securefl.study.privacy_settings import PrivacySettings
from securefl.study.training_settings import AggregationSettings, TrainingSettings
from securefl.training.schedule import schedule_factor

TAIL = 12
"""Standard deviations of noise for which there is room in the ring: beyond them lies less than 2^-100."""
SAMPLE_TAIL = 2.0**-60
"""Probability with which an honest hospital draws more patients than its norm bound allows for."""
REFUSAL = 2.0**-40
"""Probability with which the committee's check refuses an honest vector, see ``protocols.norm_bounds``."""
FINENESS = 8
"""Least clip, in units and in multiples of sqrt(D), so that rounding costs a sixteenth of it at most."""


@dataclass(frozen=True)
class PrivateTerms:
    """The private part of a study's terms.

    Attributes:
        settings: the study's table ``[privacy]``.
        training: its schedule and rounds.
        hospitals, parties: how many there are.
        encoding: how the sum of a hospital's clipped vectors stands in the ring.
    """

    settings: PrivacySettings
    training: TrainingSettings
    hospitals: int
    parties: int
    encoding: Encoding

    @classmethod
    def of(
        cls,
        settings: PrivacySettings,
        training: TrainingSettings,
        aggregation: AggregationSettings,
        hospitals: int,
        parties: int,
    ) -> PrivateTerms:
        """The terms of a private study among so many members.

        Raises:
            StudyError: too many parties are assumed to collude, or the ring is too narrow.
        """
        if settings.colluding_parties >= parties:
            raise StudyError(
                f"privacy.colluding_parties must be less than the {parties} parties: some noise has to remain."
            )
        width = aggregation.width
        draft = cls(settings, training, hospitals, parties, Encoding(64, 0, 1))
        # One summand more than there are hospitals, for the noise.
        noise = (
            TAIL
            * draft.multiplier
            * settings.clip
            * math.sqrt(parties / (parties - settings.colluding_parties))
        )
        largest = max(draft.largest_drawn * settings.clip, noise)
        try:
            finest = Encoding.for_bound(width, largest, hospitals + 1)
        except EncodingError as error:
            raise StudyError(
                f"The private sum does not fit: set aggregation.width higher. {error}"
            ) from error
        # A hospital's sum is made in float64, and is exact below 2^53.
        bits = min(finest.fraction_bits, 53 - math.ceil(math.log2(draft.largest_drawn * settings.clip)))
        if settings.check_norms:
            most = largest_bound(width, 1 << 31, private=True)
            bits = min(bits, math.floor(math.log2(most / 2 / (draft.norm_units_per_clip * settings.clip))))
        return cls(settings, training, hospitals, parties, Encoding(width, bits, hospitals + 1))

    @property
    def attempts(self) -> int:
        """Attempts that the target pays for: the rounds, and what is spare."""
        return self.training.rounds + self.settings.spare_attempts

    @cached_property
    def multiplier(self) -> float:
        """z, standard deviation of the honest parties' noise over the clip; at least what the target needs."""
        s = self.settings
        if s.noise_multiplier is not None:
            return s.noise_multiplier
        target = s.epsilon or 0.0
        return multiplier_for(s.sampling_rate, self.attempts, target, s.delta, extra_delta=self.refusal_delta)

    @property
    def refusal_delta(self) -> float:
        """Probability, in one attempt, that a patient's honest hospital is refused, and so is seen to be absent."""
        return REFUSAL + SAMPLE_TAIL if self.settings.check_norms else 0.0

    @property
    def largest_drawn(self) -> int:
        """Most clipped vectors in one hospital's sum."""
        if self.settings.unit == "hospital":
            return 1
        return self.settings.largest_hospital or self.settings.patients or 1

    @cached_property
    def norm_units_per_clip(self) -> int:
        """Norm bound of an honest hospital's sum over the clip: so many patients are drawn but for ``SAMPLE_TAIL``."""
        if self.settings.unit == "hospital" or self.settings.sampling_rate == 1:
            return self.largest_drawn
        from scipy.stats import binom

        n, q = self.largest_drawn, self.settings.sampling_rate
        # By the tail itself: SciPy's inverse is not made for so small a probability.
        return bisect_left(range(n + 1), True, key=lambda b: bool(binom.sf(b, n, q) <= SAMPLE_TAIL))

    @property
    def clip_units(self) -> int:
        """C, the clip in units of the ring."""
        return math.floor(Fraction(self.settings.clip) * Fraction(2) ** self.encoding.fraction_bits)

    @property
    def norm_bound_units(self) -> int:
        """The bound that the committee checks each hospital's vector against."""
        return self.clip_units * self.norm_units_per_clip

    @cached_property
    def party_variance(self) -> int:
        """Variance of each party's noise on each coordinate, in units squared.

        Where there is a target, it has what the accountant takes off for the rounding: in a coarse ring that is much.
        """
        s = self.settings
        variance = party_variance(self.clip_units, self.multiplier, self.parties, s.colluding_parties)
        honest = self.parties - s.colluding_parties
        return variance + (0 if s.epsilon is None else -(-BLUR // honest))

    def mechanism(self, size: int) -> Mechanism:
        """What one attempt does to vectors of ``size`` coordinates, for the accounting.

        Raises:
            StudyError: the ring is too coarse for so many coordinates.
        """
        if self.clip_units < FINENESS * math.sqrt(size):
            raise StudyError(
                f"privacy.clip is {self.clip_units} units of the ring, too few for {size} coordinates: set "
                "aggregation.width = 32 or 64, or take a smaller model."
            )
        s = self.settings
        return Mechanism(
            s.unit,
            s.sampling_rate,
            self.clip_units,
            self.party_variance,
            self.parties,
            s.colluding_parties,
            size,
        )

    def factor(self, round_: int) -> float:
        """By what the opened sum of a round is multiplied, to be the mean step. Public, whoever took part."""
        s = self.settings
        if s.unit == "hospital":
            return 1 / (s.sampling_rate * self.hospitals)
        rate = self.training.learning_rate * schedule_factor(
            self.training.schedule, round_, self.training.rounds
        )
        return rate / (s.sampling_rate * (s.patients or 1))
