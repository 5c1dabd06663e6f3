"""`--actors auto`: the number of actors, from a short training in the environment on this machine."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from asyncrl.algorithms import AlgorithmSource
from asyncrl.bench.candidates import Bounds, SpeedSettings, divisions
from asyncrl.bench.trials import train_briefly
from asyncrl.bench.tuning import expected_gains
from asyncrl.common.hardware import cores
from asyncrl.envs import EnvSource, describe_all
from asyncrl.errors import UsageError
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import EngineKind, RunConfig
from asyncrl.runs.config.settings import AUTO, tailor, without_auto

__all__ = ["fewest_of_the_fastest", "found_actors"]

_SECONDS = 1.5
"""Duration of that training, after the first update."""
_MIN_GAIN = 1.05
"""Expected gains below this do not change the number."""
_AN_ACTOR_EACH = "so that each has an actor"


def found_actors(
    env: EnvSource, algorithm: AlgorithmSource | None, preset: str | None, settings: Mapping[str, Any]
) -> tuple[dict[str, int], list[str]]:
    """The settings that stand for `actors="auto"` among `settings`, and a sentence about them; nothing without it.

    The batch of an update stays as it is: the same environments are divided among more or fewer actors. Environments per
    actor, or rollouts per update, that are among `settings` stay as they are, too. Several environments (`extra_envs`) get
    an actor each, even where that enlarges the batch.

    Raises UsageError where a training on this machine says nothing.
    """
    if settings.get("actors") != AUTO:
        return {}, []
    others = without_auto(settings)
    config = tailor(env, algorithm, preset, **others)
    needed = _needed(config, others)
    changes, sentence = _measured(replace(config, **needed), others, "as without it" if not needed else _AN_ACTOR_EACH)
    return {"actors": config.actors, **needed, **changes}, [f"--actors auto: {sentence}."]


def fewest_of_the_fastest(gains: Mapping[SpeedSettings, float], present: SpeedSettings) -> SpeedSettings:
    """Of the settings with nearly the largest gain, those with the fewest actors; `present` if none is worth a change."""
    most = max(gains.values(), default=1.0)
    if most < _MIN_GAIN * gains.get(present, 1.0):
        return present
    return min((one for one, gain in gains.items() if gain * _MIN_GAIN >= most), key=lambda one: one.actors)


def _needed(config: RunConfig, held: Collection[str]) -> dict[str, Any]:
    """The settings that change so that each of several environments has an actor; the batch stays where it can."""
    least, envs = len(config.env_ids), config.actors * config.envs_per_actor
    if config.actors >= least:
        return {}
    stays = config.rollouts_per_update is not None or config.engine is EngineKind.HOGWILD or "envs_per_actor" in held
    actors = least if stays else next((count for count in range(least, envs + 1) if envs % count == 0), least)
    return {"actors": actors} if stays else {"actors": actors, "envs_per_actor": max(1, envs // actors)}


def _measured(config: RunConfig, held: Collection[str], present_is: str) -> tuple[dict[str, int], str]:
    """The settings that change, and what was found; `present_is` says why the current ones are as they are."""
    contract = describe_all(config.env_ids, config.environment)
    resolved = resolve(config, contract)
    present = SpeedSettings.of(config, resolved)
    if resolved.engine is EngineKind.RAY:
        raise UsageError("--actors auto measures this machine, which says nothing about a Ray cluster: give a number")
    if resolved.offline is not None:
        raise UsageError("--actors auto has nothing to measure with --offline, which learns without playing: give a number")
    if resolved.engine is EngineKind.HOGWILD:
        workers = max(cores(), len(config.env_ids))
        return {"actors": workers}, f"{workers} workers on {cores()} cores"
    trial = train_briefly(config, _SECONDS)
    gains = expected_gains(trial, contract, config, divisions(present, Bounds.of(resolved, contract), held))
    best = fewest_of_the_fastest(gains, present)
    if best == present:
        kept = f"{present.actors} × {present.envs_per_actor} environments, as without it"
        return {}, f"{kept}: no other division is expected to be faster here"
    faster = f"{gains[best]:.1f} times the speed of {present.actors} × {present.envs_per_actor} expected"
    where = f"{cores()} cores, engine {resolved.engine.value}"
    return best.changes_from(present), f"{best.actors} × {best.envs_per_actor} environments, {faster} on {where}"
