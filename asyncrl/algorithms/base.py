"""What an algorithm is: a frozen dataclass of hyperparameters with four small methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from asyncrl.algorithms.exploration import EnvSlots
from asyncrl.algorithms.optimizers import OptimizerConfig
from asyncrl.envs.spaces import Spaces
from asyncrl.experience import Experience
from asyncrl.networks import Network, NetworkConfig

__all__ = ["ActContext", "ActionOutput", "Algorithm", "Loss"]


class ActContext(NamedTuple):
    """What an algorithm may know of the moment it acts in, besides what it sees."""

    step: int
    """Environment steps that the run has ordered before this rollout."""
    random: torch.Generator
    slots: EnvSlots | None
    """Which of the run's environments these are; None: no training, act as well as you can."""
    greedy: bool = False
    """Take the most probable action instead of sampling."""
    epsilon: float = 0.0
    """Probability that something else is done, at random (evaluation)."""


class ActionOutput(NamedTuple):
    """What an algorithm chose for B environments."""

    action: Tensor
    """[B, …] as `Actions` says"""
    state: Tensor
    """[B, S] what the network remembers"""
    extras: dict[str, Tensor]
    """[B, …] what the loss will need of this moment; kept in the rollout"""
    explored: Tensor | None = None
    """[B] bool: actions that are not the policy's choice but chance"""


class Loss(NamedTuple):
    """What the learner descends, and what it reports."""

    total: Tensor
    """scalar, differentiable"""
    metrics: dict[str, Tensor]
    """scalars, detached, left on the device"""
    early_stop: bool = False
    """Take no step and none after it in this update."""
    td_errors: Tensor | None = None
    """[N] ≥ 0, of a Sample: how surprising each of its steps was; what priorities are made of"""

    @classmethod
    def of(cls, total: Tensor, **metrics: Tensor) -> Loss:
        """A loss with its metrics detached."""
        return cls(total, {name: x.detach() for name, x in metrics.items()})


@dataclass(frozen=True)
class Algorithm:
    """The interface. An algorithm does no input or output and knows no process, device or environment.

    Adding one: a file with a subclass, one line in `algorithms/__init__.py`, a preset, a test.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line for `asyncrl list algorithms`."""
    network: ClassVar[Any]
    """What it learns; made of a network's configuration, spaces, the body's dtype and a generator."""
    optimizer: ClassVar[OptimizerConfig] = OptimizerConfig()
    """What it is optimized with unless told otherwise."""
    prefers: ClassVar[Network] = Network.AUTO
    """The kind of network it takes unless told otherwise."""
    is_stochastic: ClassVar[bool] = True
    """Does its policy draw actions? What has none to draw from is always evaluated greedily."""
    reports_kl: ClassVar[bool] = False
    """Is there a metric `kl` in its loss: how far the policy has moved in this update, in nats?"""
    target_every = 0
    """Steps between copies of the network into the target network; 0: the network is its own target."""
    tau = 0.0
    """Share of the way that the target network moves towards the network with every step of the optimizer."""

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        """Raise UsageError for hyperparameters out of range, spaces or networks it cannot handle."""
        raise NotImplementedError

    def experience(self) -> Experience:
        """Which experience it learns from."""
        raise NotImplementedError

    def build(
        self, config: NetworkConfig, spaces: Spaces, dtype: torch.dtype, generator: torch.Generator
    ) -> torch.nn.Module:
        """A new network."""
        built: torch.nn.Module = self.network(config, spaces, dtype, generator)
        return built

    def act(self, network: Any, observation: Tensor, state: Tensor, context: ActContext) -> ActionOutput:
        """Choose actions for observations [B, *O]; `state` [B, S] is what the network remembers."""
        raise NotImplementedError

    def prepare(self, network: Any, target: Any, batch: Any) -> Any:
        """What is computed once for an update that goes through its batch several times, or for several batches at once."""
        return batch

    def loss(self, network: Any, target: Any, batch: Any) -> Loss:
        """What the gradient is taken of; `target` is the target network, `batch` a Batch, or a Sample of stored steps."""
        raise NotImplementedError
