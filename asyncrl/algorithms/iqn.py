"""Implicit quantile networks: learns the return's quantile at any fraction (Dabney et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from asyncrl.algorithms.base import Loss
from asyncrl.algorithms.munchausen import Munchausen
from asyncrl.algorithms.qr_dqn import quantile_loss
from asyncrl.algorithms.replay_based import ReplayBasedQLearning, current_outputs, gather_action, next_outputs
from asyncrl.common.sharding import draw_rows, mean
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.experience import PreparedSample, Sample
from asyncrl.networks import ActionValues, ImplicitQuantileNetwork, NetworkConfig

__all__ = ["IQN"]


@dataclass(frozen=True)
class IQN(ReplayBasedQLearning):
    """Implicit quantile networks (Dabney et al. 2018, "Implicit Quantile Networks", equations 2 to 4).

    Z_τ(s, a) estimates the quantile of the return at the fraction τ; Q(s, a) is its mean over K fixed fractions.

        y_j = R + γ^n·Z⁻_{τ′_j}(s_n, a*),  τ_i, τ′_j ~ U(0, 1)
        L(θ) = mean w·Σ_i mean_j ρ_{τ_i}(y_j − Z_{τ_i}(s, a))

    R is the n-step sum of rewards, a* the bootstrap action of `ReplayBasedQLearning`, ρ the quantile Huber loss, w the
    importance weight of prioritized replay. With `--munchausen` it is M-IQN (Vieillard et al. 2020).
    """

    name: ClassVar[str] = "iqn"
    summary: ClassVar[str] = "implicit quantile networks: quantiles of the return at random fractions (Dabney 2018)"
    network: ClassVar[Any] = ImplicitQuantileNetwork
    takes_complete_network: ClassVar[bool] = False
    is_capturable: ClassVar[bool] = True
    draws_in_loss: ClassVar[bool] = True

    quantile_samples: int = 64
    """Number N of fractions τ drawn for each transition."""
    target_samples: int = 64
    """Number N′ of fractions τ′ drawn for each target."""
    acting_quantiles: int = 32
    """Number K of equally spaced fractions over which Q is the mean."""
    cosines: int = 64
    """Cosines in which a fraction is embedded."""
    munchausen_targets: Munchausen = field(default_factory=Munchausen)

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        super().check(spaces, network)
        within(self, 1, 10_000, "quantile_samples", "target_samples", "acting_quantiles", "cosines")

    def build(
        self, config: NetworkConfig, spaces: Spaces, dtype: torch.dtype, generator: torch.Generator
    ) -> ImplicitQuantileNetwork:
        return ImplicitQuantileNetwork(config, spaces, dtype, generator, self.acting_quantiles, self.cosines)

    def prepare(self, network: Any, target: ImplicitQuantileNetwork, batch: Sample) -> PreparedSample:
        """Add the target network's action values, and its quantiles at drawn fractions, for `next_observation`."""
        q = next_outputs(target, batch).q[0]
        outputs = next_outputs(_AtRandomFractions(target, batch.random, self.target_samples), batch).outputs[0]
        return self.with_bonus(target, batch).with_targets(target_q=q, target_outputs=outputs)

    def loss(self, network: ImplicitQuantileNetwork, target: Any, batch: PreparedSample) -> Loss:
        with torch.no_grad():
            next_quantiles = self.target_outputs(network, batch)  # [N, N′]
            y = batch.returns(self.discount)[:, None] + batch.bootstrap(self.discount)[:, None] * next_quantiles
        forward = _AtRandomFractions(network, batch.random, self.quantile_samples)
        output = current_outputs(forward, batch)
        losses = quantile_loss(gather_action(output.outputs[0], batch.action), y, forward.fractions)  # [N]
        loss = mean(batch.weight * losses)
        return Loss.of(loss, q=batch.mean(output.q.amax(-1)), target=batch.mean(y.mean(-1)))._replace(
            td_errors=losses.detach()
        )


class _AtRandomFractions:
    """A pass of the network that draws `count` fractions for each step."""

    def __init__(self, network: ImplicitQuantileNetwork, random: torch.Generator, count: int) -> None:
        self._network, self._random, self._count = network, random, count
        self.fractions = torch.empty(0)
        """[T·N, count] float32: the fractions of the last pass."""

    def __call__(self, observation: Tensor, state: Tensor, valid: Tensor | None) -> ActionValues:
        size = *observation.shape[:2], self._count
        fractions = draw_rows(torch.rand, size, self._random, 1, dtype=torch.float32).to(observation.device)
        self.fractions = fractions.flatten(0, 1)
        return self._network.quantiles(observation, state, valid, fractions)
