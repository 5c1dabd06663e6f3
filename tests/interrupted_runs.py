"""Small runs that are stopped, killed or damaged, and what is left of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from asyncrl.launch import newest_checkpoint, start
from asyncrl.monitor import JsonLines
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.lookup import open_run

BATCH, UPDATES = 48, 20
SMALL: dict[str, Any] = dict(steps=BATCH * UPDATES, actors=3, envs_per_actor=4, t_max=4, eval_episodes=0, seed=5)
SMALL |= dict(engine="serial", log_every=BATCH, checkpoint_every=2 * BATCH)


class Listener:
    """A view that keeps the messages, and sends SIGTERM after a given update."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.said: list[str] = []
        self._stop_after = stop_after

    def write(self, record: dict[str, Any]) -> None:
        if record["kind"] == "train" and record["update"] == self._stop_after:
            signal.raise_signal(signal.SIGTERM)

    def say(self, line: str) -> None:
        self.said.append(line)

    def close(self) -> None: ...


def weights_of(folder: Path) -> str:
    return newest_checkpoint(open_run(folder)).weights_sha256


def recorded(folder: Path, kind: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == kind]


def flipped(data: bytes, place: int = -1, mask: int = 1) -> bytes:
    """The data with the bits of `mask` inverted in the byte at `place`: always other data."""
    return data[:place] + bytes([data[place] ^ mask]) + data[place:][1:]


def damage(path: Path) -> Path:
    """Invert a bit of a file, or of a checkpoint's weights; return the file."""
    file = path / "weights.safetensors" if path.is_dir() else path
    file.write_bytes(flipped(file.read_bytes()))
    return file


def outline(folder: Path) -> dict[str, Any]:
    """The parts of a run that do not depend on the clock."""
    unclocked = [{n: x for n, x in record.items() if n != "time"} for record in open_run(folder).records()]
    marks = {name: (folder / name).read_text() for name in ("latest", "best")}
    trained = [(record["step"], record["loss"]) for record in unclocked if record["kind"] == "train"]
    others = [record for record in unclocked if record["kind"] not in ("train", "stages", "verdict")]
    return {"marks": marks, "train": trained, "others": others}


def states_of_kills(config: RunConfig, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Train in `folder`/run; returns different copies of the run folder, as a kill at each moment would have left it."""
    run, left = folder / "run", folder / "left"
    rename, write = os.replace, JsonLines.write
    states: list[dict[Path, bytes]] = [{}]

    def keep() -> None:
        state = {path: path.read_bytes() if path.is_file() else b"" for path in run.rglob("*")}
        if run / "latest" in state and state != states[-1]:
            shutil.copytree(run, left / str(len(states)))
            states.append(state)

    def replace(source: Path, target: Path) -> None:
        keep()
        rename(source, target)

    def write_and_keep(self: JsonLines, record: dict[str, Any]) -> None:
        write(self, record)
        keep()

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        patch.setattr(JsonLines, "write", write_and_keep)
        start(config, run)
    return sorted(left.iterdir(), key=lambda path: int(path.name))


@contextmanager
def handled_by(handler: Any, number: int = signal.SIGTERM) -> Iterator[None]:
    """A handler of the program's during the block; other tests may have left one of Ray's."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)
