"""Refuses a run that could not start or continue, before anything is made for it."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
from torch import nn

from asyncrl.acting import datasets
from asyncrl.acting.bots import open_bot
from asyncrl.agents.evaluation_videos import check_pictures
from asyncrl.algorithms import network_outline
from asyncrl.common.hardware import free_gpu_memory
from asyncrl.engines.shared_memory import available_memory
from asyncrl.envs import Backend, Contract, describe
from asyncrl.errors import CheckpointError, UsageError
from asyncrl.experience import ReplayStorage
from asyncrl.learner import check_parameters
from asyncrl.monitor.trackers import check_installed
from asyncrl.networks.encoders import MlpEncoder
from asyncrl.presets import read_preset
from asyncrl.runs.components import initial_checkpoint, normalization_of, replay_plan
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import EngineKind, RunConfig
from asyncrl.runs.config.settings import configure

__all__ = ["check_beginning", "check_memory", "check_recording", "preset_blamed"]

_PROCESS_BYTES, _ACTOR_BYTES, _ENVIRONMENT_BYTES = 10_000_000, 50_000, 4096
"""Memory that any process of an actor or environment, any other actor and any other environment takes, at least."""
_LONGEST_UPDATE = 100
"""A run of one update may be this many times longer than was asked for."""


def check_beginning(config: RunConfig, contract: Contract, init_from: str | None) -> None:
    """Raise UsageError for what a new run of a resolved configuration cannot begin with, its memory apart.

    It is far too short, or has trackers, videos, statistics, a bot, a dataset or initial weights that cannot be had.
    `init_from` is the name of the weights as the user gave it.
    """
    check_recording(config, contract)
    _check_normalization(config, contract)
    if config.updates is not None and config.batch_steps > _LONGEST_UPDATE * config.steps:
        raise UsageError(
            f"--steps {config.steps}: one update is {config.batch_steps:,} steps; lower --actors, --envs-per-actor or "
            "--t-max"
        )
    if config.bots.bot is not None:
        open_bot(config.bots.bot)()
    if config.offline is not None:
        datasets.check(config.offline, contract)
    if init_from is not None:
        network = network_outline(config.algorithm, config.network, contract.spaces, config.precision.dtype)
        try:
            _check_initial_weights(config, network)
        except UsageError as problem:
            raise type(problem)(f"--init-from {init_from}: {problem}") from None


def _check_initial_weights(config: RunConfig, network: nn.Module) -> None:
    """Raise CheckpointError unless the weights to start from are those of a network like the run's."""
    checkpoint, parameters = initial_checkpoint(config), list(network.parameters())
    weights, count = checkpoint.weights(), sum(parameter.numel() for parameter in parameters)
    theirs, ours = checkpoint.config.algorithm.name, config.algorithm.name
    if weights.numel() != count and theirs != ours:
        raise CheckpointError(
            f"initial weights of {theirs}, with {weights.numel():,} parameters, where {ours} has {count:,}; "
            f"name a run of {ours}"
        )
    check_parameters(weights, count)
    if [tensor.shape for tensor in checkpoint.network().values()] != [parameter.shape for parameter in parameters]:
        raise CheckpointError("initial weights of a different network: its layers have other shapes")
    activation = checkpoint.config.network.activation
    if activation is not config.network.activation and any(isinstance(part, MlpEncoder) for part in network.modules()):
        raise CheckpointError(f"initial weights of a network with another activation; add --activation {activation.value}")


@contextlib.contextmanager
def preset_blamed(config: RunConfig, asked: Collection[str]) -> Iterator[None]:
    """Add the preset to a UsageError about a setting that it has and the user has not `asked` for.

    It is to blame only if the same is wrong without anything that the user asked for.
    """
    try:
        yield
    except UsageError as problem:
        option, why = re.search(r"--[a-z][a-z0-9-]*", str(problem)), str(problem)
        if config.preset is not None and option is not None:
            name = option[0].removeprefix("--").replace("-", "_")
            if name not in asked and name in _keys(read_preset(config.preset)) and why == _misfit(config):
                why = f"it sets {option[0]}, and {why.removeprefix(f'{config.env}: ')}"
                problem.args = (f"preset {config.preset} does not fit {config.env}: {why}", *problem.args[1:])
        raise


def _misfit(config: RunConfig) -> str:
    """Why the preset of `config` alone is refused in its environment; "" if it is not."""
    plain = configure(config.env, type(config.algorithm), config.preset)
    try:
        resolve(plain, describe(plain.env, plain.environment))
    except UsageError as problem:
        return str(problem)
    return ""


def _keys(table: dict[str, Any]) -> set[str]:
    """The keys of a table and of the tables in it."""
    return table.keys() | {key for inner in table.values() if isinstance(inner, dict) for key in _keys(inner)}


def check_recording(config: RunConfig, contract: Contract) -> None:
    """Raise UsageError for trackers that are not installed, and for videos of what cannot be drawn."""
    check_installed(config.track)
    if config.video_every:
        check_pictures(contract.contracts[0], config.seed)


def _check_normalization(config: RunConfig, contract: Contract) -> None:
    """Raise UsageError if the network has no layer for statistics that the run keeps."""
    normalization = normalization_of(config, contract)
    if normalization is not None:
        normalization.check(network_outline(config.algorithm, config.network, contract.spaces, config.precision.dtype))


def check_memory(config: RunConfig, contract: Contract) -> None:
    """Raise UsageError if actors, environments, rollouts or the replay buffer take more memory than there is."""
    actors, envs, slots = config.actors, config.actors * config.envs_per_actor, config.queue_size or 1
    frame = contract.spaces.observation_size * np.dtype(contract.spaces.observation_dtype).itemsize // contract.frame_stack
    rollout = config.algorithm.experience().slot_length * config.envs_per_actor * frame
    is_own_ray = config.engine is EngineKind.RAY and config.ray_address is None  # a cluster has other machines
    are_processes = config.engine in (EngineKind.PROCESSES, EngineKind.HOGWILD) or is_own_ray
    needed, free = slots * rollout + actors * (_PROCESS_BYTES if are_processes else _ACTOR_BYTES), available_memory()
    needed += envs * (_PROCESS_BYTES if contract.backend is Backend.ASYNC else _ENVIRONMENT_BYTES)
    if needed > free:
        what = f"{actors:,} actors, {envs:,} environments and {slots:,} rollouts of {config.rollout_steps:,} steps"
        raise UsageError(
            f"{what} take {needed / 1e9:,.0f} GB or more, but only {free / 1e9:,.0f} GB are free: "
            "lower --actors, --envs-per-actor or the rollouts' length"
        )
    plan = replay_plan(config, contract)
    if plan is not None:
        on_disk = plan.options.replay_storage is ReplayStorage.DISK
        free = shutil.disk_usage(".").free if on_disk else available_memory()
        plan.check(free, free_gpu_memory() if plan.gpu_nbytes else 0)
