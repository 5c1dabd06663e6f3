"""Weight initialization."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Mapping
from enum import Enum

import torch
from torch import nn

from asyncrl.networks.custom import CustomEncoder

__all__ = ["Init", "initialize", "without_initialization"]


class _Skipped(threading.local):
    is_active = False


_skipped = _Skipped()


@contextlib.contextmanager
def without_initialization() -> Iterator[None]:
    """Build networks in the block whose weights are loaded before they are used: orthogonal ones take time."""
    before, _skipped.is_active = _skipped.is_active, True
    try:
        yield
    finally:
        _skipped.is_active = before


class Init(Enum):
    """Initializations of weights. Biases are zero, except with `fan-in`."""

    ORTHOGONAL = "orthogonal"
    """orthogonal, gain √2 below the heads, 0.01 for policies and 1 for values (Saxe et al. 2014)"""
    GLOROT = "glorot"
    """uniform within ±√(6 / (fan in + fan out)) (Glorot and Bengio 2010): Keras' default"""
    FAN_IN = "fan-in"
    """uniform within ±1/√(fan in), biases too: Torch7's default, used by Mnih et al. 2016"""
    NORMAL = "normal"
    """normal with standard deviation 0.02"""


def initialize(module: nn.Module, init: Init, generator: torch.Generator, heads: Mapping[nn.Module, float]) -> None:
    """Initialize dense and convolutional layers of `module` from `generator`; `heads` maps heads to orthogonal gains.

    The layers of a custom encoder keep their initial weights, and so do all in `without_initialization`.
    """
    if _skipped.is_active:
        return
    own = {layer for encoder in module.modules() if isinstance(encoder, CustomEncoder) for layer in encoder.modules()}
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv2d) and layer not in own]
    for layer in sorted(layers, key=lambda layer: layer in heads):  # heads last
        weight, bias = layer.weight, layer.bias
        assert bias is not None
        nn.init.zeros_(bias)
        match init:
            case Init.ORTHOGONAL:
                nn.init.orthogonal_(weight, heads.get(layer, math.sqrt(2)), generator=generator)
            case Init.GLOROT:
                nn.init.xavier_uniform_(weight, generator=generator)
            case Init.FAN_IN:
                bound = 1 / math.sqrt(weight[0].numel())
                nn.init.uniform_(weight, -bound, bound, generator=generator)
                nn.init.uniform_(bias, -bound, bound, generator=generator)
            case Init.NORMAL:
                nn.init.normal_(weight, 0.0, 0.02, generator=generator)
