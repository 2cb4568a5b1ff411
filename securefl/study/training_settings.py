"""Tables of ``study.toml`` about training: the model, its rounds, the step of the server, and the ring of the sums."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from securefl.study.settings import ModuleReference, Settings


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
