"""The runs that a page shows: found in folders, read without importing what they name."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import stat
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from asyncrl.common.file_lock import AlreadyLocked, check_unlocked
from asyncrl.common.quoting import quoted
from asyncrl.common.serialization import read_json, read_text
from asyncrl.errors import CheckpointError, UsageError, suggestions
from asyncrl.monitor import Record
from asyncrl.runs.config.saved_config import current_settings
from asyncrl.runs.metrics.follower import MetricsFollower
from asyncrl.runs.names import PRETRAINED, local_path
from asyncrl.runs.remote.hub import hub_name
from asyncrl.runs.run_state import RunState, end_of

__all__ = ["WatchedRun", "WatchedRuns"]

_DEPTH = 5
"""Folders of runs are searched so deep."""
_MAX_RUNS = 500
_TAIL = 64 * 2**10
"""Bytes at the end of a metrics.jsonl in which its newest records are looked for at first."""
_LONGEST_TAIL = 16 * 2**20
_KIND = re.compile(rb'"kind": "(\w+)"')
_SETTINGS = ("config.json", "manifest.json")
"""Files with the configuration and the contract: of a run, of a checkpoint or a pretrained agent."""


class WatchedRuns:
    """The runs in some folders, newest first; `refresh` finds new ones."""

    def __init__(self, names: Sequence[Path | str]) -> None:
        """`names`: run folders, folders of runs, or pretrained agents. Raises UsageError for a name that does not exist."""
        self._roots = [_existing(name) for name in dict.fromkeys(names)]
        self._lock = threading.Lock()
        self._runs: dict[Path, WatchedRun] = {}
        self.refresh()

    def refresh(self) -> None:
        """Find runs that have been started since."""
        found = [path for root in self._roots for path in _run_folders(root, _DEPTH)]
        with self._lock:
            for path in sorted(dict.fromkeys(found), key=_begun)[-_MAX_RUNS:]:
                if path not in self._runs:
                    self._runs[path] = WatchedRun(str(len(self._runs)), path, is_named=path in self._roots)

    def __iter__(self) -> Iterator[WatchedRun]:
        with self._lock:
            return iter(sorted(self._runs.values(), key=lambda run: -int(run.id)))

    def get(self, number: str) -> WatchedRun | None:
        """The run with this id; None if there is none."""
        return next((run for run in self if run.id == number), None)

    def folder(self, number: str) -> Path | None:
        """The folder of the run with this id; None if there is none."""
        run = self.get(number)
        return None if run is None else run.path

    @property
    def note(self) -> str:
        """A sentence if there is nothing to show; else ""."""
        where = " and ".join(map(str, self._roots))
        return "" if self._runs else f"There is no run in {where} yet; the page shows it as soon as one starts."


class _Newest(NamedTuple):
    """The newest record of each kind in a metrics.jsonl."""

    file: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Its device, inode, size and time of change when it was read."""
    end: int = 0
    """Where its last complete line ended."""
    records: dict[str, Record] = {}


