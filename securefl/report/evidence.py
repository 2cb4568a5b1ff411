"""Everything in a run folder that a report can be made of. What is missing is named, and stops nothing.

Records' counts, baselines and what roles saw are taken up only for studies marked ``[simulation]``, also if such files
should lie in the folder of another study.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydantic import BaseModel
from safetensors import SafetensorError

from securefl.consortium import Consortium
from securefl.engines import exhibits
from securefl.errors import RunError, SecureFLError
from securefl.roles.terms import Terms
from securefl.run_files import Baseline, Figures, Line, Partition, table
from securefl.run_folder import RunFolder
from securefl.study import Study

BASELINES = ("plaintext", "float", "pooled", "local")


@dataclass(frozen=True)
class Evidence:
    """What was found.

    Attributes:
        info: ``run.json``.
        study, consortium, terms: as they stand in the run folder; None if they cannot be read.
        history: a line a round, the statistics round first.
        summary: ``summary.json``; empty for a run that has not ended.
        baselines: the comparisons that were run, by name.
        partition: records by hospital and class.
        seen: what roles saw in round 1, by the names of ``engines.exhibits``.
        missing: one sentence for each thing that a finished run would have and this one has not.
    """

    info: Mapping[str, Any]
    study: Study | None
    consortium: Consortium | None
    terms: Terms | None
    history: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    baselines: Mapping[str, Mapping[str, Any]]
    partition: Mapping[str, Any]
    seen: Mapping[str, NDArray[Any]]
    missing: Sequence[str]

    @property
    def simulation(self) -> bool:
        """Whether real updates may be shown."""
        return self.study is not None and self.study.simulation

    @property
    def rounds(self) -> list[Mapping[str, Any]]:
        """The lines of the rounds of training, without the statistics round."""
        return [line for line in self.history if line["round"] > 0]


def gather(run: RunFolder) -> Evidence:
    """Read a run folder.

    Raises:
        RunError: there is no run in it.
    """
    info, missing = run.info(), list[str]()
    study = consortium = terms = None
    try:
        study = Study.load(run.path / "study")
        consortium = run.consortium(study)
        terms = Terms.of(study, consortium, run.unchecked())
    except SecureFLError as error:
        missing.append(f"The study and its members cannot be read, so nothing can be checked: {error}")
    summary = _json(Figures, run.summary_file, missing)
    if not summary:
        missing.append("The run has not ended: there are no final figures yet.")
    baselines: dict[str, Any] = {}
    partition: dict[str, Any] = {}
    seen: dict[str, NDArray[Any]] = {}
    if study is not None and study.settings.simulation is not None:
        baselines = {name: _json(Baseline, run.baselines / f"{name}.json", missing) for name in BASELINES}
        partition = _json(Partition, run.path / "partition.json", missing)
        if study.settings.simulation.exhibits:
            seen = _seen(run.exhibits, missing)
        absent = [name for name in study.settings.baselines if not baselines[name]]
        if absent:
            missing.append(f"Comparisons that were not run yet: {', '.join(absent)}.")
    return Evidence(
        info=info,
        study=study,
        consortium=consortium,
        terms=terms,
        history=_history(run, missing),
        summary=summary,
        baselines={name: found for name, found in baselines.items() if found},
        partition=partition,
        seen=seen,
        missing=missing,
    )


def _json(kind: type[BaseModel], path: Path, missing: list[str]) -> dict[str, Any]:
    try:
        return table(kind, path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        missing.append(f"{path.name} cannot be read.")
        return {}


def _history(run: RunFolder, missing: list[str]) -> list[dict[str, Any]]:
    try:
        # Lines of other versions may lack a figure.
        return [{**Line(round=0).model_dump(), **line} for line in run.history()]
    except RunError:
        missing.append("history.jsonl cannot be read.")
        return []


def _seen(folder: Path, missing: list[str]) -> dict[str, NDArray[Any]]:
    try:
        return exhibits.recall(folder)
    except (OSError, KeyError, SafetensorError):
        missing.append("What the roles saw cannot be read.")
        return {}
