"""One private round in numbers: the Poisson-sampled discrete Gaussian mechanism, its noise from several parties.

In a round each unit (a patient, or a hospital) is drawn with probability q, on its own and unknown to everybody but
its hospital. A drawn unit adds an integer vector of L2 norm at most C to the sum, and each of P parties adds a vector
of independent discrete Gaussians N_Z(0, s^2). Whoever colludes with c parties subtracts their noise; what is left is
the sum of P - c discrete Gaussians.
Source: Kairouz, Liu and Steinke, "The Distributed Discrete Gaussian Mechanism for Federated Learning with Secure
Aggregation", 2021, section 4, with parties in the place of clients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from securefl.errors import SecureFLError

Unit = Literal["patient", "hospital"]


class PrivacyError(SecureFLError):
    """A privacy guarantee is asked for that cannot be given, or its parameters have no meaning."""


@dataclass(frozen=True)
class Mechanism:
    """What one attempt of a round does to the data. Neighbouring data sets differ by one unit, added or removed.

    Attributes:
        unit: whom it protects, "patient" or "hospital".
        sampling_rate: q, in (0, 1]; 1 takes every unit in every round and gains nothing from sampling.
        clip_units: C, the largest L2 norm of one unit's integer vector, in units of 2^-f; at least 1.
        party_variance: s^2, the variance parameter of one party's noise in one coordinate, units^2; at least 1.
        parties: P, at least 1 (1: a trusted centre).
        colluding: how many parties the target holds against, 0 to P - 1.
        size: D, coordinates of the opened sum; at least 1.

    Raises:
        PrivacyError: a value is out of range.
    """

    unit: Unit
    sampling_rate: float
    clip_units: int
    party_variance: int
    parties: int
    colluding: int
    size: int

    def __post_init__(self) -> None:
        if self.unit not in get_args(Unit):
            raise PrivacyError(f'The unit of privacy is "patient" or "hospital", not {self.unit!r}.')
        if not isinstance(self.sampling_rate, (int, float)) or not 0 < self.sampling_rate <= 1:
            raise PrivacyError(f"The sampling rate must be above 0 and at most 1, not {self.sampling_rate}.")
        for name in ("clip_units", "party_variance", "parties", "size"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise PrivacyError(f"{name} must be an integer of at least 1, not {value!r}.")
        if type(self.colluding) is not int or not 0 <= self.colluding < self.parties:
            raise PrivacyError(
                f"Of {self.parties} parties 0 to {self.parties - 1} can collude, not {self.colluding!r}: "
                "one at least must keep its noise to itself."
            )

    def honest_variance(self, colluders: int) -> int:
        """(P - c) s^2: the variance parameter that is left when ``colluders`` parties subtract their noise, units^2.

        Raises:
            PrivacyError: fewer than no party colludes, or no party is left.
        """
        if not 0 <= colluders < self.parties:
            raise PrivacyError(
                f"Of {self.parties} parties 0 to {self.parties - 1} can collude, not {colluders}."
            )
        return (self.parties - colluders) * self.party_variance

    def multiplier(self, colluders: int) -> float:
        """z = sqrt((P - c) s^2) / C: the noise left by so many colluders, in multiples of one unit's largest norm.

        Raises:
            PrivacyError: as ``honest_variance``.
        """
        return math.sqrt(self.honest_variance(colluders)) / self.clip_units
