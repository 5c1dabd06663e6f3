"""A network's parameters as one vector: what is learned, published, hashed and saved."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

__all__ = ["LARGEST_NORM", "bind", "copy_into", "have_diverged", "named_views"]

LARGEST_NORM = 1e10
"""Norm of all weights beyond which they are taken for diverged: ten million times that of a network that has learned."""


def bind(network: nn.Module) -> tuple[Tensor, Tensor]:
    """Make the parameters (and gradients) of `network` views of one vector each; returns both, [P] float32."""
    size = sum(p.numel() for p in network.parameters())
    device = next(network.parameters()).device
    weights, gradient = (torch.zeros(size, dtype=torch.float32, device=device) for _ in range(2))
    for name, view in named_views(network, weights):
        view.copy_(network.get_parameter(name).detach())
        network.get_parameter(name).data = view
    for name, view in named_views(network, gradient):
        network.get_parameter(name).grad = view
    return weights, gradient


def have_diverged(weights: Tensor) -> bool:
    """Are weights [P] not finite, or beyond what training could bring back?"""
    vector = weights.detach()
    return not bool(torch.dot(vector, vector) < LARGEST_NORM**2)  # eight times as fast as the norm


@torch.no_grad()
def copy_into(network: nn.Module, weights: Tensor) -> None:
    """Overwrite the parameters of `network` with `weights` [P], converting to their dtypes."""
    for name, view in named_views(network, weights):
        network.get_parameter(name).copy_(view)


def named_views(network: nn.Module, vector: Tensor) -> Iterator[tuple[str, Tensor]]:
    """`vector` [P] cut into the shapes of the parameters, in their order."""
    offset = 0
    for name, parameter in network.named_parameters():
        yield name, vector[offset : offset + parameter.numel()].view(parameter.shape)
        offset += parameter.numel()
