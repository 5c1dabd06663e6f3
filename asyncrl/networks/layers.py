"""Layers that compute in the dtype of their input and convert their weights to it.

The learner stores float32 weights and computes in bfloat16 if the processor supports it; an actor stores a copy
that is bfloat16 already. Both do the same arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "Conv2d",
    "FrameConv2d",
    "LayerNorm",
    "Linear",
    "NoisyLinear",
    "constants",
    "norm_layer",
    "remove_noise",
    "resample",
]


class Linear(nn.Linear):
    """A dense layer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        if weight.dtype is x.dtype:  # a conversion costs a third of a small layer's time, even if there is nothing to do
            return F.linear(x, weight, bias)
        return F.linear(x, weight.to(x.dtype), bias.to(x.dtype))


class NoisyLinear(Linear):
    """A dense layer with noisy weights w + σ·ε (Fortunato et al. 2018, equations 9 to 11).

        ε = f(ε_out)·f(ε_in)ᵀ,  f(x) = sgn(x)·√|x|

    w and σ are learned; σ is initialized to `spread`/√inputs. `resample` draws new noise. Initially and in evaluation
    the noise is zero, which leaves the dense layer w.
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
        """Draw new noise from `random`, or set it to zero if None."""
        for noise in (self.noise_in, self.noise_out):
            if random is None:
                noise.zero_()
            else:
                normal = torch.randn(len(noise), generator=random, dtype=torch.float32)
                noise.copy_(normal.sign() * normal.abs().sqrt())


def resample(network: nn.Module, random: torch.Generator | None) -> None:
    """Draw new noise for every noisy layer of `network`, or set it to zero if `random` is None."""
    for layer in network.modules():
        if isinstance(layer, NoisyLinear):
            layer.resample(random)


def remove_noise(network: nn.Module) -> None:
    """Replace every noisy layer of `network` by the dense layer that it is in evaluation."""
    for module in [*network.modules()]:
        for name, layer in module.named_children():
            if isinstance(layer, NoisyLinear):
                plain = Linear(layer.in_features, layer.out_features)
                plain.weight, plain.bias = layer.weight, layer.bias
                setattr(module, name, plain)


class LayerNorm(nn.LayerNorm):
    """Layer normalization (Ba et al. 2016) over the last dimensions, `shape`, with a learned gain and bias per element."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(list(shape), dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


def norm_layer(shape: Sequence[int], *, layer_norm: bool) -> nn.Module:
    """Return the layer between a hidden layer with outputs of `shape` and its activation."""
    return LayerNorm(shape) if layer_norm else nn.Identity()


class Conv2d(nn.Conv2d):
    """A convolution."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int, padding: int = 0) -> None:
        super().__init__(channels, out_channels, kernel, stride, padding, dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        return F.conv2d(x, self.weight.to(x.dtype), self.bias.to(x.dtype), self.stride, self.padding)


class FrameConv2d(nn.Conv2d):
    """The first convolution: scales pixels from 0 … `pixel_max` to 0 … 1 and, if `centered`, subtracts each kernel's mean.

    Centered kernels respond to contrast and ignore a uniform background of any brightness. Without centering, the
    background dominates the gradient and moving objects are learned late. Scaling and centering are applied to the
    weights, which are fewer than the pixels, in float32; so this layer's weights always stay float32. Pixels may be uint8:
    they are converted to float32, or to the dtype of autocast.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        padding: int = 0,
        *,
        centered: bool = True,
        pixel_max: float = 255.0,
    ) -> None:
        super().__init__(channels, out_channels, kernel, stride, padding, dtype=torch.float32)
        self.centered, self.pixel_max = centered, pixel_max

    def kernels(self) -> Tensor:
        """Return the kernels for pixels in 0 … 1, [out, in, k, k] float32."""
        return self.weight - self.weight.mean((2, 3), keepdim=True) if self.centered else self.weight

    def forward(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        if not x.is_floating_point():
            kind = x.device.type
            x = x.to(torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32)
        return F.conv2d(x, (self.kernels() / self.pixel_max).to(x.dtype), self.bias.to(x.dtype), self.stride, self.padding)


def constants(compute: Callable[[], Tensor], *shape: int) -> Tensor:
    """Return `compute()`, a float32 tensor of this shape; on the device "meta", only its shape.

    There, sequences and random numbers would import torch's compiler, which takes a second.
    """
    outline = torch.empty(shape, dtype=torch.float32)
    return outline if outline.is_meta else compute()
