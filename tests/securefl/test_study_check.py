"""What is said of a study before it runs: true for its settings, and a study that cannot run is refused."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from securefl.data import load_all
from securefl.errors import DataError, ModelError, StudyError
from securefl.privacy import spent
from securefl.roles import private_terms
from securefl.roles.private_terms import PrivateTerms
from securefl.roles.terms import Terms
from securefl.study import Study
from securefl.study.privacy_settings import PrivacySettings
from securefl.study.training_settings import AggregationSettings, TrainingSettings
from securefl.study_check import check_study, members_of, plan_tables
from securefl.training.private import PrivateTrainer
from securefl.world import World

PLAIN = """
name = "Checked"
seed = 1
[consortium]
hospitals = ["cleveland", "hungary", "switzerland", "va"]
parties = 3
[data]
source = "fed-heart"
[model]
kind = "logistic"
[training]
rounds = 4
learning_rate = 0.1
[simulation]
"""
PRIVATE = PLAIN.replace(
    "[simulation]",
    """[privacy]
unit = "patient"
noise_multiplier = 1.5
delta = 1e-5
clip = 0.5
sampling_rate = 0.2
patients = 490
[simulation]""",
)


def study(folder: Path, text: str) -> Path:
    path = folder / "study"
    path.mkdir()
    (path / "study.toml").write_text(text)
    return path


def patients(path: Path) -> dict[str, int]:
    """How many each hospital trains on."""
    s = Study.load(path).settings
    data = load_all(s.data, path, s.consortium.hospital_names(), s.seed)
    return {hospital: len(held.train.patient_groups()) for hospital, held in data.items()}


def planned(path: Path) -> tuple[str, str]:
    """The two tables as they are printed."""
    texts = []
    for table in plan_tables(path):
        file = io.StringIO()
        Console(width=400, file=file, color_system=None).print(table)
        texts.append(file.getvalue())
    return texts[0], texts[1]


def row(table: str, name: str) -> list[str]:
    """The cells of the line that begins with this name."""
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines() if "│" in line]
    found = [cells for cells in lines if cells[0] == name]
    assert len(found) == 1, (name, lines)
    return found[0]


# -- what is said ------------------------------------------------------------------------------------------------------


def test_a_plain_study_begins_with_statistics_and_checks_each_sum(tmp_path: Path) -> None:
    path = study(tmp_path, PLAIN)
    assert "Rounds: 4, after one for the statistics" in check_study(path)
    seen, moved = planned(path)
    assert row(moved, "check of the sum")[-1] == "5"
    assert row(moved, "statistics, sealed shares")[-1] == "1"
    assert row(seen, "party")[1:] == [
        "one of 3 shares of each update; each round's sum",
        "an update, unless 3 parties collude; a sum over fewer than 3 hospitals",
    ]
    assert "noise" not in seen


def test_a_private_study_begins_with_a_roll_call_and_opens_noisy_sums_that_nobody_checks(
    tmp_path: Path,
) -> None:
    path = study(tmp_path, PRIVATE)
    lines = check_study(path)
    assert "Rounds: 4, after a roll call" in lines
    seen, moved = planned(path)
    assert "check of the sum" not in moved
    assert "statistics" not in moved
    assert row(moved, "roll call, sealed shares")[-1] == "1"
    for who in ("hospital", "party", "coordinator", "researcher"):
        assert ", with noise" in row(seen, who)[1], who
        assert "or a sum without noise" in row(seen, who)[2], who
    assert "dealer" not in seen


def test_the_dealer_of_a_private_study_comes_with_its_norm_check(tmp_path: Path) -> None:
    path = study(tmp_path, PRIVATE.replace("clip = 0.5", "clip = 0.5\ncheck_norms = true"))
    seen, moved = planned(path)
    assert row(seen, "dealer")
    assert row(moved, "norm check")
    assert "check of the sum" not in moved


def test_epsilon_stands_beside_each_number_of_parties_in_words(tmp_path: Path) -> None:
    found = [line for line in check_study(study(tmp_path, PRIVATE)) if line.startswith("  epsilon")]
    ends = [
        "if no party colludes",
        "if 1 party colludes, the number the study allows for",
        "if 2 parties collude",
    ]
    assert len(found) == 3
    for line, end in zip(found, ends, strict=True):
        assert line.endswith(end)


@pytest.mark.parametrize(
    ("width", "coordinates", "largest", "rate", "rounds", "target", "unit"),
    [
        (16, 10, 100, 0.1, 100, 3.0, "patient"),
        pytest.param(32, 1000, 10**6, 0.01, 300, 3.0, "patient", marks=pytest.mark.slow),
        pytest.param(16, 11, None, 1.0, 5, 500.0, "hospital", marks=pytest.mark.slow),
    ],
)
def test_the_target_is_met_in_coarse_rings_too(
    monkeypatch: pytest.MonkeyPatch,
    width: int,
    coordinates: int,
    largest: int | None,
    rate: float,
    rounds: int,
    target: float,
    unit: str,
) -> None:
    """(C) Without what the accountant takes off for the rounding the last round would be one too many."""
    numbers = {"patients": 4 * largest, "largest_hospital": largest} if largest else {}
    settings = PrivacySettings.model_validate(
        {"unit": unit, "epsilon": target, "delta": 1e-5, "clip": 1.0, "sampling_rate": rate, **numbers}
    )
    training = TrainingSettings(rounds=rounds, learning_rate=0.1)

    def reached() -> float:
        terms = PrivateTerms.of(settings, training, AggregationSettings(width=width), 4, 3)
        return spent(terms.mechanism(coordinates), rounds, 1e-5, 1).pld

    assert 0.99 * target < reached() <= target
    monkeypatch.setattr(private_terms, "BLUR", 0)
    assert reached() > target


def test_a_study_whose_noise_misses_its_target_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = study(tmp_path, PRIVATE.replace("noise_multiplier = 1.5", "epsilon = 3.0"))
    assert check_study(path)[-1] == "This study can run."
    calibrated = private_terms.multiplier_for
    monkeypatch.setattr(
        private_terms, "multiplier_for", lambda *args, **more: 0.9 * calibrated(*args, **more)
    )
    with pytest.raises(
        StudyError, match=r"so coarse that epsilon is 3\.\d+ and not 3: set aggregation\.width"
    ):
        check_study(path)


@pytest.mark.parametrize(
    ("text", "minimum", "rate", "warned"),
    [
        (PLAIN, 3, 1.0, 1),
        (PLAIN, 3, 0.11, 1),
        (PLAIN, 3, 0.1, 2),
        (PLAIN, 3, 0.001, 2),
        (PLAIN, 4, 0.001, 0),
        (PRIVATE, 3, 0.001, 0),
    ],
)
def test_a_study_that_opens_sums_over_changing_hospitals_without_noise_is_warned(
    tmp_path: Path, text: str, minimum: int, rate: float, warned: int
) -> None:
    more = f"[cohort]\nminimum_hospitals = {minimum}\n[server]\nlearning_rate = {rate}\n"
    path = study(tmp_path, text.replace("[simulation]", f"{more}[simulation]"))
    found = [line for line in check_study(path) if line.startswith("Warning: ")]
    assert len(found) == warned
    seen, _ = planned(path)
    assert seen.count("Warning: ") == warned
    if warned:
        assert "or add [privacy]." in seen
        assert "A sum may be over 3 of 4 hospitals" in found[0]
        assert "set cohort.minimum_hospitals = 4" in found[0]
    if warned == 2:
        assert f"server.learning_rate = {rate:g}" in found[1]


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_a_hospital_with_more_patients_than_the_study_says_keeps_it_from_running(tmp_path: Path) -> None:
    most = max(patients(study(tmp_path, PRIVATE)).values())
    assert most > 100
    path = tmp_path / "study"

    def say(largest: int) -> None:
        text = PRIVATE.replace("patients = 490", f"patients = 490\nlargest_hospital = {largest}")
        (path / "study.toml").write_text(text)

    say(most)
    assert "This study can run." in check_study(path)
    say(most - 1)
    with pytest.raises(DataError, match=f"more than the {most - 1} patients that the study allows for"):
        check_study(path)


def test_the_check_and_the_hospital_refuse_in_the_same_words(tmp_path: Path) -> None:
    path = study(tmp_path, PRIVATE.replace("patients = 490", "patients = 20"))
    loaded = Study.load(path)
    terms = Terms.of(loaded, members_of(loaded))
    with pytest.raises(DataError) as before:
        World.of(loaded, terms)
    s, first = loaded.settings, next(iter(terms.hospitals))
    data = load_all(s.data, path, list(terms.hospitals), s.seed)[first]
    assert terms.private is not None
    with pytest.raises(DataError) as at_home:
        PrivateTrainer(s, path, first, data, terms.private.encoding.fraction_bits)
    assert str(before.value) == str(at_home.value)


def test_a_whole_hospital_as_the_unit_may_have_any_number_of_patients(tmp_path: Path) -> None:
    text = PRIVATE.replace('unit = "patient"', 'unit = "hospital"').replace("patients = 490\n", "")
    assert "This study can run." in check_study(study(tmp_path, text))


MIXING = """
from torch import nn


