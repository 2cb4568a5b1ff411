"""ResNet-18 (He et al., CVPR 2016) as torchvision builds it, for small images of any number of channels."""

from __future__ import annotations

import torch
from torch import nn

from securefl.errors import ModelError

SMALL = 96
"""Images with a shorter edge below this get the first layer of the paper's CIFAR networks (section 4.2)."""


def resnet18(shape: tuple[int, ...], classes: int) -> nn.Module:
    """An untrained ResNet-18 for records of ``shape`` (channels, height, width).

    Small images (an edge below 96) enter by a 3x3 convolution of stride 1 and no max pooling, large ones by the usual
    7x7 convolution of stride 2 and max pooling. It has batch normalisation, so it is not for private studies.

    Raises:
        ModelError: records are no images.
    """
    if len(shape) != 3:
        raise ModelError(
            f'The model "resnet18" is for records of shape (channels, height, width), not {shape}; use "mlp".'
        )
    # Late: torchvision takes a second to import.
    from torchvision import models

    network: nn.Module = models.resnet18(weights=None, num_classes=classes)
    small = min(shape[1:]) < SMALL
    first = nn.Conv2d(
        shape[0],
        64,
        kernel_size=3 if small else 7,
        stride=1 if small else 2,
        padding=1 if small else 3,
        bias=False,
    )
    nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
    network.conv1 = first
    if small:
        network.maxpool = nn.Identity()
    return network.to(memory_format=torch.channels_last)
