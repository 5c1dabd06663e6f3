"""Options out of range are rejected before anything is created, with an error that names the option."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from algorithm_worlds import world_of

from asyncrl.agents.imitation import CloningOptions
from asyncrl.algorithms import ALGORITHMS
from asyncrl.algorithms.optimizers import Optimizer, OptimizerConfig
from asyncrl.api import configure
from asyncrl.common.validation import within
from asyncrl.envs import EnvOptions, describe
from asyncrl.envs.families.atari import AtariOptions
from asyncrl.envs.family_options import combined_options
from asyncrl.errors import UsageError
from asyncrl.launch import start
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import RunConfig

NO_NUMBERS = [math.nan, math.inf, -math.inf, 1e300]
TOO_LARGE = [10**30, -(10**30)]
SIGNED = {"target_return", "final_reward", "reward_scale", "v_min", "v_max", "target_entropy", "munchausen_clip"}

CONTRACTS = {env: describe(env) for env in ("worlds:Corridor-v0", "Pendulum-v1")}


def numeric(cls: Any) -> Iterator[tuple[str, type, bool]]:
    """Every numeric option of a dataclass and those in it: its name, int or float, and whether there are several."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        kinds = {hints[field.name], *typing.get_args(hints[field.name])}
        if dataclasses.is_dataclass(hints[field.name]) and field.name != "algorithm":
            yield from numeric(hints[field.name])
        for kind in (int, float):
            if kind in kinds:
                yield field.name, kind, typing.get_origin(hints[field.name]) is tuple


def refusal_of(algorithm: str, option: str, value: Any) -> str | None:
    """The sentence that a setting is refused with."""
    try:
        config = configure(world_of(algorithm), algorithm, **{option: value})
        config.environment.check()
        resolve(config, CONTRACTS[world_of(algorithm)])
    except UsageError as refusal:
        return str(refusal)
    return None


@pytest.mark.parametrize("name", ALGORITHMS)
def test_no_numeric_option_of_a_run_takes_what_is_no_number_or_out_of_range(name: str) -> None:
    common = (*numeric(RunConfig), *numeric(combined_options())) if name == "dqn" else ()
    for option, kind, several in {*numeric(ALGORITHMS[name]), *common}:
        values = NO_NUMBERS if kind is float else TOO_LARGE
        for value in [*values, *([] if option in SIGNED else [kind(-1)])]:
            refusal = refusal_of(name, option, (value,) if several else value)
            assert refusal is not None, f"--{option} {value}"
            assert f"--{option.replace('_', '-')}" in refusal
            assert "\n" not in refusal


@pytest.mark.parametrize("option", dataclasses.fields(CloningOptions))
def test_no_option_of_imitation_does(option: dataclasses.Field[Any]) -> None:
    for value in (math.nan, math.inf, -1, -1.0):
        with pytest.raises(UsageError, match=f"--{option.name.replace('_', '-')} must .* not {value}"):
            CloningOptions(**{option.name: value}).check()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (OptimizerConfig(learning_rate=math.nan), "--learning-rate must be positive, not nan"),
        (OptimizerConfig(learning_rate=math.inf), "--learning-rate must be positive and finite, not inf"),
        (OptimizerConfig(Optimizer.ADAM, decay=1.0), "--decay must be below 1 with --optimizer adam"),
        (OptimizerConfig(Optimizer.RMSPROP, decay=1.0), "--decay must be below 1 with --optimizer rmsprop"),
        (OptimizerConfig(Optimizer.ADAM, momentum=1.0), "--momentum must be below 1 with --optimizer adam"),
        (AtariOptions(sticky=math.nan), "--sticky must be between 0 and 1, not nan"),
        (EnvOptions(episode_steps=-1), "--episode-steps must be 1 or more, not -1"),
        (AtariOptions(frame_stack=10**9), "--frame-stack must be between 1 and 10000, not 1000000000"),
    ],
)
def test_a_refusal_names_the_option_the_limits_and_the_value(options: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        options.check()


def test_each_number_of_several_is_checked_and_none_is_no_number() -> None:
    @dataclasses.dataclass
    class Options:
        sizes: tuple[float, ...] = (1.0, math.nan)
        rest: int | None = None

    within(Options(), 1, 2, "rest")
    with pytest.raises(UsageError, match=r"--sizes must be between 1 and 2, not nan$"):
        within(Options(), 1, 2, "sizes")


@pytest.mark.parametrize(
    "settings",
    [
        dict(optimizer="adam", decay=1.0),
        dict(learning_rate=math.nan),
        dict(envs_per_actor=10**9),
        dict(t_max=10**12),
        dict(recurrent="lstm", recurrent_size=0),
    ],
)
def test_what_is_refused_leaves_no_run_folder(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        start(configure("worlds:Corridor-v0", "a3c", **settings), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
