"""Base of the methods that learn action values, with the losses they share."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from asyncrl.algorithms.base import ActContext, ActionOutput, Algorithm, Loss
from asyncrl.algorithms.exploration import Exploration, explore
from asyncrl.algorithms.returns import masked_mean, multistep_errors
from asyncrl.common.search_space import DISCOUNTS, Choices
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.errors import UsageError
from asyncrl.experience import Batch
from asyncrl.networks import NetworkConfig, QNetwork, finite

__all__ = ["ValueBasedMethod", "gather_q", "q_learning_loss", "squared_error"]


@dataclass(frozen=True)
class ValueBasedMethod(Algorithm):
    """Acts ε-greedily on Q(s, a; θ) and bootstraps from a target network θ⁻. Subclasses define the target y."""

    network: ClassVar[Any] = QNetwork
    is_stochastic: ClassVar[bool] = False

    t_max: Annotated[int, Choices(4, 8, 16, 32)] = 5
    """Steps per rollout, over which gradients accumulate (t_max and I_AsyncUpdate of the paper)."""
    discount: Annotated[float, DISCOUNTS] = 0.99
    """Discount factor γ per step."""
    target_every: Annotated[int, Choices(500, 1_000, 2_000, 5_000, 10_000)] = 10_000
    """Environment steps between copies into the target network (I_target of the paper, 40,000 frames); 0 for no target
    network."""
    exploration: Exploration = field(default_factory=Exploration)

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        if spaces.actions.count is None:
            raise UsageError(
                f"{self.name} needs one discrete action per step, but the environment has {spaces.actions.in_words}; "
                "use a3c, impala or ppo"
            )
        within(self, 1, math.inf, "t_max")
        within(self, 0, math.inf, "target_every")
        within(self, 0, 1, "discount")
        self.exploration.check()

    def act(self, network: QNetwork, observation: Tensor, state: Tensor, context: ActContext) -> ActionOutput:
        q, _, state = network(observation[None], state)
        action = finite(q[0]).argmax(-1)
        if not context.explore:
            return ActionOutput(action, state, {})
        assert context.slots is not None
        epsilon = context.slots.epsilon(self.exploration, context.step)
        random = context.random
        if self.exploration.hold_random_actions:  # every step of the rollout repeats the same draws
            random = torch.Generator().manual_seed(random.initial_seed())
        action, explored = explore(action, q.shape[-1], epsilon, random, context.legal)
        return ActionOutput(action, state, {}, explored)


def q_learning_loss(network: QNetwork, target: QNetwork, batch: Batch, discount: float, trace: float) -> Loss:
    """Return the Q-learning loss, the mean of (y − Q(s, a; θ))² over valid steps.

    With V(s) = max_a Q(s, a; θ⁻), y_t = r_t + γ·V(s_{t+1}) for `trace` 0 (Mnih et al. 2016, algorithm 1), and
    y_t = r_t + γ·y_{t+1}, y_T = V(s_T), for `trace` 1 (algorithm S2).
    """
    with torch.no_grad():
        best = target(batch.observation, batch.state, batch.valid).q.amax(-1)  # [T+1, N]
    discounts = discount * (~batch.terminated).float()
    y = best[:-1] + multistep_errors(batch.reward, discounts, best, batch.valid, trace=trace)
    q = network(batch.observation[:-1], batch.state, batch.valid).q
    return squared_error(q, batch.action, y, batch.valid)


def gather_q(q: Tensor, action: Tensor) -> Tensor:
    """Return Q(s, a) [T, N] from the values of all actions `q` [T, N, A] and `action` [T, N] int64."""
    return q.gather(-1, action[..., None]).squeeze(-1)


def squared_error(q: Tensor, action: Tensor, target: Tensor, valid: Tensor) -> Loss:
    """Return the mean of (y − Q(s, a))² over valid steps.

    `q` is [T, N, A]; `action`, the `target` y and `valid` are [T, N].
    """
    loss = masked_mean((target - gather_q(q, action)).square(), valid)
    return Loss.of(loss, q=masked_mean(q.amax(-1), valid), target=masked_mean(target, valid))
