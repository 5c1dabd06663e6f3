"""The result of `asyncrl bench ENV --tune` as text."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Mapping
from typing import Any

from asyncrl.algorithms import algorithm_name_of
from asyncrl.bench.candidates import SpeedSettings
from asyncrl.bench.tuning import NOISE, Measured, Tuning
from asyncrl.cli.help import page_width
from asyncrl.common.serialization import to_json
from asyncrl.common.validation import flag
from asyncrl.runs.provenance import machine

__all__ = ["command_line", "tuning_text"]

_COLUMNS = ("engine", "actors", "envs", "rollouts", "T", "learner", "env", "steps/s", "again")


def tuning_text(tuning: Tuning, given: Mapping[str, Any]) -> str:
    """What was tried, the choice, and the command line to train with; `given`: the options of the user, by name."""
    config, hardware = tuning.config, machine()
    rows = [_row(one, found) for one, found in tuning.measured.items()]
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
    lines = [_line(_COLUMNS, widths, "")]
    for one, row in zip(tuning.measured, rows, strict=True):
        lines.append(_line(row, widths, _mark(one, tuning)))
    skipped = [f"skipped: {_words(one.changes_from(tuning.present))}: {why}" for one, why in tuning.skipped.items()]
    untried = [f"not tried for lack of time: {tuning.untried} candidates (--seconds)"] * bool(tuning.untried)
    return "\n".join(
        [
            "",
            f"{config.env}, {config.algorithm.name}, {config.network.network}, {config.precision.value}, "
            f"{hardware['cores']} cores of {hardware['cpu']}",
            "",
            *lines,
            *skipped,
            *untried,
            "",
            textwrap.fill(_kept(tuning), page_width()),
            textwrap.fill(_choice(tuning), page_width()),
            "",
            command_line(tuning, given),
        ]
    )


def command_line(tuning: Tuning, given: Mapping[str, Any]) -> str:
    """`asyncrl train …` with the options that the user gave and those that were found."""
    config = tuning.config
    flags = _words({**given, **tuning.changes})
    return f"asyncrl train {shlex.join([algorithm_name_of(config.algorithm), config.env])} {flags}".rstrip()


def _words(settings: Mapping[str, Any]) -> str:
    return shlex.join(word for name, value in settings.items() for word in (flag(name), str(to_json(value))))


def _row(one: SpeedSettings, found: Measured) -> tuple[str, ...]:
    length = "episode" if one.t_max is None else f"{one.t_max}"
    counts = (one.actors, one.envs_per_actor, one.rollouts)
    again = f"{sum(found.long) / len(found.long):,.0f}" if found.long else ""
    threads = (f"{one.learner_threads}", f"{one.env_threads}")
    return (one.engine.value, *map(str, counts), length, *threads, f"{found.short:,.0f}", again)


def _line(row: tuple[str, ...], widths: list[int], mark: str) -> str:
    first, *numbers = (
        f"{cell:<{width}}" if not i else f"{cell:>{width}}" for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join([first, *numbers, mark]).rstrip()


def _mark(one: SpeedSettings, tuning: Tuning) -> str:
    marks = ["current"] * (one == tuning.present) + ["chosen"] * (one == tuning.best)
    return ", ".join(marks)


def _kept(tuning: Tuning) -> str:
    """What no candidate changes."""
    present, replay = tuning.present, tuning.config.algorithm.experience().replay
    unit = "steps (T × envs × rollouts)" if present.t_max is not None else "episodes"
    beside = "" if replay is None else f", replay ratio {replay.replay_ratio:g} and batches of {replay.batch_size}"
    return f"Every candidate keeps the {present.batch:,} {unit} of an update{beside}, so that learning behaves alike."


def _choice(tuning: Tuning) -> str:
    """The sentence on what was chosen."""
    if tuning.best == tuning.present:
        return f"The current settings are kept: nothing was faster by more than {NOISE:.0%} and their own spread."
    found = f"The chosen settings train {tuning.gain:.2f} times as fast as the current ones."
    if "t_max" in tuning.changes and tuning.config.algorithm.experience().replay is None:
        found += f" T is also the length of returns: --t-max {tuning.present.t_max} fixes it."
    return found
