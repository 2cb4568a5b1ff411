"""What the JSON files of a run hold, checked before anything is made of it: they may be damaged, or somebody else's.

Only what is read is checked; whatever else a file holds is left in it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError, model_validator

from securefl.errors import RunError

Count = NonNegativeInt | None
Number = float | None
Share = Annotated[float, Field(ge=0, le=1)] | None
"""An accuracy, or another part of a whole."""
_MOST_ROUNDS = 10**6


class _Read(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class Info(_Read):
    """``run.json``."""

    study: str
    name: str = ""
    started: str = ""
    engine: str = ""
    folder: str = ""
    insecure_unchecked: bool = False


class _Why(_Read):
    reason: str = ""
    explanation: str = ""


class Line(_Read):
    """A line of ``history.jsonl``."""

    round: int = Field(ge=0, le=_MOST_ROUNDS)
    accuracy: Share = None
    loss: Number = None
    seconds: Number = None
    training_seconds: Number = None
    aggregation_seconds: Number = None
    evaluation_seconds: Number = None
    upload_bytes: Count = None
    included: list[str] = []
    absent: dict[str, _Why] = {}


class _Diagnosis(_Read):
    auc: Number
    auc_error: Number
    sensitivity: Number
    specificity: Number

    @model_validator(mode="after")
    def _whole(self) -> _Diagnosis:
        if self.auc is not None and (self.sensitivity is None or self.specificity is None):
            raise ValueError("an AUC comes with a sensitivity and a specificity")
        return self


class _Epsilon(_Read):
    pld: float


class _Spent(_Read):
    unit: str
    delta: float
    colluding_parties: int
    epsilon: dict[str, _Epsilon]

    @model_validator(mode="after")
    def _told(self) -> _Spent:
        if str(self.colluding_parties) not in self.epsilon:
            raise ValueError("epsilon is not told for the parties that may collude")
        return self


class Figures(_Read):
    """``summary.json``."""

    name: str = ""
    model: str | None = None
    accuracy: Share = None
    accuracy_plaintext: Share = None
    accuracy_float: Share = None
    accuracy_pooled: Share = None
    accuracy_local_mean: Share = None
    accuracy_last_round: Share = None
    plaintext_identical: bool | None = None
    averaged_rounds: Count = None
    upload_bytes_per_hospital_round: Count = None
    upload_ratio: Number = None
    aggregation_share: Share = None
    seconds: Number = None
    rounds: Count = None
    parties: Count = None
    hospitals: Count = None
    parameters: Count = None
    width: Count = None
    diagnosis: dict[str, _Diagnosis] | None = None
    privacy: _Spent | None = None

    @model_validator(mode="after")
    def _measured(self) -> Figures:
        if self.upload_bytes_per_hospital_round and None in (self.parties, self.width, self.parameters):
            raise ValueError("an upload comes with parties, width and parameters")
        return self


class Partition(_Read):
    """``partition.json``."""

    hospitals: dict[str, list[NonNegativeInt]] = {}
    test: list[NonNegativeInt] = []


class Baseline(_Read):
    """``baselines/NAME.json``."""

    accuracy: list[Share] = []
    hospitals: dict[str, list[Share]] | None = None

    @model_validator(mode="after")
    def _alike(self) -> Baseline:
        if len({len(each) for each in (self.hospitals or {}).values()}) > 1:
            raise ValueError("the hospitals have numbers for as many epochs")
        return self


def table(kind: type[BaseModel], data: bytes) -> dict[str, Any]:
    """A file's content, or a line's, as it stands there.

    Raises:
        ValueError: it is no such table.
    """
    try:
        found: dict[str, Any] = json.loads(data)
        kind.model_validate(found)
    except (ValidationError, RecursionError) as error:
        raise ValueError(f"It is no {kind.__name__.lower()}.") from error
    return found


def read_table(kind: type[BaseModel], path: Path, remedy: str) -> dict[str, Any]:
    """A file's content.

    Args:
        remedy: what to do where it cannot be read, for the sentence.

    Raises:
        FileNotFoundError: there is none.
        RunError: it cannot be read.
    """
    try:
        return table(kind, path.read_bytes())
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {remedy}") from error
