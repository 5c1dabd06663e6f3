"""From what a user asks for to a run's configuration: presets, settings, and what follows from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from asyncrl.algorithms import algorithm_named
from asyncrl.common.serialization import to_json
from asyncrl.envs import EnvSource, describe, env_id_of
from asyncrl.envs.family_options import family_option_names
from asyncrl.envs.spaces import Spaces
from asyncrl.errors import UsageError, suggestions
from asyncrl.presets import automatic, for_kind, read_preset
from asyncrl.runs.changes import setting_paths
from asyncrl.runs.config import RunConfig
from asyncrl.runs.former_names import rename_settings

__all__ = ["configure", "kind_of", "leaves", "settings_of", "tailor"]


def configure(env: EnvSource, algorithm: str | None = None, preset: str | None = None, **settings: Any) -> RunConfig:
    """A run's configuration: the preset (by name, or the one tuned for this pair), then `settings`.

    `env` is an id, an environment's class or a function that makes one. `settings` are fields of `RunConfig`, the
    algorithm, or what is nested in them (`EnvOptions`, `NetworkConfig`, `OptimizerConfig`, …).
    """
    env = env_id_of(env)
    name = preset or automatic(algorithm or "a3c", env)
    data = read_preset(name) if name else {"algorithm": {"name": algorithm or "a3c"}}
    if algorithm not in (None, data["algorithm"]["name"]):
        raise UsageError(f"preset {name} is for {data['algorithm']['name']}, not {algorithm}")
    cls = algorithm_named(data["algorithm"]["name"])
    config: dict[str, Any] = {
        "env": "",
        **data.get("run", {}),
        **({"env": env} if env else {}),
        "preset": name,
        "algorithm": _merged(to_json(cls()), data["algorithm"]),
        "optimizer": {**to_json(cls.optimizer), **data.get("optimizer", {})},
        "environment": dict(data.get("environment", {})),
        "network": {**to_json(cls.network_config), **data.get("network", {})},
    }
    places = {path[-1]: path for path in [*setting_paths(RunConfig), *setting_paths(cls, "algorithm")]}
    places |= {name: ("environment", name) for name in family_option_names()}
    del places["env"], places["algorithm"], places["preset"]
    for key, value in rename_settings(settings, cls.name).items():
        if key not in places:
            raise UsageError(f"there is no setting {key!r}{suggestions(key, places)}")
        *path, last = places[key]
        table = config
        for name in path:
            table = table.setdefault(name, {})
        table[last] = value
    if isinstance(config.get("extra_envs"), list | tuple):
        config["extra_envs"] = [env_id_of(one) for one in config["extra_envs"]]
    return RunConfig.from_json(config)


def tailor(env: EnvSource, algorithm: str | None = None, preset: str | None = None, **settings: Any) -> RunConfig:
    """The configuration of a new run, as `train` makes it.

    As `configure`, but where no preset is named and none is tuned for the environment, it takes the algorithm's preset
    for environments of this kind; and what is not in `settings` fits the run's length and what is.
    """
    config = configure(env, algorithm, preset, **settings)
    if config.preset is None:
        spaces = describe(config.env, dataclasses.replace(config.environment, standardize=0)).spaces
        preset = for_kind(config.algorithm.name, kind_of(spaces))
        config = configure(env, algorithm, preset, **settings)
    return configure(env, algorithm, config.preset, **{**_fitting(config, settings), **settings})


def kind_of(spaces: Spaces) -> str:
    """The kind of an environment, as presets name it: "images", or else by its actions "discrete" or "continuous"."""
    if spaces.has_images:
        return "images"
    return "continuous" if spaces.actions.is_continuous else "discrete"


def _fitting(config: RunConfig, asked: Collection[str]) -> dict[str, Any]:
    """Settings that were not asked for and do not suit those that were.

    A run shorter than the preset's would end before a replay method begins to learn, before the target network is
    copied for the first time, or while nearly all actions are random.
    """
    algorithm, steps = config.algorithm, config.steps
    fitting: dict[str, Any] = {}
    experience = algorithm.experience()
    if experience.replay is not None:
        starts = experience.replay.learning_starts
        least = max(config.bots.bot_prefill, config.actors * config.envs_per_actor * (experience.n_step + 1))
        fitting["learning_starts"] = min(starts, max(steps // 10, least))
    if algorithm.tau and "tau" in asked:
        fitting["target_every"] = 0
    elif algorithm.tau and algorithm.target_every and "target_every" in asked:
        fitting["tau"] = 0.0
    elif algorithm.target_every > steps > 0:
        fitting["target_every"] = max(1, steps // 10)
    exploration = getattr(algorithm, "exploration", None)
    if exploration is not None and exploration.decays and exploration.epsilon_steps > steps:
        fitting["epsilon_steps"] = max(1, steps // 2)
    if exploration is not None and "final_epsilons" in asked:
        floors = len(exploration.final_epsilons)
        if floors and floors != len(exploration.final_epsilon_probabilities):
            fitting["final_epsilon_probabilities"] = (1 / floors,) * floors
    return fitting


def settings_of(config: RunConfig, named: Collection[str] = ()) -> frozenset[str]:
    """The settings of `config` that its user asked for: those `named`, and all that are not as in its preset."""
    plain = leaves(configure(config.env, config.algorithm.name, config.preset))
    return frozenset(named) | {name for name, value in leaves(config).items() if plain.get(name) != value}


def leaves(options: Any) -> Mapping[str, Any]:
    """Every setting of a dataclass and of those in it, by name."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        found |= leaves(value) if dataclasses.is_dataclass(value) else {field.name: value}
    return found


def _merged(table: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`table` with what `over` says, also inside of tables."""
    inner = {name: _merged(table[name], value) for name, value in over.items() if isinstance(table.get(name), dict)}
    return {**table, **over, **inner}
