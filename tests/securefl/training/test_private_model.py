"""What a private study refuses before it reads a record: models that mix or remember, settings that mean nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from securefl.errors import ModelError, StudyError
from securefl.models.build import cnn, logistic, mlp
from securefl.study.schema import StudySettings
from securefl.training.private_model import check_private_model, check_private_settings

IMAGE = (1, 8, 8)


def settings(unit="patient", **training):
    size = {"patients": 20} if unit == "patient" else {}
    return StudySettings.model_validate(
        {
            "name": "Private",
            "seed": 3,
            "consortium": {"hospitals": 3},
            "data": {"source": "fed-heart"},
            "model": {"kind": "logistic"},
            "training": {"rounds": 2, "learning_rate": 0.5, **training},
            "privacy": {"unit": unit, "epsilon": 1.0, "delta": 1e-5, "clip": 1.0, **size},
            "simulation": {},
        }
    )


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["patient", "hospital"])
def test_plain_settings_pass(unit):
    chosen = settings(unit)
    assert check_private_settings(chosen) == chosen.privacy


def changed(chosen, table, **values):
    """Settings that validation has not seen: the check stands by itself."""
    return chosen.model_copy(update={table: getattr(chosen, table).model_copy(update=values)})


LOCAL = [("local_epochs", 2), ("optimizer", "adam"), ("momentum", 0.9), ("weight_decay", 0.01)]


@pytest.mark.parametrize(("name", "value"), LOCAL)
def test_a_patients_study_takes_one_plain_step_a_round(name, value):
    with pytest.raises(StudyError, match=f"set training.{name}"):
        check_private_settings(changed(settings(), "training", **{name: value}))
    check_private_settings(changed(settings("hospital"), "training", **{name: value}))


@pytest.mark.parametrize("unit", ["patient", "hospital"])
@pytest.mark.parametrize("mode", ["features", "channels"])
def test_inputs_are_not_scaled_by_sums_of_records(unit, mode):
    with pytest.raises(StudyError, match="public"):
        check_private_settings(changed(settings(unit), "data", standardise=mode))


def test_a_study_that_is_not_private_is_refused():
    with pytest.raises(StudyError, match="privacy"):
        check_private_settings(settings().model_copy(update={"privacy": None}))


# -- models ------------------------------------------------------------------------------------------------------------


def grouped():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))


@pytest.mark.parametrize(
    "model",
    [
        logistic(IMAGE, 2),
        mlp(IMAGE, 2, [8], 0.5),
        cnn(IMAGE, 2, [4, 8], 0.3, False),
        grouped(),
        nn.Sequential(nn.Flatten(), nn.LayerNorm(64), nn.Linear(64, 2)),
    ],
    ids=["logistic", "mlp", "cnn", "group norm", "layer norm"],
)
@pytest.mark.parametrize("training", [True, False])
def test_models_that_treat_each_record_by_itself_pass_and_stay_as_they_are(model, training):
    model.train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    check_private_model(model, settings(), IMAGE)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert model.training == training
    assert torch.equal(torch.get_rng_state(), state)


class Wrapped(nn.Module):
    """A linear model, with something done to the records before."""

    def __init__(self, change):
        super().__init__()
        self.inner, self.change = logistic(IMAGE, 2), change

    def forward(self, x):
        return self.inner(self.change(x))


class Remembering(Wrapped):
    def __init__(self):
        super().__init__(None)
        self.mean = None

    def forward(self, x):
        self.mean = x.detach().mean() if self.mean is None else (self.mean + x.detach().mean()) / 2
        return self.inner(x - self.mean)


class Counting(Wrapped):
    def __init__(self, persistent):
        super().__init__(None)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64), persistent=persistent)

    def forward(self, x):
        self.seen += len(x)
        return self.inner(x)


class Constants(Wrapped):
    """Integer buffers that never change are allowed: positions, masks."""

    def __init__(self):
        super().__init__(lambda x: x * self.mask)
        self.register_buffer("mask", torch.ones(IMAGE, dtype=torch.bool))


def norm(layer):
    return nn.Sequential(nn.Conv2d(1, 4, 3), layer, nn.Flatten(), nn.Linear(144, 2))


def fails(x):
    raise RuntimeError("no kernel")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (cnn(IMAGE, 2, [4], 0.0, True), "GroupNorm"),
        (norm(nn.BatchNorm2d(4)), "GroupNorm"),
        (norm(nn.BatchNorm2d(4, track_running_stats=False)), "mixes patients"),
        (norm(nn.BatchNorm2d(4, affine=False, track_running_stats=False)), "mixes patients"),
        (norm(nn.InstanceNorm2d(4, affine=True, track_running_stats=True)), "buffer"),
        (norm(nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 1))), "buffer"),
        (Wrapped(lambda x: x - x.mean(0)), "other records"),
        (Wrapped(lambda x: x.flip(0)), "other records"),
        (Wrapped(fails), "cannot be trained"),
        (Wrapped(lambda x: x.detach().requires_grad_(False)[:, :, :4]), "cannot be trained"),
        (Remembering(), "remembers"),
        (Counting(True), "remembers"),
        (Counting(False), "remembers"),
    ],
)
def test_models_that_mix_or_remember_records_are_refused(model, message):
    with pytest.raises(ModelError, match=message):
        check_private_model(model, settings(), IMAGE)


def test_layers_that_opacus_does_not_know_how_to_separate_are_refused():
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.last = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(64, 2)

        def forward(self, x):
            rows = x[:, 0]
            return self.last(self.attention(rows, rows, rows)[0].flatten(1))

    with pytest.raises(ModelError, match="replace that layer"):
        check_private_model(Attending(), settings(), IMAGE)


def test_constants_pass():
    check_private_model(Constants(), settings(), IMAGE)


@pytest.mark.parametrize(
    ("layer", "allowed"), [(nn.BatchNorm2d(4), False), (nn.BatchNorm2d(4, track_running_stats=False), True)]
)
def test_a_hospital_may_mix_its_own_patients_but_has_no_buffers(layer, allowed):
    model = norm(layer)
    if allowed:
        check_private_model(model, settings("hospital"), IMAGE)
    else:
        with pytest.raises(ModelError, match="buffer"):
            check_private_model(model, settings("hospital"), IMAGE)
