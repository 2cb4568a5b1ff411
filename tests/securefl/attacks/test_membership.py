"""Membership inference: scores against their definitions, an overfitted model found out, a private one not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm

from securefl.attacks.central import Plan, honest, last_model, releases
from securefl.attacks.membership import (
    MembershipResult,
    attack_model,
    confidences,
    lira,
    run_membership,
    splits,
)
from securefl.data.records import Records
from securefl.errors import DataError
from securefl.models.build import logistic, mlp
from securefl.study.training_settings import TrainingSettings
from securefl.training.local import train


def noise_records(patients: int, seed: int, each: int = 2) -> Records:
    """Patients of whom there is nothing to learn but who they are: labels are coins."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(patients * each, 20)).astype(np.float32)
    labels = np.repeat(random.integers(0, 2, patients), each)
    return Records(features, labels, np.repeat(np.arange(patients), each))


def network(seed: int = 0) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return mlp((20,), 2, [32], 0.0)


def overfitted(records: Records, number: int) -> torch.nn.Module:
    model = network()
    settings = TrainingSettings(rounds=1, learning_rate=0.1, batch_size=16)
    train(model, records, settings, factors=[1.0] * 30, seed=number)
    return model


def private(records: Records, number: int) -> torch.nn.Module:
    """Noise multiplier 4 with every patient in 5 rounds: epsilon 2.3 at delta 1e-5."""
    plan = Plan(5, 1.0, 1.0, 16, (4 * 2**16) ** 2, 1, 60.0, lambda r: 0.5)
    pieces = honest()
    return last_model(network(), releases(network(), lambda m: pieces.gradients(m, records), plan, pieces))


def by_name(results: list[MembershipResult]) -> dict[str, MembershipResult]:
    return {result.attack: result for result in results}


def test_confidences_are_log_odds_and_losses_averaged_by_patient() -> None:
    records, model = noise_records(5, 1, each=3), network()
    confidence, loss = confidences(model, records)
    probabilities = torch.softmax(model(torch.from_numpy(records.features)).double(), 1).detach().numpy()
    mine = probabilities[np.arange(15), records.labels]
    np.testing.assert_allclose(confidence, np.log(mine / (1 - mine)).reshape(5, 3).mean(1), rtol=1e-5)
    np.testing.assert_allclose(loss, -np.log(mine).reshape(5, 3).mean(1), rtol=1e-5)


def test_confidence_does_not_overflow_where_a_probability_rounds_to_one() -> None:
    model = logistic((1,), 2)
    torch.nn.init.constant_(model[1].weight, 0.0)
    with torch.no_grad():
        model[1].bias.copy_(torch.tensor([300.0, 0.0]))
    confidence, _ = confidences(model, Records(np.zeros((2, 1), np.float32), np.array([0, 1])))
    np.testing.assert_allclose(confidence, [300, -300])


def test_every_patient_is_in_and_out_of_the_shadows() -> None:
    inside = splits(50, 33, 16, seed=4)
    assert (inside.sum(axis=0) == round(16 * 33 / 50)).all()
    few = splits(50, 49, 4, seed=4).sum(axis=0)
    assert set(few) == {2}
    np.testing.assert_array_equal(inside, splits(50, 33, 16, seed=4))
    assert not np.array_equal(inside, splits(50, 33, 16, seed=5))
    with pytest.raises(DataError, match="at least 4 shadow models"):
        splits(50, 33, 3, seed=4)


@pytest.mark.parametrize("few", [0, 1000])
def test_lira_is_the_ratio_of_two_fitted_gaussians(few: int) -> None:
    random = np.random.default_rng(2)
    inside = splits(6, 3, 40, seed=0)
    shadows = random.normal(inside * np.arange(1, 7), np.linspace(0.5, 2, 6))
    confidence = random.normal(size=6)
    fits = [[(shadows[flags[:, i], i].mean(), shadows[flags[:, i], i].var(ddof=1)) for i in range(6)]
            for flags in (inside, ~inside)]  # fmt: skip
    # All have twenty shadows each way, so that the common variance is the mean of the single ones.
    common = [np.mean([v for _, v in fit]) for fit in fits]
    wanted = [
        norm.logpdf(confidence[i], fits[0][i][0], np.sqrt(common[0] if few else fits[0][i][1]))
        - norm.logpdf(confidence[i], fits[1][i][0], np.sqrt(common[1] if few else fits[1][i][1]))
        for i in range(6)
    ]
    np.testing.assert_allclose(lira(confidence, shadows, inside, few=few), wanted, rtol=1e-9)


def test_a_patient_whom_no_shadow_tells_of_scores_nothing() -> None:
    inside = np.array([[True, False, True], [False, False, True], [True, False, True], [False, False, True]])
    scores = lira(np.array([5.0, 5.0, 5.0]), np.random.default_rng(0).normal(size=(4, 3)), inside)
    assert scores[0] != 0
    assert scores[1] == scores[2] == 0


