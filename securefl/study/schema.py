"""The typed model behind ``study.toml``. Every number carries its unit and range; unknown keys are refused.

The models hold settings only. What they lead to stands elsewhere: files and digest in ``folder``, data in
``securefl.data``, training in ``securefl.training``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

MemberName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
"""A member's name: lower case letters, digits and hyphens, at most 32 characters, a letter first."""

FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$", max_length=200)]
"""A file inside the study folder, relative, without ``..``."""

ModuleReference = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_/-]*\.py:[A-Za-z_]\w*$")]
"""A function in a Python file of the study folder: ``file.py:function``."""


class Settings(BaseModel):
    """Base of all settings: frozen, and without room for a key that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


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


class Partition(Settings):
    """How a data set in one piece is split over the hospitals. Deterministic by the study's seed."""

    kind: Literal["site", "iid", "dirichlet", "classes-per-hospital", "quantity-skew"] = Field(
        "site", description="site: the hospitals the records really come from; the others split one pool"
    )
    alpha: float = Field(
        0.5,
        gt=0,
        le=1000,
        description="dirichlet and quantity-skew: concentration (0 to 1000; small is skewed)",
    )
    classes: int = Field(2, ge=1, le=1000, description="classes-per-hospital: classes that each hospital has")


class DataSettings(Settings):
    """Where the records come from."""

    source: Literal["mnist-5k", "mnist", "fashion-mnist", "cifar10", "fed-heart", "npz", "module"]
    root: str | None = Field(
        None,
        description="folder of the files: absolute, or relative to the study folder; "
        "npz: may contain {hospital}, one file a hospital",
    )
    module: ModuleReference | None = Field(None, description='source "module": file.py:function')
    download: bool = Field(
        False, description="mnist, fashion-mnist, cifar10: may torchvision fetch missing files"
    )
    partition: Partition = Partition()
    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="share of the records held out, where the source has no split"
    )
    split_seed: int | None = Field(
        None, ge=0, lt=2**63, description="seed of the held-out split (default: the study's)"
    )
    minimum_records: int = Field(1, ge=1, le=10**9, description="fewest training records a hospital may have")
    standardise: Literal["none", "features", "channels"] = Field(
        "none", description="scale inputs by means and variances that are themselves securely aggregated"
    )

    @model_validator(mode="after")
    def _complete(self) -> DataSettings:
        if (self.source == "module") != (self.module is not None):
            raise ValueError('module goes with source = "module", and only with it')
        if self.source in ("mnist", "fashion-mnist", "cifar10", "npz") and self.root is None:
            raise ValueError(f'source = "{self.source}" needs root, the folder of its files')
        return self


class ModelSettings(Settings):
    """The model that the hospitals train."""

    kind: Literal["logistic", "mlp", "cnn", "module"]
    hidden: list[Annotated[int, Field(ge=1, le=65536)]] = Field(
        [64], description="mlp: units of the hidden layers"
    )
    channels: list[Annotated[int, Field(ge=1, le=4096)]] = Field(
        [16, 32], description="cnn: channels of the blocks"
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description="mlp and cnn: dropout probability before the last layer"
    )
    batch_norm: bool = Field(False, description="cnn: batch normalisation after each convolution")
    module: ModuleReference | None = Field(None, description='kind "module": file.py:function')

    @model_validator(mode="after")
    def _complete(self) -> ModelSettings:
        if (self.kind == "module") != (self.module is not None):
            raise ValueError('module goes with kind = "module", and only with it')
        return self


class Schedule(Settings):
    """The learning rate over the rounds, as a factor on ``learning_rate``."""

    kind: Literal["constant", "cosine", "linear", "step"] = "constant"
    final_factor: float = Field(
        0.1, ge=0, le=1, description="cosine, linear: factor of the last round (0 to 1)"
    )
    step_rounds: int = Field(10, ge=1, le=10**6, description="step: rounds between two falls")
    step_factor: float = Field(0.5, gt=0, le=1, description="step: factor of one fall (0 to 1)")
    warmup_rounds: int = Field(0, ge=0, le=10**6, description="rounds of linear warm-up before the schedule")


class TrainingSettings(Settings):
    """What one hospital does in one round, and how many rounds there are."""

    rounds: int = Field(ge=1, le=10**6, description="rounds of training (1 to 1000000)")
    local_epochs: int = Field(
        1, ge=1, le=1000, description="passes over the hospital's records in a round (1 to 1000)"
    )
    batch_size: int = Field(32, ge=1, le=65536, description="records in a batch (1 to 65536)")
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = Field(gt=0, le=100, description="step size of the hospital's optimizer (0 to 100)")
    momentum: float = Field(0.0, ge=0, lt=1, description="sgd: momentum within a round (0 to 1)")
    weight_decay: float = Field(0.0, ge=0, le=10, description="L2 penalty (0 to 10)")
    schedule: Schedule = Schedule()


class ServerSettings(Settings):
    """What is done with the opened sum."""

    optimizer: Literal["fedavg", "fedavgm"] = "fedavg"
    learning_rate: float = Field(1.0, gt=0, le=100, description="factor on the averaged update (0 to 100)")
    momentum: float = Field(0.9, ge=0, lt=1, description="fedavgm: momentum of the server (0 to 1)")


class AggregationSettings(Settings):
    """The ring in which updates are added."""

    width: Literal[16, 32, 64] = Field(32, description="bits of a coordinate in the ring: 16, 32 or 64")
    bound: float = Field(
        4.0, gt=0, le=2.0**20, description="largest absolute coordinate of a weighted update (0 to 2^20)"
    )
    norm_bound: float | None = Field(
        None,
        ge=2.0**-40,
        le=2.0**20,
        description="largest L2 norm of a weighted update (2^-40 to 2^20); hospitals clip to it, parties check it",
    )


class SimulationSettings(Settings):
    """Its presence marks a study whose data may be pooled for baselines and whose updates may be shown."""

    baselines: list[Literal["plaintext", "float", "pooled", "local"]] = Field(
        ["plaintext", "float", "pooled", "local"], description="comparisons to run after the training"
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
    simulation: SimulationSettings | None = None

    @model_validator(mode="after")
    def _consistent(self) -> StudySettings:
        if self.consortium.hospitals is not None and self.simulation is None:
            raise ValueError(
                "consortium.hospitals makes members up: add a [simulation] table, or name a consortium file"
            )
        return self
