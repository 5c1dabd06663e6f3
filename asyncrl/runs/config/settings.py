"""The configuration of a run from a preset and the user's settings."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from asyncrl.algorithms import Algorithm, AlgorithmSource, algorithm_name_of, algorithm_named
from asyncrl.algorithms.optimizers import LearningRateSchedule
from asyncrl.common.serialization import to_json
from asyncrl.envs import EnvOptions, EnvSource, describe, env_id_of
from asyncrl.envs.family_options import family_option_names
from asyncrl.envs.spaces import Spaces
from asyncrl.errors import UsageError
from asyncrl.networks import Recurrent, network_name_of
from asyncrl.presets import automatic, for_kind, read_preset
from asyncrl.runs.config.foreign_names import explain_unknown
from asyncrl.runs.config.former_names import rename_settings
from asyncrl.runs.config.run_config import EngineKind, RunConfig
from asyncrl.runs.config.setting_paths import setting_paths

__all__ = ["AUTO", "configure", "kind_of", "leaves", "setting_places", "settings_of", "tailor", "without_auto"]

AUTO = "auto"
"""As `actors`: the number that suits this machine, which is found before a run is configured (`bench/automatic.py`)."""

_SEQUENCE_LENGTH = 20
"""Steps of a replayed sequence where a recurrent network is asked for, and no length."""
_AVERAGES = ("normalize_observation", "normalize_value", "normalize_return")
"""Settings that average over rollouts in their order."""


def configure(
    env: EnvSource, algorithm: AlgorithmSource | None = None, preset: str | None = None, **settings: Any
) -> RunConfig:
    """Return the settings of a preset, overridden by `settings`.

    Args:
        env: Environment id, class, or a function that makes an environment.
        algorithm: Name of the algorithm (`module:Name` for your own), its class, or an instance, whose hyperparameters are
            settings then; None is the preset's, or a3c.
        preset: Name of the preset; None chooses the one tuned for algorithm and environment, if there is one.
        settings: Fields of `RunConfig`, of the algorithm, and of the dataclasses nested in them (`EnvOptions`,
            `NetworkConfig`, `OptimizerConfig`, …).

    Raises:
        UsageError: For an unknown name or a value of the wrong type.
    """
    if settings.get("actors") == AUTO:
        raise UsageError("--actors auto: only `asyncrl train` measures the machine; give a number")
    env, settings = env_id_of(env), {**_hyperparameters(algorithm), **settings}
    algorithm = None if algorithm is None else algorithm_name_of(algorithm)
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
        # `from_json` takes a table without action_mask for that of a run made before masks were known
        "environment": {"action_mask": EnvOptions.action_mask, **data.get("environment", {})},
        "network": {**to_json(cls.network_config), **data.get("network", {})},
    }
    paths = setting_places(cls)
    for key, value in rename_settings(settings, data["algorithm"]["name"]).items():
        if key not in paths:
            raise UsageError(f"unknown setting {key!r}{explain_unknown(key, paths)}")
        value = network_name_of(value) if key == "network" else value
        value = value.item() if isinstance(value, np.generic) else value
        *path, last = paths[key]
        table = config
        for name in path:
            table = table.setdefault(name, {})
        table[last] = _as_json(value) if key == "env_kwargs" and isinstance(value, Mapping) else value
    if isinstance(config.get("extra_envs"), list | tuple):
        config["extra_envs"] = [env_id_of(one) for one in config["extra_envs"]]
    return RunConfig.from_json(config)


def without_auto(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` without `actors="auto"`."""
    return {name: value for name, value in settings.items() if (name, value) != ("actors", AUTO)}


def setting_places(algorithm: type[Algorithm]) -> dict[str, tuple[str, ...]]:
    """The path of each setting in a configuration with this algorithm, by name; without env, algorithm and preset."""
    common, own = list(setting_paths(RunConfig)), list(setting_paths(algorithm, "algorithm"))
    if taken := {path[-1] for path in common} & {path[-1] for path in own}:
        raise UsageError(
            f"algorithm {algorithm_name_of(algorithm)}: the hyperparameter {min(taken)!r} has the name of a setting of "
            "every run; rename it"
        )
    paths = [*common, *own]
    places = {path[-1]: path for path in paths} | {name: ("environment", name) for name in family_option_names()}
    return {name: path for name, path in places.items() if name not in ("env", "algorithm", "preset")}


def tailor(
    env: EnvSource, algorithm: AlgorithmSource | None = None, preset: str | None = None, **settings: Any
) -> RunConfig:
    """Return the configuration of a new run.

    As `configure`, with two differences. Without a preset tuned for the environment it takes the algorithm's preset for
    environments of its kind. Values not given in `settings` are adapted to the length of the run and to those given.
    """
    settings = {**_hyperparameters(algorithm), **settings}
    algorithm = None if algorithm is None else algorithm_name_of(algorithm)
    config = configure(env, algorithm, preset, **settings)
    if config.preset is None:
        spaces = describe(config.env, dataclasses.replace(config.environment, standardize=0)).spaces
        preset = for_kind(algorithm_name_of(config.algorithm), kind_of(spaces))
        config = configure(env, algorithm, preset, **settings)
    return configure(env, algorithm, config.preset, **{**_adapted(config, settings), **settings})


