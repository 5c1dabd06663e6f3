"""The state of an actor between two rollouts, as data, from which a resumed run continues exactly.

The state of a deterministic environment follows from its last seed and the actions since. Rollouts carry both, so an
environment is restored by replaying them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from asyncrl.experience.rollout import Rollout, RolloutCarry, Ticket

__all__ = ["ActorState", "ActorTracker"]

_MAX_REPLAYED_STEPS = 200_000
"""Steps since the seed beyond which an environment is not restored: a resumed run starts new episodes instead."""


@dataclass(frozen=True)
class ActorState:
    """The state of one actor between two rollouts."""

    carry: RolloutCarry
    """The beginning of the next rollout."""
    actions: list[Tensor]
    """B × [L, …]: the actions of each environment since it was seeded; L differs."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the state as tensors by name, for `of`."""
        actions = torch.cat(self.actions)
        if not actions.is_floating_point():
            actions = actions.to(torch.int32)
        lengths = torch.tensor([len(played) for played in self.actions])
        carry = {f"carry.{name}": x for name, x in self.carry.tensors().items()}
        return {"actions": actions, "lengths": lengths, **carry}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> ActorState:
        """Return the state with these `tensors`."""
        carry = RolloutCarry.of(
            {name.removeprefix("carry."): x for name, x in tensors.items() if name.startswith("carry.")}
        )
        actions = tensors["actions"].to(carry.action.dtype)
        return cls(carry, list(torch.split_with_sizes(actions, tensors["lengths"].tolist())))


class ActorTracker:
    """The state of every actor after the rollouts that were learned from, for checkpoints.

    Actors themselves are ahead of this by the rollouts still in the queue; a resumed run repeats these.
    """

    def __init__(self, actors: int, overlap: int) -> None:
        """`overlap` is the number of steps at the end of a rollout that the next one begins with."""
        self._actors = [_TrackedActor(overlap) for _ in range(actors)]

    def follow(self, rollouts: Mapping[Ticket, Rollout]) -> None:
        """Add `rollouts` that were learned from, for each actor in order."""
        for ticket, rollout in rollouts.items():
            self._actors[ticket.actor].extend(rollout)

    def states(self) -> dict[int, ActorState]:
        """Return the states of all actors that can be restored."""
        states = {index: actor.state() for index, actor in enumerate(self._actors)}
        return {index: state for index, state in states.items() if state is not None}

    def tensors(self) -> dict[str, Tensor]:
        """Return the states of all actors that can be restored, as tensors by name, for `restore`."""
        restorable = {index: state.tensors() for index, state in self.states().items()}
        return {f"{index}.{name}": x for index, tensors in restorable.items() for name, x in tensors.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> dict[int, ActorState]:
        """Restore the result of `tensors`, and return the states by actor."""
        states = {}
        for index, actor in enumerate(self._actors):
            prefix = f"{index}."
            own = {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
            if own:
                states[index] = ActorState.of(own)
                actor.restore(states[index])
        return states


class _TrackedActor:
    """The state of one actor: its carry, and its actions as far back as any environment's last seed."""

    def __init__(self, overlap: int) -> None:
        self._overlap = overlap
        self._carry: RolloutCarry | None = None
        self._actions: deque[Tensor] = deque()
        """[T, B, …] each, oldest first."""
        self._steps = 0
        """Total T of `_actions`."""

    def restore(self, state: ActorState) -> None:
        self._carry = state.carry
        self._steps = max(map(len, state.actions))
        actions = state.carry.action.new_zeros(self._steps, len(state.actions), *state.carry.action.shape[2:])
        for env, own in enumerate(state.actions):
            actions[self._steps - len(own) :, env] = own
        self._actions = deque([actions])

    def extend(self, rollout: Rollout) -> None:
        if (rollout.seed_and_steps < 0).any():  # these environments cannot be restored
            self._carry = None
            return
        first = self._overlap  # steps before it were in the previous rollout
        if self._carry is None or rollout.starts_reset:
            self._actions.clear()
            self._steps = 0
            first = 0
        self._actions.append(rollout.action[first:].clone())
        self._steps += len(rollout.reward) - first
        needed = int(rollout.seed_and_steps[1].max())
        while len(self._actions) > 1 and self._steps - len(self._actions[0]) >= needed:
            self._steps -= len(self._actions.popleft())
        if self._steps > _MAX_REPLAYED_STEPS:
            self._actions.clear()
            self._steps = 0
        self._carry = rollout.carry(len(rollout.reward) - self._overlap)

    def state(self) -> ActorState | None:
        """Return the actor's state, or None if it cannot be restored."""
        if self._carry is None or self._carry.seed_and_steps[1].max() > self._steps:
            return None
        actions, steps = torch.cat(list(self._actions)), self._carry.seed_and_steps[1].tolist()
        return ActorState(self._carry, [actions[len(actions) - n :, env].clone() for env, n in enumerate(steps)])