def test_an_overfitted_model_gives_its_members_away() -> None:
    members, others = noise_records(60, 10), noise_records(60, 11)
    results, trained = attack_model(overfitted(members, -1), members, others, overfitted, shadows=12, seed=1)
    found = by_name(results)
    assert trained == 12
    assert found["loss"].roc.auc.low > 0.65
    assert found["lira"].roc.auc.low > 0.7
    assert found["lira"].roc.tpr_at(found["lira"].roc.smallest_fpr).low > 0.1


def test_people_who_are_all_strangers_are_not_told_apart() -> None:
    """The control: the same attack, by the same shadows, on a model that was trained on neither group."""
    members, others, third = (noise_records(60, seed) for seed in (10, 11, 12))
    results, _ = attack_model(overfitted(third, -1), members, others, overfitted, shadows=8, seed=1)
    # 1.96 standard errors would fail one time in twenty; the seeds are fixed.
    assert all(r.roc.auc.low < 0.5 < r.roc.auc.high for r in results)


def test_a_private_model_gives_less_away() -> None:
    members, others = noise_records(60, 10), noise_records(60, 11)
    results, _ = attack_model(private(members, 0), members, others, private, shadows=6, seed=1)
    # Four standard errors of an area of one half: 4 * sqrt((60 + 60 + 1) / (12 * 60 * 60)) = 0.21.
    assert all(r.roc.auc.value < 0.5 + 0.21 for r in results)


def test_a_limit_of_time_leaves_the_least_number_of_shadows() -> None:
    members, others = noise_records(20, 10), noise_records(20, 11)
    results, trained = attack_model(
        overfitted(members, 0), members, others, overfitted, shadows=40, seed=1, seconds=0.0
    )
    assert trained == 4
    assert [r.attack for r in results] == ["lira", "loss"]
    assert [r.attack for r in attack_model(network(), members, others, overfitted, shadows=0, seed=1)[0]] == [
        "loss"
    ]


STUDY = """
name = "membership"
seed = 3
[consortium]
hospitals = 3
[data]
source = "fed-heart"
partition = {kind = "iid"}
STANDARDISE
[model]
kind = "mlp"
hidden = [32]
[training]
rounds = ROUNDS
learning_rate = RATE
[simulation]
baselines = []
exhibits = false
"""


@pytest.mark.slow
def test_a_run_without_privacy_is_attacked_from_its_folder(tmp_path: Path) -> None:
    from securefl.running import run

    text = (
        STUDY.replace("STANDARDISE", 'standardise = "features"').replace("ROUNDS", "3").replace("RATE", "0.1")
    )
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.toml").write_text(text)
    result = run(tmp_path / "study", tmp_path / "run", progress=False)
    report = run_membership(tmp_path / "run", shadows=4, seed=0)
    found = report.to_json()
    assert (found["private"], found["shadows"]) == (False, 4)
    assert found["attacks"]["loss"]["members"] + found["attacks"]["loss"]["non_members"] == 740
    assert report.picture().startswith(b"\x89PNG")
    # The attacked model is the released one: its loss on the held-out records is the run's.
    from securefl.attacks.released import rebuilt

    again = rebuilt(tmp_path / "run")
    for name, tensor in result.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name])


@pytest.mark.slow
def test_a_private_run_is_attacked_and_audited_from_its_folder(tmp_path: Path) -> None:
    from securefl.attacks.canaries import run_canaries
    from securefl.attacks.released import plan_of, rebuilt
    from securefl.running import run

    public = (
        'standardise = "public"\npublic_mean = [50.0, 130.0, 220.0, 140.0, 1.0, 0.7, 2.0, 0.1, 0.6, 0.4]\n'
        + ("public_std = [10.0, 18.0, 90.0, 25.0, 1.0, 0.5, 1.0, 0.4, 0.8, 0.5]")
    )
    text = STUDY.replace("STANDARDISE", public).replace("ROUNDS", "10").replace("RATE", "1.0")
    text += "[privacy]\nepsilon = 2.0\ndelta = 1e-5\nclip = 1.0\nsampling_rate = 0.2\npatients = 490\n"
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.toml").write_text(text)
    run(tmp_path / "study", tmp_path / "run", progress=False)
    report = run_membership(tmp_path / "run", shadows=4, seed=0)
    assert report.private
    assert all(r.roc.auc.low < 0.55 for r in report.results)
    plan = plan_of(rebuilt(tmp_path / "run").world)
    assert (plan.rounds, plan.rate, plan.denominator, plan.parties) == (10, 0.2, 98.0, 3)
    audit = run_canaries(tmp_path / "run", 200)
    # Without collusion less than the target is spent: three parties' noise, where the target counts two.
    assert 1.0 < audit.result.claimed_epsilon < 2.0
    assert not audit.result.refuted
    assert "not above the claim" in audit.sentence
    refuted = replace(audit, result=replace(audit.result, lower_bound=9.0))
    assert "does not keep it" in refuted.sentence
