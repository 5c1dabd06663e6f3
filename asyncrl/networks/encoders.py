"""From an observation to features: [N, *O] → [N, F], in the encoder's compute dtype."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asyncrl.common.randomness import Stream, generator
from asyncrl.envs.spaces import Entry, Spaces
from asyncrl.networks.layers import Conv2d, FrameConv2d, Linear

__all__ = [
    "A3C",
    "NATURE",
    "PADDED",
    "SAME",
    "Activation",
    "CompositeEncoder",
    "Convolution",
    "ConvolutionalEncoder",
    "Encoder",
    "MlpEncoder",
    "RadialEncoder",
    "keep_in_compute_dtype",
]


class Activation(Enum):
    """What follows a dense layer."""

    TANH = "tanh"
    RELU = "relu"


class Convolution(NamedTuple):
    """One convolutional layer."""

    channels: int
    kernel: int
    stride: int
    padding: int = 0


A3C = (Convolution(16, 8, 4), Convolution(32, 4, 2)), 256
"""Mnih et al. 2013, and 2016 section 8: the network of the asynchronous methods."""

NATURE = (Convolution(32, 8, 4), Convolution(64, 4, 2), Convolution(64, 3, 1)), 512
"""Mnih et al. 2015, methods."""

PADDED = (Convolution(32, 8, 4, 2), Convolution(64, 4, 2, 2)), 256
"""tf-a3c-gpu's: 84 → 21 → 11 pixels, 7,744 features."""


SAME = (Convolution(32, 8, 4, 2), Convolution(64, 4, 2, 2), Convolution(64, 3, 1, 1)), 512
"""reinforcement-learning-keras': 84 → 21 → 11 → 11 pixels, 7,744 features."""


