"""A hospital's ``budget.toml``: how much its steward lets all studies together tell about one unit of a dataset.

    [datasets."/srv/mri"]      # as ``securefl.privacy.dataset_name`` names it: a folder, or a source without one
    epsilon = 8.0
    delta = 1e-5
    unit = "patient"           # whom the budget protects; may be left out

Without the file there is no budget, and only each study's own promise is kept. With it, a dataset that it does not
name may not be used under privacy at all: a slip in a name must not be a budget without end. Nor may any be used
without privacy: what such a study tells has no number.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from securefl.privacy.mechanism import PrivacyError, Unit
from securefl.toml_file import parse_toml


class Budget(BaseModel):
    """Epsilon at delta for all that is ever opened of one dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    epsilon: float = Field(gt=0, le=1e6, allow_inf_nan=False, description="total epsilon (above 0)")
    delta: float = Field(gt=0, lt=1, allow_inf_nan=False, description="total delta (between 0 and 1)")
    unit: Unit = Field("patient", description='whom it protects: "patient" or "hospital"')


class Budgets(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    datasets: dict[str, Budget] = Field(min_length=1)

    def of(self, dataset: str) -> Budget:
        """The dataset's budget.

        Raises:
            PrivacyError: the file does not name it.
        """
        if dataset not in self.datasets:
            raise PrivacyError(
                f"The hospital's budget has no entry for {dataset}: its steward must add "
                f'[datasets."{dataset}"] before a private study may use it.'
            )
        return self.datasets[dataset]


def read_budgets(path: Path) -> Budgets | None:
    """Read the file; None if there is none.

    Raises:
        PrivacyError: it cannot be read, is not TOML, or has a key that is unknown, missing or out of range.
    """
    try:
        return Budgets.model_validate(parse_toml(path.read_bytes()))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PrivacyError(f"{path} cannot be read: check its permissions.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise PrivacyError(f"{path}: {where}: {first['msg'].lower()}.") from error
    except ValueError as error:
        raise PrivacyError(f"{path} is not valid TOML: {error}.") from error
