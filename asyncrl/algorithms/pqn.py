"""PQN: Q(λ) on fresh rollouts, without replay buffer and target network (Gallici et al. 2025)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from asyncrl.algorithms.base import Loss
from asyncrl.algorithms.optimizers import LearningRateSchedule, Optimizer, OptimizerConfig
from asyncrl.algorithms.returns import multistep_errors
from asyncrl.algorithms.value_based import ValueBasedMethod, squared_error
from asyncrl.common.search_space import Choices
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.experience import Batch, OnPolicy, PreparedBatch
from asyncrl.networks import NetworkConfig, QNetwork
from asyncrl.networks.encoders import Activation

__all__ = ["PQN"]


@dataclass(frozen=True)
class PQN(ValueBasedMethod):
    """Parallelised Q-network (Gallici et al. 2025, "Simplifying Deep Temporal Difference Learning", algorithm 1).

        L(θ) = mean (G_t − Q(s_t, a_t; θ))²
        G_t = r_t + γ·(λ·G_{t+1} + (1 − λ)·max_a Q(s_{t+1}, a)),  G_T = max_a Q(s_T, a)

    The returns are computed with the learner's network at the beginning of the update and stay fixed during its epochs.
    Layer normalization takes the place of a target network: without it, Q-learning on fresh rollouts may diverge.
    """

    name: ClassVar[str] = "pqn"
    summary: ClassVar[str] = "Q(λ) on fresh rollouts, without replay buffer or target network (Gallici et al. 2025)"
    is_capturable: ClassVar[bool] = True
    optimizer: ClassVar[OptimizerConfig] = OptimizerConfig(
        Optimizer.RADAM,
        2.5e-4,
        learning_rate_schedule=LearningRateSchedule.CONSTANT,
        decay=0.999,
        optimizer_epsilon=1e-8,
        max_gradient_norm=10.0,
    )
    network_config: ClassVar[NetworkConfig] = NetworkConfig(hidden=(128, 128), activation=Activation.RELU, layer_norm=True)

    t_max: Annotated[int, Choices(8, 16, 32, 64, 128)] = 32
    """Steps per rollout."""
    target_every: int = 0
    """Environment steps between copies into the target network; 0 for no target network, as in the paper."""
    epochs: Annotated[int, Choices(1, 2, 4)] = 2
    """Passes of an update over its rollouts."""
    minibatches: Annotated[int, Choices(2, 4, 8, 16)] = 4
    """Minibatches per epoch: shuffled steps, or whole sequences with a recurrent network."""
    q_lambda: Annotated[float, Choices(0.0, 0.3, 0.65, 0.9)] = 0.65
    """λ of the λ-returns: 0 for one-step targets, 1 for the longest return that the rollout allows."""

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        super().check(spaces, network)
        within(self, 1, math.inf, "epochs", "minibatches")
        within(self, 0, 1, "q_lambda")

    def experience(self) -> OnPolicy:
        return OnPolicy(self.t_max, epochs=self.epochs, minibatches=self.minibatches)

    def prepare(self, network: QNetwork, target: QNetwork, batch: Batch) -> PreparedBatch:
        """Add the λ-returns G as `returns` [T, N] to the batch's extras."""
        best = target(batch.observation, batch.state, batch.valid).q.amax(-1)  # [T+1, N]
        discount = self.discount * (~batch.terminated).float()
        returns = best[:-1] + multistep_errors(batch.reward, discount, best, batch.valid, trace=self.q_lambda)
        return batch.with_targets(returns=returns)

    def loss(self, network: QNetwork, target: QNetwork, batch: PreparedBatch) -> Loss:
        q = network(batch.observation, batch.state, batch.valid).q
        return squared_error(q, batch.action, batch.extras["returns"], batch.valid)
