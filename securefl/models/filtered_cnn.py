"""A network for strong privacy: fixed public filters first, so that a few hundred weights are left to learn.

The noise that privacy needs grows with the number of weights, and with few patients it drowns what thousands of them
would learn. Features that come from public knowledge cost no privacy (Tramer and Boneh, ICLR 2021, section 3). Here
they are differences of Gaussians, which answer to spots brighter or darker than what is round them, at four sizes, and
the difference between an image and its mirror image at three, for heads are nearly symmetric. Pixels of exactly 0 count
as background: smoothing does not mix them in.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from securefl.errors import ModelError
from securefl.models.fixed import FixedFront
from securefl.models.private_cnn import MeanAndMax

WIDTHS = (0.8, 1.4, 2.4, 4.0, 6.5)
"""Standard deviations of the Gaussians, in pixels."""
MIRRORED = (1, 2, 3)
"""Which of them are compared with their mirror image."""
FEATURES = len(WIDTHS) - 1 + len(MIRRORED)
SMALLEST = 8


class PublicFilters(FixedFront):
    """From images (n, C, H, W) to (n, 7C, H/2, W/2), rounded up; it has no weights and nothing to average."""

    def __init__(self) -> None:
        super().__init__()
        for number, width in enumerate(WIDTHS):
            reach = int(2.5 * width + 1)
            line = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * width**2))
            # Not saved: a constant is no part of the model's vector.
            self.register_buffer(f"line{number}", line / line.sum(), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        single = images.reshape(-1, 1, *images.shape[2:])
        inside = (single != 0).to(single.dtype)
        smooth = []
        for number in range(len(WIDTHS)):
            line = self.get_buffer(f"line{number}")
            share = _smoothed(inside, line).clamp(min=1e-3)
            smooth.append(_smoothed(single, line) / share * inside)
        spots = [fine - coarse for fine, coarse in pairwise(smooth)]
        sides = [smooth[k] - smooth[k].flip(-1) for k in MIRRORED]
        every = 2 * torch.cat([*spots, *sides], dim=1)[:, :, ::2, ::2]
        return every.reshape(len(images), -1, *every.shape[2:])


def filtered_cnn(shape: tuple[int, ...], classes: int, channels: list[int]) -> nn.Module:
    """The filters, a 1x1 convolution with ReLU for each of ``channels``, and one linear layer on means and maxima.

    With one input channel, two classes and channels [16] it has 194 weights, for any height and width from 8.

    Raises:
        ModelError: records are no images of at least 8 by 8 pixels, or no channels are given.
    """
    if len(shape) != 3 or min(shape[1:]) < SMALLEST or not channels:
        raise ModelError(
            f"A filtered CNN is for records of shape (channels, height, width) from 8 by 8 pixels, not {shape}, and "
            "needs at least one entry in model.channels."
        )
    layers: list[nn.Module] = [PublicFilters()]
    for before, after in pairwise([shape[0] * FEATURES, *channels]):
        layers += [nn.Conv2d(before, after, kernel_size=1), nn.ReLU()]
    return nn.Sequential(*layers, MeanAndMax(), nn.Linear(2 * channels[-1], classes))


def _smoothed(images: torch.Tensor, line: torch.Tensor) -> torch.Tensor:
    """Convolution of (n, 1, H, W) with a line down and then across; the border is filled with 0."""
    reach = len(line) // 2
    down = functional.conv2d(images, line.view(1, 1, -1, 1), padding=(reach, 0))
    return functional.conv2d(down, line.view(1, 1, 1, -1), padding=(0, reach))