def kind_of(spaces: Spaces) -> str:
    """The kind of an environment in presets: "images", or by its actions "discrete" or "continuous"."""
    if spaces.has_images:
        return "images"
    return "continuous" if spaces.actions.is_continuous else "discrete"


def _adapted(config: RunConfig, given: Collection[str]) -> dict[str, Any]:
    """New values of settings that were not given and do not suit those that were.

    A run shorter than the preset's would otherwise end before a replay method learns, before the target network is
    copied, or while nearly all actions are random. Hogwild would refuse a preset's normalization and its KL schedule, and a
    small update the preset's number of minibatches.
    """
    algorithm, steps = config.algorithm, config.steps
    adapted: dict[str, Any] = {}
    sequences = getattr(algorithm, "sequences", None)
    if sequences is not None and not sequences.sequence_length and config.network.recurrent is not Recurrent.NONE:
        adapted["sequence_length"] = _SEQUENCE_LENGTH
        longer = dataclasses.replace(sequences, sequence_length=_SEQUENCE_LENGTH)
        algorithm = dataclasses.replace(algorithm, **{"sequences": longer})
    if config.network.normalize_observation and config.environment.standardize:  # both scale observations
        if "normalize_observation" in given and "standardize" not in given:
            adapted["standardize"] = 0
        elif "standardize" in given and "normalize_observation" not in given:
            adapted["normalize_observation"] = False
    if config.engine is EngineKind.HOGWILD:  # its workers have no common order to average or adapt in
        adapted |= {name: False for name in _AVERAGES if name not in given}
    follows_kl = config.optimizer.learning_rate_schedule is LearningRateSchedule.KL
    has_no_kl = config.engine is EngineKind.HOGWILD or config.takes_single_steps
    if follows_kl and has_no_kl and "learning_rate_schedule" not in given:
        adapted["learning_rate_schedule"] = LearningRateSchedule.CONSTANT.value
    experience = algorithm.experience()
    if experience.minibatches > 1 and "minibatches" not in given:
        alone = dataclasses.replace(config, rollouts_per_update=1) if config.engine is EngineKind.HOGWILD else config
        is_recurrent = config.network.recurrent is not Recurrent.NONE
        most = alone.batch_rows if is_recurrent else alone.batch_steps // 2
        adapted["minibatches"] = max(1, min(experience.minibatches, most))
    if experience.replay is not None:
        starts = experience.replay.learning_starts
        least = max(config.bots.bot_prefill, config.actors * config.envs_per_actor * (experience.sample_steps + 1))
        adapted["learning_starts"] = min(starts, max(steps // 10, least))
    if algorithm.tau and algorithm.target_every and "tau" in given:
        adapted["target_every"] = 0
    elif algorithm.tau and algorithm.target_every and "target_every" in given:
        adapted["tau"] = 0.0
    elif algorithm.target_every > steps > 0:
        adapted["target_every"] = max(1, steps // 10)
    exploration = getattr(algorithm, "exploration", None)
    if exploration is not None and exploration.decays and exploration.epsilon_steps > steps:
        adapted["epsilon_steps"] = max(1, steps // 2)
    if exploration is not None and "final_epsilons" in given:
        floors = len(exploration.final_epsilons)
        if floors and floors != len(exploration.final_epsilon_probabilities):
            adapted["final_epsilon_probabilities"] = (1 / floors,) * floors
    return adapted


def _hyperparameters(algorithm: AlgorithmSource | None) -> Mapping[str, Any]:
    """The hyperparameters of an algorithm that was given as an instance."""
    return leaves(algorithm) if isinstance(algorithm, Algorithm) else {}


def _as_json(keywords: Mapping[str, Any]) -> str:
    """The keyword arguments of an environment as they are saved."""
    try:
        return json.dumps(keywords)
    except (TypeError, ValueError) as problem:
        raise UsageError(
            f"env_kwargs {keywords!r:.80} is not JSON: {problem}; give a function that makes the environment"
        ) from None


def settings_of(config: RunConfig, named: Collection[str] = ()) -> frozenset[str]:
    """The settings of `config` that the user chose: those `named`, and those that `configure` and `tailor` do not give."""
    size = {name: getattr(config, name) for name in ("steps", "actors", "envs_per_actor")}
    found = leaves(config)
    chosen = {name: found[name] for name in named if name in found}
    unchosen = []
    for settings in (size, size | chosen):
        plain = configure(config.env, type(config.algorithm), config.preset, **settings)
        adapted = configure(config.env, type(config.algorithm), config.preset, **{**_adapted(plain, named), **settings})
        unchosen += [leaves(plain), leaves(adapted)]
    return frozenset(named) | {
        name for name, value in found.items() if all(values.get(name) != value for values in unchosen)
    }


def leaves(options: Any) -> Mapping[str, Any]:
    """All settings of a dataclass and of the dataclasses nested in it, by name."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        found |= leaves(value) if dataclasses.is_dataclass(value) else {field.name: value}
    return found


def _merged(table: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`table` updated with `over`, nested tables too."""
    inner = {name: _merged(table[name], value) for name, value in over.items() if isinstance(table.get(name), dict)}
    return {**table, **over, **inner}
