"""A resolved configuration as the header of a run shows it."""

from __future__ import annotations

import torch

from asyncrl.common.counting import counted
from asyncrl.presets import purpose
from asyncrl.runs.config.run_config import Device, EngineKind, RunConfig, ScheduleKind

__all__ = ["summary_lines"]


def summary_lines(config: RunConfig) -> list[str]:
    """One line per row: a name of 20 characters, then its value."""
    algorithm, network, no_gpu = config.algorithm.name, config.network.network, ""
    if config.device is not Device.CUDA and not torch.cuda.is_available():
        no_gpu = " (torch sees no GPU here)"
    rows = {
        "preset": _preset(config),
        "algorithm": f"{algorithm}, network {network}, {config.precision.value} on {config.device.value}{no_gpu}",
        "actors": f"{config.actors:,} × {config.envs_per_actor:,} environments, engine {config.engine.value}",
        **({"learners": _learners(config)} if config.learners > 1 else {}),
        "schedule": _schedule(config),
        "length": _length(config),
        "evaluation": _evaluation(config),
        **({"data": f"{config.offline}, without playing"} if config.offline is not None else {}),
        **({"weights": f"from {config.init_from}"} if config.init_from is not None else {}),
        "seed": f"{config.seed}",
    }
    return [f"{name:<20}{value}" for name, value in rows.items()]


def _preset(config: RunConfig) -> str:
    if config.preset is None:
        return f"none: {config.algorithm.name}'s defaults, which may not suit this environment"
    reason = purpose(config.preset, config.env)
    return f"{config.preset}, {reason}" if reason else config.preset


def _learners(config: RunConfig) -> str:
    return f"{config.learners}, on a GPU each" if config.device is Device.CUDA else f"{config.learners}, in a process each"


def _schedule(config: RunConfig) -> str:
    if config.engine is EngineKind.HOGWILD:
        return "free: every worker learns from its own rollouts, without lag or queue"
    if config.schedule is not ScheduleKind.LOCKSTEP:
        return "free"
    at_once = (config.lag + 1) * (config.rollouts_per_update or config.actors)
    idle = f": {at_once:,} of {config.actors:,} actors busy (--rollouts-per-update)"
    return f"lockstep, lag {config.lag}{idle if at_once < config.actors else ''}"


def _length(config: RunConfig) -> str:
    if config.updates is None:
        episodes = (config.rollouts_per_update or config.actors) * config.envs_per_actor
        return f"{config.steps:,} steps, one update per {counted(episodes, 'episode')}"
    if config.batch_steps > config.steps:
        return f"{config.batch_steps:,} steps, one update ({config.steps:,} were asked for)"
    return f"{config.steps:,} steps, one update per {config.batch_steps:,} steps"


def _evaluation(config: RunConfig) -> str:
    if not config.eval_episodes:
        return "none"
    when = f"every {config.eval_every:,} steps and at the end" if config.eval_every else "at the end"
    return f"{counted(config.eval_episodes, 'episode')} {when}, {'greedy' if config.eval_greedy else 'sampled'}"