def build(shape, classes):
    mixing = nn.BatchNorm1d(4, track_running_stats=False)
    return nn.Sequential(nn.Flatten(), nn.Linear(10, 4), mixing, nn.Linear(4, classes))
"""


@pytest.mark.parametrize(("text", "refused"), [(PRIVATE, True), (PLAIN, False)])
def test_a_private_study_of_which_the_model_mixes_patients_is_refused(
    tmp_path: Path, text: str, refused: bool
) -> None:
    path = study(tmp_path, text.replace('kind = "logistic"', 'kind = "module"\nmodule = "net.py:build"'))
    (path / "net.py").write_text(MIXING)
    if refused:
        with pytest.raises(ModelError, match="mixes patients"):
            check_study(path)
    else:
        assert check_study(path)[-1] == "This study can run."


@pytest.mark.parametrize("name", ["[/red]", "\\[/red]", "[bold]Heart[/bold]", "\x1b[2J"])
def test_a_name_in_brackets_is_planned(tmp_path: Path, name: str) -> None:
    old = next(line for line in PLAIN.splitlines() if line.startswith("name = "))
    folder = study(tmp_path, PLAIN.replace(old, f"name = {json.dumps(name)}"))
    shown = name.replace("\x1b", "\ufffd")
    assert f"{shown}: who will see what" in planned(folder)[0]
