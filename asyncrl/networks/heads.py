"""Complete networks: bodies with policy, value and Q heads."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from asyncrl.envs.spaces import Spaces
from asyncrl.networks.body import Body
from asyncrl.networks.build import NetworkConfig, resolve
from asyncrl.networks.distributions import DiagonalGaussian, Distribution, distribution, parameter_count
from asyncrl.networks.initialization import initialize
from asyncrl.networks.layers import Linear, constants
from asyncrl.networks.masks import mask_out
from asyncrl.networks.normalization import PopArt

__all__ = ["ActionValues", "ActorCritic", "CategoricalQNetwork", "PolicyValue", "QNetwork"]


class PolicyValue(NamedTuple):
    """Outputs of an actor-critic network for T steps of N environments."""

    policy: Distribution
    """[T, N] distributions over actions."""
    value: Tensor
    """[T, N] float32: state values."""
    state: Tensor
    """[N, S] float32: recurrent state after the last step."""

    def cpu(self) -> PolicyValue:
        """Return a copy on the CPU."""
        return PolicyValue(self.policy.cpu(), self.value.cpu(), self.state.cpu())


class ActionValues(NamedTuple):
    """Outputs of a Q-network for T steps of N environments."""

    q: Tensor
    """[T, N, A] float32: action values; the dtype's lowest number for actions that a mask forbids."""
    outputs: Tensor
    """[T, N, A, K] float32: the head's outputs, from which q is computed."""
    state: Tensor
    """[N, S] float32: recurrent state after the last step."""

    def cpu(self) -> ActionValues:
        """Return a copy on the CPU."""
        return ActionValues(self.q.cpu(), self.outputs.cpu(), self.state.cpu())


