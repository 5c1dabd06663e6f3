"""Asynchronous advantage actor-critic (Mnih et al. 2016, "Asynchronous Methods for Deep RL", algorithm S3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from asyncrl.algorithms.base import Acted, Algorithm, Loss
from asyncrl.errors import UsageError
from asyncrl.experience import Batch, Fresh
from asyncrl.networks import ActorCritic, NetworkConfig
from asyncrl.optimizers import RMSprop
from asyncrl.returns import masked_mean, multistep_errors
from asyncrl.spaces import Spaces

__all__ = ["A3C"]


@dataclass(frozen=True)
class A3C(Algorithm):
    """n-step advantage actor-critic; the gradient is the mean over all steps of an update's rollouts."""

    name: ClassVar[str] = "a3c"
    summary: ClassVar[str] = "asynchronous advantage actor-critic: n-step returns, entropy bonus (Mnih et al. 2016)"

    t_max: int = 5
    """Steps per rollout: the longest return before the value takes over."""
    discount: float = 0.99
    """γ, per step."""
    gae_lambda: float = 1.0
    """λ of generalized advantage estimation (Schulman et al. 2016); 1 is the n-step return of the paper."""
    entropy_cost: float = 0.01
    """β: weight of the entropy bonus."""
    value_cost: float = 0.5
    """Weight of the squared error of the value."""
    learning_rate: float = 7e-4
    """η at the beginning."""
    anneal: bool = True
    """Lower the learning rate linearly to 0 over the run's steps."""
    rmsprop_decay: float = 0.99
    """α of RMSProp's moving average of squared gradients."""
    rmsprop_epsilon: float = 1e-5
    """ε, inside the square root. The paper's 0.1 belongs to gradients that are summed, not averaged."""
    max_gradient_norm: float = 0.5
    """Largest global norm of the gradient; longer ones are shortened to it."""

    def check(self, spaces: Spaces) -> None:
        if spaces.actions is None:
            raise UsageError("a3c takes discrete actions, and this environment's are not discrete")
        for name in ("t_max", "learning_rate", "rmsprop_epsilon", "max_gradient_norm"):
            if getattr(self, name) <= 0:
                raise UsageError(f"--{name.replace('_', '-')} must be positive, not {getattr(self, name)}")
        for name in ("discount", "gae_lambda", "rmsprop_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"--{name.replace('_', '-')} must lie between 0 and 1, not {getattr(self, name)}")

    def experience(self) -> Fresh:
        return Fresh(self.t_max)

    def network(self, config: NetworkConfig, spaces: Spaces, dtype: torch.dtype, generator: torch.Generator) -> nn.Module:
        return ActorCritic(config, spaces, dtype, generator)

    def act(
        self, network: nn.Module, observation: Tensor, step: int, generator: torch.Generator, *, greedy: bool = False
    ) -> Acted:
        logits, _ = network(observation)
        if greedy:
            return Acted(logits.argmax(-1), {})
        return Acted(torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(-1), {})

    def loss(self, network: nn.Module, batch: Batch) -> Loss:
        shape = batch.action.shape  # [T, N]
        logits, value = network(batch.observation[:-1].flatten(0, 1))
        logits, value = logits.unflatten(0, shape), value.unflatten(0, shape)  # [T, N, A], [T, N]
        with torch.no_grad():
            _, bootstrap = network(batch.observation[-1])  # [N]
        log_policy = logits.log_softmax(-1)
        log_prob = log_policy.gather(-1, batch.action[..., None]).squeeze(-1)

        discount = self.discount * ~batch.terminated
        values = torch.cat([value.detach(), bootstrap[None]])  # [T+1, N]
        advantage = multistep_errors(batch.reward, discount, values, batch.valid, trace=self.gae_lambda)
        target = values[:-1] + advantage

        policy_loss = masked_mean(-log_prob * advantage, batch.valid)
        value_loss = masked_mean((target - value).square(), batch.valid)
        entropy = masked_mean(-(log_policy.exp() * log_policy).sum(-1), batch.valid)
        total = policy_loss + self.value_cost * value_loss - self.entropy_cost * entropy
        mean_value = masked_mean(value, batch.valid)
        metrics = dict(policy_loss=policy_loss, value_loss=value_loss, entropy=entropy, value=mean_value)
        return Loss(total, {name: x.detach() for name, x in metrics.items()})

    def optimizer(self, weights: Tensor) -> torch.optim.Optimizer:
        return RMSprop([weights], self.learning_rate, self.rmsprop_decay, self.rmsprop_epsilon)

    def learning_rate_at(self, progress: float) -> float:
        return self.learning_rate * (1 - progress) if self.anneal else self.learning_rate

    @property
    def gradient_clip(self) -> float:
        return self.max_gradient_norm
