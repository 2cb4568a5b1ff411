"""Utility over epsilon: every arm, for several targets and several splits, in one run.

A line of JSON is written for each trained arm as soon as it is there, so that an interrupted comparison goes on where
it stopped. Each line names the study that it is of: of a changed study nothing is reused. What is reported is the mean
over the splits with its standard error.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from protocols.canonical import digest
from securefl import durable
from securefl.comparison.arms import ARMS, Arm, Trainees, models
from securefl.data import Records, load_all
from securefl.errors import RunError, StudyError
from securefl.roles.private_terms import PrivateTerms
from securefl.study import Study
from securefl.study.folder import TOML
from securefl.training.evaluate import evaluate
from securefl.training.metrics import binary_metrics, scores
from securefl.training.trainer import scaled
from securefl.world import pooled

if TYPE_CHECKING:
    from rich.table import Table

LINES = "comparison.jsonl"


@dataclass(frozen=True)
class Line:
    """One arm, trained once.

    Attributes:
        arm: see ``comparison.arms``.
        epsilon: the target for each patient; None without privacy.
        split: the seed of the split.
        accuracy, auc: on all hospitals' held-out records; of "alone" the mean over the hospitals' models. ``auc`` is
            None for tasks of more than two classes.
        study: see ``study_name``; empty in lines from before there was one, which are not reused.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid")

    arm: str
    epsilon: float | None
    split: int
    accuracy: float
    auc: float | None
    study: str = ""


@dataclass(frozen=True)
class Mean:
    """Several splits of one arm: mean and standard error of the mean; ``error`` is None for one split."""

    arm: str
    epsilon: float | None
    splits: int
    accuracy: float
    accuracy_error: float | None
    auc: float | None
    auc_error: float | None


def compare(
    study: Study,
    out: Path,
    epsilons: Sequence[float | None],
    splits: Sequence[int],
    arms: Sequence[Arm] = ARMS,
    tell: Callable[[Line], None] = lambda line: None,
) -> list[Mean]:
    """Train what is missing, and return the means.

    Args:
        study: a private simulation; its epsilon is replaced by each of ``epsilons``.
        out: folder for the lines; this study's lines that stand there are not computed again, other lines stay.
        epsilons: targets; None is training without noise, by the same clip.
        splits: seeds of the held-out split.
        tell: called with each new line.

    Raises:
        StudyError: the study is no simulation, or has no table ``[privacy]``.
        RunError: a whole line in the folder is malformed.
    """
    if study.settings.privacy is None or not study.simulation:
        raise StudyError(
            "Only a private study with a table [simulation] can be compared: add [privacy] or [simulation]."
        )
    durable.private_folder(out)
    file = out / LINES
    name = study_name(study)
    known = {(line.arm, line.epsilon, line.split): line for line in _lines(file) if line.study == name}
    for split in splits:
        todo = [(e, a) for e in epsilons for a in _different(e, arms) if (a, e, split) not in known]
        if not todo:
            continue
        trainees, test = _records(study, split)
        for epsilon, arm in todo:
            line = _line(study, epsilon, arm, split, trainees, test)
            _append(file, line)
            known[arm, epsilon, split] = line
            tell(line)
    wanted = [known[a, e, s] for e in epsilons for a in _different(e, arms) for s in splits]
    return means(wanted)


def study_name(study: Study) -> str:
    """Hex digest of what a result depends on beside arm, target and split: settings, files and version of securefl.

    The study's own target and split are left out, since the comparison replaces them, and so are title and description.
    """
    settings = study.settings.model_dump(
        exclude={
            "name": True,
            "description": True,
            "privacy": {"epsilon", "noise_multiplier"},
            "data": {"split_seed"},
        }
    )
    files = {name: hashlib.sha256(content).digest() for name, content in study.files.items() if name != TOML}
    return digest("comparison", {"settings": settings, "files": files, "securefl": version("securefl")}).hex()


