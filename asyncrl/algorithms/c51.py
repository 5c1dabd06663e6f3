"""Categorical DQN: learns the distribution of returns on a fixed support (Bellemare, Dabney and Munos 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from asyncrl.algorithms.base import Loss
from asyncrl.algorithms.replay_based import ReplayBasedQLearning, current_outputs, gather_action
from asyncrl.common.sharding import mean
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.errors import UsageError
from asyncrl.experience import PreparedSample
from asyncrl.networks import CategoricalQNetwork, NetworkConfig

__all__ = ["C51", "project"]


@dataclass(frozen=True)
class C51(ReplayBasedQLearning):
    """Categorical DQN (Bellemare et al. 2017, algorithm 1).

    Z(s, a; θ) is a distribution over K returns z_1 … z_K; Q(s, a) is its mean.

        m = Φ(R + γ^n·Z(s_n, a*; θ⁻))
        L(θ) = mean w·(−Σ_i m_i·log p_i(s, a; θ))

    R is the n-step sum of rewards, a* the bootstrap action of `ReplayBasedQLearning`, Φ the projection onto the
    support (equation 7), w the importance weight of prioritized replay. Priorities are the KL divergence from m to p,
    as in Rainbow (Hessel et al. 2018).
    """

    name: ClassVar[str] = "c51"
    summary: ClassVar[str] = (
        "categorical DQN: learns the distribution of returns (Bellemare 2017); with all switches, Rainbow"
    )
    is_capturable: ClassVar[bool] = True
    network: ClassVar = CategoricalQNetwork

    atoms: int = 51
    """Number K of returns in the support."""
    v_min: float = -10.0
    """Smallest return z_1."""
    v_max: float = 10.0
    """Largest return z_K."""

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        super().check(spaces, network)
        within(self, 2, 10_000, "atoms")
        within(self, -1e30, 1e30, "v_min", "v_max")
        if self.v_min >= self.v_max:
            raise UsageError(f"--v-min must be below --v-max, not {self.v_min:g} with --v-max {self.v_max:g}")

    def build(
        self, config: NetworkConfig, spaces: Spaces, dtype: torch.dtype, generator: torch.Generator
    ) -> CategoricalQNetwork:
        return CategoricalQNetwork(config, spaces, dtype, generator, self.atoms, low=self.v_min, high=self.v_max)

    def loss(self, network: Any, target: Any, batch: PreparedSample) -> Loss:
        with torch.no_grad():
            next_probability = self.target_outputs(network, batch).softmax(-1)  # [N, K]
            support: Tensor = target.support  # [K]
            values = batch.returns(self.discount)[:, None] + batch.bootstrap(self.discount)[:, None] * support
            y = project(values, next_probability, support)  # [N, K]
        output = current_outputs(network, batch)
        log_probability = gather_action(output.outputs[0], batch.action).log_softmax(-1)  # [N, K]
        cross_entropy = -(y * log_probability).sum(-1)
        entropy = -torch.special.xlogy(y, y).sum(-1)
        loss = mean(batch.weight * cross_entropy)
        divergence = (cross_entropy.detach() - entropy).clamp(min=0)
        metrics = dict(q=batch.mean(output.q.amax(-1)), target=batch.mean(y @ support))
        return Loss.of(loss, **metrics)._replace(td_errors=divergence)


def project(values: Tensor, probability: Tensor, support: Tensor) -> Tensor:
    """Project distributions over `values` onto `support` (Bellemare et al. 2017, equation 7).

    Each probability is split between the two neighbours of its value in the support, in proportion to nearness.

        (Φp)_i = Σ_j [1 − |clip(v_j, z_1, z_K) − z_i| / Δz] clipped to [0, 1] · p_j

    Args:
        values: [N, J] float, v.
        probability: [N, J] float, p.
        support: [K] float, z, ascending and equally spaced.

    Returns:
        The probabilities [N, K] of the support's values.
    """
    gap = support[1] - support[0]
    distance = (values.clamp(support[0], support[-1])[:, None, :] - support[:, None]).abs() / gap  # [N, K, J]
    return ((1 - distance).clamp(min=0) * probability[:, None, :]).sum(-1)
