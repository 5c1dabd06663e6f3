"""Evaluation of a policy on whole episodes, independent of training."""

from __future__ import annotations

import functools
import itertools
import math
import statistics
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch

from asyncrl.acting.episodes import PolicyPlayer, play_episode
from asyncrl.algorithms import ActContext, Policy
from asyncrl.common.hardware import cores
from asyncrl.common.randomness import Stream, constructor_seed, environment_seeds, generator
from asyncrl.common.statistics import iqm, summarize
from asyncrl.envs import Backend, Contract, Environments, View
from asyncrl.errors import closing

__all__ = ["Evaluation", "Interrupted", "WatchedStep", "cut_off_message", "evaluate", "step_limit", "watch"]


_MAX_STREAMS = 64
"""Seed streams of an evaluation, and so the most environments that it steps side by side."""


class Interrupted(Exception):
    """Raised by the `progress` callback of `evaluate` to abort it without a result."""


@dataclass(frozen=True)
class Evaluation:
    """Results of N episodes."""

    returns: tuple[float, ...]
    """[N] undiscounted sums of the environment's own rewards, unclipped."""
    lengths: tuple[int, ...]
    """[N] steps of the agent; skipped frames do not count."""
    measures: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """The environment's own metrics at the end of each episode, by name (`Family.measures`)."""
    cut_off: int = 0
    """Episodes ended by the step limit; they count with their return until then."""

    @classmethod
    def merge(cls, evaluations: Iterable[Evaluation]) -> Evaluation:
        """Return the episodes of all `evaluations` as one."""
        parts = list(evaluations)
        names = dict.fromkeys(name for part in parts for name in part.measures)
        return cls(
            returns=tuple(itertools.chain.from_iterable(part.returns for part in parts)),
            lengths=tuple(itertools.chain.from_iterable(part.lengths for part in parts)),
            measures={
                name: tuple(itertools.chain.from_iterable(part.measures.get(name, ()) for part in parts)) for name in names
            },
            cut_off=sum(part.cut_off for part in parts),
        )

    @property
    def mean(self) -> float:
        """Mean return."""
        return statistics.fmean(self.returns)

    @property
    def std(self) -> float:
        """Population standard deviation of the returns."""
        return statistics.pstdev(self.returns)

    @property
    def median(self) -> float:
        """Median return."""
        return statistics.median(self.returns)

    @property
    def iqm(self) -> float:
        """Interquartile mean of the returns (Agarwal et al. 2021)."""
        return float(iqm(np.array(self.returns)))

    @functools.cached_property
    def iqm_interval(self) -> tuple[float, float]:
        """Bootstrap 95 % interval of `iqm` over episodes."""
        low, high = summarize(list(self.returns))["iqm_interval"]
        return low, high

    @property
    def mean_measures(self) -> dict[str, float]:
        """The mean of each measure."""
        return {name: statistics.fmean(values) for name, values in self.measures.items()}


def cut_off_message(count: int, episodes: int, limit: int, option: str = "--max-steps") -> str:
    """Return the message that `count` of `episodes` episodes reached the limit of `limit` steps, set by `option`."""
    subject, pronoun = ("the episode", "it counts") if episodes == 1 else (f"{count} of {episodes} episodes", "they count")
    return f"{subject} had not ended after {limit:,} steps ({option}); {pronoun} with the return until then"


def _ignore(episodes: int) -> None:
    pass