def means(lines: Iterable[Line]) -> list[Mean]:
    """The mean of each arm and epsilon over its splits, in the order of the lines."""
    grouped: dict[tuple[str, float | None], list[Line]] = defaultdict(list)
    for line in lines:
        grouped[line.arm, line.epsilon].append(line)
    found = []
    for (arm, epsilon), group in grouped.items():
        accuracy, accuracy_error = _mean([line.accuracy for line in group])
        aucs = [line.auc for line in group if line.auc is not None]
        auc, auc_error = _mean(aucs) if aucs else (None, None)
        found.append(Mean(arm, epsilon, len(group), accuracy, accuracy_error, auc, auc_error))
    return found


def table(means: Sequence[Mean]) -> Table:
    """Means with their standard errors, as the command line prints them."""
    from rich.table import Table

    shown = Table("epsilon", "arm", "accuracy", "AUC", "splits", title="Utility over epsilon")
    for m in means:
        epsilon = "none" if m.epsilon is None else f"{m.epsilon:g}"
        auc = "" if m.auc is None else _with_error(m.auc, m.auc_error)
        shown.add_row(epsilon, m.arm, _with_error(m.accuracy, m.accuracy_error), auc, str(m.splits))
    return shown


def _with_error(value: float, error: float | None) -> str:
    return f"{value:.4f}" if error is None else f"{value:.4f} ± {error:.4f}"


def _different(epsilon: float | None, arms: Sequence[Arm]) -> list[Arm]:
    """Without noise a centre and a hospital's own noise are the same as ours."""
    return [arm for arm in arms if epsilon is not None or arm in ("ours", "alone")]


def _line(
    study: Study, epsilon: float | None, arm: Arm, split: int, trainees: Trainees, test: Records
) -> Line:
    trained = models(study, _private(study, epsilon), arm, trainees).values()
    accuracies = [evaluate(model, test).accuracy for model in trained]
    aucs = []
    if trainees.classes == 2:
        found = [binary_metrics(scores(model, test), test.labels, test.patients).auc for model in trained]
        aucs = [auc for auc in found if auc is not None]
    auc = float(np.mean(aucs)) if aucs else None
    return Line(arm, epsilon, split, float(np.mean(accuracies)), auc, study_name(study))


def _private(study: Study, epsilon: float | None) -> PrivateTerms | None:
    """The noise for a target."""
    settings, privacy = study.settings, study.settings.privacy
    if privacy is None or epsilon is None:
        return None
    target = privacy.model_copy(update={"epsilon": float(epsilon), "noise_multiplier": None})
    hospitals, parties = settings.consortium.hospital_names(), settings.consortium.parties
    return PrivateTerms.of(target, settings.training, settings.aggregation, len(hospitals), parties)


def _records(study: Study, split: int) -> tuple[Trainees, Records]:
    settings = study.settings
    data = settings.data.model_copy(update={"split_seed": split})
    everyone = load_all(data, study.folder, settings.consortium.hospital_names(), settings.seed)
    none = np.array([1.0])
    own = {name: scaled(d.train, none, settings) for name, d in everyone.items()}
    test = scaled(pooled([d.test for d in everyone.values()]), none, settings)
    classes = next(iter(everyone.values())).classes
    return Trainees(pooled(list(own.values())), own, classes), test


def _lines(file: Path) -> list[Line]:
    """What earlier comparisons have computed, of any study; a last line that was cut is left out."""
    if not file.exists():
        return []
    lines, adapter = [], TypeAdapter(Line)
    for number, text in enumerate(file.read_bytes().split(b"\n")[:-1], 1):
        try:
            lines.append(adapter.validate_json(text))
        except ValidationError as error:
            raise RunError(
                f"{file}, line {number}, is not a line of a comparison: remove the line, or give another folder."
            ) from error
    return lines


def _append(file: Path, line: Line) -> None:
    """Add a line, durably; the beginning of one, which a crash left at the end, is cut off first."""
    found = file.read_bytes() if file.exists() else b""
    whole = found[: found.rfind(b"\n") + 1]
    if whole != found:
        durable.write(file, whole, mode=file.stat().st_mode & 0o777)
    durable.append(file, (json.dumps(asdict(line)) + "\n").encode())


def _mean(values: list[float]) -> tuple[float, float | None]:
    if len(values) < 2:
        return values[0], None
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))
