"""Comparing two runs: settings, scores, and the first metric that differs if they were meant to be equal."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asyncrl.agents.playing import evaluate
from asyncrl.agents.video import check_video_file
from asyncrl.algorithms import algorithm_name_of
from asyncrl.api import Agent, load
from asyncrl.common.serialization import json_text, to_json
from asyncrl.common.validation import as_path, check_whole
from asyncrl.errors import UsageError
from asyncrl.monitor import Record
from asyncrl.plots.sources import find_runs, group_runs
from asyncrl.runs.config.run_config import RunConfig, ScheduleKind
from asyncrl.runs.config.settings import leaves
from asyncrl.runs.metrics.metrics_file import read_records
from asyncrl.runs.names import run_names
from asyncrl.runs.run import Run
from asyncrl.studies.grid import HELD_OUT
from asyncrl.studies.side_by_side import record_side_by_side
from asyncrl.studies.statistics import Estimate, difference, mean_with_interval

__all__ = ["WITHOUT_EFFECT", "Comparison", "Divergence", "compare"]

WITHOUT_EFFECT = frozenset({*RunConfig.CHANGEABLE, "capsules", "seed", "preset"})
"""Settings that do not decide the weights, by themselves."""
_TIMING = ("time", "steps_per_second", "frames_per_second", "queue_fill", "worker_restarts")
"""Metrics that differ between two runs with the same weights; those that end in `_share`, too."""
_WRITTEN_BY = {
    "episode": frozenset[str](),
    "train": frozenset({"log_every"}),
    "eval": frozenset(name for name in RunConfig.CHANGEABLE if name.startswith("eval_")),
}
"""Kinds of records, and the settings under which equal runs write other ones."""


@dataclass(frozen=True)
class Divergence:
    """The first metric that differs between two runs."""

    step: int
    update: int
    kind: str
    metric: str
    values: tuple[Any, Any]


@dataclass(frozen=True)
class Comparison:
    """What two runs, or two sets of runs that differ in their seeds, have in common and what not."""

    names: tuple[str, str]
    env: str
    settings: Mapping[str, tuple[Any, Any]]
    """The settings that differ, by name."""
    scores: tuple[Estimate, Estimate]
    """Mean returns with their intervals."""
    difference: Estimate
    """The first minus the second."""
    counts: tuple[int, int]
    """Runs on either side."""
    episodes: int
    """Evaluation episodes of each run."""
    over_runs: bool
    """Whether intervals are over runs; else over the episodes of two agents, which says nothing about other seeds."""
    meant_to_be_equal: bool
    """Whether both have the same seed and the same settings that affect the weights."""
    divergence: Divergence | None
    """Where the metrics of runs that were meant to be equal first differ."""
    equal_records: int
    """Records that are equal in both, from the first on."""
    repeatable: bool
    """Whether the schedule of both is lockstep, so that equal settings and seeds give equal runs."""
    video: Path | None = None

    @property
    def verdict(self) -> str:
        """Which is better, in a sentence."""
        low, high = self.difference.low, self.difference.high
        if not self.difference.has_interval:
            return "One value has no interval: no difference is shown."
        if low > 0 or high < 0:
            return f"{self.names[0] if low > 0 else self.names[1]} is better."
        return "The interval contains 0: no difference is shown."


def compare(
    a: Run | Path | str,
    b: Run | Path | str,
    *,
    episodes: int = 100,
    seed: int = HELD_OUT,
    video: Path | str | None = None,
    trust: bool = False,
    progress: bool | None = None,
) -> Comparison:
    """Compare two runs, or two folders of runs that differ in nothing but the seed.

    Args:
        a: A run, its folder, a checkpoint, a pretrained agent, or a folder of runs.
        b: Another.
        episodes: Evaluation episodes of each run.
        seed: Seed of the evaluation environments, the same for both.
        video: An .mp4 or .gif file that shows both agents side by side, in environments with the same seed.
        trust: Run code that the run folders name even if someone else made them.
        progress: Whether to show the progress of the evaluations; None shows it in a terminal or a notebook.

    Returns:
        The mean returns and their difference with 95 % intervals, the settings that differ, and, for runs that were
        meant to be equal, where their metrics first differ.

    Raises:
        UsageError: If the environments differ, or a folder holds runs with different settings.

    >>> compare("runs/ppo", "runs/a3c").difference
    """
    path = None if video is None else as_path("video", video).absolute()
    if path is not None:
        check_video_file(path)
    check_whole("episodes", episodes)
    check_whole("seed", seed, 0)
    names = _names(a, b)
    sides = [_agents(name, trust=trust) for name in (a, b)]
    one, two = (side[0] for side in sides)
    if one.contract.env != two.contract.env:
        raise UsageError(
            f"{names[0]} is an agent for {one.contract.env} and {names[1]} for {two.contract.env}: scores of different "
            "environments cannot be compared"
        )
    returns = [
        [evaluate(agent, episodes, seed, progress=progress, trust=trust).returns for agent in side] for side in sides
    ]
    over_runs = max(map(len, sides)) > 1
    values = [[float(np.mean(run)) for run in side] if over_runs else side[0] for side in returns]
    settings = differing_settings(one.checkpoint.config, two.checkpoint.config)
    same_seed = one.checkpoint.config.seed == two.checkpoint.config.seed
    meant = same_seed and settings.keys() <= WITHOUT_EFFECT and all(len(side) == 1 for side in sides)
    kinds = [kind for kind, deciding in _WRITTEN_BY.items() if deciding.isdisjoint(settings)]
    records = [_records(side[0], kinds) for side in sides] if meant else [[], []]
    equal, divergence = first_divergence(*records)
    if path is not None:
        record_side_by_side((one, two), names, path, seed)
    return Comparison(
        names=names,
        env=one.contract.env,
        settings=settings,
        scores=(mean_with_interval(values[0]), mean_with_interval(values[1])),
        difference=difference(values[0], values[1]),
        counts=(len(sides[0]), len(sides[1])),
        episodes=episodes,
        over_runs=over_runs,
        meant_to_be_equal=meant,
        divergence=divergence,
        equal_records=equal,
        repeatable=all(side[0].checkpoint.config.schedule is ScheduleKind.LOCKSTEP for side in sides),
        video=path,
    )


def _names(*sides: Any) -> tuple[str, str]:
    """What both sides are called. Raises UsageError for an agent in memory, which belongs to no run's records."""
    if any(isinstance(side, Agent) for side in sides):
        raise UsageError("compare takes runs, their folders or checkpoints, not an Agent: name agent.checkpoint.path")
    one, two = (run_names(side)[0] for side in sides)
    return one, two