class WatchedRun:
    """A run folder, read only. Its files are data: nothing that they name is imported."""

    def __init__(self, number: str, path: Path, *, is_named: bool) -> None:
        self.id = number
        """Its number on the page."""
        self.path = path
        self.is_named = is_named
        """Whether it was named itself, not a folder that it is in."""
        self.metrics = MetricsFollower(path / "metrics.jsonl")
        self.lock = threading.Lock()
        """Held while `metrics` is read or changed."""
        self._settings: tuple[tuple[float, ...], dict[str, Any]] = ((), {})
        self._newest = _Newest()

    @property
    def name(self) -> str:
        """The folder's name; of a pretrained agent, that of `asyncrl list pretrained`; of one on the Hub, hf:USER/NAME."""
        return f"pretrained/{self.path.name}" if self.path.parent == PRETRAINED else hub_name(self.path) or self.path.name

    def read(self, seconds: float = 0.2) -> bool:
        """Read what the run has recorded since. Returns whether there was anything."""
        with self.lock, contextlib.suppress(OSError):
            return self.metrics.read(seconds)
        return False

    def settings(self) -> dict[str, Any]:
        """The contents of config.json, or of the manifest; {} if it cannot be read."""
        files = [self.path / name for name in _SETTINGS]
        times = tuple(_modified(file) for file in files)
        known, settings = self._settings
        if times != known:
            settings = next(filter(None, map(_table_in, files)), {})
            self._settings = times, settings
        return settings

    def summary(self) -> dict[str, Any]:
        """The run in one line of a list."""
        config = current_settings(self.settings())
        last = self._newest_records()
        newest = max(last.values(), key=lambda record: record["step"], default={})
        state, sentence = self._state(config, last)
        return {
            "id": self.id,
            "name": self.name,
            "path": str(self.path),
            "named": self.is_named,
            "algorithm": _table(config.get("algorithm")).get("name"),
            "env": config.get("env"),
            "seed": config.get("seed"),
            "steps": config.get("steps"),
            "step": newest.get("step", 0),
            "time": newest.get("time"),
            "mean_return": last.get("train", {}).get("mean_return"),
            "evaluation": last.get("eval", {}).get("mean"),
            "steps_per_second": last.get("train", {}).get("steps_per_second"),
            "state": state,
            "sentence": sentence,
        }

    def facts(self) -> dict[str, Any]:
        """Settings, contract, origin, and checkpoints with the mean return of their evaluation."""
        found = self.settings()
        names = ("asyncrl", "date", "command", "git", "machine", "packages", "network", "resumed")
        means = self._evaluated()
        return {
            "settings": current_settings(found),
            "contract": _table(found.get("contract")),
            "origin": {name: found[name] for name in names if name in found},
            "checkpoints": [one | {"mean": means.get(one["step"])} for one in self.checkpoints()],
        }

    def checkpoints(self) -> list[dict[str, Any]]:
        """Name, step and size of each checkpoint, oldest first, and whether it is marked `best` or `latest`."""
        marks = {mark: self._mark(mark) for mark in ("best", "latest")}
        found = []
        for path in sorted((self.path / "checkpoints").glob("*")):
            if path.name.isascii() and path.name.isdigit() and (path / "manifest.json").is_file():
                with contextlib.suppress(OSError):  # the run is removing it
                    size = sum(file.stat().st_size for file in path.iterdir())
                    held = [mark for mark, name in marks.items() if name == path.name]
                    found.append({"name": path.name, "step": int(path.name), "bytes": size, "marks": held})
        return found

    def _evaluated(self) -> dict[float, float]:
        """The mean return of the newest evaluation at each step, of what has been read."""
        with self.lock:
            evaluations = self.metrics.series.get("eval")
            columns = {} if evaluations is None else evaluations.columns
            found = zip(columns["step"], columns["mean"], strict=True) if "mean" in columns else ()
            return {step: mean for step, mean in found if math.isfinite(mean)}

    def _mark(self, mark: str) -> str | None:
        with contextlib.suppress(CheckpointError):
            return read_text(self.path / mark, max_bytes=100).strip()
        return None

    def _state(self, config: dict[str, Any], last: dict[str, Record]) -> tuple[str, str]:
        """One word and one sentence on what the run does."""
        if not self.path.is_dir():
            return "missing", f"The folder {self.path} was moved or removed."
        if not self.settings():
            return "damaged", f"{self.path} has no readable config.json."
        if self.is_training:
            return (
                RunState.RUNNING.value,
                "" if last else "No data yet: the first record comes after some updates.",
            )
        if not last:
            return RunState.CRASHED.value, "The run ended before it recorded anything; log.txt in its folder may say why."
        step, resume = max(record["step"] for record in last.values()), f"asyncrl train --resume {quoted(self.path)}"
        match end := end_of(self.path, config, last):
            case RunState.INTERRUPTED:
                return end.value, f"Interrupted at step {step:,}; continue with: {resume}"
            case RunState.STOPPED:
                return end.value, f"Stopped at step {step:,}: {last['stop'].get('reason', '')}"
            case RunState.CRASHED if isinstance(config.get("steps"), int) and not (self.path / "manifest.json").is_file():
                if "pretrain" in last and not step:
                    return end.value, "The imitation ended before its weights were saved; start it again in another folder."
                return end.value, f"The run ended at step {step:,} of {config['steps']:,}; continue with: {resume}"
        return RunState.FINISHED.value, ""

    @property
    def is_training(self) -> bool:
        """Whether a process on this machine trains the run."""
        with contextlib.suppress(CheckpointError, OSError):
            owner = read_text(self.path / ".lock", max_bytes=100).strip()
            if owner.isascii() and owner.isdigit() and _lives(int(owner)):  # a free lock is never taken
                try:
                    check_unlocked(self.path / ".lock")
                except AlreadyLocked:
                    return True
        return False

    def _newest_records(self) -> dict[str, Record]:
        """The newest record of each kind: those that were appended, and what is known from before."""
        known = self._newest
        try:
            status = os.stat(self.metrics.path)
            file = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
            if file != known.file and stat.S_ISREG(status.st_mode):
                if file[:2] != known.file[:2] or status.st_size < known.end:
                    known = _Newest()
                with open(self.metrics.path, "rb") as opened:
                    end, records = _last_records(opened, known.end)
                self._newest = _Newest(file, end, known.records | records)
        except OSError:
            self._newest = _Newest()
        return self._newest.records


