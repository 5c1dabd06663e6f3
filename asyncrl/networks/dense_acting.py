"""Dense bodies that only act: the same numbers as `Body` and `MlpEncoder` compute, in a fraction of the calls.

Choosing actions for a few environments with a small network is bound by the number of calls, not by arithmetic. The
modules convert weights, look up parameters and reshape in every layer. Weights that only act have one dtype and stay where
they are in memory, so all of this is done once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from asyncrl.networks.body import Body
from asyncrl.networks.encoders import MlpEncoder
from asyncrl.networks.layers import LayerNorm, Linear
from asyncrl.networks.recurrent import Core

__all__ = ["DenseBody", "use_dense_bodies"]


class _Layer(NamedTuple):
    """A hidden layer's weights, as views of its parameters."""

    bias: Tensor
    """[out] float32"""
    weight: Tensor
    """[in, out] float32, transposed as `torch.addmm` takes it"""
    norm: Callable[[Tensor], Tensor] | None
    """What lies between the layer and its activation."""


class DenseBody(Body):
    """A `Body` of dense layers in float32 whose weights are changed in place only; it computes no gradients.

    Its parameters are those of the body that it is made from, under the same names.
    """

    def __init__(self, body: Body) -> None:
        nn.Module.__init__(self)
        self._mask, self.encoder, self.core = body._mask, body.encoder, body.core
        self.features, self.state_size = body.features, body.state_size
        encoder: Any = body.encoder
        self._layers = [_layer(dense, norm) for dense, norm in zip(encoder.layers, encoder.norms, strict=True)]
        self._activate_ = encoder.activate_

    def forward(self, observation: Tensor, state: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self._mask is not None:
            observation = self._mask.features(observation)
        steps, envs, *_ = observation.shape
        x = observation.reshape(steps * envs, -1)
        if x.dtype is not torch.float32:
            x = x.float()
        for bias, weight, norm in self._layers:
            x = torch.addmm(bias, x, weight)
            x = self._activate_(x if norm is None else norm(x))
        return x.view(steps, envs, self.features), state


def _layer(dense: Linear, norm: nn.Module) -> _Layer:
    return _Layer(dense.bias.detach(), dense.weight.detach().t(), norm if isinstance(norm, LayerNorm) else None)


def use_dense_bodies(network: nn.Module) -> None:
    """Replace each body of `network` that a `DenseBody` can stand for.

    From then on, the network only acts: it computes no gradients, and its parameters are changed in place only.
    """
    for name, body in [*network.named_children()]:
        if type(body) is Body and _is_dense(body):
            setattr(network, name, DenseBody(body))


def _is_dense(body: Body) -> bool:
    encoder = body.encoder
    return (
        type(body.core) is Core
        and type(encoder) is MlpEncoder
        and encoder.dtype is torch.float32
        and len(encoder.layers) > 0
        and all(type(layer) is Linear for layer in encoder.layers)
        and all(x.device.type == "cpu" and x.dtype is torch.float32 for x in encoder.parameters())
    )
