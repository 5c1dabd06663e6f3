"""How algorithms with a policy act."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from asyncrl.algorithms.base import Acted, Moment

__all__ = ["act_by_policy"]


def act_by_policy(network: Any, observation: Tensor, state: Tensor, moment: Moment, *, log_prob: bool = False) -> Acted:
    """Sample from the policy of an actor-critic network; with `log_prob`, the rollout keeps how probable the action was."""
    policy, _, state = network(observation[None], state)
    action = policy.mode() if moment.greedy else policy.sample(moment.random)
    extras = {"log_prob": policy.log_prob(action)[0]} if log_prob else {}
    return Acted(action[0], state, extras)