def _existing(name: Path | str) -> Path:
    """The folder of this name. Raises UsageError if there is none."""
    path = local_path(name)
    if not path.exists() and str(name).startswith("pretrained/"):
        path = PRETRAINED / str(name).removeprefix("pretrained/")
    if path.is_dir():
        return path.absolute()
    if path.exists():
        raise UsageError(f"{path} is a file, not a run folder or a folder of runs")
    with contextlib.suppress(OSError):
        near = [str(one) for folder in {path.parent, Path("runs")} if folder.is_dir() for one in folder.iterdir()]
        raise UsageError(f"run folder {name} does not exist{suggestions(str(name), near)}")
    raise UsageError(f"run folder {name} does not exist")


def _run_folders(path: Path, depth: int) -> Iterator[Path]:
    """The run folders in a folder, or itself. Links and a run's checkpoints are followed only if they are named."""
    if any((path / name).is_file() for name in _SETTINGS):
        yield path
    elif depth:
        with contextlib.suppress(OSError):
            for entry in os.scandir(path):
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".") and entry.name != "checkpoints":
                    yield from _run_folders(Path(entry.path), depth - 1)


def _begun(path: Path) -> float:
    """When a run was started, for their order."""
    return max(_modified(path / "config.toml"), _modified(path / "manifest.json")) or _modified(path)


def _modified(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _last_records(file: BinaryIO, begin: int) -> tuple[int, dict[str, Record]]:
    """Where the last complete line ends, and the last record of each kind from the line at `begin` on.

    Of a long file only the end is read, as much as holds records of training and of an evaluation.
    """
    size, length = file.seek(0, os.SEEK_END), _TAIL
    while True:
        start = max(begin, size - length)
        file.seek(start)
        tail = file.read(size - start)
        found: dict[str, Record] = {}
        for line in reversed(tail.splitlines()):
            kind = _KIND.search(line)
            if kind is not None and (name := kind[1].decode()) not in found:
                with contextlib.suppress(ValueError, RecursionError):
                    record = json.loads(line)
                    if isinstance(record, dict) and isinstance(record.get("step"), int):
                        found[name] = record
        if start == begin or length >= _LONGEST_TAIL or {"train", "eval"} <= found.keys():
            return start + tail.rfind(b"\n") + 1, found
        length *= 4


def _lives(process: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(process))


def _table_in(file: Path) -> dict[str, Any]:
    with contextlib.suppress(CheckpointError):
        return _table(read_json(file))
    return {}


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
