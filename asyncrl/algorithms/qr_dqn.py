"""Quantile-regression DQN: learns quantiles of the return (Dabney et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from asyncrl.algorithms.base import Loss
from asyncrl.algorithms.munchausen import Munchausen
from asyncrl.algorithms.replay_based import ReplayBasedQLearning, current_outputs, gather_action
from asyncrl.common.sharding import mean
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.experience import PreparedSample
from asyncrl.networks import NetworkConfig, QNetwork

__all__ = ["QRDQN", "quantile_loss"]


@dataclass(frozen=True)
class QRDQN(ReplayBasedQLearning):
    """Quantile-regression DQN (Dabney et al. 2018, algorithm 1).

    θ_i(s, a) estimates the quantile τ_i = (i + ½)/K of the return, i = 0 … K − 1; Q(s, a) is the mean over i.

        y_j = R + γ^n·θ⁻_j(s_n, a*)
        L(θ) = mean w·Σ_i mean_j ρ_{τ_i}(y_j − θ_i(s, a))

    R is the n-step sum of rewards, a* the bootstrap action of `ReplayBasedQLearning`, ρ the quantile Huber loss
    (equation 10), w the importance weight of prioritized replay.
    """

    name: ClassVar[str] = "qr-dqn"
    summary: ClassVar[str] = "quantile-regression DQN: learns quantiles of the return (Dabney 2018)"
    is_capturable: ClassVar[bool] = True

    quantiles: int = 200
    """Number K of quantiles per action."""
    munchausen_targets: Munchausen = field(default_factory=Munchausen)

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        super().check(spaces, network)
        within(self, 1, 10_000, "quantiles")

    def build(self, config: NetworkConfig, spaces: Spaces, dtype: torch.dtype, generator: torch.Generator) -> QNetwork:
        return QNetwork(config, spaces, dtype, generator, self.quantiles)

    def loss(self, network: Any, target: Any, batch: PreparedSample) -> Loss:
        with torch.no_grad():
            next_quantiles = self.target_outputs(network, batch)  # [N, K]
            y = batch.returns(self.discount)[:, None] + batch.bootstrap(self.discount)[:, None] * next_quantiles
        output = current_outputs(network, batch)
        losses = quantile_loss(gather_action(output.outputs[0], batch.action), y)  # [N]
        loss = mean(batch.weight * losses)
        return Loss.of(loss, q=batch.mean(output.q.amax(-1)), target=batch.mean(y.mean(-1)))._replace(
            td_errors=losses.detach()
        )


def quantile_loss(quantiles: Tensor, samples: Tensor, fractions: Tensor | None = None) -> Tensor:
    """Return the quantile Huber loss [N] with κ = 1 (Dabney et al. 2018, equation 10).

        Σ_i mean_j |τ_i − 1{u_ij < 0}|·huber(u_ij),  u_ij = samples_j − quantiles_i

    `quantiles` is [N, K], `samples` is [N, J]. `fractions` τ is [N, K]; None is (i + ½)/K.
    """
    count = quantiles.shape[1]
    if fractions is None:
        fractions = (torch.arange(count, dtype=quantiles.dtype, device=quantiles.device) + 0.5) / count
    error = samples[:, None, :] - quantiles[:, :, None]  # [N, K, J]
    huber = F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none")
    return ((fractions[..., None] - (error.detach() < 0).float()).abs() * huber).mean(2).sum(1)
