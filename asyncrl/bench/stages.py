"""Throughput of one stage of a run at a time: environments, acting, learning.

Each stage runs on all cores at once, one single-threaded process per core, and the rates are added. The sum is the
machine's capacity for this stage if nothing else runs. A stage that runs on the GPU has one process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
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
from asyncrl.runs.components import actor_spec, make_learner
from asyncrl.runs.config.run_config import RunConfig

__all__ = [
    "WARM_UP",
    "Stage",
    "capacity",
    "learning_starts",
    "stages_on_gpu",
    "upper_bound",
    "with_early_learning",
]

WARM_UP = 0.2
"""Fraction of the time that is not counted."""


class Stage(Enum):
    """A stage of training that is measured alone."""

    ENVIRONMENT = "environment"
    """Stepping environments with random actions."""
    ACTING = "acting"
    """The network's forward pass and the choice of actions."""
    LEARNING = "learning"
    """Batch, loss, gradient and optimizer."""


class Capacity(NamedTuple):
    """Throughput of all cores together at one stage."""

    steps_per_second: float
    """Environment steps."""
    seconds_per_call: float
    """Duration on one core of a vector environment's step, a forward pass, or an update."""


def stages_on_gpu(config: RunConfig, contract: Contract) -> frozenset[Stage]:
    """The stages that run on the GPU, under a resolved `config`."""
    devices = {Stage.ACTING: config.acting_device(contract), Stage.LEARNING: config.device.value}
    return frozenset(stage for stage, device in devices.items() if device != "cpu")


def upper_bound(rates: Mapping[Stage, float], on_gpu: Collection[Stage]) -> float:
    """Upper bound of the rate of training, if the stages of each device share it and the devices work side by side."""
    costs = [sum(1 / rate for stage, rate in rates.items() if (stage in on_gpu) is is_gpu) for is_gpu in (False, True)]
    return 1 / max(costs)


def capacity(stage: Stage, config: RunConfig, contract: Contract, seconds: float) -> Capacity:
    """Measure one stage for `seconds`, under a resolved `config`. Raises ActorDied if it takes far longer."""
    count = 1 if stage in stages_on_gpu(config, contract) else cores()
    workers = Workers(_serve, count, contract, stage, config, contract, seconds)
    results: list[Capacity] = []
    timeout = 60 + 10 * seconds
    deadline = time.monotonic() + timeout
    try:
        while len(results) < count:
            if time.monotonic() > deadline:
                raise ActorDied(f"the measurement of {stage.value} took longer than {timeout:g} s; lower --seconds")
            results += workers.receive(1.0)
    finally:
        workers.close()
    return Capacity(sum(r.steps_per_second for r in results), fmean(r.seconds_per_call for r in results))


def _serve(index: int, pipe: Connection, stage: Stage, config: RunConfig, contract: Contract, seconds: float) -> None:
    pipe.send(_measure(stage, config, contract, seconds))
    pipe.poll(None)  # wait until it is closed


def _measure(stage: Stage, config: RunConfig, contract: Contract, seconds: float) -> Capacity:
    set_torch_threads(1)
    prepare = {Stage.ENVIRONMENT: _environment, Stage.ACTING: _acting, Stage.LEARNING: _learning}[stage]
    call, steps = prepare(config, contract)
    call()
    _calls_per_second(call, seconds * WARM_UP)
    rate = _calls_per_second(call, seconds * (1 - WARM_UP))
    return Capacity(steps * rate, 1 / rate)


def _calls_per_second(call: Callable[[], object], seconds: float) -> float:
    """Repeat `call` for `seconds`, at least once."""
    start, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds or count == 0:
        call()
        count += 1
    return count / elapsed if elapsed else count / (time.perf_counter() - start)


# Each of these returns a function to call repeatedly, and the environment steps of one call.


def _environment(config: RunConfig, contract: Contract) -> tuple[Callable[[], object], int]:
    environments = Environments(contract, config.envs_per_actor)
    environments.reset(environment_seeds(config.seed, Stream.ENVIRONMENT, config.envs_per_actor))
    random = np.random.default_rng(config.seed)
    count, spaces = config.envs_per_actor, contract.spaces
    return lambda: environments.step(spaces.random_actions(random, environments.raw_observation)), count


def _acting(config: RunConfig, contract: Contract) -> tuple[Callable[[], object], int]:
    policy, count = actor_spec(config, contract).policy(), config.envs_per_actor
    context = ActContext.training(generator(config.seed, Stream.ACTOR), step=0, slots=EnvSlots.of(config.seed, 0, count))
    dtype = getattr(torch, contract.spaces.observation_dtype)
    observation = torch.zeros(count, *contract.spaces.observation_shape, dtype=dtype)
    state = policy.initial_state(count)
    return lambda: policy.act(observation, state, context), count


def _learning(config: RunConfig, contract: Contract) -> tuple[Callable[[], object], int]:
    """Repeats updates from the same batch of real rollouts."""
    config = with_early_learning(config)
    spec, count = actor_spec(config, contract), config.rollouts_per_update or 1
    learner = make_learner(config, contract)
    plan = MemoryPlan(spec.layout(), num_slots=count, num_buffers=1, num_weights=learner.weights.numel())
    memory, actor = Memory(plan, plan.allocate()), Actor(spec, 0)
    memory.publish(0, learner.weights)
    for number in range(count):
        memory.fill(actor, Ticket(number, 0, 0, number, 0))
    actor.close()
    steps = 0
    while learner.step <= learning_starts(config):
        before = learner.step
        learner.update(memory.slots)
        steps = learner.step - before
    return lambda: learner.update(memory.slots), steps


def learning_starts(config: RunConfig) -> int:
    """The steps that are stored before learning starts."""
    experience = config.algorithm.experience()
    return 0 if experience.replay is None else experience.replay.learning_starts


def with_early_learning(config: RunConfig) -> RunConfig:
    """The configuration with a replay buffer that fills quickly."""
    experience = config.algorithm.experience()
    if experience.replay is None:
        return config
    enough = config.actors * config.envs_per_actor * (experience.slot_length + experience.sample_steps + 4)
    options = replace(experience.replay, learning_starts=enough, capacity=10 * enough + experience.replay.batch_size)
    algorithm: Any = config.algorithm
    return replace(config, algorithm=replace(algorithm, replay=options))
