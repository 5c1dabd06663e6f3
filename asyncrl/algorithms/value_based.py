"""What the methods that learn action values have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from asyncrl.algorithms.base import ActContext, ActionOutput, Algorithm, Loss
from asyncrl.algorithms.exploration import Exploration, explore
from asyncrl.algorithms.returns import masked_mean
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.errors import UsageError
from asyncrl.networks import NetworkConfig, QNetwork

__all__ = ["ValueBasedMethod", "gather_q", "squared_error"]


@dataclass(frozen=True)
class ValueBasedMethod(Algorithm):
    """Acts ε-greedily on Q(s, a; θ) and bootstraps from a target network θ⁻; a subclass says what a target is."""

    network: ClassVar[Any] = QNetwork
    is_stochastic: ClassVar[bool] = False

    t_max: int = 5
    """Steps per rollout: gradients are added up over them (the paper's t_max and I_AsyncUpdate)."""
    discount: float = 0.99
    """γ, per step."""
    target_every: int = 10_000
    """Steps between copies of the network into the target network (the paper's I_target is 40 000 frames); 0: none."""
    exploration: Exploration = field(default_factory=Exploration)

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        if spaces.actions.count is None:
            raise UsageError(
                f"{self.name} takes one discrete choice per action, and here an action is {spaces.actions}; "
                "a3c, impala and ppo can do that"
            )
        within(self, 1, math.inf, "t_max")
        within(self, 0, math.inf, "target_every")
        within(self, 0, 1, "discount")
        self.exploration.check()

    def act(self, network: QNetwork, observation: Tensor, state: Tensor, context: ActContext) -> ActionOutput:
        q, _, state = network(observation[None], state)
        action, random = q[0].argmax(-1), None
        if context.slots is not None:
            epsilon = self.exploration.epsilon(context.step, context.slots)
            chance = context.random
            if self.exploration.hold_random_actions:  # what is drawn at one step of a rollout is drawn at all
                chance = torch.Generator().manual_seed(chance.initial_seed())
            action, random = explore(action, q.shape[-1], epsilon, chance)
        return ActionOutput(action, state, {}, random)


def gather_q(q: Tensor, action: Tensor) -> Tensor:
    """Q(s, a) [T, N] of q [T, N, A] and action [T, N]."""
    return q.gather(-1, action[..., None]).squeeze(-1)


def squared_error(q: Tensor, action: Tensor, target: Tensor, valid: Tensor) -> Loss:
    """The mean of (target − Q(s, a))² over valid steps; q is [T, N, A], all else [T, N]."""
    loss = masked_mean((target - gather_q(q, action)).square(), valid)
    return Loss.of(loss, q=masked_mean(q.amax(-1), valid), target=masked_mean(target, valid))
