"""Network settings, and encoders built from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial

import torch

from asyncrl.common.validation import flag, within
from asyncrl.envs.spaces import SMALLEST_IMAGE, Spaces
from asyncrl.errors import UsageError
from asyncrl.networks.encoders import (
    A3C,
    NATURE,
    PADDED,
    SAME,
    Activation,
    CompositeEncoder,
    ConvolutionalEncoder,
    Encoder,
    MlpEncoder,
    RadialEncoder,
)
from asyncrl.networks.initialization import Init
from asyncrl.networks.layers import Linear, NoisyLinear
from asyncrl.networks.recurrent import Recurrent

__all__ = ["DESCRIPTIONS", "Network", "NetworkConfig", "encoder", "resolve", "unconvolved"]

_PIXELS = "uint8, or numbers with bounds 0 … 1 or 0 … 255"


class Network(Enum):
    """The networks by name."""

    AUTO = "auto"
    MLP = "mlp"
    A3C_CNN = "a3c-cnn"
    NATURE_CNN = "nature-cnn"
    PADDED_CNN = "padded-cnn"
    SAME_CNN = "same-cnn"
    RADIAL = "radial"


DESCRIPTIONS = {
    Network.AUTO: "nature-cnn for images, mlp otherwise",
    Network.MLP: "dense layers (--hidden, --activation), separate ones for policy and value",
    Network.A3C_CNN: "conv 16 8×8/4, conv 32 4×4/2, dense 256 (Mnih et al. 2013, 2016)",
    Network.NATURE_CNN: "conv 32 8×8/4, conv 64 4×4/2, conv 64 3×3/1, dense 512 (Mnih et al. 2015)",
    Network.SAME_CNN: "conv 32 8×8/4, conv 64 4×4/2, conv 64 3×3/1, same padding, dense 512 (reinforcement-learning-keras)",
    Network.RADIAL: "fixed random Fourier features of Gaussian kernels (--radial-gammas); only the heads learn",
    Network.PADDED_CNN: "conv 32 8×8/4, conv 64 4×4/2, both padded by 2, dense 256 (tf-a3c-gpu)",
}

_CONVOLUTIONS = {Network.A3C_CNN: A3C, Network.NATURE_CNN: NATURE, Network.PADDED_CNN: PADDED, Network.SAME_CNN: SAME}


@dataclass(frozen=True)
class NetworkConfig:
    """Settings of a network."""

    network: Network = Network.AUTO
    """Kind of network; auto is nature-cnn for images and mlp otherwise."""
    hidden: tuple[int, ...] = (64, 64)
    """Units of each hidden layer (mlp)."""
    activation: Activation = Activation.TANH
    """Activation of the hidden layers (mlp)."""
    layer_norm: bool = False
    """Layer normalization before the activation of every hidden layer, convolutions included (Ba et al. 2016)."""
    radial_gammas: tuple[float, ...] = (100.0, 1.0, 0.02)
    """γ of the Gaussian kernels exp(−γ·|x − x′|²) that the features approximate (radial)."""
    radial_features: int = 60
    """Features per γ (radial)."""
    centered: bool = True
    """Subtract its mean from every kernel of the first convolution, which cancels a uniform background."""
    difference: bool = False
    """Feed differences of successive frames instead of frames."""
    recurrent: Recurrent = Recurrent.NONE
    """Recurrent core between encoder and heads."""
    recurrent_size: int = 256
    """Units of the recurrent core."""
    dueling: bool = False
    """Dueling heads: a state value plus advantages of mean 0 (value-based methods; Wang et al. 2016)."""
    noisy: bool = False
    """Noisy dense layers, except one that reads the observation itself (value-based methods; Fortunato et al. 2018). Their
    noise adds to ε-greedy exploration; --epsilon-start 0 --final-epsilons 0 turns the latter off."""
    noisy_sigma: float = 0.5
    """σ0 of noisy layers: the noise's initial scale times √inputs. --init initializes the mean weights."""
    init: Init = Init.ORTHOGONAL
    """Initialization of the weights."""

    def check(self) -> None:
        """Raise UsageError for values out of range."""
        within(self, 1, 65_536, "hidden", "recurrent_size")
        within(self, 1, 1_000_000, "radial_features")
        within(self, 0, math.inf, "radial_gammas", above=True)
        within(self, 0, math.inf, "noisy_sigma")
        for name in ("hidden", "radial_gammas"):
            if not getattr(self, name):
                raise UsageError(f"{flag(name)} must have at least one number")

    def dense(self) -> Callable[[int, int], Linear]:
        """Return the constructor (inputs, outputs) of dense layers, noisy ones if set."""
        return partial(NoisyLinear, spread=self.noisy_sigma) if self.noisy else Linear


