"""ResNet-18 for small images."""

from __future__ import annotations

import pytest
import torch

from securefl.errors import ModelError
from securefl.models import Layout
from securefl.models.build import check_averageable
from securefl.models.resnet import resnet18

# 11,176,512 weights of torchvision's network without its first (9,408) and last layer (513,000 of 11,689,512).
TRUNK = 11_689_512 - 9_408 - 513_000


@pytest.mark.parametrize(
    ("shape", "first"), [((1, 48, 48), 64 * 9), ((3, 32, 32), 3 * 64 * 9), ((1, 128, 96), 64 * 49)]
)
def test_it_has_the_published_size_apart_from_first_and_last_layer(
    shape: tuple[int, ...], first: int
) -> None:
    layout = Layout.of(resnet18(shape, 2))
    assert layout.trainable_size == TRUNK + first + 2 * 513


def test_small_images_keep_their_size_until_the_second_stage() -> None:
    torch.manual_seed(0)
    network = resnet18((1, 48, 48), 2)
    seen: list[torch.Size] = []
    network.get_submodule("layer1").register_forward_hook(lambda *given: seen.append(given[2].shape))
    scores = network.eval()(torch.randn(2, 1, 48, 48))
    assert scores.shape == (2, 2)
    assert seen == [torch.Size((2, 64, 48, 48))]


def test_large_images_are_reduced_first() -> None:
    network = resnet18((1, 128, 96), 3)
    seen: list[torch.Size] = []
    network.get_submodule("layer1").register_forward_hook(lambda *given: seen.append(given[2].shape))
    assert network.eval()(torch.zeros(1, 1, 128, 96)).shape == (1, 3)
    assert seen == [torch.Size((1, 64, 32, 24))]


def test_it_can_be_averaged_and_starts_from_the_seed_alone() -> None:
    vectors = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        network = resnet18((1, 48, 48), 2)
        check_averageable(network)
        vectors.append(Layout.of(network).flatten(network))
    assert (vectors[0] == vectors[1]).all()
    assert (vectors[0] != vectors[2]).any()


def test_it_refuses_what_is_no_image() -> None:
    with pytest.raises(ModelError, match="not \\(10,\\)"):
        resnet18((10,), 2)
