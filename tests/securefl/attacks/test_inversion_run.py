"""Inversion of whole runs: what is attacked, what is said about it, and the picture."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from securefl.attacks.inversion_picture import inversion_picture
from securefl.attacks.inversion_run import run_inversion
from securefl.attacks.inversion_trial import (
    MARGIN,
    InversionReport,
    InversionResult,
    Targets,
    attack,
    bootstrap_interval,
)
from securefl.attacks.views import COORDINATOR, PARTIES, PLAINTEXT, SUM, VIEWS
from securefl.data import Records
from securefl.errors import ModelError, RunError, SecureFLError
from securefl.models.build import mlp

STUDY = """\
name = "Blobs"
seed = 1
[simulation]
baselines = []
[consortium]
hospitals = 3
[data]
source = "module"
module = "blobs.py:load"
[model]
kind = "mlp"
hidden = [12]
[training]
rounds = 1
learning_rate = 0.1
"""

BLOBS = """\
import numpy as np

SHAPE, CLASSES = (1, 16, 16), 2

def load(hospital, split):
    draw = np.random.default_rng(list((hospital + split).encode()))
    y, x = np.mgrid[:16, :16]
    centres = draw.integers(4, 12, (30 if split == "train" else 10, 2))
    head = 0.6 * ((y - 8) ** 2 + (x - 8) ** 2 < 50)
    spots = [0.4 * np.exp(-((y - a) ** 2 + (x - b) ** 2) / 4) for a, b in centres]
    return [((head + spot).reshape(SHAPE), int(a > 7)) for spot, (a, _) in zip(spots, centres)]
