"""The attacks by themselves: each finds a record from its gradient, and nothing from what is no gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from securefl.attacks.image_quality import ssim
from securefl.attacks.inversion import gradient_of, invert, recovered_label
from securefl.attacks.inversion_run import published_network
from securefl.errors import ModelError
from securefl.models.build import cnn, mlp

SHAPE, CLASSES = (1, 16, 16), 4


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def record():
    """A disc with a bar through it, and its label."""
    y, x = np.mgrid[:16, :16]
    picture = ((y - 7) ** 2 + (x - 9) ** 2 < 22) * 0.8 + (abs(y - x) < 2) * 0.2
    return picture.astype(np.float32)[None, None], np.array([2])


@pytest.fixture
def small():
    """With the paper's last layer too, as these images are no larger than the paper's."""
    network = published_network(SHAPE, CLASSES)
    draw = torch.Generator().manual_seed(1)
    for parameter in list(network.parameters())[-2:]:
        nn.init.uniform_(parameter, -0.5, 0.5, generator=draw)
    return network


def like(found, record):
    return ssim(found.image, record[0][0], 1.0)


@pytest.mark.parametrize("method", [pytest.param("dlg", marks=pytest.mark.slow), "idlg", "cosine"])
def test_a_search_finds_the_record_and_its_label(small, record, method):
    found = invert(small, gradient_of(small, *record), SHAPE, CLASSES, method, iterations=150)
    assert found.label == 2
    assert like(found, record) > (0.8 if method == "cosine" else 0.99)


@pytest.mark.parametrize("method", ["idlg", "cosine"])
def test_control_without_the_gradient_nothing_is_found(small, record, method):
    gradient = gradient_of(small, *record)
    shuffled = np.random.default_rng(0).permutation(gradient)
    assert like(invert(small, shuffled, SHAPE, CLASSES, method, iterations=60), record) < 0.3


def test_control_another_records_gradient_finds_that_record(small, record):
    other = record[0][:, :, ::-1].copy(), np.array([1])
    found = invert(small, gradient_of(small, *other), SHAPE, CLASSES, "idlg", iterations=120)
    assert like(found, other) > 0.99
    assert like(found, record) < 0.6


def test_a_quotient_gives_the_record_where_the_first_layer_is_linear(record):
    torch.manual_seed(0)
    model = mlp(SHAPE, CLASSES, [16], 0.0)
    found = invert(model, gradient_of(model, *record), SHAPE, CLASSES, "ratio")
    np.testing.assert_allclose(found.image, record[0][0], atol=1e-5)
    assert (found.label, found.loss) == (2, 0.0)


def test_a_clipped_gradient_is_inverted_by_who_knows_the_clip(small, record):
    gradient = gradient_of(small, *record)
    clip = 0.1 * float(np.linalg.norm(gradient))
    found = [
        invert(small, 0.1 * gradient, SHAPE, CLASSES, "idlg", iterations=120, clip=c) for c in (clip, None)
    ]
    assert like(found[0], record) > 0.99 > like(found[1], record)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("label", range(CLASSES))
def test_the_label_is_read_off_the_last_layer(record, bias, label):
    torch.manual_seed(label)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 9), nn.Sigmoid(), nn.Linear(9, CLASSES, bias=bias))
    gradient = gradient_of(model, record[0], np.array([label]))
    assert recovered_label(model, gradient, CLASSES) == label


def test_a_seed_fixes_the_search(small, record):
    gradient = gradient_of(small, *record)
    runs = [
        invert(small, gradient, SHAPE, CLASSES, method, iterations=5, seed=seed, restarts=2)
        for method in ("dlg", "cosine")
        for seed in (1, 1, 2)
    ]
    for one, same, other in (runs[:3], runs[3:]):
        assert np.array_equal(one.image, same.image)
        assert one.loss == same.loss
        assert not np.array_equal(one.image, other.image)


def test_a_search_begins_where_it_is_told(small, record):
    gradient = gradient_of(small, *record)
    at = record[0][0]
    near = invert(small, gradient, SHAPE, CLASSES, "idlg", iterations=1, start=at)
    assert near.loss < 1e-9
    np.testing.assert_allclose(near.image, at, atol=1e-3)


def test_the_best_of_several_searches_counts(small, record):
    gradient = gradient_of(small, *record)
    losses = [
        invert(small, gradient, SHAPE, CLASSES, "cosine", iterations=20, restarts=n, seed=1).loss
        for n in (1, 2, 3, 4)
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("method", ["dlg", "idlg", "cosine"])
@pytest.mark.parametrize("scale", [0.0, 1e12])
def test_what_is_no_gradient_gives_an_image_all_the_same(small, method, scale):
    nonsense = scale * np.random.default_rng(0).normal(size=sum(p.numel() for p in small.parameters()))
    found = invert(small, nonsense, SHAPE, CLASSES, method, iterations=5, low=-1.0, high=2.0)
    assert found.image.shape == SHAPE
    assert found.image.min() >= -1
    assert found.image.max() <= 2


def test_the_model_is_left_as_it_was(small, record):
    small.train()
    before = [p.detach().clone() for p in small.parameters()]
    invert(small, gradient_of(small, *record), SHAPE, CLASSES, "cosine", iterations=2)
    assert small.training
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, small.parameters(), strict=True))


def test_a_frozen_layer_has_no_gradient_and_does_no_harm(small, record):
    small[0].weight.requires_grad_(False)
    gradient = gradient_of(small, *record)
    assert not gradient[: small[0].weight.numel()].any()
    assert like(invert(small, gradient, SHAPE, CLASSES, "idlg", iterations=120), record) > 0.9


def test_what_cannot_be_attacked_is_refused(small, record):
    gradient = gradient_of(small, *record)
    with pytest.raises(ModelError, match="no attack called"):
        invert(small, gradient, SHAPE, CLASSES, "guess")
    with pytest.raises(ModelError, match="has shape"):
        invert(small, gradient[:-1], SHAPE, CLASSES, "idlg")
    with pytest.raises(ModelError, match="at least one step"):
        invert(small, gradient, SHAPE, CLASSES, "idlg", iterations=0)
    with pytest.raises(ModelError, match="ratio reads"):
        invert(small, gradient, SHAPE, CLASSES, "ratio")
    headless = nn.Sequential(small, nn.Softplus(), nn.Conv1d(1, 1, 1))
    with pytest.raises(ModelError, match="use dlg"):
        recovered_label(headless, np.zeros(sum(p.numel() for p in headless.parameters())), CLASSES)


@pytest.mark.slow
def test_a_network_with_rectifiers_and_pooling_gives_less_away_but_not_nothing(record):
    """What hospitals train is harder to invert than the network of the papers; that is no protection."""
    torch.manual_seed(1)
    model = cnn(SHAPE, CLASSES, [16, 32], 0.0, batch_norm=False)
    found = invert(model, gradient_of(model, *record), SHAPE, CLASSES, "cosine", iterations=400, restarts=3)
    assert like(found, record) > 0.3
