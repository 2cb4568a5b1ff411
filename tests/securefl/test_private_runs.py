"""Whole private studies: noise in every sum, a charge for every attempt, nothing that counts records."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2

from protocols.ring import signed
from securefl.audit.verify import verify
from securefl.errors import EngineError
from securefl.privacy import PrivacyLedger, spent
from securefl.roles.host import Store
from securefl.roles.terms import Terms
from securefl.run_folder import RunFolder
from securefl.study import Study

HOSPITALS = ["cleveland", "hungary", "switzerland", "va"]
_STUDY = """
name = "Private"
seed = 3
[consortium]
hospitals = {hospitals}
parties = 3
[cohort]
minimum_hospitals = 3
[data]
source = "fed-heart"
standardise = "public"
public_mean = [55.0, 130.0, 200.0, 140.0, 1.0, 0.5, 1.5, 0.5, 1.0, 0.5]
public_std = [10.0, 20.0, 50.0, 25.0, 1.0, 0.5, 1.0, 0.5, 1.0, 0.5]
[model]
kind = "mlp"
hidden = [200]
[training]
rounds = {rounds}
learning_rate = 0.2
[privacy]
unit = "{unit}"
noise_multiplier = 2.0
delta = 1e-5
clip = 0.5
{more}
[simulation]
"""
_PATIENTS = "sampling_rate = 0.25\npatients = 490\nlargest_hospital = 250"


def study(
    folder: Path, rounds: int = 2, unit: str = "patient", more: str = _PATIENTS, **changed: str
) -> Path:
    folder.mkdir()
    text = _STUDY.format(hospitals=HOSPITALS, rounds=rounds, unit=unit, more=more)
    for before, after in changed.items():
        assert f"{before} = " in text
        text = "\n".join(
            f"{before} = {after}" if line.startswith(f"{before} = ") else line for line in text.split("\n")
        )
    (folder / "study.toml").write_text(text)
    return folder


def noise_of(run: RunFolder, round_: int) -> np.ndarray:
    """The opened sum without the hospitals' integers, in units: only a test has both."""
    terms = terms_of(run)
    settled = run.settled(round_)
    total = signed(np.frombuffer(settled.total, dtype="<u4"))
    included = settled.signed.outcome.included
    sent = [np.load(run.path / "updates" / f"{h}-{round_}.npy") for h in included]
    return total - np.sum([np.ldexp(v, terms.update.fraction_bits) for v in sent], axis=0)


def terms_of(run: RunFolder) -> Terms:
    loaded = Study.load(run.path / "study")
    return Terms.of(loaded, run.consortium(loaded))


@pytest.fixture(scope="module")
def private_run(tmp_path_factory, play) -> RunFolder:
    folder = tmp_path_factory.mktemp("private")
    return play(study(folder / "study"), folder / "run")


def test_every_sum_has_every_partys_noise(private_run):
    terms = terms_of(private_run)
    variance = 3 * terms.noise_variance(1)
    values = np.concatenate([noise_of(private_run, 1), noise_of(private_run, 2)])
    # Chi-square with so many degrees of freedom; a party less, or one more, is 9 standard deviations off.
    low, high = chi2.ppf([1e-7, 1 - 1e-7], len(values))
    assert low < np.sum(values**2) / variance < high
    for parties in (0, 2, 4):
        assert not low < np.sum(values**2) / max(1, parties * terms.noise_variance(1)) < high
    first, second = noise_of(private_run, 1), noise_of(private_run, 2)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.25


def test_the_first_round_is_a_roll_call(private_run):
    total = signed(np.frombuffer(private_run.settled(0).total, dtype="<u8"))
    terms = terms_of(private_run)
    assert terms.statistics.decode_sum(total).tolist() == [len(HOSPITALS)]
    # Not a number of records: a study that is not private opens those.
    assert len(HOSPITALS) != 490


