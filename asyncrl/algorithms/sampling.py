"""Acting with a stochastic policy."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from asyncrl.algorithms.base import ActContext, ActionOutput
from asyncrl.networks import ActorCritic

__all__ = ["sample_action"]


def sample_action(
    network: Any, observation: Tensor, state: Tensor, context: ActContext, *, log_prob: bool = False
) -> ActionOutput:
    """Sample actions for `observation` [B, *O] and recurrent `state` [B, S]; take the mode if the context is greedy.

    With `log_prob`, the output's extras contain log π(a|s) [B] float32 as "log_prob".
    """
    if context.explore and isinstance(network, ActorCritic):
        policy, state = network.policies(observation[None], state)
    else:
        policy, _, state = network(observation[None], state)
    action = policy.mode() if context.greedy else policy.sample(context.random)
    extras = {"log_prob": policy.log_prob(action)[0]} if log_prob else {}
    return ActionOutput(action[0], state, extras)