def resolve(config: NetworkConfig, spaces: Spaces) -> Network:
    """Return the kind of network that `config` selects for `spaces`. Raises UsageError if they do not fit."""
    config.check()
    spaces, kind = spaces.features, config.network
    if kind is Network.AUTO:
        return Network.NATURE_CNN if spaces.has_images else Network.MLP
    if kind in _CONVOLUTIONS and not spaces.has_images:
        raise UsageError(
            f"--network {kind.value} needs images of {SMALLEST_IMAGE}×{SMALLEST_IMAGE} pixels or more, {_PIXELS}, but "
            f"observations are {spaces}; use --network mlp"
        )
    if kind in (Network.MLP, Network.RADIAL) and any(entry.is_image for entry in spaces.entries):
        raise UsageError(f"--network {kind.value} does not support images, but observations contain some; use nature-cnn")
    if kind is Network.RADIAL and spaces.entries:
        raise UsageError(
            "--network radial needs observations that are a single array, not several parts; use --network mlp"
        )
    return kind


def unconvolved(spaces: Spaces) -> list[str]:
    """Return a sentence for each part of an observation that looks like an image but is not convolved, with the reason."""
    sentences = []
    for part in spaces.features.parts:
        height = sorted((1, 1, *part.shape))[-2]  # the shorter side
        smallest = SMALLEST_IMAGE // 2 if part.dtype == "uint8" and len(part.shape) > 2 else SMALLEST_IMAGE
        if part.is_image or part.choices or height < smallest:
            continue
        if height < SMALLEST_IMAGE:
            reason = f"convolutions need {SMALLEST_IMAGE}×{SMALLEST_IMAGE} pixels or more"
        else:
            reason = f"images are {_PIXELS}, as [height, width], [channels, height, width] or [height, width, channels]"
        sentences.append(f"{part} is flattened to {math.prod(part.shape):,} numbers, not convolved: {reason}")
    return sentences


def encoder(config: NetworkConfig, spaces: Spaces, dtype: torch.dtype) -> Encoder:
    """Return a new encoder [N, *O] → [N, encoder.features] that computes in `dtype`.

    Raises UsageError if the network does not fit the observations.
    """
    if spaces.entries:
        image_config = config if config.network in _CONVOLUTIONS else replace(config, network=Network.NATURE_CNN)
        vector_config = replace(config, network=Network.MLP)
        return CompositeEncoder(spaces, lambda part: encoder(image_config if part.is_image else vector_config, part, dtype))
    kind = resolve(config, spaces)
    if kind is Network.MLP:
        return MlpEncoder(spaces, config.hidden, config.activation, dtype, config.dense(), layer_norm=config.layer_norm)
    if kind is Network.RADIAL:
        return RadialEncoder(spaces, config.radial_gammas, config.radial_features)
    if config.difference and spaces.observation_shape[0] < 2:
        raise UsageError("--difference needs stacks of two or more frames; raise --frame-stack")
    convolutions, features = _CONVOLUTIONS[kind]
    return ConvolutionalEncoder(
        spaces,
        convolutions,
        features,
        dtype,
        config.dense(),
        centered=config.centered,
        difference=config.difference,
        layer_norm=config.layer_norm,
    )
