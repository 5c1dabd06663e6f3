"""Categorical Q-learning: the distribution of returns on fixed values (Bellemare, Dabney and Munos 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from asyncrl.algorithms.base import Loss
from asyncrl.algorithms.replay_based import ReplayBasedQLearning, gather_action, q_outputs
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.errors import UsageError
from asyncrl.experience import Sample
from asyncrl.networks import CategoricalQNetwork, NetworkConfig

__all__ = ["C51", "project"]


@dataclass(frozen=True)
class C51(ReplayBasedQLearning):
    """The cross-entropy of Z(s, a; θ) and the projected R + γⁿ·Z(s_n, a*; θ⁻) (algorithm 1)."""

    name: ClassVar[str] = "c51"
    summary: ClassVar[str] = (
        "categorical DQN: learns the distribution of returns (Bellemare 2017); with all switches, Rainbow"
    )
    network: ClassVar = CategoricalQNetwork

    atoms: int = 51
    """Values that a return can have."""
    v_min: float = -10.0
    """The first of them."""
    v_max: float = 10.0
    """The last of them."""

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        super().check(spaces, network)
        within(self, 2, 10_000, "atoms")
        within(self, -1e30, 1e30, "v_min", "v_max")
        if self.v_min >= self.v_max:
            raise UsageError(f"--v-min {self.v_min:g} is not below --v-max {self.v_max:g}")

    def build(
        self, config: NetworkConfig, spaces: Spaces, dtype: torch.dtype, generator: torch.Generator
    ) -> CategoricalQNetwork:
        low, high = self.v_min, self.v_max
        return CategoricalQNetwork(config, spaces, dtype, generator, self.atoms, low, high)

    def loss(self, network: Any, target: Any, batch: Sample) -> Loss:
        with torch.no_grad():
            probability = self.target_outputs(network, batch).softmax(-1)  # [N, K]
            support: Tensor = target.support
            moved = batch.returns(self.discount)[:, None] + batch.bootstrap(self.discount)[:, None] * support
            wanted = project(moved, probability, support)
        output = q_outputs(network, batch.observation)
        log_probability = gather_action(output.outputs[0], batch.action).log_softmax(-1)
        cost = -(wanted * log_probability).sum(-1)
        entropy = -torch.special.xlogy(wanted, wanted).sum(-1)
        loss = (batch.weight * cost).mean()
        errors = (cost.detach() - entropy).clamp(min=0)  # the divergence: what is left to learn
        return Loss.of(loss, q=output.q.amax(-1).mean(), target=(wanted @ support).mean())._replace(td_errors=errors)


def project(values: Tensor, probability: Tensor, support: Tensor) -> Tensor:
    """A distribution over `values` [N, K] as one over `support` [K]: each goes to its two neighbours, by nearness.

    `probability` and the result are [N, K].
    """
    gap = support[1] - support[0]
    distance = (values.clamp(support[0], support[-1])[:, None, :] - support[:, None]).abs() / gap  # [N, K, K]
    return ((1 - distance).clamp(min=0) * probability[:, None, :]).sum(-1)
