"""Deep Q-learning with experience replay (Mnih et al. 2015) and its extensions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

import torch
from torch.nn import functional as F

from asyncrl.algorithms.base import Loss
from asyncrl.algorithms.munchausen import Munchausen
from asyncrl.algorithms.replay_based import ReplayBasedQLearning, current_outputs, gather_action
from asyncrl.common.sharding import mean
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.experience import PreparedSample
from asyncrl.networks import NetworkConfig

__all__ = ["DQN", "TDLoss"]


class TDLoss(Enum):
    """The loss of a temporal-difference error."""

    HUBER = "huber"
    """quadratic below 1, linear above: the error clipping of Mnih et al. 2015"""
    SQUARED = "squared"


@dataclass(frozen=True)
class DQN(ReplayBasedQLearning):
    """Deep Q-learning (Mnih et al. 2015, algorithm 1).

        L(θ) = mean w·ℓ(y − Q(s, a; θ)) + α·(log Σ_a′ exp Q(s, a′; θ) − Q(s, a; θ))

    y is the n-step target of `ReplayBasedQLearning`, ℓ the Huber or the squared error, w the importance weight of
    prioritized replay (else 1), α the weight of conservative Q-learning (Kumar et al. 2020, equation 4; 0 by default).
    """

    name: ClassVar[str] = "dqn"
    summary: ClassVar[str] = "deep Q-learning from a replay buffer: double, dueling, noisy, n-step, prioritized (Mnih 2015)"
    is_capturable: ClassVar[bool] = True

    td_loss: TDLoss = TDLoss.HUBER
    """Loss of the temporal-difference error."""
    cql_alpha: float = 0.0
    """Weight of the conservative penalty log Σ_a exp Q(s, a) − Q(s, a_t), which lowers the values of actions that the data
    lacks (CQL, Kumar et al. 2020)."""
    munchausen_targets: Munchausen = field(default_factory=Munchausen)

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        super().check(spaces, network)
        within(self, 0, math.inf, "cql_alpha")

    def loss(self, network: Any, target: Any, batch: PreparedSample) -> Loss:
        with torch.no_grad():
            next_value = self.target_outputs(network, batch).squeeze(-1)  # [N]
            y = batch.returns(self.discount) + batch.bootstrap(self.discount) * next_value
        output = current_outputs(network, batch)
        q = output.q[0]  # [N, A]
        value = gather_action(output.outputs[0], batch.action).squeeze(-1)  # [N]
        td_loss = F.smooth_l1_loss if self.td_loss is TDLoss.HUBER else F.mse_loss
        loss = mean(batch.weight * td_loss(value, y, reduction="none"))
        if self.cql_alpha:
            loss = loss + self.cql_alpha * batch.mean(q.logsumexp(-1) - value)
        td_errors = (y - value).detach().abs()
        return Loss.of(loss, q=batch.mean(q.amax(-1)), target=batch.mean(y))._replace(td_errors=td_errors)
