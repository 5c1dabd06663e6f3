"""Encoders: from observations [N, *O] to features [N, F], in the encoder's compute dtype."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asyncrl.common.randomness import Stream, generator
from asyncrl.envs.spaces import Entry, Spaces
from asyncrl.networks.layers import Conv2d, FrameConv2d, Linear, constants, norm_layer

__all__ = [
    "A3C",
    "NATURE",
    "PADDED",
    "SAME",
    "Activation",
    "CompositeEncoder",
    "Convolution",
    "ConvolutionalEncoder",
    "MlpEncoder",
    "RadialEncoder",
    "channel_count",
    "channels",
    "entry_spaces",
    "pixel_max",
    "split",
]


class Activation(Enum):
    """The activations of dense layers by name."""

    TANH = "tanh"
    RELU = "relu"


class Convolution(NamedTuple):
    """One convolutional layer."""

    channels: int
    kernel: int
    stride: int
    padding: int = 0


A3C = (Convolution(16, 8, 4), Convolution(32, 4, 2)), 256
"""Layers and features of the network of the asynchronous methods (Mnih et al. 2013; 2016, section 8)."""

NATURE = (Convolution(32, 8, 4), Convolution(64, 4, 2), Convolution(64, 3, 1)), 512
"""Layers and features of the DQN network (Mnih et al. 2015, methods)."""

PADDED = (Convolution(32, 8, 4, 2), Convolution(64, 4, 2, 2)), 256
"""The network of tf-a3c-gpu: 84 → 21 → 11 pixels, 7,744 inputs of the dense layer."""

SAME = (Convolution(32, 8, 4, 2), Convolution(64, 4, 2, 2), Convolution(64, 3, 1, 1)), 512
"""The network of reinforcement-learning-keras: 84 → 21 → 11 → 11 pixels, 7,744 inputs of the dense layer."""


class ConvolutionalEncoder(nn.Module):
    """Convolutions and a dense layer with ReLU, on images [N, …, H, W]; stacked frames and colours become channels.

    With `layer_norm`, each layer is normalized over all its units before the ReLU.
    """

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
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.dtype, self.features = dtype, features
        self._difference = difference
        count = channel_count(spaces, difference=difference)
        first = FrameConv2d(count, *convolutions[0], centered=centered, pixel_max=pixel_max(spaces))
        self.convolutions = nn.ModuleList([first])
        for before, layer in itertools.pairwise(convolutions):
            self.convolutions.append(Conv2d(before.channels, *layer))
        shapes = _output_shapes(convolutions, spaces.observation_shape[-2:])
        self.dense = dense(math.prod(shapes[-1]), features)
        self.norms = nn.ModuleList(norm_layer(shape, layer_norm=layer_norm) for shape in shapes)
        self.dense_norm = norm_layer((features,), layer_norm=layer_norm)

    def forward(self, observation: Tensor) -> Tensor:
        x = self._channels(observation)
        for layer, norm in zip(self.convolutions, self.norms, strict=True):
            x = torch.relu_(norm(layer(x)))
        return torch.relu_(self.dense_norm(self.dense(x.flatten(1))))

    def first(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first convolution's kernels [F, C, k, k] and feature maps [F, h, w] of one `observation` [1, *O].

        Both are float32.
        """
        layer = self.convolutions[0]
        assert isinstance(layer, FrameConv2d)
        features = F.relu(self.norms[0](layer(self._channels(observation))))
        return layer.kernels().float(), features[0].float()

    def _channels(self, observation: Tensor) -> Tensor:
        # GPUs and, for gradients in float32, oneDNN compute faster with the channels last. On the CPU in bfloat16 and for
        # acting, putting them there costs more than it saves.
        last = observation.is_cuda or (self.dtype == torch.float32 and torch.is_grad_enabled())
        return channels(observation, self.dtype, difference=self._difference, last=last)


