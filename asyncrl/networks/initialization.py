"""How weights begin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum

import torch
from torch import nn

__all__ = ["Init", "initialize"]


class Init(Enum):
    """How weights begin. Biases begin at zero, except with `fan-in`."""

    ORTHOGONAL = "orthogonal"
    """(Saxe et al. 2014) √2 in the body, small policies"""
    GLOROT = "glorot"
    """uniform within √(6 / (fan in + fan out)) (Glorot and Bengio 2010): Keras' default"""
    FAN_IN = "fan-in"
    """uniform within 1 / √(fan in), biases too: Torch7's default, the paper's"""
    NORMAL = "normal"
    """normal with a standard deviation of 0.02"""


def initialize(module: nn.Module, init: Init, generator: torch.Generator, heads: Mapping[nn.Module, float]) -> None:
    """Fill every layer of `module` from `generator`; `heads` have orthogonal gains of their own."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
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
