"""Quantile-regression Q-learning: quantiles of the return (Dabney et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from asyncrl.algorithms.base import Loss
from asyncrl.algorithms.replay_based import ReplayBasedQLearning, gather_action, q_outputs
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.experience import Sample
from asyncrl.networks import NetworkConfig, QNetwork

__all__ = ["QRDQN", "quantile_loss"]


@dataclass(frozen=True)
class QRDQN(ReplayBasedQLearning):
    """K quantiles θ_i(s, a) of the return at (i + ½) / K; Q(s, a) is their mean (algorithm 1)."""

    name: ClassVar[str] = "qr-dqn"
    summary: ClassVar[str] = "quantile-regression DQN: learns quantiles of the return (Dabney 2018)"

    quantiles: int = 200
    """K: quantiles of each action's return."""

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        super().check(spaces, network)
        within(self, 1, 10_000, "quantiles")

    def build(self, config: NetworkConfig, spaces: Spaces, dtype: torch.dtype, generator: torch.Generator) -> QNetwork:
        return QNetwork(config, spaces, dtype, generator, self.quantiles)

    def loss(self, network: Any, target: Any, batch: Sample) -> Loss:
        with torch.no_grad():
            after = self.target_outputs(network, batch)  # [N, K]
            wanted = batch.returns(self.discount)[:, None] + batch.bootstrap(self.discount)[:, None] * after
        output = q_outputs(network, batch.observation)
        cost = quantile_loss(gather_action(output.outputs[0], batch.action), wanted)
        loss = (batch.weight * cost).mean()
        return Loss.of(loss, q=output.q.amax(-1).mean(), target=wanted.mean())._replace(td_errors=cost.detach())


def quantile_loss(quantiles: Tensor, samples: Tensor) -> Tensor:
    """[N]: the quantile Huber loss (equation 10, κ = 1) of `quantiles` [N, K] to `samples` [N, J], summed over K."""
    count = quantiles.shape[1]
    place = (torch.arange(count, dtype=quantiles.dtype, device=quantiles.device) + 0.5) / count
    error = samples[:, None, :] - quantiles[:, :, None]  # [N, K, J]
    huber = F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none")
    return ((place[:, None] - (error.detach() < 0).float()).abs() * huber).mean(2).sum(1)
