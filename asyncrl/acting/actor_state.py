"""Where an actor is between two rollouts, as data: a continued run goes on there as if it had never stopped.

Where an environment is follows from what it was last seeded with and from its actions since, which rollouts carry: playing
them again leads there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from asyncrl.experience.rollout import Rollout, RolloutCarry, Ticket

__all__ = ["ActorState", "ActorTracker"]

_LONGEST = 200_000
"""Steps since the seed beyond which they are not played again: a continued run begins a new episode."""


@dataclass(frozen=True)
class ActorState:
    """All that an actor hands on from one rollout to the next."""

    carry: RolloutCarry
    """What the next rollout begins with."""
    actions: list[Tensor]
    """B × [L, …]: what was done in each environment since it was seeded; L differs."""

    def tensors(self) -> dict[str, Tensor]:
        """As tensors by name; `of` takes them."""
        actions, lengths = torch.cat(self.actions), torch.tensor([len(played) for played in self.actions])
        kept = actions if actions.is_floating_point() else actions.to(torch.int32)
        carry = {f"carry.{name}": x for name, x in self.carry.tensors().items()}
        return {"actions": kept, "lengths": lengths, **carry}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> ActorState:
        """The state whose `tensors` these are."""
        carry = RolloutCarry.of(
            {name.removeprefix("carry."): x for name, x in tensors.items() if name.startswith("carry.")}
        )
        actions = tensors["actions"].to(carry.action.dtype)
        return cls(carry, list(torch.split_with_sizes(actions, tensors["lengths"].tolist())))


class ActorTracker:
    """Follows every actor by the rollouts that were learned from: what a checkpoint says of them.

    An actor is ahead of that by the rollouts that nobody has learned from yet; a continued run makes these again.
    """

    def __init__(self, actors: int, overlap: int) -> None:
        """`overlap`: steps at the end of a rollout that are the first ones of the next."""
        self._followed = [_TrackedActor(overlap) for _ in range(actors)]

    def follow(self, rollouts: Mapping[Ticket, Rollout]) -> None:
        """Note rollouts that were learned from: of each actor those that come next."""
        for ticket, rollout in rollouts.items():
            self._followed[ticket.actor].extend(rollout)

    def tensors(self) -> dict[str, Tensor]:
        """Of all actors that can go on where they are, by name; `restore` takes them."""
        states = {actor: followed.state() for actor, followed in enumerate(self._followed)}
        kept = {actor: state.tensors() for actor, state in states.items() if state is not None}
        return {f"{actor}.{name}": x for actor, tensors in kept.items() for name, x in tensors.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> dict[int, ActorState]:
        """Follow on from what `tensors` gave; returns the states by actor."""
        found = {}
        for actor, followed in enumerate(self._followed):
            own = {name.removeprefix(f"{actor}."): x for name, x in tensors.items() if name.startswith(f"{actor}.")}
            if own:
                found[actor] = ActorState.of(own)
                followed.begin(found[actor])
        return found


class _TrackedActor:
    """One actor: the actions of its rollouts, as far back as the oldest seed."""

    def __init__(self, overlap: int) -> None:
        self._overlap = overlap
        self._carry: RolloutCarry | None = None
        self._past: deque[Tensor] = deque()
        """[T, B, …] each"""
        self._steps = 0
        """T of all of them"""

    def begin(self, state: ActorState) -> None:
        self._carry = state.carry
        self._steps = max(map(len, state.actions))
        past = state.carry.action.new_zeros(self._steps, len(state.actions), *state.carry.action.shape[2:])
        for env, played in enumerate(state.actions):
            past[self._steps - len(played) :, env] = played
        self._past = deque([past])

    def extend(self, rollout: Rollout) -> None:
        if (rollout.seed_and_steps < 0).any():  # nobody could come back
            self._carry = None
            return
        known = self._overlap
        if self._carry is None or rollout.starts_reset:
            self._past.clear()
            known, self._steps = 0, 0
        self._past.append(rollout.action[known:].clone())
        self._steps += len(rollout.reward) - known
        longest = int(rollout.seed_and_steps[1].max())
        while len(self._past) > 1 and self._steps - len(self._past[0]) >= longest:
            self._steps -= len(self._past.popleft())
        if self._steps > _LONGEST:
            self._past.clear()
            self._steps = 0
        self._carry = rollout.carry(len(rollout.reward) - self._overlap)

    def state(self) -> ActorState | None:
        if self._carry is None or self._carry.seed_and_steps[1].max() > self._steps:
            return None
        past, since = torch.cat(list(self._past)), self._carry.seed_and_steps[1].tolist()
        return ActorState(self._carry, [past[len(past) - n :, env].clone() for env, n in enumerate(since)])
