"""The tensors that a run is resumed from: their names, shapes and dtypes, checked before they are read.

These follow from the configuration and the contract, so a file that is damaged or belongs to another run is refused by its
header. A file that this module does not know is refused, too: nothing can be saved and then silently not restored.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from asyncrl.algorithms.optimizers import LearningRate, StatisticsSharing
from asyncrl.algorithms.weight_optimizer import initial_state
from asyncrl.common.serialization import read_header
from asyncrl.envs import Contract
from asyncrl.errors import CheckpointError
from asyncrl.experience.rollout import Layout
from asyncrl.runs.checkpoints.checkpoint import Checkpoint
from asyncrl.runs.components import actor_spec, normalization_of, replay_plan
from asyncrl.runs.config.run_config import EngineKind, RunConfig
from asyncrl.runs.schedule import Lockstep

__all__ = ["read_state"]

_RENAMED = {".carry.": ".tail.", "frames_since_reset": "age", "seed_and_steps": "origin", "extras.": "acted."}
"""Parts of the names of tensors in actors.safetensors, and what 0.1.0 called them."""

State = dict[str, dict[str, Tensor]]
"""Tensors by name, by the stem of their file."""


def read_state(saved: Checkpoint, config: RunConfig, contract: Contract) -> State:
    """The tensors of a checkpoint, for a run with this (resolved) configuration.

    Raises CheckpointError that names the file or tensor that is missing, unknown or does not fit.
    """
    expected = _learners(saved, config)
    plan = replay_plan(config, contract)
    if plan is not None and plan.options.prioritized:
        count = plan.actors * plan.rows * plan.layout.envs
        expected["replay"] = {"priorities": _like(count, dtype=torch.float64), "highest": _like(dtype=torch.float64)}
    if not config.algorithm.experience().full_episodes:
        each = config.actors, config.envs_per_actor
        expected["episodes"] = {"return": _like(*each, dtype=torch.float64), "length": _like(*each, dtype=torch.int64)}
        if saved.has("actors"):
            layout = actor_spec(config, contract).layout()
            expected["actors"] = _actors(read_header(saved.path / "actors.safetensors"), config, layout)
    normalization = normalization_of(config, contract)
    if normalization is not None:
        expected["normalization"] = {name: _like(*x.shape, dtype=x.dtype) for name, x in normalization.state().items()}
    if unknown := {name.removesuffix(".safetensors") for name in saved.files} - expected.keys():
        raise CheckpointError(
            f"{saved.path} has {min(unknown)}.safetensors, which a run of this configuration does not have"
        )
    state = {}
    for name, tensors in expected.items():
        if name == "actors" and any(".tail." in key for key in read_header(saved.path / "actors.safetensors")):
            former = {_former_name(key): key for key in tensors}
            found = saved.tensors(name, {before: tensors[key] for before, key in former.items()})
            state[name] = {former[before]: tensor for before, tensor in found.items()}
        elif saved.has(name):
            state[name] = saved.tensors(name, tensors)
        elif name in ("weights", "target", "normalization"):
            raise CheckpointError(
                f"{saved.path} has no {name}.safetensors, which resuming a run of {config.algorithm.name} needs"
            )
    _check_values(saved, config, contract, state)
    return state


def _former_name(name: str) -> str:
    """The name that a tensor of actors.safetensors had in 0.1.0."""
    for now, before in _RENAMED.items():
        name = name.replace(now, before)
    return name


def _like(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _learners(saved: Checkpoint, config: RunConfig) -> State:
    """The learner's tensors, and the weights that rollouts in progress are collected with."""
    network = saved.network()
    size = sum(weights.numel() for weights in network.values())
    kept = {name: _like(*(size,) * x.dim()) for name, x in initial_state(config.optimizer, torch.zeros(1)).items()}
    if config.algorithm.delayed:
        kept |= {f"delayed.{name}": x for name, x in kept.items() if not x.dim()}
    if config.engine is EngineKind.HOGWILD:
        copies = config.actors if config.optimizer.optimizer_statistics is StatisticsSharing.OWN else 1
        kept = {f"{name}.{i}": x for i in range(copies) for name, x in kept.items()}
    expected = {"weights": network, "optimizer": kept}
    if config.algorithm.target_every or config.algorithm.tau:
        expected["target"] = network
    if saved.has("recent"):
        names = [name for name in read_header(saved.path / "recent.safetensors") if name.isascii() and name.isdigit()]
        expected["recent"] = {name: _like(size) for name in names if len(name) < 20}
    if saved.has("learning_rate"):
        expected["learning_rate"] = LearningRate(config.optimizer, config.steps).state()
    return expected