class _EpisodeAssignment:
    """Assigns episodes to environments such that results depend on the number of streams, not of environments.

    Episodes are split into streams. A stream has an initial seed and a fixed number of episodes, so that short episodes
    cannot crowd out long ones. An environment that has finished its stream takes the next waiting one.
    """

    def __init__(self, episodes: int, envs: int, streams: int) -> None:
        num_streams = min(episodes, streams)
        self._quotas = [episodes // num_streams + (i < episodes % num_streams) for i in range(num_streams)]
        self._waiting = deque(range(envs, num_streams))
        self.results: list[list[Evaluation]] = [[] for _ in range(num_streams)]
        """Finished episodes by stream."""
        self.finished = 0
        self.streams = list(range(envs))
        """The current stream of each environment."""

    def add(self, env: int, episode: Evaluation) -> bool:
        """Add an episode of an environment, unless its stream is complete. Return whether it starts another stream."""
        stream = self.streams[env]
        results, quota = self.results[stream], self._quotas[stream]
        if len(results) == quota:
            return False
        results.append(episode)
        self.finished += 1
        if len(results) < quota or not self._waiting:
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

    The result is a pure function of the policy's weights, `seed` and `limit`, and of `envs` if actions are sampled or
    environments cannot be reset one by one (`Environments.can_restart`).
    `progress` is called before every step with the number of finished episodes; it may raise `Interrupted`.
    """
    num_envs = min(episodes, envs, _MAX_STREAMS)
    limit = step_limit(contract, limit)
    max_length = math.inf if limit is None else limit
    environments = Environments(
        _with_step_limit(contract, limit), num_envs, threads=cores(), training=False, seed=constructor_seed(seed)
    )
    score = np.zeros(num_envs)
    length = np.zeros(num_envs, dtype=np.int64)
    resetting = np.zeros(num_envs, dtype=bool)
    with closing(environments):
        assignment = _EpisodeAssignment(episodes, num_envs, _MAX_STREAMS if environments.can_restart else num_envs)
        seeds = environment_seeds(seed, Stream.EVALUATION, max(num_envs, len(assignment.results)))
        observation, state = environments.reset(seeds[:num_envs]), policy.initial_state(num_envs)
        context = _context(seed, greedy, epsilon)
        while assignment.finished < episodes:
            progress(assignment.finished)
            output = policy.act(torch.from_numpy(observation), state, context)
            state = torch.where(torch.from_numpy(resetting)[:, None], 0.0, output.state)
            observation, reward, terminated, done = environments.step(output.action.numpy())
            score += reward * ~resetting
            length += ~resetting
            restarting = np.zeros(num_envs, dtype=bool)
            for i in map(int, np.flatnonzero(done | (length >= max_length))):
                measures = {name: (float(values[i]),) for name, values in environments.measures.items()}
                cut_off = int(length[i] >= max_length and not terminated[i])
                episode = Evaluation((float(score[i]),), (int(length[i]),), measures, cut_off)
                restarting[i] = assignment.add(i, episode)
                score[i], length[i] = 0, 0
            if restarting.any():
                observation = environments.restart([seeds[stream] for stream in assignment.streams], restarting)
                state[torch.from_numpy(restarting)] = 0.0
            resetting = done & ~restarting
    return Evaluation.merge(itertools.chain.from_iterable(assignment.results))


def step_limit(contract: Contract, limit: int | None) -> int | None:
    """Return `limit`; None if the environment's own cap ends episodes no later, so that none is cut off."""
    return None if limit is not None and contract.episode_cap is not None and contract.episode_cap <= limit else limit


def _context(seed: int, greedy: bool, epsilon: float) -> ActContext:
    random = generator(seed, Stream.EVALUATION)
    return ActContext.evaluation(random, greedy=greedy, epsilon=epsilon)


def _with_step_limit(contract: Contract, limit: int | None) -> Contract:
    """Return the contract with an episode cap of `limit` steps, after which an environment resets itself.

    A third-party vector environment without a cap may not support one. Its episodes are then cut off without a reset:
    the next one starts in the state where the last was cut off.
    """
    if limit is None or (contract.backend is Backend.NATIVE and contract.episode_cap is None):
        return contract
    return replace(contract, episode_cap=limit)


class WatchedStep(NamedTuple):
    """A rendered step of an episode."""

    picture: np.ndarray
    """[H, W, 3] uint8."""
    score: float
    """Return so far."""
    done: bool


def watch(policy: Policy, view: View, seed: int, *, greedy: bool, epsilon: float = 0.0) -> Iterator[WatchedStep]:
    """Play one episode; yield its first picture and one after each step."""
    (env_seed,) = environment_seeds(seed, Stream.EVALUATION, 1)
    player = PolicyPlayer(policy, _context(seed, greedy, epsilon))
    observation = view.reset(env_seed)
    score = 0.0
    yield WatchedStep(view.picture(), score, done=False)
    for transition in play_episode(player, view, observation):
        score += transition.reward
        yield WatchedStep(view.picture(), score, transition.done)
