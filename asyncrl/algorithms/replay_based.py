"""What the methods that learn action values from stored experience have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from asyncrl.algorithms.exploration import Exploration
from asyncrl.algorithms.optimizers import LearningRateSchedule, Optimizer, OptimizerConfig
from asyncrl.algorithms.value_based import ValueBasedMethod
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.errors import UsageError
from asyncrl.experience import OffPolicy, ReplayOptions, Sample
from asyncrl.networks import ActionValues, NetworkConfig, Recurrent

__all__ = ["ReplayBasedQLearning", "gather_action", "q_outputs"]


def _one_floor() -> Exploration:
    return Exploration(final_epsilons=(0.01,), final_epsilon_probabilities=(1.0,))


@dataclass(frozen=True)
class ReplayBasedQLearning(ValueBasedMethod):
    """Many actors fill one replay memory, one learner samples from it: with a ladder of ε's and priorities that is
    Ape-X (Horgan et al. 2018). A subclass says what its loss is; the switches compose freely.
    """

    optimizer: ClassVar[OptimizerConfig] = OptimizerConfig(
        Optimizer.ADAM,
        1e-4,
        learning_rate_schedule=LearningRateSchedule.CONSTANT,
        decay=0.999,
        optimizer_epsilon=1.5e-4,
        max_gradient_norm=10.0,
    )

    t_max: int = 4
    """Steps per rollout."""
    double: bool = False
    """The network chooses the next action, the target network says what it is worth (van Hasselt et al. 2016)."""
    n_step: int = 1
    """Steps of reward before the target network's value (Sutton 1988)."""
    tau: float = 0.0
    """Share τ that the target network moves towards the network with every step (Polyak averages)."""
    exploration: Exploration = field(default_factory=_one_floor)
    replay: ReplayOptions = field(default_factory=ReplayOptions)

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        super().check(spaces, network)
        within(self, 1, math.inf, "n_step")
        within(self, 0, 1, "tau")
        self.replay.check(self.n_step)
        if network.recurrent is not Recurrent.NONE:
            raise UsageError(f"{self.name} samples single steps, which say nothing of the past; leave out --recurrent")

    def experience(self) -> OffPolicy:
        return OffPolicy(self.t_max, n_step=self.n_step, replay=self.replay)

    def prepare(self, network: Any, target: Any, batch: Sample) -> Sample:
        output = q_outputs(target, batch.next_observation)
        return replace(batch, target_q=output.q[0], target_outputs=output.outputs[0])

    def target_outputs(self, network: Any, sample: Sample) -> Tensor:
        """[N, K] what the target network says of the best action in `sample.next_observation`."""
        q = q_outputs(network, sample.next_observation).q[0] if self.double else sample.target_q
        return gather_action(sample.target_outputs, q.argmax(-1))


def q_outputs(network: Any, observation: Tensor) -> ActionValues:
    """What a network without a memory says of observations [N, *O], one step: T = 1."""
    output: ActionValues = network(
        observation[None], torch.zeros(len(observation), 0, dtype=torch.float32, device=observation.device)
    )
    return output


def gather_action(x: Tensor, action: Tensor) -> Tensor:
    """[N, …]: of x [N, A, …] what belongs to action [N]."""
    return x[torch.arange(len(action), device=action.device), action]
