"""Which network, as data; and building it."""

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

_PIXELS = "uint8, or numbers with the bounds 0 … 1 or 0 … 255"


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
    Network.AUTO: "nature-cnn for images, mlp for everything else",
    Network.MLP: "dense layers (--hidden, --activation), one tower for the policy and one for the value",
    Network.A3C_CNN: "conv 16 8×8/4, conv 32 4×4/2, dense 256 (Mnih et al. 2013, 2016)",
    Network.NATURE_CNN: "conv 32 8×8/4, conv 64 4×4/2, conv 64 3×3/1, dense 512 (Mnih et al. 2015)",
    Network.SAME_CNN: "conv 32 8×8/4, conv 64 4×4/2, conv 64 3×3/1, padded to keep borders, dense 512 (rlk)",
    Network.RADIAL: "fixed random features of several widths (--radial-gammas), nothing learned below the heads",
    Network.PADDED_CNN: "conv 32 8×8/4, conv 64 4×4/2, both padded by 2, dense 256 (tf-a3c-gpu)",
}

_CONVOLUTIONS = {Network.A3C_CNN: A3C, Network.NATURE_CNN: NATURE, Network.PADDED_CNN: PADDED, Network.SAME_CNN: SAME}


@dataclass(frozen=True)
class NetworkConfig:
    """The network's shape."""

    network: Network = Network.AUTO
    """Network: auto takes nature-cnn for images and mlp for everything else."""
    hidden: tuple[int, ...] = (64, 64)
    """Units of each dense layer (mlp only)."""
    activation: Activation = Activation.TANH
    """What follows each of them."""
    radial_gammas: tuple[float, ...] = (100.0, 1.0, 0.02)
    """γ of the kernels exp(−γ·|x − x′|²) that features stand for (radial only)."""
    radial_features: int = 60
    """Features of each γ."""
    centered: bool = True
    """Take the mean out of every kernel of the first convolution, so that a uniform background is nothing."""
    difference: bool = False
    """Look at differences of successive frames instead of frames."""
    recurrent: Recurrent = Recurrent.NONE
    """What the network remembers with, between encoder and heads."""
    recurrent_size: int = 256
    """Cells of the memory."""
    dueling: bool = False
    """Action values are a value plus advantages of mean 0 (methods with action values)."""
    noisy: bool = False
    """Dense layers, save one that sees the observation itself, have random weights whose spread is learned (methods with
    action values). They explore besides ε; alone with --epsilon-start 0 --final-epsilons 0."""
    noisy_sigma: float = 0.5
    """σ0: where the spread of noisy weights begins, times √inputs. Their means begin as --init says."""
    init: Init = Init.ORTHOGONAL
    """How weights begin."""

    def check(self) -> None:
        """Raise UsageError for numbers out of range."""
        within(self, 1, 65_536, "hidden", "recurrent_size")
        within(self, 1, 1_000_000, "radial_features")
        within(self, 0, math.inf, "radial_gammas", above=True)
        within(self, 0, math.inf, "noisy_sigma")
        for name in ("hidden", "radial_gammas"):
            if not getattr(self, name):
                raise UsageError(f"{flag(name)} needs one number or more")

    def dense(self) -> Callable[[int, int], Linear]:
        """What makes a dense layer of so many inputs and outputs."""
        return partial(NoisyLinear, spread=self.noisy_sigma) if self.noisy else Linear


def resolve(config: NetworkConfig, spaces: Spaces) -> Network:
    """The network that `config` means for `spaces`. Raises UsageError where it does not fit."""
    config.check()
    kind = config.network
    if kind is Network.AUTO:
        return Network.NATURE_CNN if spaces.has_images else Network.MLP
    if kind in _CONVOLUTIONS and not spaces.has_images:
        raise UsageError(
            f"--network {kind.value} takes images of {SMALLEST_IMAGE}×{SMALLEST_IMAGE} pixels or more, {_PIXELS}; "
            f"these observations are {spaces}: use --network mlp"
        )
    if kind in (Network.MLP, Network.RADIAL) and any(entry.is_image for entry in spaces.entries):
        raise UsageError(f"--network {kind.value} takes no images, and these observations have some: use nature-cnn")
    if kind is Network.RADIAL and spaces.entries:
        raise UsageError("--network radial takes observations that are one array: use --network mlp")
    return kind


def unconvolved(spaces: Spaces) -> list[str]:
    """A sentence for each part of an observation that may be meant as an image and is not convolved: why it is not."""
    sentences = []
    for part in spaces.parts:
        height = sorted((1, 1, *part.shape))[-2]  # the shorter side
        smallest = SMALLEST_IMAGE // 2 if part.dtype == "uint8" and len(part.shape) > 2 else SMALLEST_IMAGE
        if part.is_image or part.choices or height < smallest:
            continue
        if height < SMALLEST_IMAGE:
            why = f"convolutions need {SMALLEST_IMAGE}×{SMALLEST_IMAGE} pixels or more"
        else:
            why = f"images are {_PIXELS}, as [height, width], [channels, height, width] or [height, width, channels]"
        sentences.append(f"{part} is seen as {math.prod(part.shape):,} numbers, not convolved: {why}")
    return sentences


def encoder(config: NetworkConfig, spaces: Spaces, dtype: torch.dtype) -> Encoder:
    """A new encoder, [N, *O] → [N, encoder.features], that computes in `dtype`."""
    if spaces.entries:
        convolve = config if config.network in _CONVOLUTIONS else replace(config, network=Network.NATURE_CNN)
        flat = replace(config, network=Network.MLP)
        return CompositeEncoder(spaces, lambda part: encoder(convolve if part.is_image else flat, part, dtype))
    kind = resolve(config, spaces)
    if kind is Network.MLP:
        return MlpEncoder(spaces, config.hidden, config.activation, dtype, config.dense())
    if kind is Network.RADIAL:
        return RadialEncoder(spaces, config.radial_gammas, config.radial_features)
    if config.difference and spaces.observation_shape[0] < 2:
        raise UsageError("--difference takes observations of two frames or more; raise --frame-stack")
    convolutions, features = _CONVOLUTIONS[kind]
    return ConvolutionalEncoder(
        spaces,
        convolutions,
        features,
        dtype,
        config.dense(),
        centered=config.centered,
        difference=config.difference,
    )
