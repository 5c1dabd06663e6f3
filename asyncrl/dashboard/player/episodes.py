"""The parts of a run that can be watched: its checkpoints, the episodes of their evaluations, and its crash capsules.

A run records neither seed nor actions of its training episodes, so these cannot be played again. An evaluation's
episode can: its environment's seed follows from the run's, and the weights are in the checkpoint.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asyncrl.dashboard.watched import WatchedRun
from asyncrl.runs.metrics.follower import records_of

__all__ = ["recorded_episodes"]

_STREAMS = 64
"""Seed streams of an evaluation: of more episodes, only the first of each stream has a seed that is known."""
_SHOWN = 5
"""Best and worst episodes that are listed, each."""
_MAX_CAPSULES = 50


def recorded_episodes(folder: Path) -> dict[str, Any]:
    """Return what can be watched in a run folder, newest first, as JSON.

    "checkpoints" have a name, a step, the marks "best" and "latest" and the mean return if they were evaluated; "best",
    "worst" and "last" are evaluation episodes with checkpoint, number, environment and return; "capsules" are file names.
    """
    run = WatchedRun("", folder, is_named=True)
    if not (folder / "config.json").is_file():
        return {"checkpoints": [], "best": [], "worst": [], "last": [], "capsules": []}
    checkpoints = run.checkpoints()
    paths = {checkpoint["step"]: checkpoint["name"] for checkpoint in checkpoints}
    marks = {checkpoint["step"]: checkpoint["marks"] for checkpoint in checkpoints}
    evaluations = {record["step"]: record for record in _evaluations(folder / "metrics.jsonl") if record["step"] in paths}
    environments = _environments(run)
    episodes = [episode for step, record in evaluations.items() for episode in _episodes(paths[step], record, environments)]
    ranked = sorted(episodes, key=lambda episode: -episode["return"])
    newest = paths[max(evaluations)] if evaluations else None
    return {
        "checkpoints": [
            {
                "name": name,
                "step": step,
                "marks": marks[step],
                "mean": evaluations[step]["mean"] if step in evaluations else None,
            }
            for step, name in sorted(paths.items(), reverse=True)
        ],
        "best": ranked[:_SHOWN],
        "worst": ranked[::-1][:_SHOWN],
        "last": [episode for episode in episodes if episode["checkpoint"] == newest][:_SHOWN],
        "capsules": sorted((path.name for path in (folder / "capsules").glob("capsule-*.json")), reverse=True)[
            :_MAX_CAPSULES
        ],
    }


def _evaluations(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the `eval` records of a metrics.jsonl."""
    if not file.is_file():
        return
    for record in records_of(file, "eval"):
        with contextlib.suppress(ValueError, TypeError, LookupError):  # a damaged line
            yield {**record, "mean": float(record["mean"]), "returns": list(map(float, record["returns"]))}


def _environments(run: WatchedRun) -> list[str]:
    contract = run.settings().get("contract")
    if not isinstance(contract, dict):
        return [""]
    others = contract.get("others") or []
    return [str(one.get("env")) for one in [contract, *others] if isinstance(one, dict)]


def _episodes(checkpoint: str, record: dict[str, Any], environments: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the episodes of an evaluation whose environments' seeds are known."""
    returns = record["returns"]
    count = len(returns) // max(1, len(environments))
    streams = min(count, _STREAMS)
    for index, environment in enumerate(environments):
        first = 0
        for number in range(streams):
            yield {
                "checkpoint": checkpoint,
                "step": record["step"],
                "environment": environment,
                "number": number,
                "return": returns[index * count + first],
            }
            first += count // streams + (number < count % streams)
