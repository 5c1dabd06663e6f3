"""Episodes played with a policy: scores, and pictures of them. It never touches training."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch

from asyncrl.algorithms import ActContext, Policy
from asyncrl.common.randomness import Stream, environment_seeds, generator, making_seed
from asyncrl.envs import Backend, Contract, Environments, View
from asyncrl.errors import closing
from asyncrl.runs.config import cores

__all__ = ["Evaluation", "Interrupted", "WatchedStep", "cut_off", "evaluate", "watch"]


_STREAMS = 64
"""Environments that have something to do in an evaluation of many episodes."""


class Interrupted(Exception):
    """Raised by an evaluation's `progress`: it ends at once, and nothing came of it."""


@dataclass(frozen=True)
class Evaluation:
    """What came of some episodes; returns are the environment's own, unclipped."""

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    """Steps."""
    measures: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """What the environment tells besides: its numbers when each episode ended, by name (`Family.measures`)."""
    cut_off: int = 0
    """Episodes that were ended by the step limit and count with what they had until then."""

    @classmethod
    def of(cls, several: Iterable[Evaluation]) -> Evaluation:
        """All episodes of several evaluations."""
        several = list(several)
        names = dict.fromkeys(name for one in several for name in one.measures)
        measures = {name: tuple(itertools.chain(*(one.measures.get(name, ()) for one in several))) for name in names}
        returns = itertools.chain(*(one.returns for one in several))
        lengths = itertools.chain(*(one.lengths for one in several))
        return cls(tuple(returns), tuple(lengths), measures, sum(one.cut_off for one in several))

    @property
    def mean(self) -> float:
        return statistics.fmean(self.returns)

    @property
    def measured(self) -> dict[str, float]:
        """The mean of each measure."""
        return {name: statistics.fmean(values) for name, values in self.measures.items()}


def cut_off(count: int, episodes: int, limit: int, option: str = "--max-steps") -> str:
    """The sentence for a person when episodes were cut off, and which option says where."""
    them, they = ("the episode", "it counts") if episodes == 1 else (f"{count} of {episodes} episodes", "they count")
    return f"{them} had not ended after {limit:,} steps ({option}); {they} with the return until then"


def _ignore(episodes: int) -> None:
    pass


class _Plan:
    """Which environment plays which episodes.

    Episodes belong to streams, each with a seed to begin with and a number of episodes that is fixed beforehand, so that
    short episodes do not crowd out long ones. An environment that has played its stream to the end takes the next one,
    so episodes are the same however many environments there are.
    """

    def __init__(self, episodes: int, envs: int, streams: int) -> None:
        streams = min(episodes, streams)
        self._quota = [episodes // streams + (i < episodes % streams) for i in range(streams)]
        self.played: list[list[Evaluation]] = [[] for _ in range(streams)]
        self.finished = 0
        self.streams = list(range(envs))
        """Of each environment"""
        self._waiting = deque(range(envs, streams))

    def take(self, env: int, episode: Evaluation) -> bool:
        """Note an episode, unless that environment is done. True: it begins another stream."""
        stream = self.streams[env]
        if len(self.played[stream]) == self._quota[stream]:
            return False
        self.played[stream].append(episode)
        self.finished += 1
        if len(self.played[stream]) < self._quota[stream] or not self._waiting:
            return False
        self.streams[env] = self._waiting.popleft()
        return True


def evaluate(
    policy: Policy,
    contract: Contract,
    episodes: int,
    seed: int,
    *,
    greedy: bool,
    epsilon: float = 0.0,
    envs: int,
    limit: int | None = None,
    progress: Callable[[int], None] = _ignore,
) -> Evaluation:
    """Play `episodes` episodes in `envs` environments side by side, each cut off after `limit` steps.

    A pure function of the policy's weights, `seed` and `limit`; where actions are drawn, of `envs` too. `progress` is
    called before every step with the number of finished episodes; it may raise `Interrupted`.
    """
    count, most = min(episodes, envs, _STREAMS), math.inf if limit is None else limit
    environments = Environments(_limited(contract, limit), count, threads=cores(), training=False, seed=making_seed(seed))
    score, length, resetting = np.zeros(count), np.zeros(count, dtype=np.int64), np.zeros(count, dtype=bool)
    with closing(environments):
        plan = _Plan(episodes, count, _STREAMS if environments.can_restart else count)
        seeds = environment_seeds(seed, Stream.EVALUATION, max(count, len(plan.played)))
        observation, state = environments.reset(seeds[:count]), policy.initial_state(count)
        context = ActContext(0, generator(seed, Stream.EVALUATION), None, greedy, epsilon)
        while plan.finished < episodes:
            progress(plan.finished)
            output = policy.act(torch.from_numpy(observation), state, context)
            state = torch.where(torch.from_numpy(resetting)[:, None], 0.0, output.state)
            observation, reward, terminated, done = environments.step(output.action.numpy())
            score += reward * ~resetting
            length += ~resetting
            begins = np.zeros(count, dtype=bool)
            for i in map(int, np.flatnonzero(done | (length >= most))):
                told = {name: (float(values[i]),) for name, values in environments.measures.items()}
                cut = int(length[i] >= most and not terminated[i])
                begins[i] = plan.take(i, Evaluation((float(score[i]),), (int(length[i]),), told, cut))
                score[i], length[i] = 0, 0
            if begins.any():
                observation = environments.restart([seeds[stream] for stream in plan.streams], begins)
                state[torch.from_numpy(begins)] = 0.0
            resetting = done & ~begins
    return Evaluation.of(itertools.chain(*plan.played))


def _limited(contract: Contract, limit: int | None) -> Contract:
    """The same with a cap of `limit` steps, after which an environment begins its next episode.

    Another package's vector environment that has no cap may not know the argument: what it plays after `limit` steps
    counts as another episode, which begins where it is.
    """
    if limit is None or (contract.backend is Backend.NATIVE and contract.episode_cap is None):
        return contract
    return replace(contract, episode_cap=min(limit, contract.episode_cap or limit))


class WatchedStep(NamedTuple):
    """One moment of a game."""

    picture: np.ndarray
    """[H, W, 3] uint8"""
    score: float
    """Return so far."""
    done: bool


def watch(policy: Policy, view: View, seed: int, *, greedy: bool, epsilon: float = 0.0) -> Iterator[WatchedStep]:
    """One episode, moment by moment."""
    (env_seed,) = environment_seeds(seed, Stream.EVALUATION, 1)
    state, context = policy.initial_state(1), ActContext(0, generator(seed, Stream.EVALUATION), None, greedy, epsilon)
    observation, score, done = view.reset(env_seed), 0.0, False
    yield WatchedStep(view.picture(), score, done)
    while not done:
        output = policy.act(torch.from_numpy(observation), state, context)
        state = output.state
        step = view.step(output.action.numpy())
        observation, score, done = step.observation, score + float(step.reward[0]), bool(step.done[0])
        yield WatchedStep(view.picture(), score, done)
