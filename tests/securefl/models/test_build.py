"""Models from a study: right shapes, weights by seed alone, and what cannot be averaged is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from securefl.errors import ModelError
from securefl.models import build_model
from securefl.models.build import check_averageable
from securefl.study.training_settings import ModelSettings

CNN = ModelSettings(kind="cnn", channels=[4, 6], dropout=0.5, batch_norm=True)
MLP = ModelSettings(kind="mlp", hidden=[7, 5], dropout=0.5)
LOGISTIC = ModelSettings(kind="logistic")
MODULE = ModelSettings(kind="module", module="model.py:build")
HERE = Path(".")


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from([CNN, MLP, LOGISTIC]),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 33), st.integers(1, 33)),
    classes=st.integers(2, 12),
)
def test_any_image_shape_gives_one_score_a_class(
    kind: ModelSettings, shape: tuple[int, int, int], classes: int
) -> None:
    model = build_model(kind, HERE, shape, classes, seed=1)
    model.train()
    assert model(torch.randn(3, *shape)).shape == (3, classes)


def test_layers_are_as_the_study_says() -> None:
    sizes = [tuple(p.shape) for p in build_model(LOGISTIC, HERE, (10,), 2, 0).parameters()]
    assert sizes == [(2, 10), (2,)]
    sizes = [tuple(p.shape) for p in build_model(MLP, HERE, (2, 3), 4, 0).parameters()]
    assert sizes == [(7, 6), (7,), (5, 7), (5,), (4, 5), (4,)]
    plain = CNN.model_copy(update={"batch_norm": False, "dropout": 0.0})
    sizes = [tuple(p.shape) for p in build_model(plain, HERE, (1, 28, 28), 10, 0).parameters()]
    assert sizes == [(4, 1, 3, 3), (4,), (6, 4, 3, 3), (6,), (10, 6 * 7 * 7), (10,)]


@pytest.mark.parametrize("kind", [CNN, MLP, LOGISTIC])
def test_weights_depend_on_the_seed_alone(kind: ModelSettings) -> None:
    shape = (1, 9, 9)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = build_model(kind, HERE, shape, 3, seed=2**63 - 1).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    again = build_model(kind, HERE, shape, 3, seed=2**63 - 1).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    # Seeds that agree in their low 32 bits are different seeds.
    other = build_model(kind, HERE, shape, 3, seed=2**63 - 1 - 2**40).state_dict()
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_building_leaves_the_running_statistics_at_their_start() -> None:
    state = build_model(CNN, HERE, (1, 8, 8), 2, 0).state_dict()
    assert state["1.num_batches_tracked"] == 0
    assert torch.equal(state["1.running_mean"], torch.zeros(4))


def test_a_users_model(tmp_path: Path) -> None:
    text = "from torch import nn\ndef build(shape, classes):\n    return nn.Linear(shape[0], classes)\n"
    (tmp_path / "model.py").write_text(text, encoding="utf-8")
    first, again = (build_model(MODULE, tmp_path, (6,), 3, seed=4) for _ in range(2))
    assert torch.equal(first.weight, again.weight)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("1 / 0", "fails for shape .* ZeroDivisionError"),
        ("return 3", "must give a torch.nn.Module, not a int"),
        ("return nn.ReLU()", "no parameters"),
        ("return nn.Linear(6, 3).double()", "weight is torch.float64"),
        ("return nn.Linear(6, 3).half()", "weight is torch.float16"),
        ("return nn.LazyLinear(3)", "weight has no shape yet"),
        ("return nn.Linear(5, 3)", "cannot take records of shape"),
        ("return nn.Linear(6, 4)", r"scores of shape \(2, 3\), but it gives \(2, 4\)"),
        ("return nn.LSTM(6, 3)", "but it gives tuple"),
        ("m = nn.Linear(6, 3); m.weight.data[0, 0] = float('nan'); return m", "not finite"),
        ("return nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3, momentum=None))", r"layer 1 averages cumulatively"),
        ("m = nn.Linear(6, 3); m.register_buffer('b', torch.zeros(2).double()); return m", "b is torch.float64"),
        ("m = nn.Linear(6, 3); m.register_buffer('b', torch.zeros(2) * 1j); return m", "b is torch.complex64"),
    ],
)  # fmt: skip
def test_models_that_cannot_be_trained_or_averaged_are_refused(tmp_path: Path, body: str, says: str) -> None:
    text = f"import torch\nfrom torch import nn\ndef build(shape, classes):\n    {body}\n"
    (tmp_path / "model.py").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=says):
        build_model(MODULE, tmp_path, (6,), 3, seed=0)


def test_a_cnn_needs_images() -> None:
    with pytest.raises(ModelError, match='use "mlp"'):
        build_model(CNN, HERE, (10,), 2, seed=0)


def test_batch_normalisation_without_running_statistics_may_have_no_momentum() -> None:
    check_averageable(nn.BatchNorm1d(3, momentum=None, track_running_stats=False))
