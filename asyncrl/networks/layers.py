"""Layers that compute in the dtype of their input, whatever dtype their weights are kept in.

The learner keeps float32 weights and computes in bfloat16 where the processor has it; an actor keeps a
copy that is bfloat16 already. Both run the very same arithmetic.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Conv2d", "FrameConv2d", "Linear"]


class Linear(nn.Linear):
    """A dense layer."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class Conv2d(nn.Conv2d):
    """A convolution."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        return F.conv2d(x, self.weight.to(x.dtype), self.bias.to(x.dtype), self.stride, self.padding)


class FrameConv2d(nn.Conv2d):
    """The first convolution: takes pixels of 0…255 as 0…1, and is `centered`: every kernel's mean is taken out.

    Centered kernels see contrast and are blind to a uniform background, whatever its brightness. Without
    that, the background is the largest part of every gradient, and what moves in front of it is learned late.
    Both are done on the weights, which are fewer than the pixels, in float32: they are not kept in less.
    """

    def __init__(
        self, channels: int, out_channels: int, kernel: int, stride: int, padding: int = 0, *, centered: bool
    ) -> None:
        super().__init__(channels, out_channels, kernel, stride, padding)
        self.centered = centered

    def kernels(self) -> Tensor:
        """What pixels of 0…1 are convolved with, [out, in, k, k]."""
        return self.weight - self.weight.mean((2, 3), keepdim=True) if self.centered else self.weight

    def forward(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        return F.conv2d(x, (self.kernels() / 255).to(x.dtype), self.bias.to(x.dtype), self.stride, self.padding)