class ConvolutionalEncoder(nn.Module):
    """Convolutions and one dense layer, ReLU after each, on frames [N, …, H, W]: frames × colours are channels."""

    def __init__(
        self,
        spaces: Spaces,
        convolutions: Sequence[Convolution],
        features: int,
        dtype: torch.dtype,
        dense: Callable[[int, int], Linear] = Linear,
        *,
        centered: bool,
        difference: bool = False,
    ) -> None:
        super().__init__()
        self.dtype, self.features = dtype, features
        channels = spaces.observation_shape[:-2]
        self._difference = difference
        count = math.prod(channels) - difference * math.prod(channels[1:])
        white = 255.0 if spaces.image_max is None else spaces.image_max
        self.convolutions = nn.ModuleList([FrameConv2d(count, *convolutions[0], centered=centered, white=white)])
        for before, layer in itertools.pairwise(convolutions):
            self.convolutions.append(Conv2d(before.channels, *layer))
        with torch.no_grad():
            flat = self._convolve(torch.zeros(1, *spaces.observation_shape, dtype=torch.uint8)).shape[1]
        self.dense = dense(flat, features)

    def forward(self, observation: Tensor) -> Tensor:
        return F.relu(self.dense(self._convolve(observation)))

    def first(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """The first convolution's kernels [F, C, k, k] and its answers [F, h, w] to one observation, both float32."""
        layer = self.convolutions[0]
        assert isinstance(layer, FrameConv2d)
        return layer.kernels().float(), F.relu(layer(self._frames(observation)))[0].float()

    def _frames(self, observation: Tensor) -> Tensor:
        """What is convolved: 0…255 is exact in bfloat16 too, and so are differences."""
        x = observation.to(self.dtype)
        x = x[:, 1:] - x[:, :-1] if self._difference else x
        return x.flatten(1, -3)

    def _convolve(self, observation: Tensor) -> Tensor:
        x = self._frames(observation)
        for convolution in self.convolutions:
            x = F.relu(convolution(x))
        return x.flatten(1)


class MlpEncoder(nn.Module):
    """Dense layers; observations of any shape are flattened.

    The first layer is never noisy: small observations would be lost in the noise of their biases.
    """

    def __init__(
        self,
        spaces: Spaces,
        hidden: Sequence[int],
        activation: Activation,
        dtype: torch.dtype,
        dense: Callable[[int, int], Linear] = Linear,
    ) -> None:
        super().__init__()
        self.dtype, self.features = dtype, hidden[-1]
        self._activate = torch.tanh if activation is Activation.TANH else F.relu
        sizes = [spaces.observation_size, *hidden]
        kinds = [Linear, *[dense] * (len(hidden) - 1)]
        self.layers = nn.ModuleList(kind(a, b) for kind, (a, b) in zip(kinds, itertools.pairwise(sizes), strict=True))

    def forward(self, observation: Tensor) -> Tensor:
        x = observation.reshape(len(observation), -1).to(self.dtype)
        for layer in self.layers:
            x = self._activate(layer(x))
        return x


class RadialEncoder(nn.Module):
    """Random Fourier features of Gaussian kernels (Rahimi and Recht 2007, algorithm 1), a group for every γ.

    Nothing is learned. They are the same in every run: drawn from a stream of their own.
    """

    directions: Tensor
    phases: Tensor

    def __init__(self, spaces: Spaces, gammas: Sequence[float], count: int) -> None:
        super().__init__()
        self.features, self._scale = len(gammas) * count, math.sqrt(2 / count)
        random = generator(0, Stream.FEATURES)
        drawn = torch.randn(self.features, spaces.observation_size, generator=random, dtype=torch.float32)
        widths = torch.tensor(gammas, dtype=torch.float32).repeat_interleave(count)
        self.register_buffer("directions", drawn * (2 * widths[:, None]).sqrt(), persistent=False)
        phases = 2 * math.pi * torch.rand(self.features, generator=random, dtype=torch.float32)
        self.register_buffer("phases", phases, persistent=False)

    def forward(self, observation: Tensor) -> Tensor:
        x = observation.reshape(len(observation), -1).float()
        return self._scale * torch.cos(F.linear(x, self.directions, self.phases))


class CompositeEncoder(nn.Module):
    """An encoder for each entry of an observation that has several; their features side by side.

    Observations are bytes, [N, bytes] or [N, frames, bytes]. A choice is seen as zeros and a one.
    """

    def __init__(self, spaces: Spaces, make: Callable[[Spaces], Encoder]) -> None:
        """`make`: the encoder of one entry, whose spaces it is given."""
        super().__init__()
        self._entries = spaces.entries
        self._stack = spaces.observation_shape[0] if len(spaces.observation_shape) > 1 else 1
        parts = [make(self._seen(entry, spaces)) for entry in spaces.entries]
        self.parts = nn.ModuleList(parts)
        self.features: int = sum(part.features for part in parts)

    def _seen(self, entry: Entry, spaces: Spaces) -> Spaces:
        """What the encoder of an entry takes."""
        if entry.choices:
            return Spaces((self._stack * entry.choices,), "float32", spaces.actions)
        return Spaces(entry.shape, entry.dtype, spaces.actions, image_max=entry.image_max).stacked(self._stack)

    def forward(self, observation: Tensor) -> Tensor:
        sizes = [entry.nbytes for entry in self._entries]
        parts = zip(self.parts, self._entries, torch.split(observation, sizes, -1), strict=True)
        return torch.cat([part(self._read(entry, x)) for part, entry, x in parts], -1)

    def _read(self, entry: Entry, x: Tensor) -> Tensor:
        """An entry's bytes [N, …] as what they are."""
        value = x if entry.dtype == "uint8" else x.clone(memory_format=torch.contiguous_format)  # aligned
        value = value.view(getattr(torch, entry.dtype))
        if entry.choices:
            return F.one_hot(value, entry.choices).flatten(1).float()
        return value.reshape(*x.shape[:-1], *entry.shape)


Encoder = ConvolutionalEncoder | MlpEncoder | RadialEncoder | CompositeEncoder


def keep_in_compute_dtype(network: nn.Module) -> None:
    """Convert the layers of every encoder to the dtype it computes in: right for acting, too coarse for learning."""
    for encoder in network.modules():
        if isinstance(encoder, ConvolutionalEncoder | MlpEncoder):
            for layer in encoder.modules():
                if isinstance(layer, Conv2d | Linear):
                    layer.to(encoder.dtype)
