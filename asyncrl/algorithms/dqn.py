"""Deep Q-learning from stored experience (Mnih et al. 2015), with its extensions as switches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

import torch
from torch.nn import functional as F

from asyncrl.algorithms.base import Loss
from asyncrl.algorithms.replay_based import ReplayBasedQLearning, gather_action, q_outputs
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.experience import Sample
from asyncrl.networks import NetworkConfig

__all__ = ["DQN", "TDLoss"]


class TDLoss(Enum):
    """What an error costs."""

    HUBER = "huber"
    """squared below 1, linear above: the clipped error of the 2015 paper"""
    SQUARED = "squared"


@dataclass(frozen=True)
class DQN(ReplayBasedQLearning):
    """y = Σ γ^k·r_k + γⁿ·max_a Q(s_n, a; θ⁻), and the mean penalty of y − Q(s, a; θ) over a batch of stored steps."""

    name: ClassVar[str] = "dqn"
    summary: ClassVar[str] = "deep Q-learning from a replay memory: double, dueling, noisy, n-step, prioritized (Mnih 2015)"

    td_loss: TDLoss = TDLoss.HUBER
    """What an error costs."""
    cql_alpha: float = 0.0
    """Weight of log Σ_a exp Q(s, a) − Q(s, a_t): keeps what was never tried from looking good (CQL, Kumar et al. 2020)."""

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        super().check(spaces, network)
        within(self, 0, math.inf, "cql_alpha")

    def loss(self, network: Any, target: Any, batch: Sample) -> Loss:
        with torch.no_grad():
            after = self.target_outputs(network, batch).squeeze(-1)
            y = batch.returns(self.discount) + batch.bootstrap(self.discount) * after
        q = q_outputs(network, batch.observation).q[0]
        value = gather_action(q, batch.action)
        error_loss = F.smooth_l1_loss if self.td_loss is TDLoss.HUBER else F.mse_loss
        loss = (batch.weight * error_loss(value, y, reduction="none")).mean()
        if self.cql_alpha:
            loss = loss + self.cql_alpha * (q.logsumexp(-1) - value).mean()
        errors = (y - value).detach().abs()
        return Loss.of(loss, q=q.amax(-1).mean(), target=y.mean())._replace(td_errors=errors)