def _agents(name: Run | Path | str, *, trust: bool) -> list[Agent]:
    """The agent of a run, or those of a folder of runs with the same settings."""
    path = Path(os.fspath(name))
    is_one = any((path / file).is_file() for file in ("config.json", "manifest.json")) or bool(Run(path).checkpoints())
    if is_one or not path.is_dir():
        return [load(os.fspath(name), trust=trust)]
    groups = group_runs(find_runs([path]))
    if len(groups) > 1:
        raise UsageError(
            f"{path} holds runs with different settings ({', '.join(group.label for group in groups[:4])}): name a folder "
            "of runs that differ in nothing but the seed"
        )
    return [load(run.path, trust=trust) for run in groups[0].runs]


def differing_settings(one: RunConfig, two: RunConfig) -> dict[str, tuple[Any, Any]]:
    """The settings that differ, by name, as JSON values; a setting that one does not have is None there."""
    a, b = ({"algorithm": algorithm_name_of(config.algorithm), **to_json(dict(leaves(config)))} for config in (one, two))
    return {name: (a.get(name), b.get(name)) for name in {**a, **b} if a.get(name) != b.get(name)}


def _records(agent: Agent, kinds: Sequence[str]) -> list[Record]:
    """The records of these kinds of the run that a checkpoint belongs to."""
    return read_records(agent.checkpoint.path.parents[1] / "metrics.jsonl", kinds)


def first_divergence(one: Sequence[Record], two: Sequence[Record]) -> tuple[int, Divergence | None]:
    """How many records are equal from the first on, and the first metric that differs; None if one begins the other.

    Times and rates are not compared.
    """
    count = 0
    for a, b in zip(one, two, strict=False):
        for name in _compared(a, b):
            values = a.get(name), b.get(name)
            if values[0] != values[1] and json_text(values[0]) != json_text(values[1]):  # NaN is null in newer files
                return count, Divergence(a["step"], a["update"], a["kind"], name, values)
        count += 1
    return count, None


def _compared(a: Record, b: Record) -> Iterator[str]:
    for name in {**a, **b}:
        if name not in _TIMING and not name.endswith("_share"):
            yield name
