"""The network with fixed public filters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from securefl.errors import ModelError
from securefl.models import Layout
from securefl.models.filtered_cnn import WIDTHS, PublicFilters, filtered_cnn


def test_it_has_as_few_weights_as_it_says_and_its_filters_are_none_of_them() -> None:
    network = filtered_cnn((1, 48, 48), 2, [16])
    layout = Layout.of(network)
    assert layout.size == layout.trainable_size == 7 * 16 + 16 + 2 * 16 * 2 + 2 == 194


def test_a_spot_answers_as_scipys_difference_of_gaussians() -> None:
    """Far from the border and without background the normalised smoothing is the plain one."""
    image = np.full((64, 64), 1.0)
    image[30:35, 28:33] += 2.0
    found = PublicFilters()(torch.tensor(image, dtype=torch.float32)[None, None])[0].numpy()
    for k in range(2):
        fine, coarse = (gaussian_filter(image, width, truncate=2.5) for width in WIDTHS[k : k + 2])
        assert found[k, 10:22, 10:22] == pytest.approx(2 * (fine - coarse)[20:44:2, 20:44:2], abs=0.02)
    assert found[1].max() > 0.5


def test_an_even_head_gives_nothing_and_a_spot_on_one_side_does() -> None:
    head = np.zeros((48, 48), dtype=np.float32)
    head[8:40, 8:40] = 0.7
    even = PublicFilters()(torch.tensor(head)[None, None])
    assert even.abs().max() < 1e-5  # the edge of the head is no spot: the background does not count
    head[20:25, 12:17] = 2.0
    odd = PublicFilters()(torch.tensor(head)[None, None])
    assert odd[0, 5].abs().max() > 0.5


def test_opacus_gives_each_records_gradient() -> None:
    from opacus import GradSampleModule

    torch.manual_seed(0)
    images, labels = torch.randn(3, 1, 16, 16), torch.tensor([0, 1, 1])
    network = filtered_cnn((1, 16, 16), 2, [4])
    loss = torch.nn.CrossEntropyLoss(reduction="sum")
    alone = []
    for k in range(3):
        network.zero_grad()
        loss(network(images[k : k + 1]), labels[k : k + 1]).backward()
        alone.append(
            torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]).clone()
        )
    network.zero_grad()
    wrapped = GradSampleModule(network, loss_reduction="sum")
    loss(wrapped(images), labels).backward()
    together = torch.cat([p.grad_sample.flatten(1) for p in wrapped.parameters()], dim=1)
    assert torch.allclose(together, torch.stack(alone), atol=1e-5)


def test_it_refuses_what_is_no_image() -> None:
    for shape, channels in (((10,), [4]), ((1, 4, 4), [4]), ((1, 16, 16), [])):
        with pytest.raises(ModelError, match="8 by 8 pixels"):
            filtered_cnn(shape, 2, channels)
