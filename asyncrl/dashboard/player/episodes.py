"""What of a run can be watched: its checkpoints, the episodes of their evaluations, and its crash capsules.

A run records neither seed nor actions of its training episodes, so these cannot be played again. An evaluation's
episode can: its environment's seed follows from the run's, and the weights are in the checkpoint.
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asyncrl.runs.run import Run

__all__ = ["recorded_episodes"]

_STREAMS = 64
"""Seed streams of an evaluation: of more episodes, only the first of each stream has a seed that is known."""
_SHOWN = 5
"""Best and worst episodes that are listed, each."""
_EVALUATION = re.compile(rb'"kind": "eval"')
_MOST_CAPSULES = 50


def recorded_episodes(folder: Path) -> dict[str, Any]:
    """Return what can be watched in a run folder, newest first, as JSON.

    "checkpoints" have a name, a step, the marks "best" and "latest" and the mean return if they were evaluated; "best",
    "worst" and "last" are evaluation episodes with checkpoint, number, environment and return; "capsules" are file names.
    """
    run = Run(folder)
    if not (folder / "config.json").is_file():
        return {"checkpoints": [], "best": [], "worst": [], "last": [], "capsules": []}
    paths = {int(path.name): path.name for path in run.checkpoints()}
    marks = {mark: path.name for mark in ("best", "latest") if (path := run.marked(mark))}
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
                "marks": [mark for mark, marked in marks.items() if marked == name],
                "mean": evaluations[step]["mean"] if step in evaluations else None,
            }
            for step, name in sorted(paths.items(), reverse=True)
        ],
        "best": ranked[:_SHOWN],
        "worst": ranked[::-1][:_SHOWN],
        "last": [episode for episode in episodes if episode["checkpoint"] == newest][:_SHOWN],
        "capsules": sorted((path.name for path in (folder / "capsules").glob("capsule-*.json")), reverse=True)[
            :_MOST_CAPSULES
        ],
    }


def _evaluations(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the `eval` records of a metrics.jsonl without parsing its other lines."""
    if not file.is_file() or not file.stat().st_size:
        return
    with open(file, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as text:
        for match in _EVALUATION.finditer(text):
            line = text[text.rfind(b"\n", 0, match.start()) + 1 : text.find(b"\n", match.start())]
            try:
                record = json.loads(line)
                if isinstance(record["step"], int) and record["kind"] == "eval":
                    yield {**record, "mean": float(record["mean"]), "returns": list(map(float, record["returns"]))}
            except (ValueError, TypeError, LookupError, RecursionError):  # a damaged line
                continue


def _environments(run: Run) -> list[str]:
    contract = run.facts().get("contract")
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
                "mode": record.get("mode"),
            }
            first += count // streams + (number < count % streams)
