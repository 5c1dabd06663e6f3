"""Linear Q-learning on fixed features, online: no memory, no target network (Sutton and Barto 2018, section 9.3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from asyncrl.algorithms.exploration import Exploration
from asyncrl.algorithms.one_step_q import OneStepQ
from asyncrl.algorithms.optimizers import GradientClipping, LearningRateSchedule, Optimizer, OptimizerConfig
from asyncrl.envs.spaces import Spaces
from asyncrl.errors import UsageError
from asyncrl.networks import Network, NetworkConfig

__all__ = ["LinearQ"]


@dataclass(frozen=True)
class LinearQ(OneStepQ):
    """One-step Q-learning with a linear model per action on random radial features, by SGD on what just happened."""

    name: ClassVar[str] = "linear-q"
    summary: ClassVar[str] = "one-step Q-learning with linear models on fixed radial features, by SGD"
    optimizer: ClassVar[OptimizerConfig] = OptimizerConfig(
        Optimizer.SGD, 1e-2, learning_rate_schedule=LearningRateSchedule.CONSTANT, gradient_clipping=GradientClipping.NONE
    )
    prefers: ClassVar[Network] = Network.RADIAL

    t_max: int = 1
    """Steps per rollout: with one environment, every step is learned from at once."""
    target_every: int = 0
    """Steps between copies of the network into the target network; 0: none."""
    exploration: Exploration = field(default_factory=lambda: Exploration(0.5, (0.01,), (1.0,), 100_000))

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        super().check(spaces, network)
        if network.network not in (Network.AUTO, Network.RADIAL):
            raise UsageError(f"linear-q learns from fixed features: --network radial, not {network.network.value}")
