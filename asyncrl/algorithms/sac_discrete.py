"""Soft actor-critic for discrete actions (Christodoulou 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from asyncrl.algorithms.base import ActContext, Loss
from asyncrl.algorithms.exploration import explore
from asyncrl.algorithms.maximum_entropy import MaximumEntropy
from asyncrl.algorithms.value_based import gather_q
from asyncrl.common.search_space import Range
from asyncrl.common.sharding import mean
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Actions, Spaces
from asyncrl.errors import UsageError
from asyncrl.experience import Sample
from asyncrl.networks import DiscreteSoftActorCritic, NetworkConfig

__all__ = ["DiscreteSAC"]


@dataclass(frozen=True)
class DiscreteSAC(MaximumEntropy):
    """Soft actor-critic for discrete actions (Christodoulou 2019, "Soft Actor-Critic for Discrete Action Settings").

        y = r + γ·(Σ_a π(a|s′)·min_i Q⁻_i(s′, a) + α·H(π(·|s′)))            (equation 10)
        L(Q) = mean w·Σ_i ½·(Q_i(s, a) − y)²
        L(π) = −mean [Σ_a π(a|s)·min_i Q_i(s, a) + α·H(π(·|s))]              (equation 12)
        L(α) = mean [log α·(H(π(·|s)) − H̄)]                                (equation 11, with log α for α)

    Expectations over actions are computed, not sampled. One gradient step descends on all three at once. w is the
    importance weight of prioritized replay, else 1. Forbidden actions of an action mask have probability 0.
    """

    name: ClassVar[str] = "sac-discrete"
    summary: ClassVar[str] = "soft actor-critic for discrete actions, learned temperature (Christodoulou 2019)"
    network: ClassVar[Any] = DiscreteSoftActorCritic
    is_capturable: ClassVar[bool] = True

    target_entropy_scale: Annotated[float, Range(0.1, 0.98)] = 0.89
    """Target entropy H̄ as a fraction of log(number of allowed actions), the entropy of uniformly random ones."""

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        super().check(spaces, network)
        within(self, 0, 1, "target_entropy_scale")

    def check_actions(self, actions: Actions) -> None:
        if actions.count is None:
            other = "use sac, td3 or ppo" if actions.is_continuous else "use a3c, impala or ppo"
            raise UsageError(
                f"{self.name} needs one discrete action per step, but the environment has {actions.in_words}; {other}"
            )

    def uniform(self, policy: Any, context: ActContext) -> Tensor:
        best: Tensor = policy.mode()[0]
        return explore(best, policy.logits.shape[-1], 1.0, context.random, context.legal)[0]

    def loss(self, network: DiscreteSoftActorCritic, target: DiscreteSoftActorCritic, batch: Sample) -> Loss:
        temperature = self.temperature_of(network)
        with torch.no_grad():
            probability, entropy = network.probabilities(batch.next_observation)
            next_q = (probability * target.all_action_values(batch.next_observation).amin(0)).sum(-1)
            y = self.target(batch, next_q + temperature * entropy)
        values = network.all_action_values(batch.observation)  # [C, N, A]
        errors = gather_q(values, batch.action.expand(len(values), -1)) - y  # [C, N]
        critic_loss = 0.5 * mean(batch.weight * errors.square(), 1).sum()

        probability, entropy = network.probabilities(batch.observation)
        q = (probability * values.detach().amin(0)).sum(-1)
        policy_loss = -mean(q + temperature * entropy)
        mean_entropy = mean(entropy.detach())
        wanted = self.target_entropy_scale * mean(network.allowed(batch.observation).log())
        total = critic_loss + policy_loss + self.temperature_loss(network, mean_entropy, wanted)
        metrics = dict(policy_loss=policy_loss, critic_loss=critic_loss, entropy=mean_entropy, q=mean(q), target=mean(y))
        loss = Loss.of(total, temperature=temperature, **metrics)
        return loss._replace(td_errors=errors.detach().abs().mean(0))
