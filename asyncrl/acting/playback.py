"""An actor that plays nothing: it deals out what a dataset recorded, in rollouts like any other's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch

from asyncrl.acting.actor import Actor, ActorSpec
from asyncrl.acting.datasets import Demonstration, read
from asyncrl.algorithms import Policy
from asyncrl.experience.rollout import Rollout, Ticket

__all__ = ["Playback", "RolloutSource", "open_actor"]


class RolloutSource(Protocol):
    """What engines know of an actor."""

    policy: Policy

    def collect(self, ticket: Ticket, slot: Rollout) -> None:
        """Fill `slot` with the rollout that `ticket` orders."""

    def close(self) -> None:
        """End what it has opened."""


def open_actor(spec: ActorSpec, index: int) -> RolloutSource:
    """Actor number `index`: one that plays, or one that deals out a dataset."""
    return Actor(spec, index) if spec.offline is None else Playback(spec, index)


class ReplayedStep(NamedTuple):
    """One step of a recorded episode, or the reset after it."""

    episode: Demonstration
    t: int

    @property
    def reset(self) -> bool:
        return self.t == len(self.episode.reward)


class Playback:
    """Each of its B columns goes through the dataset's episodes over and over, beginning at one of its own."""

    def __init__(self, spec: ActorSpec, index: int) -> None:
        self.policy = spec.policy()
        self._contract = spec.contract
        episodes = read(spec.offline or "", spec.contract)
        columns, total = range(index * spec.envs, (index + 1) * spec.envs), spec.actors * spec.envs
        self._replayed_steps = [_replayed_steps(episodes, column * len(episodes) // total) for column in columns]
        self._actors = spec.actors
        self._now: list[ReplayedStep] = []

    def collect(self, ticket: Ticket, slot: Rollout) -> None:
        """Fill `slot` with the next steps; a continued run's first ones come after those that were dealt out."""
        begins = not self._now
        if begins:
            dealt = ticket.number // self._actors * len(slot.reward)
            self._now = [next(itertools.islice(moments, dealt, None)) for moments in self._replayed_steps]
        slot.starts_reset[0] = begins and ticket.takes_newest  # schedule free: others may have dealt more, so less is known
        slot.seed_and_steps.fill_(-1)
        slot.frames_since_reset.zero_()
        slot.state.zero_()
        stack = len(slot.frames) - len(slot.reward)
        slot.frames[: stack - 1].zero_()
        for t in range(len(slot.reward)):
            for column, (episode, place) in enumerate(self._now):
                self._see(slot, t, column)
                if not slot.reset[t, column]:
                    slot.action[t, column] = torch.from_numpy(np.asarray(episode.action[place]))
                    slot.reward[t, column] = float(episode.reward[place])
                slot.terminated[t, column] = episode.terminated and place == len(episode.reward) - 1
                self._now[column] = next(self._replayed_steps[column])
        for column in range(len(self._now)):
            self._see(slot, len(slot.reward), column)

    def close(self) -> None: ...

    def _see(self, slot: Rollout, t: int, column: int) -> None:
        """Write what is seen at step `t`: the newest frame of a stack."""
        now, stacked = self._now[column], self._contract.frame_stack > 1
        seen = self._contract.standardized(now.episode.observation[now.t][None])[0]
        stack = len(slot.frames) - len(slot.reward)
        slot.frames[t + stack - 1, column] = torch.from_numpy(seen[-1] if stacked else seen)
        slot.reset[t, column] = now.reset


def _replayed_steps(episodes: list[Demonstration], first: int) -> Iterator[ReplayedStep]:
    """Every step of every episode and the resets between them, for ever, from episode `first` on."""
    for episode in itertools.islice(itertools.cycle(episodes), first, None):
        for t in range(len(episode.reward) + 1):
            yield ReplayedStep(episode, t)
