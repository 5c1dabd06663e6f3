"""Records into the run folder."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from asyncrl.errors import UsageError
from asyncrl.statistics import Record

__all__ = ["JsonLines", "TensorBoard"]

_NOT_SCALARS = {
    *("step", "update", "time", "kind", "mode", "returns", "iqm_interval", "actor", "env", "actions"),
    *("means", "measures", "reason"),
}


class JsonLines:
    """metrics.jsonl, one object a line, and log.txt for sentences. Both are appended to on resume."""

    def __init__(self, folder: Path) -> None:
        for file in (folder / "metrics.jsonl", folder / "log.txt"):
            if file.is_symlink():
                raise UsageError(f"{file} is a link, and a run writes into its own folder: put a file in its place")
        self._metrics = open(folder / "metrics.jsonl", "a", encoding="utf-8")
        self._log = open(folder / "log.txt", "a", encoding="utf-8")

    def write(self, record: Record) -> None:
        self._metrics.write(json.dumps(record) + "\n")
        if record["kind"] != "episode":
            self._metrics.flush()

    def say(self, line: str) -> None:
        self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
        self._log.flush()

    def sync(self) -> None:
        self._metrics.flush()
        os.fsync(self._metrics.fileno())

    def close(self) -> None:
        self._metrics.close()
        self._log.close()


class TensorBoard:
    """The same as events, episodes as histograms. TensorBoard is imported with the first record: it is slow to import."""

    def __init__(self, folder: Path, resumed_at: int | None = None) -> None:
        """`resumed_at`: the step at which the run goes on; what an earlier part wrote beyond it is void."""
        self._folder = folder / "tensorboard"
        self._purge_step = None if resumed_at is None else resumed_at + 1
        self._writer: Any = None
        self._returns: list[float] = []
        self._lengths: list[int] = []

    def write(self, record: Record) -> None:
        if record["kind"] == "episode":
            self._returns.append(record["return"])
            self._lengths.append(record["length"])
            return
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=self._purge_step)
        for name, value in record.items():
            if name not in _NOT_SCALARS and value is not None:
                self._writer.add_scalar(f"{record['kind']}/{name}", value, record["step"])
        for env, mean in record.get("means", {}).items():
            self._writer.add_scalar(f"{record['kind']}/mean of {env.replace('/', '-')}", mean, record["step"])
        for name, mean in record.get("measures", {}).items():
            self._writer.add_scalar(f"{record['kind']}/{name}", mean, record["step"])
        for action, share in enumerate(record.get("actions") or []):
            self._writer.add_scalar(f"actions/{action}", share, record["step"])
        for name, values in (("return", self._returns), ("length", self._lengths)):
            if values:
                self._writer.add_histogram(f"episode/{name}", np.array(values), record["step"])
                values.clear()

    def say(self, line: str) -> None:
        pass

    def sync(self) -> None:
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
