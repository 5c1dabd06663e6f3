"""Network settings, and encoders built from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import torch
from torch import nn

from asyncrl.common.search_space import Choices
from asyncrl.common.validation import flag, within
from asyncrl.envs.spaces import SMALLEST_IMAGE, Entry, Spaces
from asyncrl.errors import UsageError
from asyncrl.networks.custom import CustomEncoder
from asyncrl.networks.encoders import (
    A3C,
    NATURE,
    PADDED,
    SAME,
    Activation,
    CompositeEncoder,
    ConvolutionalEncoder,
    MlpEncoder,
    RadialEncoder,
)
from asyncrl.networks.initialization import Init
from asyncrl.networks.layers import Conv2d, LayerNorm, Linear, NoisyLinear
from asyncrl.networks.names import factory_named, is_custom
from asyncrl.networks.normalization import NormalizedEncoder, normalized_spaces
from asyncrl.networks.recurrent import Recurrent
from asyncrl.networks.residual import ResidualEncoder

__all__ = ["Encoder", "NetworkConfig", "encoder", "keep_in_compute_dtype", "resolve", "unconvolved"]

_PIXELS = "uint8, or numbers with bounds 0 … 1 or 0 … 255"


_CONVOLUTIONS = {"a3c-cnn": A3C, "nature-cnn": NATURE, "padded-cnn": PADDED, "same-cnn": SAME}
_FOR_IMAGES = (*_CONVOLUTIONS, "impala-resnet")


@dataclass(frozen=True)
class NetworkConfig:
    """Settings of a network."""

    network: str = "auto"
    """Network (asyncrl list networks), or your own as module:Name. auto is nature-cnn for images and mlp otherwise."""
    hidden: Annotated[tuple[int, ...], Choices((64, 64), (128, 128), (256, 256))] = (64, 64)
    """Units of each hidden layer (mlp)."""
    activation: Annotated[Activation, Choices(Activation.TANH, Activation.RELU)] = Activation.TANH
    """Activation of the hidden layers (mlp)."""
    layer_norm: bool = False
    """Layer normalization before the activation of every hidden layer, convolutions included (Ba et al. 2016)."""
    radial_gammas: tuple[float, ...] = (100.0, 1.0, 0.02)
    """γ of the Gaussian kernels exp(−γ·|x − x′|²) that the features approximate (radial)."""
    radial_features: int = 60
    """Features per γ (radial)."""
    resnet_width: int = 1
    """Factor of the channels of every convolution (impala-resnet)."""
    centered: bool = True
    """Subtract its mean from every kernel of the first convolution, which cancels a uniform background."""
    difference: bool = False
    """Feed differences of successive frames instead of frames."""
    recurrent: Recurrent = Recurrent.NONE
    """Recurrent core between encoder and heads."""
    recurrent_size: Annotated[int, Choices(128, 256, 512)] = 256
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
    initial_std: float | None = None
    """Standard deviation of a normal policy before it has learned, where ±1 are the bounds of the actions. Default: 0.83,
    the square root of softplus(0)."""
    adaptive_std: bool = True
    """Compute the standard deviation of a normal policy from the observation (Mnih et al. 2016). Switched off, it is
    learned for all observations together, as in Stable-Baselines3 and CleanRL."""
    normalize_observation: bool = False
    """Subtract the running mean of each number of an observation and divide by its running standard deviation; the result
    is clipped to ±10. The statistics are part of the agent."""
    normalize_value: bool = False
    """Learn the state value in units of the running mean and standard deviation of its targets (PopArt, van Hasselt et al.
    2016). Advantages are divided by the standard deviation, too, unless the method normalizes them (Hessel et al. 2018)."""

    def check(self) -> None:
        """Raise UsageError for values out of range."""
        within(self, 1, 65_536, "hidden", "recurrent_size")
        within(self, 1, 1_000_000, "radial_features")
        within(self, 1, 256, "resnet_width")
        within(self, 0, math.inf, "radial_gammas", above=True)
        within(self, 0, math.inf, "noisy_sigma")
        within(self, 0.01, 100, "initial_std")
        for name in ("hidden", "radial_gammas"):
            if not getattr(self, name):
                raise UsageError(f"{flag(name)} must have at least one number")

    def dense(self) -> Callable[[int, int], Linear]:
        """Return the constructor (inputs, outputs) of dense layers, noisy ones if set."""
        return partial(NoisyLinear, spread=self.noisy_sigma) if self.noisy else Linear


def resolve(config: NetworkConfig, spaces: Spaces) -> str:
    """Return the name of the network that `config` selects for `spaces`.

    The module of a network that is not built in is imported. Raises UsageError if there is no such network or it does not
    fit `spaces`.
    """
    config.check()
    return _name(config, spaces)


def _name(config: NetworkConfig, spaces: Spaces) -> str:
    spaces, name = spaces.features, config.network
    if name == "auto":
        return "nature-cnn" if spaces.has_images else "mlp"
    if is_custom(name):
        factory_named(name)
    if name in _FOR_IMAGES and not spaces.has_images:
        raise UsageError(
            f"--network {name} needs images of {SMALLEST_IMAGE}×{SMALLEST_IMAGE} pixels or more, {_PIXELS}, but "
            f"observations are {spaces}; use --network mlp"
        )
    if name in ("mlp", "radial") and any(entry.is_image for entry in spaces.entries):
        raise UsageError(f"--network {name} does not support images, but observations contain some; use nature-cnn")
    if name == "radial" and spaces.entries:
        raise UsageError(
            "--network radial needs observations that are a single array, not several parts; use --network mlp"
        )
    return name


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


Encoder = (
    ConvolutionalEncoder
    | ResidualEncoder
    | MlpEncoder
    | RadialEncoder
    | CompositeEncoder
    | CustomEncoder
    | NormalizedEncoder
)


def encoder(
    config: NetworkConfig, spaces: Spaces, dtype: torch.dtype, generator: torch.Generator, part: int = 0
) -> Encoder:
    """Return a new encoder [N, *O] → [N, encoder.features] that computes in `dtype`.

    Only a custom network is initialized, from `generator`. `part` is the index of these observations in the
    environment's `Spaces.parts`. Raises UsageError if the network does not fit the observations.
    """
    if config.hidden:  # critics leave these layers out
        config.check()
    if is_custom(config.network) and (spaces.entries or not config.normalize_observation):
        return CustomEncoder(config.network, spaces, dtype, generator, normalized=config.normalize_observation)
    if spaces.entries:
        image_config = config if config.network in _FOR_IMAGES else replace(config, network="nature-cnn")
        vector_config = replace(config, network="mlp")
        discrete_config = replace(vector_config, normalize_observation=False)

        def encoder_of(index: int, entry: Entry, own: Spaces) -> Encoder:
            own_config = image_config if own.is_image else discrete_config if entry.choices else vector_config
            return encoder(own_config, own, dtype, generator, index)

        return CompositeEncoder(spaces, encoder_of)
    if config.normalize_observation:
        plain = replace(config, normalize_observation=False)
        return NormalizedEncoder(spaces, encoder(plain, normalized_spaces(spaces), dtype, generator), part)
    kind = _name(config, spaces)
    if kind == "mlp":
        return MlpEncoder(spaces, config.hidden, config.activation, dtype, config.dense(), layer_norm=config.layer_norm)
    if kind == "radial":
        return RadialEncoder(spaces, config.radial_gammas, config.radial_features)
    if config.difference and spaces.observation_shape[0] < 2:
        raise UsageError("--difference needs stacks of two or more frames; raise --frame-stack")
    options: dict[str, Any] = dict(
        centered=config.centered, difference=config.difference, layer_norm=config.layer_norm, dense=config.dense()
    )
    if kind == "impala-resnet":
        return ResidualEncoder(spaces, dtype, width=config.resnet_width, **options)
    convolutions, features = _CONVOLUTIONS[kind]
    return ConvolutionalEncoder(spaces, convolutions, features, dtype, **options)


def keep_in_compute_dtype(network: nn.Module) -> None:
    """Convert the weights of every encoder to its compute dtype. This is for acting only: it is too coarse for learning."""
    for part in network.modules():
        if isinstance(part, CustomEncoder):
            part.keep_in_compute_dtype()
        elif isinstance(part, ConvolutionalEncoder | ResidualEncoder | MlpEncoder):
            for layer in part.modules():
                if isinstance(layer, Conv2d | LayerNorm | Linear):
                    layer.to(part.dtype)