"""


@pytest.fixture(scope="module")
def ran(play, tmp_path_factory):
    place = tmp_path_factory.mktemp("blobs")
    (place / "study").mkdir()
    (place / "study" / "study.toml").write_text(STUDY)
    (place / "study" / "blobs.py").write_text(BLOBS)
    return play(place / "study", place / "run").path


@pytest.fixture(scope="module")
def report(ran):
    return run_inversion(ran, targets=3, seed=5, iterations=20, restarts=1)


def test_one_plaintext_update_gives_the_record_away(report):
    found = next(r for r in report.results if (r.view, r.method) == (PLAINTEXT, "ratio"))
    assert found.succeeded
    assert min(found.each) > 0.99
    assert found.interval[1] > MARGIN
    assert not found.no_better_than_prior
    assert (found.labels_found, report.best(PLAINTEXT)) == (1.0, found)


@pytest.mark.parametrize("view", [COORDINATOR, PARTIES])
def test_what_is_masked_is_no_better_than_the_prior_for_every_attack(report, view):
    found = [r for r in report.results if r.view == view]
    assert {r.method for r in found} == {"ratio", "idlg", "cosine"}
    # An image out of masks can be the prior but for a hair, for all three targets, and a hair better by chance: whether
    # the interval begins at 0 is chance then, where it ends is not.
    assert all(r.interval[1] <= MARGIN and not r.succeeded for r in found)


def test_a_report_says_what_was_attacked_and_is_plain_json(report):
    plain = json.loads(json.dumps(report.to_json()))
    assert (plain["study"], plain["hospital"], plain["model"]) == ("Blobs", "hospital-1", "study")
    assert (plain["targets"], plain["private"], plain["parameters"]) == (3, False, 257 * 12 + 13 * 2)
    assert len(plain["results"]) == 3 * len(VIEWS)
    assert {row["view"] for row in plain["results"]} == set(VIEWS)


@pytest.mark.slow
def test_the_targets_and_the_search_follow_the_seed(ran, report):
    again = run_inversion(ran, targets=3, seed=5, methods=("cosine",), iterations=20, restarts=1)
    assert np.array_equal(again.originals, report.originals)
    # Masks and ciphertext are new each time; the plaintext and the opened sum are the run's own.
    for view in (PLAINTEXT, SUM):
        assert np.array_equal(again.images[view, "cosine"], report.images[view, "cosine"])
    other = run_inversion(ran, targets=3, seed=6, methods=("ratio",))
    assert not np.array_equal(other.originals, report.originals)


@pytest.mark.slow
def test_the_small_network_takes_the_place_of_the_studys(ran):
    found = run_inversion(
        ran, targets=2, model="small", methods=("ratio", "idlg"), iterations=150, restarts=1
    )
    assert found.model == "small"
    assert "first linear layer" in found.skipped["ratio"]
    assert found.best(PLAINTEXT).succeeded
    assert all(found.best(view).ssim < 0.5 for view in (COORDINATOR, PARTIES))


def test_a_picture_is_drawn(report, tmp_path):
    path = inversion_picture(report, tmp_path / "inversion.png", rows=2, note="made-up blobs")
    drawn = imread(path)
    assert drawn.shape[1] > drawn.shape[0] > 300
    assert drawn[..., :3].std() > 0.1


def test_what_cannot_be_attacked_is_refused(ran, tmp_path):
    with pytest.raises(RunError, match="Between 2 and 30 patients"):
        run_inversion(ran, targets=31)
    with pytest.raises(ModelError, match="no attack called"):
        run_inversion(ran, targets=2, methods=("guess",))
    with pytest.raises(SecureFLError):
        run_inversion(tmp_path / "nothing", targets=2)


@pytest.mark.slow
def test_records_that_are_no_images_are_refused(play, tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.toml").write_text(STUDY)
    (tmp_path / "study" / "blobs.py").write_text(BLOBS.replace("(1, 16, 16)", "(256,)"))
    run = play(tmp_path / "study", tmp_path / "run").path
    with pytest.raises(RunError, match="attack a study on images"):
        run_inversion(run, targets=2)


def test_a_study_that_is_no_simulation_is_refused(ran, tmp_path):
    import shutil

    shutil.copytree(ran, tmp_path / "run")
    study = tmp_path / "run" / "study" / "study.toml"
    study.write_text(
        STUDY.replace("[simulation]\nbaselines = []\n", "").replace(
            "hospitals = 3", 'file = "consortium.toml"'
        )
    )
    shutil.copy(tmp_path / "run" / "consortium.toml", study.parent)
    with pytest.raises(RunError, match=r"not marked \[simulation\]"):
        run_inversion(tmp_path / "run", targets=2)


def result(low, high, ssim=0.5):
    return InversionResult(SUM, "idlg", ssim, 10.0, 0.4, (low + high) / 2, (low, high), 0.0, (ssim, ssim))


@pytest.mark.parametrize(
    ("low", "high", "no_better"),
    [(-0.2, -0.1, True), (-0.1, 0.0, True), (-0.1, MARGIN, True), (-0.1, 0.2, False), (0.01, 0.04, False)],
)
def test_no_better_needs_an_interval_that_shows_no_gain_and_leaves_no_room(low, high, no_better):
    assert result(low, high).no_better_than_prior is no_better
    assert result(low, high).to_json()["no_better_than_prior"] is no_better


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=30), st.integers(0, 2**32))
def test_an_interval_encloses_the_mean_and_repeats(values, seed):
    differences = np.array(values)
    low, high = bootstrap_interval(differences, seed)
    assert differences.min() - 1e-9 <= low <= high <= differences.max() + 1e-9
    assert (low, high) == bootstrap_interval(differences, seed)


def test_an_interval_has_the_width_of_the_normal_approximation():
    differences = np.random.default_rng(0).normal(0.1, 0.2, 400)
    low, high = bootstrap_interval(differences, 0)
    assert high - low == pytest.approx(2 * 1.96 * differences.std() / 20, rel=0.05)
    assert low < differences.mean() < high


def test_the_prior_itself_is_no_better_than_the_prior():
    """Control of the measure: an onlooker who sees zeros is left with its start, or less."""
    torch.manual_seed(0)
    draw = np.random.default_rng(0)
    records = Records(draw.random((4, 1, 16, 16)).astype(np.float32), np.array([0, 1, 0, 1]))
    prior = records.features.mean(0)
    made = attack(
        Targets(mlp((1, 16, 16), 2, [32], 0.0), records, 2, prior, (0.0, 1.0)),
        lambda gradient: {"nothing": np.zeros_like(gradient), "everything": gradient},
        ("ratio",),
    )
    assert isinstance(made, InversionReport)
    nothing, everything = made.results
    assert (nothing.no_better_than_prior, everything.no_better_than_prior) == (True, False)
    assert everything.succeeded


def test_an_interval_needs_two_targets():
    records = Records(np.zeros((1, 1, 16, 16), dtype=np.float32), np.array([0]))
    with pytest.raises(RunError, match="at least two"):
        attack(
            Targets(mlp((1, 16, 16), 2, [8], 0.0), records, 2, records.features[0], (0.0, 1.0)), lambda g: {}
        )
