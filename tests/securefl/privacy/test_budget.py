"""A hospital's budget file: read strictly, and absent only if it is not there."""

from __future__ import annotations

import pytest

from securefl.privacy import Budget, PrivacyError, read_budgets

SOUND = """
[datasets."/srv/mri"]
epsilon = 8.0
delta = 1e-5

[datasets.fed-heart]
epsilon = 1.0
delta = 1e-6
unit = "hospital"
"""


def test_it_is_read(tmp_path):
    path = tmp_path / "budget.toml"
    assert read_budgets(path) is None
    path.write_text(SOUND)
    budgets = read_budgets(path)
    assert budgets.of("/srv/mri") == Budget(epsilon=8.0, delta=1e-5)
    assert budgets.of("fed-heart") == Budget(epsilon=1.0, delta=1e-6, unit="hospital")


def test_a_dataset_that_it_does_not_name_may_not_be_used(tmp_path):
    path = tmp_path / "budget.toml"
    path.write_text(SOUND)
    with pytest.raises(PrivacyError, match="/srv/mir"):
        read_budgets(path).of("/srv/mir")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("epsilon = 8.0", "epsilon = 0.0", "epsilon"),
        ("epsilon = 8.0", "epsilon = -1.0", "epsilon"),
        ("epsilon = 8.0", "epsilon = inf", "epsilon"),
        ("epsilon = 8.0", "epsilon = nan", "epsilon"),
        ("epsilon = 8.0", 'epsilon = "8"', "epsilon"),
        ("epsilon = 8.0", "", "epsilon"),
        ("epsilon = 8.0", "epsilon = 8.0\nepsilons = 9.0", "epsilons"),
        ("delta = 1e-5", "delta = 0.0", "delta"),
        ("delta = 1e-5", "delta = 1.0", "delta"),
        ('unit = "hospital"', 'unit = "record"', "unit"),
        ("[datasets.fed-heart]", "[dataset.fed-heart]", "dataset"),
        ("[datasets.fed-heart]", "[datasets.fed-heart", "TOML"),
        ("epsilon = 8.0", "epsilon = " + "[" * 5000, "TOML: it is nested too deeply"),
        ("epsilon = 8.0", "epsilon = " + "9" * 5000, "TOML: a number in it is too long"),
    ],
)
def test_what_is_wrong_in_it_is_named(tmp_path, old, new, named):
    path = tmp_path / "budget.toml"
    assert old in SOUND
    path.write_text(SOUND.replace(old, new))
    with pytest.raises(PrivacyError, match=named) as error:
        read_budgets(path)
    assert str(path) in str(error.value)


def test_a_file_that_cannot_be_read_is_no_absent_one(tmp_path):
    for path in (tmp_path, tmp_path / "latin.toml"):
        if path != tmp_path:
            path.write_bytes(b'[datasets."\xe9"]')
        with pytest.raises(PrivacyError):
            read_budgets(path)
    path = tmp_path / "empty.toml"
    path.write_text("")
    with pytest.raises(PrivacyError, match="datasets"):
        read_budgets(path)
