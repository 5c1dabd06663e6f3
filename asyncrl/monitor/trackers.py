"""Experiment trackers: Weights & Biases, MLflow, Trackio, and CSV files.

Each is opened and fed in a separate thread (`Background`). A resumed run continues the tracked one, whose id is kept in
the run folder.
"""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from asyncrl.common.quoting import quoted
from asyncrl.common.serialization import write_atomically
from asyncrl.errors import UsageError
from asyncrl.monitor.background import Background
from asyncrl.monitor.csv_files import CsvFiles
from asyncrl.monitor.sink import Record, Sink
from asyncrl.monitor.table import scalars

__all__ = ["TrackedRun", "Tracker", "check_installed", "describe_trackers", "open_tracker"]

_PROJECT = "asyncrl"
_ONLINE = "online"
_MLFLOW_METRICS, _MLFLOW_PARAMETERS = 1_000, 100
"""What MLflow takes in one call, at most."""


class Tracker(Enum):
    """Where the metrics of a run go, in addition to its folder."""

    WANDB = "wandb"
    """Weights & Biases: offline, in the run folder, unless WANDB_MODE says otherwise"""
    MLFLOW = "mlflow"
    """MLflow: where MLFLOW_TRACKING_URI says, else MLflow's default"""
    TRACKIO = "trackio"
    CSV = "csv"
    """the files csv/train.csv, csv/eval.csv, … in the run folder"""


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker needs to know about a run."""

    folder: Path
    config: Mapping[str, Any]
    """The configuration as JSON."""
    earlier: Sequence[Record]
    """The records that the run already has when it is resumed."""


def check_installed(trackers: Iterable[Tracker]) -> None:
    """Raise UsageError for a tracker whose package is missing."""
    for tracker in trackers:
        if tracker is not Tracker.CSV and importlib.util.find_spec(tracker.value) is None:
            name = tracker.value
            raise UsageError(
                f"--track {name} needs the package {name}, which is not installed: pip install {name}, or --track None"
            )


def describe_trackers(trackers: Iterable[Tracker], folder: Path) -> str:
    """Where the records of a run go, as one line for its header."""
    return ", ".join(_describe(tracker, folder) for tracker in trackers)


def _describe(tracker: Tracker, folder: Path) -> str:
    if tracker is Tracker.CSV:
        return f"csv in {folder / 'csv'}"
    if tracker is not Tracker.WANDB or _wandb_mode() == _ONLINE:
        return str(tracker.value)
    if _wandb_mode() != "offline":
        return f"wandb {_wandb_mode()} (WANDB_MODE)"
    why = "you are not logged in" if os.environ.get("WANDB_MODE") == _ONLINE else "WANDB_MODE=online uploads at once"
    return f"wandb offline ({why}); upload with: wandb sync {quoted(folder / 'wandb')}/offline-run-*"


def open_tracker(tracker: Tracker, run: TrackedRun) -> Background:
    """Start a tracker. Its package is imported in its thread."""
    kinds: dict[Tracker, Any] = {Tracker.WANDB: _Wandb, Tracker.MLFLOW: _MLflow, Tracker.TRACKIO: _Trackio}

    def open_sink() -> Sink:
        if tracker is Tracker.CSV:
            return CsvFiles(run.folder / "csv", run.earlier)
        opened: Sink = kinds[tracker](run)
        return opened

    return Background(tracker.value, open_sink)


def _id_file(run: TrackedRun, tracker: Tracker) -> Path:
    """The file with the id of the tracked run."""
    (run.folder / "trackers").mkdir(exist_ok=True)
    return run.folder / "trackers" / tracker.value


def _id_of(run: TrackedRun, tracker: Tracker) -> str:
    """The id of the tracked run; a random one when it begins."""
    file = _id_file(run, tracker)
    if not file.exists():
        write_atomically(file, secrets.token_hex(4))
    return file.read_text(encoding="ascii")


def _wandb_mode() -> str:
    """The value of WANDB_MODE; "offline" if it is not set, or if it is "online" and the user is not logged in."""
    mode = os.environ.get("WANDB_MODE", "offline")
    if mode == _ONLINE:
        import wandb

        return _ONLINE if wandb.api.api_key else "offline"
    return mode


class _Wandb:
    """A run of Weights & Biases.

    Offline, every part of a run that was resumed has all records so far: `wandb sync` keeps the part it uploads last.
    """

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        self._wandb, self._folder, self._exit_code = wandb, run.folder, 0
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=run.folder.name,
            id=_id_of(run, Tracker.WANDB),
            resume="allow" if _wandb_mode() == _ONLINE else None,
            dir=run.folder,
            config=dict(run.config),
            mode=_wandb_mode(),
            settings=wandb.Settings(silent=True, console="off"),
        )
        self._run.define_metric("*", step_metric="step")  # a resumed run may log earlier steps again
        for record in () if _wandb_mode() == _ONLINE else run.earlier:
            self.write(record)

    def write(self, record: Record) -> None:
        if record["kind"] == "video":
            if (file := self._folder / record["video"]).is_file():  # an earlier one may have been removed
                self._run.log({"step": record["step"], "eval/video": self._wandb.Video(str(file), format="mp4")})
        elif record["kind"] != "episode":
            self._run.log({"step": record["step"], **scalars(record)})

    def say(self, line: str) -> None:
        pass

    def fail(self) -> None:
        self._exit_code = 1

    def close(self) -> None:
        self._run.finish(exit_code=self._exit_code)


class _MLflow:
    """A run of MLflow, in the experiment MLFLOW_EXPERIMENT_NAME or "asyncrl"."""

    def __init__(self, run: TrackedRun) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._client, self._metric, self._folder = MlflowClient(), Metric, run.folder
        self._metrics: list[Metric] = []
        self._status = "FINISHED"
        file = _id_file(run, Tracker.MLFLOW)
        if file.exists():
            self._id = file.read_text(encoding="ascii")
            self._client.update_run(self._id, "RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        found = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if found is None else found.experiment_id
        self._id = self._client.create_run(experiment, run_name=run.folder.name).info.run_id
        write_atomically(file, self._id)
        parameters = [Param(name, str(value)[:500]) for name, value in _flat(run.config).items()]
        for first in range(0, len(parameters), _MLFLOW_PARAMETERS):
            self._client.log_batch(self._id, params=parameters[first : first + _MLFLOW_PARAMETERS])

    def write(self, record: Record) -> None:
        if record["kind"] == "video":
            self._client.log_artifact(self._id, str(self._folder / record["video"]), "videos")
        elif record["kind"] != "episode":
            now = int(time.time() * 1_000)
            values = {re.sub(r"[^\w./ -]", "_", name): x for name, x in scalars(record).items()}
            self._metrics += [self._metric(name, float(x), now, record["step"]) for name, x in values.items()]

    def flush(self) -> None:
        for first in range(0, len(self._metrics), _MLFLOW_METRICS):
            self._client.log_batch(self._id, metrics=self._metrics[first : first + _MLFLOW_METRICS])
        self._metrics.clear()

    def say(self, line: str) -> None:
        pass

    def fail(self) -> None:
        self._status = "FAILED"

    def close(self) -> None:
        self._client.set_terminated(self._id, self._status)


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested tables by their dotted path."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


class _Trackio:
    """A run of Trackio, in a project on this machine."""

    def __init__(self, run: TrackedRun) -> None:
        import trackio

        self._trackio, self._folder = trackio, run.folder
        name = f"{run.folder.name}-{_id_of(run, Tracker.TRACKIO)}"
        self._run = trackio.init(
            os.environ.get("TRACKIO_PROJECT", _PROJECT), name, config=dict(run.config), resume="allow", embed=False
        )

    def write(self, record: Record) -> None:
        if record["kind"] == "video":
            video = self._trackio.Video(str(self._folder / record["video"]))
            self._run.log({"eval/video": video}, step=record["step"])
        elif record["kind"] != "episode":
            self._run.log(scalars(record), step=record["step"])

    def say(self, line: str) -> None:
        pass

    def close(self) -> None:
        self._run.finish()
