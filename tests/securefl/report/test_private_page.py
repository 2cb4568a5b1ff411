"""The pages of a private study: what is said of noise, checks and counts holds for it, and for a plain study too."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from securefl.privacy import spent
from securefl.report import write_report
from securefl.report.evidence import gather
from securefl.report.evidence_page import write_evidence
from securefl.report.results import accuracy_rows, aggregate_rows
from securefl.report.words import collusion
from securefl.run_folder import RunFolder

STUDY = """
name = "Private"
seed = 1
[consortium]
hospitals = ["cleveland", "hungary", "switzerland", "va"]
parties = 3
[data]
source = "fed-heart"
standardise = "public"
public_mean = [55.0, 130.0, 200.0, 140.0, 1.0, 0.5, 1.5, 0.5, 1.0, 0.5]
public_std = [10.0, 20.0, 50.0, 25.0, 1.0, 0.5, 1.0, 0.5, 1.0, 0.5]
[model]
kind = "logistic"
[training]
rounds = 2
learning_rate = 0.1
[privacy]
unit = "patient"
noise_multiplier = 1.5
delta = 1e-5
clip = 0.5
sampling_rate = 0.2
patients = 490
largest_hospital = 250
[simulation]
"""
PLAIN = re.sub(r"\[privacy\].*\[simulation\]", "[simulation]\nbaselines = []", STUDY, flags=re.DOTALL)


def played(play: Callable[..., RunFolder], folder: Path, text: str, **how: bool) -> RunFolder:
    (folder / "source").mkdir()
    (folder / "source" / "study.toml").write_text(text)
    return play(folder / "source", folder / "run", **how)


@pytest.fixture(scope="module")
def private_once(tmp_path_factory: pytest.TempPathFactory, play: Callable[..., RunFolder]) -> RunFolder:
    return played(play, tmp_path_factory.mktemp("private"), STUDY)


@pytest.fixture
def private(private_once: RunFolder, tmp_path: Path) -> RunFolder:
    """A finished private run, to be changed at will."""
    return RunFolder(Path(shutil.copytree(private_once.path, tmp_path / "run")))


@pytest.fixture(scope="module")
def normed(tmp_path_factory: pytest.TempPathFactory, play: Callable[..., RunFolder]) -> RunFolder:
    """A private run whose committee checks norms, with a dealer, against parties that do not collude."""
    text = STUDY.replace("clip = 0.5", "clip = 0.5\ncheck_norms = true\ncolluding_parties = 0")
    return played(play, tmp_path_factory.mktemp("normed"), text)


def text_of(page: str) -> str:
    """What a reader reads: without style, charts and tags."""
    page = re.sub(r"<(style|svg).*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", page)).split())


def report(run: RunFolder) -> str:
    return text_of(write_report(run).read_text())


def test_the_model_has_the_epsilon_that_was_spent_and_is_not_called_unprotected(private: RunFolder) -> None:
    text, terms = report(private), gather(private).terms
    assert terms is not None
    assert terms.private is not None
    size = private.settled(1).signed.outcome.context.size
    epsilon = spent(terms.private.mechanism(size), 2, 1e-5, 1)
    assert "The model is protected up to epsilon, and no further" in text
    assert f"for each patient: epsilon {epsilon.pld:.3g} (PLD; bound by RDP: {epsilon.rdp:.3g})" in text
    assert "epsilon is stated for 1 that does" in text
    assert "Privacy spent in evidence.html" in text
    assert "Privacy spent" in text_of(write_evidence(private)[0].read_text())
    for false in ("The model itself", "without noise. Without", "Without differential privacy"):
        assert false not in text


def test_nobody_is_said_to_notice_a_wrong_sum(private: RunFolder) -> None:
    text = report(private)
    assert "Nobody notices: the hospitals cannot check a sum with noise in it" in text
    assert "The hospitals cannot check the sum" in text
    assert "The hospitals' check notices" not in text
    assert "The hospitals then check" not in text


def test_no_number_of_records_is_said_to_be_opened(private: RunFolder) -> None:
    text = report(private)
    assert "no number of records is opened, not even the total" in text
    assert "the public number that the study names: 490 patients" in text
    assert "numbers of records are not" in text
    assert "Round 0 is a roll call" in text
    for false in ("total number of records", "sums that inputs are standardised", "statistics round"):
        assert false not in text
    (private.path / "partition.json").unlink()
    text = report(private)
    assert "Not known. No number of records is opened" in text
    assert "total number of records" not in text
    assert "Round 0 is a roll call." in text_of(write_evidence(private)[0].read_text())


def test_what_a_private_simulation_did_not_do_is_not_said(private: RunFolder) -> None:
    text = report(private)
    assert "The dashed line" not in text
    assert "are counted in epochs" not in text
    assert "Records were pooled" not in text
    assert "are shown without noise" in text
    assert "one draw of patients and noise" in text
    assert not gather(private).baselines


def test_norms_and_the_dealer_are_there_only_where_norms_are_checked(
    private: RunFolder, normed: RunFolder
) -> None:
    text = report(private)
    assert "Nobody checks its norm" in text
    assert "dealer" not in text
    text, terms = report(normed), gather(normed).terms
    assert terms is not None
    assert terms.private is not None
    bound = terms.private.norm_bound_units / 2**terms.update.fraction_bits
    assert f"one that is twice as long as {bound:g} is left out" in text
    assert "The dealer is trusted to work with nobody" in text
    assert "Nobody checks its norm" not in text
    assert "epsilon is stated for none that does" in text


def test_the_opened_sums_picture_says_that_there_is_noise_in_it(private: RunFolder) -> None:
    text = report(private)
    assert "The opened sum The update is part of it. So is the noise of every party." in text


def test_figures_say_what_they_hold_for(private: RunFolder, normed: RunFolder) -> None:
    one, none = (json.loads(run.summary_file.read_text()) for run in (private, normed))
    meaning = {row.key: row.meaning for row in [*accuracy_rows(one), *aggregate_rows(one)]}
    assert meaning["privacy"] == "For each patient, at delta 1e-05, if 1 party colludes."
    assert meaning["rounds"] == "After a roll call."
    assert accuracy_rows(none)[-1].meaning == "For each patient, at delta 1e-05, if no party colludes."


def test_the_first_round_is_a_roll_call_whatever_the_summary_lacks(private: RunFolder) -> None:
    summary = json.loads(private.summary_file.read_text())
    assert summary.pop("privacy")
    private.summary_file.write_text(json.dumps(summary))
    text = report(private)
    assert "After a roll call." in text
    assert "After one for statistics." not in text


def test_parties_are_counted_in_words() -> None:
    assert [collusion(n) for n in range(3)] == ["no party colludes", "1 party colludes", "2 parties collude"]


def test_a_plain_study_with_public_constants_opens_the_total_alone(
    tmp_path: Path, play: Callable[..., RunFolder]
) -> None:
    text = report(played(play, tmp_path, PLAIN))
    assert "only the total number of records is opened, once, before training" in text
    assert "; the total number of records is opened to all." in text
    assert "sums for standardising" not in text
    assert "The model itself is not protected" in text
    assert "The hospitals then check the sum" in text
    assert "The hospitals' check notices" in text
    assert "Round 0 is the statistics round" in text
    assert "The dashed line" not in text
    assert "noise of every party" not in text


def test_a_plain_study_keeps_its_comparisons_caption(finished: RunFolder) -> None:
    text = report(finished)
    assert "The dashed line repeats the training" in text
    assert "are counted in epochs" in text
    assert "Records were pooled for the comparisons" in text


def test_an_insecure_run_has_no_check_to_speak_of(tmp_path: Path, play: Callable[..., RunFolder]) -> None:
    text = report(played(play, tmp_path, PLAIN + "[aggregation]\nnorm_bound = 1.0\n", insecure=True))
    assert "In this run nobody checked the sum." in text
    assert "Nobody checks its norm" in text
    assert "this study has no bound" not in text


def test_a_study_that_cannot_be_read_gets_no_promise_and_no_verdict_on_noise(private: RunFolder) -> None:
    shutil.rmtree(private.path / "study")
    text = report(private)
    assert "it is not known whether there was noise" in text
    assert "without noise. Without" not in text
    assert "total number of records" not in text
