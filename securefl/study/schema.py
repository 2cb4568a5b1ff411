"""The typed model behind ``study.toml``. Every number carries its unit and range; unknown keys are refused.

The models hold settings only. What they lead to stands elsewhere: files and digest in ``folder``, data in
``securefl.data``, training in ``securefl.training``.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from securefl.study.data_settings import SPLIT_HERE, DataSettings
from securefl.study.privacy_settings import PrivacySettings
from securefl.study.settings import FileName, MemberName, Settings
from securefl.study.training_settings import (
    AggregationSettings,
    ModelSettings,
    ServerSettings,
    TrainingSettings,
)


class ConsortiumSettings(Settings):
    """Who takes part: a pinned consortium file, or, for a simulation, how many members to make up."""

    file: FileName | None = Field(None, description="consortium.toml with the members' pinned keys")
    hospitals: int | list[MemberName] | None = Field(
        None, description="simulation only: how many hospitals (2 to 1000), or their names"
    )
    parties: int = Field(3, ge=2, le=16, description="simulation only: parties of the committee (2 to 16)")

    @model_validator(mode="after")
    def _one_way(self) -> ConsortiumSettings:
        if (self.file is None) == (self.hospitals is None):
            raise ValueError("give either file or hospitals, not both and not neither")
        if isinstance(self.hospitals, int) and not 2 <= self.hospitals <= 1000:
            raise ValueError("hospitals must be from 2 to 1000")
        if isinstance(self.hospitals, list) and len(set(self.hospitals)) != len(self.hospitals):
            raise ValueError("hospitals must have different names")
        return self

    def hospital_names(self) -> list[str]:
        """The made-up members' names of a simulation."""
        if isinstance(self.hospitals, int):
            digits = len(str(self.hospitals))
            return [f"hospital-{k:0{digits}d}" for k in range(1, self.hospitals + 1)]
        return list(self.hospitals or [])


class CohortSettings(Settings):
    """How few hospitals a sum may be over."""

    minimum_hospitals: int = Field(
        3, ge=2, le=1000, description="fewest hospitals in an opened sum (2 to 1000)"
    )
    colluding_hospitals: int = Field(1, ge=0, le=998, description="hospitals assumed to collude (0 to 998)")
    deadline_seconds: float = Field(
        600.0,
        gt=0,
        le=86400,
        description="longest wait for a hospital's contribution, in seconds (up to 86400)",
    )

    @model_validator(mode="after")
    def _two_honest(self) -> CohortSettings:
        if self.minimum_hospitals < self.colluding_hospitals + 2:
            raise ValueError("minimum_hospitals must be at least colluding_hospitals + 2")
        return self


class CommitteeSettings(Settings):
    """The parties that add the shares."""

    collusion_bound: int | None = Field(
        None,
        ge=1,
        le=15,
        description="parties assumed to collude at most (1 to parties - 1; default parties - 1)",
    )
    minimum_parties: int | None = Field(
        None,
        ge=2,
        le=16,
        description="go on with so few parties when others are gone for good (more than collusion_bound; default all)",
    )
    deadline_seconds: float = Field(
        60.0, gt=0, le=3600, description="longest wait of a party for another, in seconds (up to 3600)"
    )


class SimulationSettings(Settings):
    """Its presence marks a study whose data may be pooled for baselines and whose updates may be shown."""

    baselines: list[Literal["plaintext", "float", "pooled", "local"]] | None = Field(
        None, description="comparisons to run after the training (default: all four; none under privacy)"
    )
    pooled_epochs: int | None = Field(
        None,
        ge=1,
        le=10**6,
        description="epochs of the pooled and local baselines (default: rounds * local_epochs)",
    )
    exhibits: bool = Field(True, description="keep what each role saw in the first round, for the report")


class StudySettings(Settings):
    """The whole of ``study.toml``."""

    name: str = Field(min_length=1, max_length=80)
    description: str = Field("", max_length=2000)
    seed: int = Field(ge=0, lt=2**63, description="seed of training and of partitions; never of a mask")
    averaged_rounds: int = Field(
        5, ge=1, le=1000, description="last rounds over which reported accuracies are averaged"
    )
    consortium: ConsortiumSettings
    cohort: CohortSettings = CohortSettings()
    committee: CommitteeSettings = CommitteeSettings()
    data: DataSettings
    model: ModelSettings
    training: TrainingSettings
    server: ServerSettings = ServerSettings()
    aggregation: AggregationSettings = AggregationSettings()
    privacy: PrivacySettings | None = None
    simulation: SimulationSettings | None = None

    @model_validator(mode="after")
    def _consistent(self) -> StudySettings:
        if self.consortium.hospitals is not None and self.simulation is None:
            raise ValueError(
                "consortium.hospitals makes members up: add a [simulation] table, or name a consortium file"
            )
        if self.privacy is not None:
            self._private(self.privacy)
        return self

    @property
    def baselines(self) -> list[str]:
        """The comparisons that a simulation makes."""
        if self.simulation is None:
            return []
        if self.simulation.baselines is not None:
            return list(self.simulation.baselines)
        return [] if self.privacy is not None else ["plaintext", "float", "pooled", "local"]

    @property
    def checks_norms(self) -> str | None:
        """The setting by which the committee checks norms, for which it needs a dealer; None if it checks none."""
        if self.aggregation.norm_bound is not None:
            return "aggregation.norm_bound"
        return "privacy.check_norms" if self.privacy is not None and self.privacy.check_norms else None

    def _private(self, privacy: PrivacySettings) -> None:
        """What would leave the promise of privacy, or do nothing beside it."""
        if self.data.standardise not in ("none", "public"):
            raise ValueError(
                'under privacy, data.standardise must be "none" or "public": sums of records leak'
            )
        if self.aggregation.norm_bound is not None:
            raise ValueError("under privacy, norms follow from privacy.clip: set privacy.check_norms instead")
        if self.model.batch_norm:
            raise ValueError("under privacy, model.batch_norm must be off: it mixes patients' records")
        if set(self.baselines) & {"plaintext", "float"}:
            raise ValueError(
                "under privacy no sum without noise may exist: leave plaintext and float out of simulation.baselines"
            )
        if privacy.unit == "patient":
            self._each_patient_alone()
            self._one_step()

    def _one_step(self) -> None:
        """What local training of patients' gradients cannot have."""
        training = self.training
        if (
            training.local_epochs != 1
            or training.optimizer != "sgd"
            or training.momentum
            or training.weight_decay
        ):
            raise ValueError(
                'with unit = "patient" a round is one step over all hospitals: leave training.local_epochs, '
                "optimizer, momentum and weight_decay out, and set the server's momentum"
            )

    def _each_patient_alone(self) -> None:
        """What one patient does to the others' records before the training."""
        data = self.data
        if data.source in SPLIT_HERE and data.held_out is None:
            # Said here, so that whoever loads records needs no other table than theirs.
            object.__setattr__(self, "data", data.model_copy(update={"held_out": "each-alone"}))
        elif data.source in SPLIT_HERE and data.held_out != "each-alone":
            raise ValueError(
                'with unit = "patient", set data.held_out = "each-alone": a split by class moves other patients when '
                "one comes or goes"
            )
        if (
            data.imaging is not None
            and data.imaging.mixed_spacing == "resample"
            and data.imaging.spacing is None
        ):
            raise ValueError(
                'with unit = "patient", give data.imaging.spacing: else the first volume decides about all others'
            )
        if data.minimum_records > 1:
            raise ValueError(
                'with unit = "patient", leave data.minimum_records out: one patient could decide whether a hospital '
                "takes part"
            )
