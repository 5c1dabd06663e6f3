"""What a resolved configuration asks for, as data: its actors, and its replay memory."""

from __future__ import annotations

from asyncrl.acting.actor import ActorSpec
from asyncrl.envs import Contract
from asyncrl.experience import ReplayPlan
from asyncrl.runs.config import RunConfig

__all__ = ["actor_spec", "replay_plan"]


def replay_plan(config: RunConfig, contract: Contract) -> ReplayPlan | None:
    """What the run stores; None where it learns from fresh rollouts."""
    experience = config.algorithm.experience()
    if experience.replay is None:
        return None
    return ReplayPlan(actor_spec(config, contract).layout(), config.actors, experience.replay, experience.n_step)


def actor_spec(config: RunConfig, contract: Contract, first_update: int = 0) -> ActorSpec:
    """What makes the actors of a resolved configuration, from update `first_update` on."""
    return ActorSpec(
        config.algorithm,
        config.network,
        contract,
        config.seed,
        config.envs_per_actor,
        config.env_threads,
        config.precision.dtype,
        first_update,
        config.acting_device,
        config.actors,
        config.bots,
        config.offline,
        consumed=first_update * (config.rollouts_per_update or config.actors),
    )