def _output_shapes(convolutions: Sequence[Convolution], image: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the output shape (channels, height, width) of every convolution of an `image` (height, width)."""
    shapes, sizes = [], [*image]
    for layer in convolutions:
        sizes = [(size + 2 * layer.padding - layer.kernel) // layer.stride + 1 for size in sizes]
        shapes.append((layer.channels, *sizes))
    return shapes


def channels(observation: Tensor, dtype: torch.dtype, *, difference: bool, last: bool) -> Tensor:
    """Return images [N, …, H, W] as the input [N, C, H, W] of the first convolution.

    Pixels and their differences are exact in bfloat16. With `last` the channels lie together in memory, and so they do
    in the outputs of all convolutions that follow.
    """
    if difference:
        x = observation.to(dtype)
        observation = x[:, 1:] - x[:, :-1]
    x = observation.flatten(1, -3)
    if last:
        x = x.contiguous(memory_format=torch.channels_last)  # before the conversion, while pixels are bytes
    return x.to(dtype)


def channel_count(spaces: Spaces, *, difference: bool) -> int:
    """Return the number C of channels that `channels` returns."""
    leading = spaces.observation_shape[:-2]
    return math.prod(leading) - difference * math.prod(leading[1:])


def pixel_max(spaces: Spaces) -> float:
    """Return the largest value that a pixel can have."""
    return 255.0 if spaces.image_max is None else spaces.image_max


class MlpEncoder(nn.Module):
    """Dense layers on flattened observations, each with an activation.

    The first layer is never noisy: the noise of its biases would drown small observations. With `layer_norm`, each
    layer is normalized before its activation. Without layers, the features are the observation's numbers.
    """

    def __init__(
        self,
        spaces: Spaces,
        hidden: Sequence[int],
        activation: Activation,
        dtype: torch.dtype,
        dense: Callable[[int, int], Linear] = Linear,
        *,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.dtype, self.features = dtype, [spaces.observation_size, *hidden][-1]
        self.activate_: Callable[[Tensor], Tensor] = torch.tanh_ if activation is Activation.TANH else torch.relu_
        sizes = [spaces.observation_size, *hidden]
        constructors = [Linear, *[dense] * (len(hidden) - 1)][: len(hidden)]
        self.layers = nn.ModuleList(
            make(inputs, outputs) for make, (inputs, outputs) in zip(constructors, itertools.pairwise(sizes), strict=True)
        )
        self.norms = nn.ModuleList(norm_layer((units,), layer_norm=layer_norm) for units in hidden)

    def forward(self, observation: Tensor) -> Tensor:
        x = observation.reshape(observation.shape[0], -1).to(self.dtype)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = layer(x)
            x = self.activate_(x if type(norm) is nn.Identity else norm(x))
        return x


class RadialEncoder(nn.Module):
    """Random Fourier features of Gaussian kernels exp(−γ·|x − x′|²) (Rahimi and Recht 2007, algorithm 1).

        φ(x) = √(2/D)·cos(W·x + b),  W ~ N(0, 2γ),  b ~ U[0, 2π), with D = `count` features for every γ

    Nothing is learned. W and b are the same in every run, whatever its seed.
    """

    directions: Tensor
    phases: Tensor

    def __init__(self, spaces: Spaces, gammas: Sequence[float], count: int) -> None:
        super().__init__()
        self.features, self._scale = len(gammas) * count, math.sqrt(2 / count)
        random = generator(0, Stream.FEATURES)

        def directions() -> Tensor:
            normal = torch.randn(self.features, spaces.observation_size, generator=random, dtype=torch.float32)
            gamma = torch.tensor(gammas, dtype=torch.float32).repeat_interleave(count)
            return normal * (2 * gamma[:, None]).sqrt()

        def phases() -> Tensor:
            return 2 * math.pi * torch.rand(self.features, generator=random, dtype=torch.float32)

        shape = (self.features, spaces.observation_size)
        self.register_buffer("directions", constants(directions, *shape), persistent=False)
        self.register_buffer("phases", constants(phases, self.features), persistent=False)

    def forward(self, observation: Tensor) -> Tensor:
        x = observation.reshape(observation.shape[0], -1).float()
        return self._scale * torch.cos(F.linear(x, self.directions, self.phases))


class CompositeEncoder(nn.Module):
    """An encoder for each entry of a dict or tuple observation; their features are concatenated.

    Observations are the entries' bytes, [N, bytes] or [N, frames, bytes] uint8. Discrete entries are one-hot encoded.
    """

    def __init__(self, spaces: Spaces, make: Callable[[int, Entry, Spaces], Any]) -> None:
        """`make` returns the encoder of an entry, given its index, itself and its spaces."""
        super().__init__()
        self._entries = spaces.entries
        parts = [make(i, entry, entry_spaces(entry, spaces)) for i, entry in enumerate(spaces.entries)]
        self.parts = nn.ModuleList(parts)
        self.features: int = sum(part.features for part in parts)

    def forward(self, observation: Tensor) -> Tensor:
        return self.of_parts(split(self._entries, observation))

    def of_parts(self, values: Sequence[Tensor]) -> Tensor:
        """Return the features [N, F] of the entries' `values` as `split` returns them."""
        parts = zip(self.parts, self._entries, values, strict=True)
        return torch.cat([part(_input(entry, value)) for part, entry, value in parts], -1)


def _input(entry: Entry, value: Tensor) -> Tensor:
    """Return the input of the encoder of `entry` for its values [N, …]."""
    return F.one_hot(value, entry.choices).flatten(1).float() if entry.choices else value


def entry_spaces(entry: Entry, spaces: Spaces) -> Spaces:
    """Return the spaces that an encoder of one `entry` of `spaces` is built for."""
    stack = spaces.observation_shape[0] if len(spaces.observation_shape) > 1 else 1
    if entry.choices:
        return Spaces((stack * entry.choices,), "float32", spaces.actions)
    return Spaces(entry.shape, entry.dtype, spaces.actions, image_max=entry.image_max).stacked(stack)


def split(entries: Sequence[Entry], observation: Tensor) -> list[Tensor]:
    """Return the values […, *shape] of the parts of observations […, bytes] uint8."""
    parts = torch.split(observation, [entry.nbytes for entry in entries], -1)
    return [_decoded(entry, x) for entry, x in zip(entries, parts, strict=True)]


def _decoded(entry: Entry, x: Tensor) -> Tensor:
    """Return the values […, *shape] of a part of an observation from its bytes `x` […, bytes] uint8."""
    value = x if entry.dtype == "uint8" else x.clone(memory_format=torch.contiguous_format)  # aligned
    return value.view(getattr(torch, entry.dtype)).reshape(*x.shape[:-1], *entry.shape)
