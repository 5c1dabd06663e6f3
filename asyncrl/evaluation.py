"""Episodes played with a policy: scores, and pictures of them. It never touches training."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from asyncrl.algorithms import Moment, Policy
from asyncrl.config import cores
from asyncrl.envs import Contract, Environments, View
from asyncrl.randomness import Stream, environment_seeds, generator

__all__ = ["Evaluation", "Scene", "evaluate", "watch"]

_MOST_AT_ONCE = 64


@dataclass(frozen=True)
class Evaluation:
    """What came of some episodes; returns are the environment's own, unclipped."""

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    """Steps."""
    measures: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """What the environment tells besides: its numbers when each episode ended, by name (`Family.measures`)."""

    @classmethod
    def of(cls, several: Iterable[Evaluation]) -> Evaluation:
        """All episodes of several evaluations."""
        several = list(several)
        names = dict.fromkeys(name for one in several for name in one.measures)
        measures = {name: tuple(itertools.chain(*(one.measures.get(name, ()) for one in several))) for name in names}
        returns = itertools.chain(*(one.returns for one in several))
        return cls(tuple(returns), tuple(itertools.chain(*(one.lengths for one in several))), measures)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.returns)

    @property
    def measured(self) -> dict[str, float]:
        """The mean of each measure."""
        return {name: statistics.fmean(values) for name, values in self.measures.items()}


def evaluate(
    policy: Policy, contract: Contract, episodes: int, seed: int, *, greedy: bool, epsilon: float = 0.0
) -> Evaluation:
    """Play `episodes` episodes: a pure function of the policy's weights and of `seed`.

    Each environment plays a number of episodes that is fixed beforehand, so that short episodes do
    not crowd out long ones.
    """
    count = min(episodes, _MOST_AT_ONCE)
    quota = np.array([episodes // count + (i < episodes % count) for i in range(count)])
    environments = Environments(contract, count, threads=cores(), training=False)
    random = generator(seed, Stream.EVALUATION)
    ended: list[list[Evaluation]] = [[] for _ in range(count)]
    score, length, resetting = np.zeros(count), np.zeros(count, dtype=np.int64), np.zeros(count, dtype=bool)
    try:
        observation = environments.reset(environment_seeds(seed, Stream.EVALUATION, count))
        state, moment = policy.initial_state(count), Moment(0, random, None, greedy, epsilon)
        while (np.array([len(played) for played in ended]) < quota).any():
            acted = policy.act(torch.from_numpy(observation), state, moment)
            state = torch.where(torch.from_numpy(resetting)[:, None], 0.0, acted.state)
            observation, reward, _, over = environments.step(acted.action.numpy())
            score += reward * ~resetting
            length += ~resetting
            for i in np.flatnonzero(over):
                if len(ended[i]) < quota[i]:
                    told = {name: (float(values[i]),) for name, values in environments.measures.items()}
                    ended[i].append(Evaluation((float(score[i]),), (int(length[i]),), told))
                score[i], length[i] = 0, 0
            resetting = over
    finally:
        environments.close()
    return Evaluation.of(itertools.chain(*ended))


class Scene(NamedTuple):
    """One moment of a game."""

    picture: np.ndarray
    """[H, W, 3] uint8"""
    score: float
    """Return so far."""
    over: bool


def watch(policy: Policy, view: View, seed: int, *, greedy: bool, epsilon: float = 0.0) -> Iterator[Scene]:
    """One episode, moment by moment."""
    (env_seed,) = environment_seeds(seed, Stream.EVALUATION, 1)
    state, moment = policy.initial_state(1), Moment(0, generator(seed, Stream.EVALUATION), None, greedy, epsilon)
    observation, score, over = view.reset(env_seed), 0.0, False
    yield Scene(view.picture(), score, over)
    while not over:
        acted = policy.act(torch.from_numpy(observation), state, moment)
        state = acted.state
        step = view.step(acted.action.numpy())
        observation, score, over = step.observation, score + float(step.reward[0]), bool(step.over[0])
        yield Scene(view.picture(), score, over)
