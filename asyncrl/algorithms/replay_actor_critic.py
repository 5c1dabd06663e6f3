"""Base of the methods that learn a policy from a replay buffer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from asyncrl.algorithms.base import ActContext, ActionOutput, Algorithm
from asyncrl.algorithms.optimizers import GradientClipping, LearningRateSchedule, Optimizer, OptimizerConfig
from asyncrl.common.search_space import DISCOUNTS, Range
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Actions, Spaces
from asyncrl.errors import UsageError
from asyncrl.experience import OffPolicy, ReplayOptions, Sample
from asyncrl.networks import Init, NetworkConfig, Recurrent
from asyncrl.networks.encoders import Activation

__all__ = ["ReplayActorCritic"]


def _default_replay() -> ReplayOptions:
    return ReplayOptions(batch_size=256, replay_ratio=1.0, learning_starts=5_000)


@dataclass(frozen=True)
class ReplayActorCritic(Algorithm):
    """Many actors fill one replay buffer; one learner improves a policy and C critics Q_1 … Q_C on samples from it.

    Bootstrapping from the least of the target critics' values keeps them from overestimating (Fujimoto et al. 2018,
    equation 10). Until learning starts, actions are uniformly random. Subclasses define how to act and the loss.
    """

    optimizer: ClassVar[OptimizerConfig] = OptimizerConfig(
        Optimizer.ADAM,
        3e-4,
        learning_rate_schedule=LearningRateSchedule.CONSTANT,
        decay=0.999,
        optimizer_epsilon=1e-8,
        gradient_clipping=GradientClipping.NONE,
    )
    network_config: ClassVar[NetworkConfig] = NetworkConfig(hidden=(256, 256), activation=Activation.RELU, init=Init.FAN_IN)

    takes_complete_network: ClassVar[bool] = False

    t_max: int = 4
    """Steps per rollout."""
    discount: Annotated[float, DISCOUNTS] = 0.99
    """Discount factor γ per step."""
    tau: Annotated[float, Range(0.001, 0.05, log=True)] = 0.005
    """Polyak averaging: fraction τ by which the target network moves towards the network."""
    critics: int = 2
    """Number C of critics; targets use the minimum of their values."""
    replay: ReplayOptions = field(default_factory=_default_replay)

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        self.check_actions(spaces.actions)
        within(self, 1, math.inf, "t_max")
        within(self, 1, 100, "critics")
        within(self, 0, 1, "discount")
        within(self, 0, 1, "tau", above=True)
        self.replay.check(n_step=1)
        if network.recurrent is not Recurrent.NONE:
            raise UsageError(
                f"{self.name} samples single steps, so it cannot train --recurrent {network.recurrent.value}; leave it out"
            )

    def check_actions(self, actions: Actions) -> None:
        """Raise UsageError for actions that the method cannot take."""
        if not actions.is_continuous:
            other = "use sac-discrete, dqn or ppo" if actions.count is not None else "use a3c, impala or ppo"
            raise UsageError(f"{self.name} needs continuous actions, but the environment has {actions.in_words}; {other}")

    def experience(self) -> OffPolicy:
        return OffPolicy(self.t_max, replay=self.replay)

    def build(self, config: NetworkConfig, spaces: Spaces, dtype: torch.dtype, generator: torch.Generator) -> Any:
        return self.network(config, spaces, dtype, generator, self.critics)

    def act(self, network: Any, observation: Tensor, state: Tensor, context: ActContext) -> ActionOutput:
        policy, state = network(observation[None], state)
        if not context.explore:
            action = policy.mode() if context.greedy else policy.sample(context.random)
            return ActionOutput(action[0], state, {})
        if context.step < self.replay.learning_starts:
            action = self.uniform(policy, context)
            return ActionOutput(action, state, {}, torch.ones(len(action), dtype=torch.bool))
        return ActionOutput(self.explored(policy, context.random), state, {})

    def uniform(self, policy: Any, context: ActContext) -> Tensor:
        """Return uniformly random actions [B, …] in place of those of the policies [1, B]."""
        return 2 * torch.rand(policy.mode()[0].shape, generator=context.random, dtype=torch.float32) - 1

    def explored(self, policy: Any, random: torch.Generator) -> Tensor:
        """Return the actions [B, …] of training with the policies [1, B]."""
        raise NotImplementedError

    def target(self, sample: Sample, next_value: Tensor) -> Tensor:
        """Return y = R + γ·V(s′) [N], or R where the episode terminated, for `next_value` [N]."""
        return sample.returns(self.discount) + sample.bootstrap(self.discount) * next_value
