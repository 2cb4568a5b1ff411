"""The small network without batch normalisation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from securefl.errors import ModelError
from securefl.models import Layout
from securefl.models.private_cnn import MeanAndMax, small_cnn


def test_its_size_is_below_the_limit_and_the_same_for_every_image_size() -> None:
    sizes = {Layout.of(small_cnn((1, n, n), 2, [16, 32, 32])).size for n in (1, 7, 48, 64)}
    assert sizes == {14_338}
    assert Layout.of(small_cnn((1, 48, 48), 2, [32, 48, 64])).size <= 50_000


def test_records_do_not_mix() -> None:
    """A record's scores are the same whatever else is in the batch; a network with batch normalisation fails this."""
    torch.manual_seed(0)
    images = torch.randn(4, 1, 20, 20)
    network = small_cnn((1, 20, 20), 2, [8, 6])
    assert torch.allclose(network(images)[:1], network(images[:1]), atol=1e-6)
    mixing = nn.Sequential(nn.BatchNorm2d(1), network)
    assert not torch.allclose(mixing(images)[:1], mixing(images[:1]), atol=1e-3)


def test_it_pools_means_and_maxima() -> None:
    images = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert MeanAndMax()(images).tolist() == [[1.5, 5.5, 3.0, 7.0]]


def test_it_refuses_what_is_no_image() -> None:
    with pytest.raises(ModelError, match="not \\(10,\\)"):
        small_cnn((10,), 2, [4])
    with pytest.raises(ModelError, match="at least one entry"):
        small_cnn((1, 8, 8), 2, [])
