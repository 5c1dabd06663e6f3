"""A network's parameters as one vector, which is what the learner optimizes, publishes and saves."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

__all__ = ["LARGEST_NORM", "WeightLoader", "bind", "copy_into", "have_diverged", "learned_part", "named_views"]

LARGEST_NORM = 1e10
"""Weights with a larger norm count as diverged. It is about 10⁷ times the norm of a trained network."""


def bind(network: nn.Module) -> tuple[Tensor, Tensor]:
    """Make parameters and gradients of `network` views of one vector each. Returns (weights, gradient), [P] float32."""
    size = sum(p.numel() for p in network.parameters())
    device = next(network.parameters()).device
    weights, gradient = (torch.zeros(size, dtype=torch.float32, device=device) for _ in range(2))
    for name, view in named_views(network, weights):
        view.copy_(network.get_parameter(name).detach())
        network.get_parameter(name).data = view
    for name, view in named_views(network, gradient):
        network.get_parameter(name).grad = view
    return weights, gradient


def learned_part(network: nn.Module, vector: Tensor) -> Tensor:
    """Return the entries of `vector` [P] that are learned: all but running statistics, which need no gradient."""
    if all(parameter.requires_grad for parameter in network.parameters()):
        return vector
    named = dict(network.named_parameters())
    return torch.cat([view.flatten() for name, view in named_views(network, vector) if named[name].requires_grad])


def have_diverged(weights: Tensor) -> bool:
    """Whether `weights` [P] are not finite or have a norm above LARGEST_NORM."""
    vector = weights.detach()
    return not bool(torch.dot(vector, vector) < LARGEST_NORM**2)  # 8× faster than the norm


@torch.no_grad()
def copy_into(network: nn.Module, weights: Tensor) -> None:
    """Copy `weights` [P] into the parameters of `network`, converting dtypes."""
    for name, view in named_views(network, weights):
        network.get_parameter(name).copy_(view)


class WeightLoader:
    """Copies weights into a network again and again. Its parameters must stay where they are in memory."""

    def __init__(self, network: nn.Module) -> None:
        self._parameters = [parameter.detach() for parameter in network.parameters()]
        self._sizes = [parameter.numel() for parameter in self._parameters]

    def __call__(self, weights: Tensor) -> None:
        """Do what `copy_into` does, in a tenth of the time for a small network."""
        for parameter, part in zip(self._parameters, torch.split(weights, self._sizes), strict=True):
            parameter.copy_(part if parameter.dim() == 1 else part.view(parameter.shape))


def named_views(network: nn.Module, vector: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield (parameter name, view of `vector` [P] in the parameter's shape), in the order of the parameters."""
    offset = 0
    for name, parameter in network.named_parameters():
        yield name, vector[offset : offset + parameter.numel()].view(parameter.shape)
        offset += parameter.numel()
