"""The run folder: what a run writes, and how a name on the command line leads to a checkpoint."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from asyncrl.config import RunConfig
from asyncrl.envs import Contract
from asyncrl.errors import CheckpointError, UsageError, near_matches
from asyncrl.serialization import read_json, to_json, write_atomically
from asyncrl.statistics import Record
from asyncrl.version import __version__

__all__ = ["Run", "checkpoint_folder", "pretrained_names"]

PRETRAINED = Path(__file__).parent / "pretrained"
_PACKAGES = ("torch", "numpy", "gymnasium", "safetensors")


@dataclass(frozen=True)
class Run:
    """One run's folder.

    ::

        config.json  metrics.jsonl  log.txt  latest  best
        checkpoints/000001000000/…  replay/  tensorboard/  videos/
    """

    path: Path

    @classmethod
    def create(cls, path: Path | None, config: RunConfig, contract: Contract) -> Run:
        """A new folder. Raises UsageError where one is in the way: nothing is ever overwritten."""
        if path is None:
            stamp = time.strftime("%Y%m%d-%H%M%S")
            name = f"{config.algorithm.name}-{config.env.replace('/', '-').replace(':', '-')}-{stamp}"
            path = _unused(Path("runs") / name)
        if (path / "config.json").exists():
            raise UsageError(f"{path} already holds a run; choose another --run-dir, or continue it with --resume {path}")
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(f"{path} exists and is not an empty folder; choose another --run-dir")
        (path / "checkpoints").mkdir(parents=True)
        facts = {
            "asyncrl": __version__,
            "config": config.to_json(),
            "contract": to_json(contract),
            "packages": {name: version(name) for name in _PACKAGES} | contract.versions,
        }
        write_atomically(path / "config.json", json.dumps(facts, indent=1))
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> Run:
        """An existing run. Raises UsageError where there is none."""
        if not path.exists():
            raise UsageError(f"there is no run folder {path}{near_matches(str(path), _run_folders())}")
        if not (path / "config.json").is_file():
            raise UsageError(f"{path} is not a run folder: it has no config.json")
        return cls(path)

    @property
    def replay_folder(self) -> Path:
        """Where the replay memory is kept, in files that checkpoints have in common."""
        return self.path / "replay"

    def checkpoint_path(self, step: int) -> Path:
        return self.path / "checkpoints" / f"{step:012d}"

    def checkpoints(self) -> list[Path]:
        """Its checkpoints, oldest first."""
        folder = self.path / "checkpoints"
        return sorted(p for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else []

    def mark(self, name: str, checkpoint: Path) -> None:
        """Let `latest` or `best` point to a checkpoint."""
        write_atomically(self.path / name, checkpoint.name + "\n")

    def marked(self, name: str) -> Path | None:
        """The checkpoint that `latest` or `best` names, if it is there."""
        file = self.path / name
        if not file.is_file():
            return None
        path = self.path / "checkpoints" / file.read_text().strip()
        return path if path.is_dir() else None

    def records(self) -> list[Record]:
        """What metrics.jsonl holds; a line that a crash tore is passed over."""
        file, found = self.path / "metrics.jsonl", []
        for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def rewind(self, update: int) -> None:
        """Drop the metrics after `update`, which will be made again; before any sink has the file open."""
        kept = [json.dumps(record) + "\n" for record in self.records() if record["update"] <= update]
        write_atomically(self.path / "metrics.jsonl", "".join(kept))

    def best_mean(self) -> float:
        """The best mean of an evaluation so far; -inf where there was none."""
        return max((record["mean"] for record in self.records() if record["kind"] == "eval"), default=-math.inf)

    def prune(self, keep: int) -> None:
        """Remove all but the best checkpoint and the newest `keep` up to the latest, and what a broken save left.

        Of a replay memory stays what the newest need; the best is there to act.

        Newer ones than the latest are damaged: the run was resumed before them, and will make them again.
        """
        best, latest = self.marked("best"), self.marked("latest")
        known = [path for path in self.checkpoints() if latest is None or path.name <= latest.name]
        for path in [*known[:-keep], *(self.path / "checkpoints").glob(".*")]:
            if path != best:
                shutil.rmtree(path)
        stored: set[str] = set()
        for path in known[-keep:]:
            with contextlib.suppress(CheckpointError):  # a damaged one needs nothing
                stored |= read_json(path / "manifest.json").get("replay", {}).keys()
        for file in self.replay_folder.glob("*"):
            if file.name not in stored:
                file.unlink()


def checkpoint_folder(name: str | Path, prefer: str = "best") -> Path:
    """The checkpoint that `name` means: a checkpoint folder, a run folder or a pretrained name.

    Of a run it is the one marked `prefer` ("best" or "latest"), else the latest.
    """
    path = Path(name)
    if (path / "manifest.json").is_file():
        return path
    if str(name).startswith("pretrained/") and not path.exists():
        inside = PRETRAINED / str(name).removeprefix("pretrained/")
        if not inside.is_dir():
            raise UsageError(f"there is no agent {name}{near_matches(str(name), pretrained_names())}")
        return inside
    run = Run.open(path)
    found = run.marked(prefer) or run.marked("latest")
    if found is None:
        raise UsageError(f"{path} has no checkpoint yet")
    return found


def pretrained_names() -> list[str]:
    """Agents that come with the package."""
    return [f"pretrained/{p.name}" for p in sorted(PRETRAINED.iterdir()) if (p / "manifest.json").is_file()]


def _run_folders() -> list[str]:
    return [str(p.parent) for p in Path("runs").glob("*/config.json")]


def _unused(path: Path) -> Path:
    """`path`, or the first of `path`-2, `path`-3, … that is free."""
    candidate, number = path, 2
    while candidate.exists():
        candidate, number = path.with_name(f"{path.name}-{number}"), number + 1
    return candidate
