"""What an algorithm is: a frozen dataclass of hyperparameters with a few small methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from asyncrl.experience import Batch, Fresh
from asyncrl.networks import NetworkConfig
from asyncrl.spaces import Spaces

__all__ = ["Acted", "Algorithm", "Loss"]


class Acted(NamedTuple):
    """What an algorithm chose for B environments."""

    action: Tensor
    """[B] int64"""
    extras: dict[str, Tensor]
    """[B, …] what the loss will need of this moment; kept in the rollout"""


class Loss(NamedTuple):
    """What the learner descends, and what it reports."""

    total: Tensor
    """scalar, differentiable"""
    metrics: dict[str, Tensor]
    """scalars, detached, left on the device"""


@dataclass(frozen=True)
class Algorithm:
    """The interface. An algorithm does no input or output and knows no process, device or environment.

    Adding one: a file with a subclass, one line in `algorithms/__init__.py`, a preset, a test.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line for `asyncrl list algorithms`."""

    def check(self, spaces: Spaces) -> None:
        """Raise UsageError for hyperparameters out of range or spaces it cannot handle."""
        raise NotImplementedError

    def experience(self) -> Fresh:
        """Which experience it learns from."""
        raise NotImplementedError

    def network(self, config: NetworkConfig, spaces: Spaces, dtype: torch.dtype, generator: torch.Generator) -> nn.Module:
        """A new network whose body computes in `dtype`, initialised from `generator`."""
        raise NotImplementedError

    def act(
        self, network: nn.Module, observation: Tensor, step: int, generator: torch.Generator, *, greedy: bool = False
    ) -> Acted:
        """Choose actions for observations [B, *O] at the run's step number `step`."""
        raise NotImplementedError

    def loss(self, network: nn.Module, batch: Batch) -> Loss:
        """What the gradient is taken of."""
        raise NotImplementedError

    def optimizer(self, weights: Tensor) -> torch.optim.Optimizer:
        """The optimizer of the weight vector [P]."""
        raise NotImplementedError

    def learning_rate_at(self, progress: float) -> float:
        """The learning rate when `progress` (0…1) of the run's steps have been learned from."""
        raise NotImplementedError

    @property
    def gradient_clip(self) -> float:
        """Largest global norm of a gradient; inf: not clipped."""
        raise NotImplementedError