class ActorCritic(nn.Module):
    """(observation [T, N, *O], state [N, S], valid [T, N]) → policy and value.

    Convolutional, radial and custom networks share one body (Mnih et al. 2016, section 4). An mlp has separate
    bodies for policy and value, so that the value's gradient does not change the policy's features.
    """

    def __init__(self, config: NetworkConfig, spaces: Spaces, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()
        self.actions = spaces.actions
        self.body = Body(config, spaces, dtype, generator)
        is_separate = resolve(config, spaces) == "mlp"
        self.value_body = Body(config, spaces, dtype, generator) if is_separate else None
        self.state_size = self.body.state_size * (1 if self.value_body is None else 2)
        self.policy = _policy_head(config, spaces, self.body.features)
        self.value = PopArt(self.body.features) if config.normalize_value else Linear(self.body.features, 1)
        means = self.policy.means if isinstance(self.policy, NormalHead) else self.policy
        initialize(self, config.init, generator, heads={means: 0.01, self.value: 1.0})
        if config.initial_std is not None and self.actions.is_continuous:
            bias = self.policy.raw_variance if isinstance(self.policy, NormalHead) else self.policy.bias.chunk(2)[1]
            bias.detach().fill_(DiagonalGaussian.raw_variance_of(config.initial_std))

    def forward(self, observation: Tensor, state: Tensor, valid: Tensor | None = None) -> PolicyValue:
        if self.value_body is None:
            features, state = self.body(observation, state, valid)
            value_features = features
        else:
            policy_state, value_state = state.chunk(2, -1)
            features, policy_state = self.body(observation, policy_state, valid)
            value_features, value_state = self.value_body(observation, value_state, valid)
            state = torch.cat([policy_state, value_state], -1)
        return PolicyValue(self._distribution(features, observation), self.value(value_features).squeeze(-1), state)

    def policies(self, observation: Tensor, state: Tensor) -> tuple[Distribution, Tensor]:
        """Return the policy [T, N] and the next state [N, S]; skip the value if it has a separate body."""
        if self.value_body is None or self.state_size:
            policy, _, state = self(observation, state)
            return policy, state
        features, _ = self.body(observation, state)
        return self._distribution(features, observation), state

    def _distribution(self, features: Tensor, observation: Tensor) -> Distribution:
        return distribution(self.actions, mask_out(self.policy(features), self.body.legal(observation)))


class NormalHead(nn.Module):
    """Parameters of normal distributions: means linear in the features, and variances that all observations share."""

    def __init__(self, features: int, parts: int) -> None:
        super().__init__()
        self.means = Linear(features, parts)
        self.raw_variance = nn.Parameter(torch.zeros(parts, dtype=torch.float32))

    def forward(self, features: Tensor) -> Tensor:
        """Return the parameters […, 2·parts] for `features` […, F]."""
        means = self.means(features)
        return torch.cat([means, self.raw_variance.expand_as(means)], -1)


def _policy_head(config: NetworkConfig, spaces: Spaces, features: int) -> Linear | NormalHead:
    if spaces.actions.is_continuous and not config.adaptive_std:
        return NormalHead(features, spaces.actions.parts)
    return Linear(features, parameter_count(spaces.actions))


class QNetwork(nn.Module):
    """(observation [T, N, *O], state [N, S], valid [T, N]) → action values, from K = `outputs` outputs per action.

    Dueling: Q(s, a) = V(s) + A(s, a) − mean_a′ A(s, a′) (Wang et al. 2016, equation 9), with V and A linear in the
    body's features and the mean over allowed actions. With `noisy`, the heads are noisy too.
    """

    def __init__(
        self,
        config: NetworkConfig,
        spaces: Spaces,
        dtype: torch.dtype,
        generator: torch.Generator,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        assert spaces.actions.count is not None
        self.actions, self.outputs = spaces.actions.count, outputs
        self.body = Body(config, spaces, dtype, generator)
        self.state_size = self.body.state_size
        layer = config.dense()
        self.q = layer(self.body.features, self.actions * outputs)
        self.value = layer(self.body.features, outputs) if config.dueling else None
        heads = [self.q] if self.value is None else [self.q, self.value]
        initialize(self, config.init, generator, dict.fromkeys(heads, 1.0))

    def forward(self, observation: Tensor, state: Tensor, valid: Tensor | None = None) -> ActionValues:
        features, state = self.body(observation, state, valid)
        outputs = self.q(features).unflatten(-1, (self.actions, self.outputs))
        value = None if self.value is None else self.value(features)[..., None, :]
        return self.combined(observation, outputs, value, state)

    def combined(self, observation: Tensor, outputs: Tensor, value: Tensor | None, state: Tensor) -> ActionValues:
        """Return the action values for the heads' `outputs` [T, N, A, K] and, if dueling, `value` [T, N, 1, K]."""
        legal = self.body.legal(observation)
        if value is not None:
            outputs = value + outputs - _mean_over(outputs, legal)
        return ActionValues(mask_out(self.expectation(outputs), legal), outputs, state)

    def expectation(self, outputs: Tensor) -> Tensor:
        """Return Q(s, a) [T, N, A] from the head's `outputs` [T, N, A, K]."""
        return outputs.squeeze(-1) if outputs.shape[-1] == 1 else outputs.mean(-1)


def _mean_over(outputs: Tensor, legal: Tensor | None) -> Tensor:
    """Return the mean [T, N, 1, K] of `outputs` [T, N, A, K] over the actions that are `legal` [T, N, A], or over all."""
    if legal is None:
        return outputs.mean(-2, keepdim=True)
    weight = legal[..., None].float()
    return (outputs * weight).sum(-2, keepdim=True) / weight.sum(-2, keepdim=True)


class CategoricalQNetwork(QNetwork):
    """A Q-network whose outputs are logits of K returns, equally spaced from `low` to `high` (Bellemare et al. 2017)."""

    support: Tensor

    def __init__(
        self,
        config: NetworkConfig,
        spaces: Spaces,
        dtype: torch.dtype,
        generator: torch.Generator,
        outputs: int,
        low: float,
        high: float,
    ) -> None:
        super().__init__(config, spaces, dtype, generator, outputs)
        support = constants(lambda: torch.linspace(low, high, outputs, dtype=torch.float32), outputs)
        self.register_buffer("support", support, persistent=False)

    def expectation(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(-1) @ self.support
