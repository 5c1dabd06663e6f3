"""Networks whose parameters are tables, so that gradients can be computed by hand. An observation is a state's number."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from asyncrl.experience import Batch
from asyncrl.networks import ActionValues, PolicyValue
from asyncrl.networks.distributions import Categorical

LN3 = math.log(3)


class PolicyTable(nn.Module):
    """Logits [states, actions] and values [states] are the parameters."""

    state_size = 0

    def __init__(self, logits: Tensor | None = None, value: Tensor | None = None) -> None:
        super().__init__()
        four = torch.tensor([[LN3, 0.0], [0.0, 0.0], [0.0, LN3], [1.0, 2.0]])
        self.logits = nn.Parameter(four if logits is None else logits.clone())
        self.value = nn.Parameter(torch.tensor([1.0, 2.0, 4.0, 7.0]) if value is None else value.clone())

    def forward(self, observation: Tensor, state: Tensor, valid: Tensor | None = None) -> PolicyValue:
        seen = observation[..., 0].long()
        return PolicyValue(Categorical(self.logits[seen], (self.logits.shape[1],)), self.value[seen], state)


class QTable(nn.Module):
    """Action values [states, actions] are the parameters."""

    state_size = 0

    def __init__(self, q: Tensor) -> None:
        super().__init__()
        self.q = nn.Parameter(q.clone())

    def forward(self, observation: Tensor, state: Tensor, valid: Tensor | None = None) -> ActionValues:
        q = self.q[observation[..., 0].long()]
        return ActionValues(q, q[..., None], state)


def batch(
    states: list[int],
    actions: list[int],
    rewards: list[float],
    terminated: list[bool] | None = None,
    valid: list[bool] | None = None,
    **extras: list[float],
) -> Batch:
    """The batch of one environment; `states` has one entry more than the other lists."""
    steps = len(actions)
    columns = [actions, rewards, terminated or [False] * steps, valid or [True] * steps]
    observation = torch.tensor(states, dtype=torch.float32)[:, None, None]
    said = {name: torch.tensor(values)[:, None] for name, values in extras.items()}
    return Batch(observation, *(torch.tensor(x)[:, None] for x in columns), state=torch.zeros(1, 0), extras=said)


def side_by_side(batches: list[Batch]) -> Batch:
    """Batches of equal length as one batch, one environment each."""
    names = ("observation", "action", "reward", "terminated", "valid")
    extras = {name: torch.cat([b.extras[name] for b in batches], 1) for name in batches[0].extras}
    columns = {name: torch.cat([getattr(b, name) for b in batches], 1) for name in names}
    return Batch(**columns, state=torch.zeros(len(batches), 0), extras=extras)
