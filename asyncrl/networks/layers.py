"""Layers that compute in the dtype of their input, whatever dtype their weights are kept in.

The learner keeps float32 weights and computes in bfloat16 where the processor has it; an actor keeps a
copy that is bfloat16 already. Both run the very same arithmetic.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Conv2d", "FrameConv2d", "Linear", "NoisyLinear", "resample"]


class Linear(nn.Linear):
    """A dense layer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class NoisyLinear(Linear):
    """A dense layer whose weights are random: w + σ·ε with factorized noise ε = f(ε_out)·f(ε_in)ᵀ, f(x) = sgn(x)·√|x|.

    w and σ are learned (Fortunato et al. 2018, equations 9 … 11); σ begins at `spread` / √inputs. Without noise, which is
    how it begins and how agents are evaluated, it is the dense layer w. `resample` draws new noise.
    """

    noise_in: Tensor
    noise_out: Tensor

    def __init__(self, inputs: int, outputs: int, spread: float = 0.5) -> None:
        super().__init__(inputs, outputs)
        sigma = spread / math.sqrt(inputs)
        self.weight_spread = nn.Parameter(torch.full((outputs, inputs), sigma, dtype=torch.float32))
        self.bias_spread = nn.Parameter(torch.full((outputs,), sigma, dtype=torch.float32))
        self.register_buffer("noise_in", torch.zeros(inputs, dtype=torch.float32), persistent=False)
        self.register_buffer("noise_out", torch.zeros(outputs, dtype=torch.float32), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        noise_in, noise_out = self.noise_in.to(x.dtype), self.noise_out.to(x.dtype)
        spread = F.linear(x * noise_in, self.weight_spread.to(x.dtype), self.bias_spread.to(x.dtype))
        return super().forward(x) + spread * noise_out

    def resample(self, random: torch.Generator | None) -> None:
        """New noise; None: no noise."""
        for noise in (self.noise_in, self.noise_out):
            if random is None:
                noise.zero_()
            else:
                drawn = torch.randn(len(noise), generator=random, dtype=torch.float32)
                noise.copy_(drawn.sign() * drawn.abs().sqrt())


def resample(network: nn.Module, random: torch.Generator | None) -> None:
    """New noise for every noisy layer of `network`; None: no noise."""
    for layer in network.modules():
        if isinstance(layer, NoisyLinear):
            layer.resample(random)


class Conv2d(nn.Conv2d):
    """A convolution."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int, padding: int = 0) -> None:
        super().__init__(channels, out_channels, kernel, stride, padding, dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        return F.conv2d(x, self.weight.to(x.dtype), self.bias.to(x.dtype), self.stride, self.padding)


class FrameConv2d(nn.Conv2d):
    """The first convolution: takes pixels of 0…`white` as 0…1, and is `centered`: every kernel's mean is taken out.

    Centered kernels see contrast and are blind to a uniform background, whatever its brightness. Without
    that, the background is the largest part of every gradient, and what moves in front of it is learned late.
    Both are done on the weights, which are fewer than the pixels, in float32: they are not kept in less.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        padding: int = 0,
        *,
        centered: bool,
        white: float = 255.0,
    ) -> None:
        super().__init__(channels, out_channels, kernel, stride, padding, dtype=torch.float32)
        self.centered, self.white = centered, white

    def kernels(self) -> Tensor:
        """What pixels of 0…1 are convolved with, [out, in, k, k]."""
        return self.weight - self.weight.mean((2, 3), keepdim=True) if self.centered else self.weight

    def forward(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        return F.conv2d(x, (self.kernels() / self.white).to(x.dtype), self.bias.to(x.dtype), self.stride, self.padding)
