"""A small convolutional network for private training: it looks for the same thing everywhere, and normalises nothing
over records.

Noise grows with the number of weights and its harm with what they must learn, so the network is small and pools over
the whole image before the last layer: a lesion's place need not be learnt. Batch normalisation would mix patients'
gradients; group normalisation (Wu and He, ECCV 2018) is computed within each record.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from securefl.errors import ModelError


class MeanAndMax(nn.Module):
    """From (n, C, H, W) to (n, 2C): each channel's mean over the image, and its largest value."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([images.mean(dim=(2, 3)), images.amax(dim=(2, 3))], dim=1)


def small_cnn(shape: tuple[int, ...], classes: int, channels: list[int]) -> nn.Module:
    """For each of ``channels``: 3x3 convolution, group normalisation, ReLU, with 2x2 pooling in between; then one
    linear layer on the mean and the maximum of each channel.

    With one input channel, two classes and channels [16, 32, 32] it has 14,338 weights, for any height and width.

    Raises:
        ModelError: records are no images, or no channels are given.
    """
    if len(shape) != 3 or not channels:
        raise ModelError(
            f"A small CNN is for records of shape (channels, height, width), not {shape}, and needs at "
            "least one entry in model.channels."
        )
    layers: list[nn.Module] = []
    height, width = shape[1:]
    for before, after in pairwise([shape[0], *channels]):
        if layers and min(height, width) >= 2:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
        layers += [
            nn.Conv2d(before, after, kernel_size=3, padding=1),
            nn.GroupNorm(_groups(after), after),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, MeanAndMax(), nn.Linear(2 * channels[-1], classes))


def _groups(channels: int) -> int:
    """The most groups, of at least four channels each, that divide the channels."""
    return next(groups for groups in range(max(1, channels // 4), 0, -1) if channels % groups == 0)
