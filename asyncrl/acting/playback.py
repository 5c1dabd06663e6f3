"""Serves a recorded dataset as rollouts, in place of an actor."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch

from asyncrl.acting.actor import Actor, ActorSpec
from asyncrl.acting.datasets import Demonstration, read
from asyncrl.algorithms import Policy
from asyncrl.common.stopwatch import Stopwatch
from asyncrl.experience.rollout import Rollout, Ticket

__all__ = ["Playback", "RolloutSource", "open_actor"]


class RolloutSource(Protocol):
    """The interface of actors that engines use."""

    policy: Policy
    stopwatch: Stopwatch
    """Times of the actor's stages since they were last taken"""

    def collect(self, ticket: Ticket, slot: Rollout) -> None:
        """Fill `slot` with the rollout that `ticket` requests."""

    def close(self) -> None:
        """Release environments and other resources."""


def open_actor(spec: ActorSpec, index: int, on_step: Callable[[], None] = lambda: None) -> RolloutSource:
    """Return actor number `index`, which plays, or serves the dataset of `spec` if there is one.

    `on_step` is called before each step of its environments.
    """
    return Actor(spec, index, on_step) if spec.offline is None else Playback(spec, index)


class ReplayedStep(NamedTuple):
    """A step of a recorded episode, or the reset step after it."""

    episode: Demonstration
    t: int

    @property
    def reset(self) -> bool:
        """Whether this is the reset step."""
        return self.t == len(self.episode.reward)


class Playback:
    """Replays the dataset's episodes in each of B environments, over and over. Each starts at a different episode."""

    def __init__(self, spec: ActorSpec, index: int) -> None:
        self.policy, self.stopwatch = spec.policy(), Stopwatch()
        self._contract = spec.contract
        episodes = read(spec.offline or "", spec.contract)
        slots = range(index * spec.envs, (index + 1) * spec.envs)
        num_envs = spec.actors * spec.envs
        self._steps = [_replayed_steps(episodes, slot * len(episodes) // num_envs) for slot in slots]
        self._actors = spec.actors
        self._current: list[ReplayedStep] = []

    def collect(self, ticket: Ticket, slot: Rollout) -> None:
        """Fill `slot` with the next steps; a resumed run skips those that it has served before."""
        is_first = not self._current
        if is_first:
            served = ticket.number // self._actors * len(slot.reward)
            self._current = [next(itertools.islice(steps, served, None)) for steps in self._steps]
        # With schedule `free` the number of steps served before is a guess: do not connect this rollout to earlier ones.
        slot.starts_reset[0] = is_first and ticket.takes_newest
        slot.seed_and_steps.fill_(-1)
        slot.frames_since_reset.zero_()
        slot.state.zero_()
        stack = len(slot.frames) - len(slot.reward)
        slot.frames[: stack - 1].zero_()
        for t in range(len(slot.reward)):
            for env, (episode, i) in enumerate(self._current):
                self._write_frame(slot, t, env)
                if not slot.reset[t, env]:
                    slot.action[t, env] = torch.from_numpy(np.asarray(episode.action[i]))
                    slot.reward[t, env] = float(episode.reward[i])
                slot.terminated[t, env] = episode.terminated and i == len(episode.reward) - 1
                self._current[env] = next(self._steps[env])
        for env in range(len(self._current)):
            self._write_frame(slot, len(slot.reward), env)

    def close(self) -> None: ...

    def _write_frame(self, slot: Rollout, t: int, env: int) -> None:
        """Write the newest frame of the current observation, and whether step `t` is a reset step."""
        current, stacked = self._current[env], self._contract.frame_stack > 1
        observation = self._contract.standardized(current.episode.observation[current.t][None])[0]
        stack = len(slot.frames) - len(slot.reward)
        slot.frames[t + stack - 1, env] = torch.from_numpy(observation[-1] if stacked else observation)
        slot.reset[t, env] = current.reset


def _replayed_steps(episodes: list[Demonstration], first: int) -> Iterator[ReplayedStep]:
    """Yield all steps of all episodes with the reset steps between them, endlessly, from episode `first` on."""
    for episode in itertools.islice(itertools.cycle(episodes), first, None):
        for t in range(len(episode.reward) + 1):
            yield ReplayedStep(episode, t)
