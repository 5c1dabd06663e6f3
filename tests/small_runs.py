"""Runs of a few updates in the tests' own environments, and what they are refused for."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import Any

from algorithm_worlds import world_of

from asyncrl.engines import MemoryPlan, open_engine
from asyncrl.envs import Contract, EnvOptions, describe_all
from asyncrl.errors import UsageError
from asyncrl.experience.rollout import Rollout
from asyncrl.learner import Learner
from asyncrl.runs.components import actor_spec, make_learner
from asyncrl.runs.config.option_checks import reject_ineffective
from asyncrl.runs.config.run_config import EngineKind, RunConfig
from asyncrl.runs.config.settings import configure, leaves

BASE: dict[str, Any] = dict(
    steps=64, actors=2, envs_per_actor=2, lag=1, hidden=(8,), seed=3, learning_rate=0.03, max_gradient_norm=0.05
)
BASE |= dict(t_max=4, longest_episode=6, epochs=2, minibatches=2, target_every=40)
BASE |= dict(epsilon_steps=50, epsilon_start=0.9)
BASE |= dict(burn_in=1, capacity=64, batch_size=4, replay_ratio=0.5, learning_starts=24)


_asked: dict[tuple[str, ...], RunConfig] = {}


@functools.cache
def options_of(algorithm: str) -> Mapping[str, Any]:
    """Every option of a run with its default."""
    found = leaves(configure(world_of(algorithm), algorithm))
    return {name: value for name, value in found.items() if name != "env"}


def asked(algorithm: str, settings: Mapping[str, Any]) -> RunConfig:
    key = (algorithm, *(f"{name}={value!r}" for name, value in sorted(settings.items())))
    if key not in _asked:  # tests of pairs of options ask for the same thousands of times
        _asked[key] = _made(algorithm, settings)
    return _asked[key]


def _made(algorithm: str, settings: Mapping[str, Any]) -> RunConfig:
    known = options_of(algorithm)
    base = {name: value for name, value in BASE.items() if name in known}
    if len(known.get("final_epsilons", ())) == 1:
        base |= dict(final_epsilons=(0.3,), final_epsilon_probabilities=(1.0,))
    return configure(world_of(algorithm), algorithm, **{**base, **settings})


def contract_of(config: RunConfig) -> Contract:
    return _described(config.env_ids, config.environment)


@functools.cache
def _described(env_ids: tuple[str, ...], options: EnvOptions) -> Contract:
    return describe_all(env_ids, options)


def refusal(config: RunConfig, *named: str) -> str | None:
    """The sentence that a new run is refused with whose user asked for the options `named`."""
    try:
        reject_ineffective(config, contract_of(config), named)
    except UsageError as problem:
        return str(problem)
    return None


def serial_updates(config: RunConfig, contract: Contract) -> Iterator[tuple[Learner, list[Rollout]]]:
    """The learner after each update of a resolved run on serial, and the rollouts of the update."""
    learner, schedule, spec = make_learner(config, contract), config.make_schedule(), actor_spec(config, contract)
    plan = MemoryPlan(spec.layout(), schedule.slots, schedule.weight_buffers, learner.weights.numel(), config.publish_every)
    with contextlib.closing(open_engine(EngineKind.SERIAL, spec, config.actors, plan)) as engine:
        for version, tickets in schedule.initial_requests(0):
            engine.publish(version, learner.weights)
            engine.request(tickets)
        while learner.step < config.steps:
            update = learner.updates
            rollouts = engine.collect(schedule.expected(update), lambda: False)
            learner.update(list(rollouts.values()))
            yield learner, list(rollouts.values())
            if learner.updates % config.publish_every == 0:
                engine.publish(learner.updates, learner.weights)
            engine.request(schedule.next_requests(update, list(rollouts)))