def test_every_attempt_is_charged_at_every_hospital(private_run):
    terms = terms_of(private_run)
    mechanism = terms.private.mechanism(private_run.settled(1).signed.outcome.context.size)
    for hospital in HOSPITALS:
        ledger = PrivacyLedger("fed-heart", Store(private_run.privacy / hospital / "ledger"))
        assert [(c.round, c.attempt) for c in ledger.charges()] == [(1, 1), (2, 1)]
        assert ledger.total(1e-5).pld == pytest.approx(spent(mechanism, 2, 1e-5, 1).pld)


def test_the_record_verifies_and_says_that_no_sum_was_checked(private_run):
    verdict = verify(private_run.path)
    assert verdict.fault is None
    assert verdict.closed
    assert verdict.unverified == [0, 1, 2]
    assert not verdict.insecure


def test_nothing_of_a_sum_without_noise_is_kept(private_run):
    assert not private_run.clear.exists() or not list(private_run.clear.iterdir())
    for home in private_run.homes.iterdir():
        assert not [p.name for p in home.rglob("*") if p.name.startswith(("pledge-", "total-"))], home


def test_a_budget_that_is_spent_ends_the_hospitals_part(tmp_path, play):
    run, folder = tmp_path / "run", study(tmp_path / "study", rounds=3)
    budget = '[datasets."fed-heart"]\nepsilon = {}\ndelta = 1e-5\n'
    terms = Terms.of(*_members(folder))
    limit = spent(terms.private.mechanism(10 * 200 + 200 + 402), 2, 1e-5, 1).pld * 1.001
    written = tmp_path / "privacy"
    (written / "va").mkdir(parents=True)
    (written / "va" / "budget.toml").write_text(budget.format(limit))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "privacy", property(lambda _self: written))
        finished = play(folder, run)
        absent = [finished.settled(r).signed.outcome.absent for r in (1, 2, 3)]
        assert absent == [{}, {}, {"va": "budget-exceeded"}]
        charges = PrivacyLedger("fed-heart", Store(written / "va" / "ledger")).charges()
        assert [c.round for c in charges] == [1, 2]
        # The same study again, in another run: what was spent stays spent.
        again = play(folder, tmp_path / "again")
        assert all("va" in again.settled(r).signed.outcome.absent for r in (1, 2, 3))


def _members(folder: Path):
    from securefl.study_check import members_of

    loaded = Study.load(folder)
    return loaded, members_of(loaded)


def test_too_few_hospitals_with_budget_end_the_study(tmp_path, play, caplog):
    folder, written = study(tmp_path / "study"), tmp_path / "privacy"
    for hospital in ("va", "hungary"):
        (written / hospital).mkdir(parents=True)
        (written / hospital / "budget.toml").write_text(
            '[datasets."fed-heart"]\nepsilon = 1e-4\ndelta = 1e-5\n'
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "privacy", property(lambda _self: written))
        with pytest.raises(EngineError, match=r"needs 3 .*more privacy than its budget") as refused:
            play(folder, tmp_path / "run")
    # What the hospitals have spent, and their budgets, are theirs.
    assert "0.0001" in caplog.text  # the control
    assert not re.search(r"\d\.\d|e-\d", str(refused.value))


def test_a_whole_hospital_can_be_the_unit(tmp_path, play):
    folder = study(tmp_path / "study", unit="hospital", more="", minimum_hospitals="4")
    run = play(folder, tmp_path / "run")
    terms = terms_of(run)
    for hospital in HOSPITALS:
        sent = np.ldexp(np.load(run.path / "updates" / f"{hospital}-1.npy"), terms.update.fraction_bits)
        assert sum(int(v) ** 2 for v in sent) <= terms.private.clip_units**2
    assert verify(run.path).fault is None


def test_the_committee_lets_every_honest_hospital_in(tmp_path, play):
    folder = study(tmp_path / "study", more=_PATIENTS + "\ncheck_norms = true")
    run = play(folder, tmp_path / "run")
    assert [run.settled(r).signed.outcome.absent for r in (1, 2)] == [{}, {}]
    terms = terms_of(run)
    drawn = terms.private.norm_units_per_clip
    assert 62 < drawn < 250  # of 250 patients a quarter is drawn on average