def _actors(found: Mapping[str, Tensor], config: RunConfig, layout: Layout) -> dict[str, Tensor]:
    """The tensors of the actors: all of them for each actor that has any."""
    fields, steps = layout.fields(), config.algorithm.experience().overlap
    rows = {"frames": steps + layout.stack, "reset": steps + 1, "frames_since_reset": 2, "state": 2, "seed_and_steps": 2}
    carry = {}
    for name in (
        "frames",
        "frames_since_reset",
        "state",
        "action",
        "reward",
        "terminated",
        "reset",
        "seed_and_steps",
        *layout.extra_names,
    ):
        shape = fields[name].shape if name in ("frames_since_reset", "state") else fields[name].shape[1:]
        carry[f"carry.{name}"] = _like(rows.get(name, steps), *shape, dtype=fields[name].dtype)
    dtype = layout.action.dtype if layout.action.dtype.is_floating_point else torch.int32
    expected: dict[str, Tensor] = {}
    for actor in range(config.actors):
        played = found.get(f"{actor}.actions")
        if any(name.startswith(f"{actor}.") for name in found):
            count = 0 if played is None or not played.dim() else len(played)
            own = {
                "actions": _like(count, *layout.action.shape, dtype=dtype),
                "lengths": _like(layout.envs, dtype=torch.int64),
                **carry,
            }
            expected |= {f"{actor}.{name}": x for name, x in own.items()}
    return expected


def _check_values(saved: Checkpoint, config: RunConfig, contract: Contract, state: State) -> None:
    """Raise CheckpointError for values that no run writes."""
    actors, choices = state.get("actors", {}), contract.spaces.actions.choices
    for actor in range(config.actors):
        if f"{actor}.lengths" not in actors:
            continue
        actions, lengths = actors[f"{actor}.actions"], actors[f"{actor}.lengths"]
        seeds = actors[f"{actor}.carry.seed_and_steps"][0]
        parts = actions.reshape(-1, len(choices)) if choices else actions  # none if every episode has just begun
        can_be = not choices or bool(((parts >= 0) & (parts < torch.tensor(choices))).all())
        if int(lengths.min()) < 0 or int(lengths.sum()) != len(actions) or int(seeds.min()) < 0 or not can_be:
            raise CheckpointError(f"{saved.path / 'actors.safetensors'} holds impossible steps of actor {actor}")
    replay = state.get("replay", {})
    if replay and (float(replay["priorities"].min()) < 0 or float(replay["highest"]) <= 0):
        raise CheckpointError(f"{saved.path / 'replay.safetensors'} holds impossible priorities")
    statistics = state.get("normalization", {})
    never_negative = ("count", "squares", "updates", "variance")
    if any(name.endswith(never_negative) and bool((x < 0).any()) for name, x in statistics.items()):
        raise CheckpointError(f"{saved.path / 'normalization.safetensors'} holds impossible statistics")
    schedule = config.make_schedule()
    if isinstance(schedule, Lockstep):
        needed = {version for version, _ in schedule.initial_requests(saved.update)}
        known = {int(version) for version in state.get("recent", {})} | {saved.update}
        if missing := sorted(needed - known):
            raise CheckpointError(
                f"{saved.path} lacks the weights of version {missing[0]}, which rollouts in progress are collected with"
            )
