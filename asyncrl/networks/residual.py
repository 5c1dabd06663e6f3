"""The residual network of IMPALA."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asyncrl.envs.spaces import Spaces
from asyncrl.networks.encoders import channel_count, channels, pixel_max
from asyncrl.networks.layers import Conv2d, FrameConv2d, Linear, norm_layer

__all__ = ["ResidualEncoder"]

_CHANNELS = (16, 32, 32)
"""Channels of the three sections, times the width."""
_FEATURES = 256


class ResidualEncoder(nn.Module):
    """The deep network of IMPALA (Espeholt et al. 2018, figure 3, right), without its LSTM, on images [N, …, H, W].

    Three sections of a 3×3 convolution, a 3×3 max-pool with stride 2 and two residual blocks; then ReLU, dense 256, ReLU.
    `width` multiplies the channels. With `layer_norm`, the input of every ReLU is normalized over all its units.
    """

    def __init__(
        self,
        spaces: Spaces,
        dtype: torch.dtype,
        dense: Callable[[int, int], Linear] = Linear,
        *,
        width: int,
        centered: bool,
        difference: bool = False,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.dtype, self.features, self._difference = dtype, _FEATURES, difference
        inputs, size = channel_count(spaces, difference=difference), spaces.observation_shape[-2:]
        sections = []
        for index, base in enumerate(_CHANNELS):
            outputs = width * base
            if index == 0:
                first: FrameConv2d | Conv2d = FrameConv2d(
                    inputs, outputs, 3, 1, 1, centered=centered, pixel_max=pixel_max(spaces)
                )
            else:
                first = Conv2d(inputs, outputs, 3, 1, 1)
            size = tuple((pixels + 1) // 2 for pixels in size)
            sections.append(_Section(first, (outputs, *size), layer_norm=layer_norm))
            inputs = outputs
        self.sections = nn.ModuleList(sections)
        self.norm = norm_layer((inputs, *size), layer_norm=layer_norm)
        self.dense = dense(inputs * math.prod(size), _FEATURES)
        self.dense_norm = norm_layer((_FEATURES,), layer_norm=layer_norm)

    def forward(self, observation: Tensor) -> Tensor:
        x = self._channels(observation)
        for section in self.sections:
            x = section(x)
        return torch.relu_(self.dense_norm(self.dense(torch.relu_(self.norm(x)).flatten(1))))

    def first(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first convolution's kernels [F, C, k, k] and feature maps [F, h, w] of one `observation` [1, *O].

        Both are float32.
        """
        layer = self.sections[0].convolution
        assert isinstance(layer, FrameConv2d)
        features = F.relu(layer(self._channels(observation)))
        return layer.kernels().float(), features[0].float()

    def _channels(self, observation: Tensor) -> Tensor:
        # oneDNN's 3×3 convolutions are faster with the channels last, for acting and in bfloat16, too
        return channels(observation, self.dtype, difference=self._difference, last=True)


class _Section(nn.Module):
    """A convolution, a max-pool that halves height and width, and two residual blocks."""

    def __init__(self, convolution: nn.Module, shape: tuple[int, ...], *, layer_norm: bool) -> None:
        super().__init__()
        self.convolution = convolution
        self.blocks = nn.ModuleList(_Block(shape, layer_norm=layer_norm) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.convolution(x), 3, stride=2, padding=1)
        for block in self.blocks:
            x = block(x)
        return x


class _Block(nn.Module):
    """x + conv(ReLU(conv(ReLU(x))))."""

    def __init__(self, shape: tuple[int, ...], *, layer_norm: bool) -> None:
        super().__init__()
        count = shape[0]
        self.convolutions = nn.ModuleList(Conv2d(count, count, 3, 1, 1) for _ in range(2))
        self.norms = nn.ModuleList(norm_layer(shape, layer_norm=layer_norm) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer, normalize in zip(self.convolutions, self.norms, strict=True):
            y = layer(F.relu(normalize(y)))
        return x + y
