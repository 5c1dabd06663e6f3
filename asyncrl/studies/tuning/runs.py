"""The runs of a tuning study: commands that read a settings file, followed by their evaluations."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncrl.algorithms import algorithm_name_of
from asyncrl.api import tailor
from asyncrl.common.serialization import write_atomically
from asyncrl.envs import Contract, describe_all
from asyncrl.launch import check
from asyncrl.runs.config.option_checks import ineffective
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.config.settings_file import settings_text
from asyncrl.runs.metrics.follower import MetricsFollower
from asyncrl.runs.run import Run
from asyncrl.studies.launchers import Command, Launcher
from asyncrl.studies.processes import last_line

__all__ = ["FollowedRun", "Recipe"]


@dataclass(frozen=True)
class Recipe:
    """How to make the configuration of a run: what `asyncrl train ALGO ENV` does with settings."""

    env: str
    algorithm: str
    preset: str | None
    fixed: Mapping[str, Any]
    """Settings that every run of the study has."""
    home: Path

    def configuration(self, settings: Mapping[str, Any]) -> tuple[RunConfig, Contract]:
        """A checked configuration, not yet resolved, and its environments. Settings without effect are left out.

        Raises UsageError for settings that do not fit together.
        """
        config = tailor(self.env, self.algorithm, self.preset, **{**self.fixed, **settings})
        contract = describe_all(config.env_ids, config.environment)
        without = ineffective(config, resolve(config, contract), contract) - self.fixed.keys()
        kept = {name: value for name, value in settings.items() if name not in without}
        config = tailor(self.env, self.algorithm, self.preset, **{**self.fixed, **kept})
        return check(config, asked={**self.fixed, **kept}, home=self.home)

    @classmethod
    def of(cls, base: RunConfig, fixed: Mapping[str, Any], home: Path) -> Recipe:
        """The recipe of a study that starts from `base`, in which the user set `fixed`."""
        return cls(base.env, algorithm_name_of(base.algorithm), base.preset, fixed, home)


class FollowedRun:
    """A run in a separate process, new or continued, and its evaluations so far."""

    def __init__(self, folder: Path, launcher: Launcher, options: Sequence[str], *, trust: bool) -> None:
        """`folder`.toml holds the settings of the run in `folder`; `options` are given to a new run in addition."""
        self.run = Run(folder)
        self.log = folder.with_suffix(".txt")
        self._follower = MetricsFollower(folder / "metrics.jsonl")

        def training() -> Command:
            file, begun = settings_path(folder), (folder / "config.json").exists()
            source = ("--resume", str(folder)) if begun else ("--config", str(file), "--run-dir", str(folder))
            own = () if begun else options
            allowed = ["--trust"] * (trust or launcher.may_trust(self.run))
            return Command(("train", *source, "--no-video", "--quiet", *own, *allowed), (folder,) if begun else (file,))

        self._process = launcher.start(training, self.log, self.log)

    @classmethod
    def begin(
        cls, folder: Path, recipe: Recipe, settings: Mapping[str, Any], launcher: Launcher, *, trust: bool
    ) -> FollowedRun:
        """Start the run in `folder` with these settings, or continue it. Raises UsageError for settings that do not fit."""
        configuration = recipe.configuration(settings)
        if not settings_path(folder).exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(settings_path(folder), settings_text(*configuration))
        return cls(folder, launcher, launcher.options(*configuration), trust=trust)

    @property
    def scores(self) -> list[float]:
        """The mean return of every evaluation so far."""
        with contextlib.suppress(OSError):
            self._follower.read()
        return list(self._follower.series["eval"].columns["mean"]) if "eval" in self._follower.series else []

    @property
    def seconds(self) -> float:
        """Wall time of the run up to its last record."""
        times = [series.columns["time"][-1] for series in self._follower.series.values() if len(series)]
        return max(times, default=0.0)

    def exit_code(self) -> int | None:
        """The exit code of the process, or None while it runs."""
        return self._process.poll()

    @property
    def has_finished(self) -> bool:
        """Whether the process has trained the run to its end."""
        return self._process.poll() == 0 and not self.run.interrupted

    def problem(self) -> str:
        """Why the run failed, in a sentence."""
        return last_line(self.log, self._process.poll())

    def interrupt(self) -> None:
        """Ask the run to save and end."""
        self._process.interrupt()

    def kill(self) -> None:
        """Kill the run; it can be continued from its last checkpoint."""
        self._process.kill()


def settings_path(folder: Path) -> Path:
    """The settings file of the run in `folder`."""
    return folder.with_suffix(".toml")
