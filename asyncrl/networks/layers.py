"""Layers that compute in the dtype of their input, whatever dtype their weights are kept in.

The learner keeps float32 weights and computes in bfloat16 where the processor has it; an actor keeps a
copy that is bfloat16 already. Both run the very same arithmetic.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Conv2d", "FrameConv2d", "Linear", "orthogonal_"]


class Linear(nn.Linear):
    """A dense layer."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class Conv2d(nn.Conv2d):
    """A convolution, not padded."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        return F.conv2d(x, self.weight.to(x.dtype), self.bias.to(x.dtype), self.stride)


class FrameConv2d(nn.Conv2d):
    """The first convolution: takes pixels of 0…255 as 0…1, and is `centered`: every kernel's mean is taken out.

    Centered kernels see contrast and are blind to a uniform background, whatever its brightness. Without
    that, the background is the largest part of every gradient, and what moves in front of it is learned late.
    Both are done on the weights, which are fewer than the pixels, in float32: they are not kept in less.
    """

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int, *, centered: bool) -> None:
        super().__init__(channels, out_channels, kernel, stride)
        self.centered = centered

    def forward(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        weight = self.weight - self.weight.mean((2, 3), keepdim=True) if self.centered else self.weight
        return F.conv2d(x, (weight / 255).to(x.dtype), self.bias.to(x.dtype), self.stride)


def orthogonal_(module: nn.Module, generator: torch.Generator, gain: float = math.sqrt(2)) -> None:
    """Orthogonal weights and zero biases in every layer of `module` (Saxe et al. 2014)."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.orthogonal_(layer.weight, gain, generator=generator)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
