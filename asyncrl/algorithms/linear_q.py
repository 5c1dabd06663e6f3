"""Online linear Q-learning on fixed features (Sutton and Barto 2018, section 9.3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from asyncrl.algorithms.exploration import Exploration
from asyncrl.algorithms.one_step_q import OneStepQ
from asyncrl.algorithms.optimizers import GradientClipping, LearningRateSchedule, Optimizer, OptimizerConfig
from asyncrl.envs.spaces import Spaces
from asyncrl.errors import UsageError
from asyncrl.networks import NetworkConfig

__all__ = ["LinearQ"]


def _default_exploration() -> Exploration:
    return Exploration(
        epsilon_start=0.5,
        final_epsilons=(0.01,),
        final_epsilon_probabilities=(1.0,),
        epsilon_steps=100_000,
    )


@dataclass(frozen=True)
class LinearQ(OneStepQ):
    """One-step Q-learning with a linear model per action on fixed random features, by SGD on single steps.

        Q(s, a) = w_a·x(s) + b_a,  w_a ← w_a + 2η·(r + γ·max_a′ Q(s′, a′) − Q(s, a))·x(s)

    x(s) are random Fourier features of Gaussian kernels (`--network radial`). This is semi-gradient TD (Sutton and
    Barto 2018, sections 9.3 and 10.1) without replay buffer or target network.
    """

    name: ClassVar[str] = "linear-q"
    summary: ClassVar[str] = "one-step Q-learning with linear models on fixed radial features, by SGD"
    optimizer: ClassVar[OptimizerConfig] = OptimizerConfig(
        Optimizer.SGD, 1e-2, learning_rate_schedule=LearningRateSchedule.CONSTANT, gradient_clipping=GradientClipping.NONE
    )
    network_config: ClassVar[NetworkConfig] = NetworkConfig("radial")

    t_max: int = 1
    """Steps per rollout. With 1 and a single environment, every step is an update."""
    target_every: int = 0
    """Environment steps between copies into the target network; 0 for no target network."""
    exploration: Exploration = field(default_factory=_default_exploration)

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        super().check(spaces, network)
        if network.network != "radial":
            raise UsageError(f"linear-q needs fixed features: use --network radial, not {network.network}")
