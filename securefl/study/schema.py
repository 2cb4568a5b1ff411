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


class LesionSettings(Settings):
    """Source ``mri-lesions``: slices of a real brain template with synthetic lesions."""

    patients: int = Field(
        600, ge=20, le=100_000, description="patients of all hospitals together (20 to 100000)"
    )
    slices: int = Field(4, ge=1, le=32, description="slices of each patient (1 to 32)")


class ImagingSettings(Settings):
    """Source ``imaging``: a hospital's own images."""

    format: Literal["nifti", "dicom", "image-folder", "medmnist"]
    table: FileName = Field("records.csv", description="CSV in root with the columns patient, file, label")
    masks: FileName | None = Field(
        None, description="nifti: folder of lesion masks in BraTS layout, from which slices are labelled"
    )
    image_size: int = Field(64, ge=8, le=512, description="pixels of a side (8 to 512)")
    slices: int = Field(4, ge=1, le=512, description="slices taken from each volume (1 to 512)")
    mixed_spacing: Literal["refuse", "resample"] = Field(
        "refuse", description="what to do with volumes whose voxels differ in size"
    )
    spacing: list[Annotated[float, Field(gt=0, le=100)]] | None = Field(
        None,
        min_length=3,
        max_length=3,
        description="voxel size that all are resampled to, in mm (default: the first's)",
    )
    lesion_pixels: int = Field(
        10, ge=1, le=10**6, description="masks: fewest pixels that make a slice positive"
    )
    classes: int = Field(
        2, ge=2, le=1000, description="classes of the task, whichever a hospital has (2 to 1000)"
    )


class DataSettings(Settings):
    """Where the records come from."""

    source: Literal[
        "mnist-5k",
        "mnist",
        "fashion-mnist",
        "cifar10",
        "fed-heart",
        "mri-lesions",
        "imaging",
        "npz",
        "module",
    ]
    root: str | None = Field(
        None,
        description="folder of the files: absolute, or relative to the study folder; "
        "npz and imaging: may contain {hospital}, one file or folder a hospital",
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
    standardise: Literal["none", "features", "channels", "public"] = Field(
        "none",
        description="scale inputs by means and variances that are themselves securely aggregated; "
        "public: by public_mean and public_std",
    )
    public_mean: list[float] | None = Field(
        None,
        description='standardise "public": a number for each feature or channel, known without the records',
    )
    public_std: list[Annotated[float, Field(gt=0)]] | None = Field(
        None, description='standardise "public": likewise, positive'
    )
    imaging: ImagingSettings | None = Field(None, description='source "imaging": how its files are read')
    lesions: LesionSettings = Field(
        default_factory=lambda: LesionSettings(),
        description='source "mri-lesions": how many patients there are',
    )

    @model_validator(mode="after")
    def _complete(self) -> DataSettings:
        if (self.source == "module") != (self.module is not None):
            raise ValueError('module goes with source = "module", and only with it')
        if (self.source == "imaging") != (self.imaging is not None):
            raise ValueError('the table data.imaging goes with source = "imaging", and only with it')
        given = self.public_mean is not None and self.public_std is not None
        if given != (self.standardise == "public") or len(self.public_mean or []) != len(
            self.public_std or []
        ):
            raise ValueError('standardise = "public" needs public_mean and public_std, of the same length')
        if self.source in ("mnist", "fashion-mnist", "cifar10", "npz", "imaging") and self.root is None:
            raise ValueError(f'source = "{self.source}" needs root, the folder of its files')
        return self


class ModelSettings(Settings):
    """The model that the hospitals train."""

    kind: Literal["logistic", "mlp", "cnn", "private-cnn", "filtered-cnn", "resnet18", "module"]
    hidden: list[Annotated[int, Field(ge=1, le=65536)]] = Field(
        [64], description="mlp: units of the hidden layers"
    )
    channels: list[Annotated[int, Field(ge=1, le=4096)]] = Field(
        [16, 32], description="cnn, private-cnn and filtered-cnn: channels of the blocks"
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
        training = self.training
        if privacy.unit == "patient" and (
            training.local_epochs != 1
            or training.optimizer != "sgd"
            or training.momentum
            or training.weight_decay
        ):
            raise ValueError(
                'with unit = "patient" a round is one step over all hospitals: leave training.local_epochs, '
                "optimizer, momentum and weight_decay out, and set the server's momentum"
            )
