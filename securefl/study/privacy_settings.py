"""The table ``privacy``: differential privacy of the model, and of every sum on the way."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from securefl.study.settings import Settings


class PrivacySettings(Settings):
    """Differential privacy of the released model, and of every sum on the way, whatever the parties see."""

    unit: Literal["patient", "hospital"] = Field(
        "patient", description="whose presence is hidden: a patient with all records, or a whole hospital"
    )
    epsilon: float | None = Field(
        None, gt=0, le=1000, description="target; or give noise_multiplier (0 to 1000)"
    )
    noise_multiplier: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="standard deviation of the noise over clip; or give epsilon (0 to 1000)",
    )
    delta: float = Field(gt=0, le=0.01, description="probability that the promise does not cover (0 to 0.01)")
    clip: float = Field(
        gt=0, le=2.0**20, description="largest L2 norm of one patient's gradient, or of one hospital's update"
    )
    sampling_rate: float = Field(
        1.0,
        gt=0,
        le=1,
        description="probability with which a patient (hospital) takes part in a round (0 to 1)",
    )
    patients: int | None = Field(
        None, ge=1, le=10**9, description="unit patient: public number of patients, which sums are divided by"
    )
    largest_hospital: int | None = Field(
        None,
        ge=1,
        le=10**9,
        description="unit patient: most patients of one hospital, public (default: patients)",
    )
    colluding_parties: int = Field(
        1, ge=0, le=15, description="parties that may subtract their own noise before the target is missed"
    )
    spare_attempts: int = Field(
        0, ge=0, le=10**6, description="attempts beyond the rounds that the target pays for: for crashes"
    )
    check_norms: bool = Field(
        False, description="let the committee check each hospital's sum against the largest honest one"
    )

    @model_validator(mode="after")
    def _complete(self) -> PrivacySettings:
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise ValueError("give either epsilon or noise_multiplier, not both and not neither")
        if (self.unit == "patient") != (self.patients is not None):
            raise ValueError(
                'patients, the public number that sums are divided by, goes with unit = "patient"'
            )
        if self.largest_hospital is not None and self.unit == "hospital":
            raise ValueError('largest_hospital goes with unit = "patient"')
        return self
