"""One stage of a run at a time, on one core: environments, acting, learning.

Each is measured on every core at once, one single-threaded process a core, and the rates are added:
that is what the machine can do at this stage if nothing else runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from multiprocessing.connection import Connection
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import torch

from asyncrl.acting.actor import Actor
from asyncrl.algorithms import ActContext
from asyncrl.algorithms.exploration import EnvSlots
from asyncrl.common.hardware import cores
from asyncrl.common.randomness import Stream, environment_seeds, generator
from asyncrl.common.torch_setup import set_torch_threads
from asyncrl.engines import Memory, MemoryPlan
from asyncrl.engines.workers import Workers
from asyncrl.envs import Contract, Environments
from asyncrl.errors import ActorDied
from asyncrl.experience.rollout import Ticket
from asyncrl.runs.config import RunConfig
from asyncrl.runs.plans import actor_spec, make_learner

__all__ = ["Stage", "capacity"]

WARM_UP = 0.2
"""Share of the time that is not counted."""


class Stage(Enum):
    """What is measured alone."""

    ENVIRONMENT = "environment"
    """random actions, no network"""
    ACTING = "acting"
    """the network's forward pass and the choice of actions"""
    LEARNING = "learning"
    """batch, loss, gradient, optimizer"""


class Capacity(NamedTuple):
    """What all cores together can do at one stage."""

    steps_per_second: float
    """Environment steps"""
    seconds_per_call: float
    """Of one step of a vector environment, one forward pass, or one update, on one core"""


def capacity(stage: Stage, config: RunConfig, contract: Contract, seconds: float) -> Capacity:
    """Measure one stage; `config` is resolved."""
    workers = Workers(_serve, cores(), contract, stage, config, contract, seconds)
    found: list[Capacity] = []
    deadline = time.monotonic() + 60 + 10 * seconds
    try:
        while len(found) < cores():
            if time.monotonic() > deadline:
                raise ActorDied(f"measuring {stage.value} alone took longer than {60 + 10 * seconds:g} s")
            found += workers.receive(1.0)
    finally:
        workers.close()
    return Capacity(sum(f.steps_per_second for f in found), fmean(f.seconds_per_call for f in found))


def _serve(index: int, pipe: Connection, stage: Stage, config: RunConfig, contract: Contract, seconds: float) -> None:
    pipe.send(_measure(stage, config, contract, seconds))
    pipe.poll(None)  # until it is closed


def _measure(stage: Stage, config: RunConfig, contract: Contract, seconds: float) -> Capacity:
    set_torch_threads(1)
    work = {Stage.ENVIRONMENT: _environment, Stage.ACTING: _acting, Stage.LEARNING: _learning}[stage]
    once, steps = work(config, contract)
    once()
    _repeat(once, seconds * WARM_UP)
    calls_per_second = _repeat(once, seconds * (1 - WARM_UP))
    return Capacity(steps * calls_per_second, 1 / calls_per_second)


def _repeat(once: Callable[[], object], seconds: float) -> float:
    """Calls per second."""
    began, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - began) < seconds or count == 0:
        once()
        count += 1
    return count / elapsed if elapsed else count / (time.perf_counter() - began)


def _environment(config: RunConfig, contract: Contract) -> tuple[Callable[[], object], int]:
    environments = Environments(contract, config.envs_per_actor)
    environments.reset(environment_seeds(config.seed, Stream.ENVIRONMENT, config.envs_per_actor))
    random = np.random.default_rng(config.seed)
    count, actions = config.envs_per_actor, contract.spaces.actions
    return lambda: environments.step(actions.random(random, count)), count


def _acting(config: RunConfig, contract: Contract) -> tuple[Callable[[], object], int]:
    policy, count = actor_spec(config, contract).policy(), config.envs_per_actor
    context = ActContext.training(generator(config.seed, Stream.ACTOR), step=0, slots=EnvSlots.of(config.seed, 0, count))
    dtype = getattr(torch, contract.spaces.observation_dtype)
    observation = torch.zeros(count, *contract.spaces.observation_shape, dtype=dtype)
    state = policy.initial_state(count)
    return lambda: policy.act(observation, state, context), count


def _learning(config: RunConfig, contract: Contract) -> tuple[Callable[[], object], int]:
    """Updates from one batch of real rollouts, over and over."""
    config = _without_warm_up(config)
    spec, count = actor_spec(config, contract), config.rollouts_per_update or 1
    learner = make_learner(config, contract)
    plan = MemoryPlan(spec.layout(), count, 1, learner.weights.numel())
    memory, actor = Memory(plan, plan.allocate()), Actor(spec, 0)
    memory.publish(0, learner.weights)
    for number in range(count):
        memory.fill(actor, Ticket(number, 0, 0, number, 0))
    actor.close()
    steps = 0
    while learner.step <= _warm_up(config):
        before = learner.step
        learner.update(memory.slots)
        steps = learner.step - before
    return lambda: learner.update(memory.slots), steps


def _warm_up(config: RunConfig) -> int:
    """Steps that are only stored before the first is learned from."""
    experience = config.algorithm.experience()
    return 0 if experience.replay is None else experience.replay.learning_starts


def _without_warm_up(config: RunConfig) -> RunConfig:
    """The same with a replay memory that soon has enough."""
    experience = config.algorithm.experience()
    if experience.replay is None:
        return config
    enough = config.actors * config.envs_per_actor * (experience.slot_length + experience.n_step + 4)
    options = replace(experience.replay, learning_starts=enough, capacity=10 * enough + experience.replay.batch_size)
    algorithm: Any = config.algorithm
    return replace(config, algorithm=replace(algorithm, replay=options))
