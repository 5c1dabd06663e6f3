"""What a resolved configuration asks for: its actors, its replay buffer, its learner."""

from __future__ import annotations

from typing import Any

import torch

from asyncrl.acting.actor import ActorSpec
from asyncrl.algorithms.normalization import Normalization, ObservationStatistics, ReturnStatistics, ValueStatistics
from asyncrl.envs import Contract
from asyncrl.experience import ReplayBuffer, ReplayPlan
from asyncrl.learner import Learner
from asyncrl.runs.checkpoints.checkpoint import Checkpoint
from asyncrl.runs.config.run_config import RunConfig, code_named_in
from asyncrl.runs.lookup import load_checkpoint

__all__ = ["actor_spec", "initial_checkpoint", "learner_arguments", "make_learner", "normalization_of", "replay_plan"]


def replay_plan(config: RunConfig, contract: Contract) -> ReplayPlan | None:
    """The replay buffer's size and layout; None for an algorithm without one."""
    experience = config.algorithm.experience()
    if experience.replay is None:
        return None
    layout = actor_spec(config, contract).layout()
    return ReplayPlan(layout, config.actors, experience.replay, experience.n_step, experience.sequences)


def actor_spec(config: RunConfig, contract: Contract, first_update: int = 0) -> ActorSpec:
    """The actors of a run that begins, or continues, with update `first_update`."""
    return ActorSpec(
        algorithm=config.algorithm,
        network=config.network,
        contract=contract,
        seed=config.seed,
        envs=config.envs_per_actor,
        env_threads=config.env_threads,
        dtype=config.precision.dtype,
        first_update=first_update,
        device=config.acting_device(contract),
        actors=config.actors,
        bots=config.bots,
        offline=config.offline,
        consumed=first_update * (config.rollouts_per_update or config.actors),
    )


def normalization_of(config: RunConfig, contract: Contract) -> Normalization | None:
    """The running statistics of a run, without any data; None if it normalizes nothing."""
    network, discount = config.network, getattr(config.algorithm, "discount", None)
    if not (network.normalize_observation or network.normalize_value or config.normalize_return):
        return None
    return Normalization(
        observation=ObservationStatistics(contract) if network.normalize_observation else None,
        returns=ReturnStatistics(discount, config.actors, config.envs_per_actor)
        if config.normalize_return and discount is not None
        else None,
        value=ValueStatistics() if network.normalize_value else None,
    )


def initial_checkpoint(config: RunConfig) -> Checkpoint:
    """The checkpoint that the run starts from, of the run, checkpoint or agent in `init_from`.

    Raises UsageError if there is none, or it cannot be read.
    """
    assert config.init_from is not None
    asked = code_named_in(config.to_json()).values()
    return load_checkpoint(config.init_from, asked=asked)


def learner_arguments(config: RunConfig, contract: Contract) -> dict[str, Any]:
    """The keyword arguments of a run's `Learner`, except the replay buffer and the normalization."""
    return {
        "algorithm": config.algorithm,
        "optimizer": config.optimizer,
        "network": config.network,
        "contract": contract,
        "seed": config.seed,
        "dtype": config.precision.dtype,
        "device": torch.device(config.device.value),
        "steps": config.steps,
    }


def make_learner(config: RunConfig, contract: Contract, *, with_replay: bool = True) -> Learner:
    """The learner of a run; `with_replay=False` leaves out the replay buffer of an algorithm that has one."""
    plan = replay_plan(config, contract) if with_replay else None
    replay = None if plan is None else ReplayBuffer(plan, torch.device(config.device.value))
    normalization = normalization_of(config, contract)
    return Learner(**learner_arguments(config, contract), replay=replay, normalization=normalization)
