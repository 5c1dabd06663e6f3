"""One stage of a run at a time, on one core: environments, acting, learning.

Each is measured on every core at once, one single-threaded process a core, and the rates are added:
that is what the machine can do at this stage if nothing else runs.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from enum import Enum

import numpy as np
import torch

from asyncrl.actor import Actor, ActorSpec
from asyncrl.algorithms import Moment
from asyncrl.config import RunConfig, cores
from asyncrl.engines import Memory, MemoryPlan
from asyncrl.envs import Contract, Environments
from asyncrl.exploration import Seats
from asyncrl.learner import Learner
from asyncrl.randomness import Stream, environment_seeds, generator
from asyncrl.rollout import Ticket

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


def capacity(stage: Stage, config: RunConfig, contract: Contract, seconds: float) -> float:
    """Environment steps per second of all cores together; `config` is resolved."""
    context = multiprocessing.get_context("forkserver")
    with context.Pool(cores()) as pool:
        jobs = [pool.apply_async(_rate, (stage, config, contract, seconds)) for _ in range(cores())]
        return sum(job.get(timeout=60 + 10 * seconds) for job in jobs)


def _rate(stage: Stage, config: RunConfig, contract: Contract, seconds: float) -> float:
    torch.set_num_threads(1)
    work = {Stage.ENVIRONMENT: _environment, Stage.ACTING: _acting, Stage.LEARNING: _learning}[stage]
    once, steps = work(config, contract)
    once()
    _repeat(once, seconds * WARM_UP)
    return steps * _repeat(once, seconds * (1 - WARM_UP))


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
    policy, count = _spec(config, contract).policy(), config.envs_per_actor
    moment = Moment(0, generator(config.seed, Stream.ACTOR), Seats.of(config.seed, 0, count))
    dtype = getattr(torch, contract.spaces.observation_dtype)
    observation = torch.zeros(count, *contract.spaces.observation_shape, dtype=dtype)
    state = policy.initial_state(count)
    return lambda: policy.act(observation, state, moment), count


def _learning(config: RunConfig, contract: Contract) -> tuple[Callable[[], object], int]:
    """Updates from one batch of real rollouts, over and over."""
    spec, count = _spec(config, contract), config.rollouts_per_update or 1
    dtype, device = config.precision.dtype, torch.device("cpu" if config.device.value == "cpu" else "cuda")
    learner = Learner(
        config.algorithm, config.optimizer, config.network, contract, config.seed, dtype, device, config.steps
    )
    plan = MemoryPlan(spec.layout(), count, 1, learner.weights.numel())
    memory, actor = Memory(plan, plan.allocate(shared=False)), Actor(spec, 0)
    memory.publish(0, learner.weights)
    for number in range(count):
        memory.fill(actor, Ticket(number, 0, 0, number, 0))
    actor.close()
    return lambda: learner.update(memory.slots), config.batch_steps


def _spec(config: RunConfig, contract: Contract) -> ActorSpec:
    return ActorSpec(
        config.algorithm, config.network, contract, config.seed, config.envs_per_actor, 1, config.precision.dtype
    )
