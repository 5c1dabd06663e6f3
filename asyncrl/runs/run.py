"""The run folder: what a run writes, and how a name on the command line leads to a checkpoint."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import reprlib
import signal
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

from asyncrl.common import signing
from asyncrl.common.file_lock import AlreadyLocked, file_lock
from asyncrl.common.os_errors import describe_os_error
from asyncrl.common.serialization import read_json, read_text, sync_folder, to_json, write_atomically
from asyncrl.envs import Contract
from asyncrl.errors import CheckpointError, DamageWarning, SystemFault, UsageError, suggestions
from asyncrl.monitor import Record
from asyncrl.runs import checkpoint
from asyncrl.runs.config import RunConfig
from asyncrl.runs.provenance import provenance
from asyncrl.version import __version__

__all__ = ["Run", "checkpoint_folder", "newer_checkpoint", "pretrained_names"]

PRETRAINED = Path(__file__).parents[1] / "pretrained"
_PACKAGES = ("torch", "numpy", "gymnasium", "safetensors")
_CHECKPOINT = re.compile(r"\d{12,}", re.ASCII)
"""How a run calls its checkpoints."""
_BROKEN_SAVE = re.compile(r"\.\d{12,}\.(tmp|old)", re.ASCII)
"""What a save that was interrupted leaves, beside checkpoints and in the replay memory's folder."""
_FIELDS: dict[str, dict[str, type]] = {
    "episode": {"return": float, "length": int, "actor": int},
    "eval": {"mean": float},
}
"""What a run that goes on needs of a line of metrics.jsonl, by its kind, besides `step`, `update` and `kind`."""
_LONGEST_LINE = 16 * 2**20
"""Bytes of a line of metrics.jsonl."""
_MOST_PIECES = 8
"""Times as many, after which a line does not end any more."""
LOCK, _INTERRUPTED = ".lock", "interrupted"


@dataclass(frozen=True)
class Run:
    """One run's folder.

    ::

        config.json  metrics.jsonl  log.txt  latest  best  interrupted  .lock
        checkpoints/000001000000/…  replay/  tensorboard/  videos/
    """

    path: Path

    def write_config(self, config: RunConfig, contract: Contract, *, video: bool = False) -> None:
        """Write config.json, with which this folder is a run's; `video`: a game is to be recorded at the end."""
        facts = {
            "asyncrl": __version__,
            "config": config.to_json(),
            "contract": to_json(contract),
            "packages": _packages(contract),
            **provenance(),
            "video": video,
        }
        facts["signature"] = signing.sign("config", _signed_part(facts))
        (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / "config.json", json.dumps(facts, indent=1))

    def vanished(self) -> OSError | None:
        """The error where this folder is no run's any more: somebody has moved or removed it."""
        if (self.path / "config.json").exists():
            return None
        return OSError(0, "the run's folder was moved or removed while it was trained", str(self.path))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Have this run alone for the length of the block. Raises UsageError that names the process that has it.

        What the operating system refuses in the block becomes a SystemFault that says from where the run goes on.
        """
        try:
            with file_lock(self.path / LOCK):
                yield
        except AlreadyLocked as lock:
            raise UsageError(f"{self.path} is being trained by {lock}; wait until it ends, or end it first") from None
        except OSError as problem:
            latest = None
            with contextlib.suppress(OSError):
                latest = self.marked("latest")
            begin = "from its beginning" if latest is None else f"from step {int(latest.name):,}"
            how = f"go on {begin} with: asyncrl train --resume {self.path}"
            raise SystemFault(f"{describe_os_error(problem)}; {how}") from problem

    @classmethod
    def open(cls, path: Path) -> Run:
        """An existing run. Raises UsageError where there is none."""
        if not path.exists():
            raise UsageError(f"there is no run folder {path}{suggestions(str(path), _run_folders())}")
        if not (path / "config.json").is_file():
            raise UsageError(f"{path} is not a run folder: it has no config.json")
        return cls(path)

    def facts(self) -> dict[str, Any]:
        """What config.json says; {} where it cannot be read: nothing that a run needs stands there alone."""
        with contextlib.suppress(CheckpointError):
            found = read_json(self.path / "config.json")
            return found if isinstance(found, dict) else {}
        return {}

    def note_resumption(self, step: int, contract: Contract, changes: dict[str, Any], notes: Sequence[str]) -> None:
        """Add to config.json that the run goes on from `step`: how, where and when; what changes, and what that means."""
        facts = self.facts()
        if not facts:
            return
        resumed = facts.get("resumed", [])
        entry = {"step": step, "changes": changes, "asyncrl": __version__, "packages": _packages(contract), **provenance()}
        noted = {**entry, "notes": list(notes)} if notes else entry
        facts["resumed"] = [*(resumed if isinstance(resumed, list) else []), noted]
        write_atomically(self.path / "config.json", json.dumps(facts, indent=1))

    @property
    def video(self) -> Path | None:
        """Where the video of the agent to play belongs; None where there is no agent yet."""
        agent = self.marked("best") or self.marked("latest")
        return None if agent is None else self.path / "videos" / f"{agent.name}.mp4"

    def beginning(self) -> tuple[RunConfig, Contract]:
        """What config.json says. Raises CheckpointError where it is damaged, or of a run that does not train."""
        if any(record["kind"] == "pretrain" for record in self.records()):
            raise CheckpointError(f"{self.path} was begun by `asyncrl pretrain` and has learned nothing; begin it anew")
        path, facts = self.path / "config.json", self.facts()
        own = signing.is_signed("config", _signed_part(facts), facts.get("signature"))
        try:
            return checkpoint.read_settings(facts.get("config"), facts.get("contract"), None if own else str(path))
        except UsageError as problem:
            raise CheckpointError(f"{path} is damaged: {problem}") from None

    @property
    def interrupted(self) -> bool:
        """Did a signal cut it short? `asyncrl train --resume` goes on with it."""
        return (self.path / _INTERRUPTED).exists()

    def note_interruption(self, number: int | None) -> None:
        """Keep in the folder which signal cut the run short; None: it goes on, or none did."""
        if number is not None:
            write_atomically(self.path / _INTERRUPTED, signal.Signals(number).name + "\n")
        else:
            (self.path / _INTERRUPTED).unlink(missing_ok=True)

    @property
    def replay_folder(self) -> Path:
        """Where the replay memory is kept, in files that checkpoints have in common."""
        return self.path / "replay"

    def checkpoint_path(self, step: int) -> Path:
        return self.path / "checkpoints" / f"{step:012d}"

    def checkpoints(self) -> list[Path]:
        """Its checkpoints, oldest first: the folders that it has named. What else lies there is somebody else's."""
        folder = self.path / "checkpoints"
        named = (path for path in _inside(folder) if _CHECKPOINT.fullmatch(path.name) and path.is_dir())
        return sorted((path for path in named if any(map(checkpoint.is_own, _inside(path)))), key=lambda p: int(p.name))

    def mark(self, name: str, checkpoint: Path) -> None:
        """Let `latest` or `best` point to a checkpoint."""
        write_atomically(self.path / name, checkpoint.name + "\n")

    def marked(self, name: str) -> Path | None:
        """The checkpoint that `latest` or `best` names, if it is there."""
        with contextlib.suppress(CheckpointError):  # no mark, or garbage
            found = read_text(self.path / name, most=100).strip()
            path = self.path / "checkpoints" / found
            return path if _CHECKPOINT.fullmatch(found) and path.is_dir() else None
        return None

    def newest_whole(self) -> Path | None:
        """The newest checkpoint that can be read; None where there is none."""
        for path in reversed(self.checkpoints()):
            with contextlib.suppress(CheckpointError):
                return checkpoint.load(path).path
        return None

    def records(self) -> list[Record]:
        """What metrics.jsonl holds. Lines that are damaged are passed over with a warning, a torn last one without."""
        return [record for _, record in self._records()]

    def _records(self) -> Iterator[tuple[bytes, Record]]:
        """Each line of metrics.jsonl, and what it says."""
        path, bad = self.path / "metrics.jsonl", 0
        if not path.is_file():
            return
        with open(path, "rb") as file:
            for line in _lines(file):
                record = _record(line)
                if record is not None:
                    yield line, record
                elif line.endswith(b"\n"):
                    bad += 1
        if bad:
            lines = "1 line that is" if bad == 1 else f"{bad:,} lines that are"
            warnings.warn(f"{path} has {lines} damaged and passed over", DamageWarning, stacklevel=2)

    def rewind(self, update: int) -> None:
        """Drop the metrics after `update`, which will be made again; before any sink has the file open."""
        beside = self.path / ".metrics.jsonl.tmp"
        beside.unlink(missing_ok=True)  # what a crash left; and nothing is written through a link
        with open(beside, "xb") as file:
            for line, record in self._records():
                if record["update"] <= update:
                    file.write(line.rstrip(b"\n") + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self.path / "metrics.jsonl")
        sync_folder(self.path)

    def repair_marks(self, newest: Path) -> None:
        """Set `latest` and `best` anew as of the checkpoint `newest`: a kill may have come before they were set."""
        self._mark_anew("latest", newest)
        saved = dict.fromkeys((path for path in self.checkpoints() if int(path.name) <= int(newest.name)), -math.inf)
        for record in self.records():
            path = self.checkpoint_path(record["step"])
            if record["kind"] == "eval" and path in saved:
                saved[path] = max(saved[path], record["mean"])
        best = max(reversed(saved), key=lambda path: saved[path])
        if saved[best] > -math.inf:
            self._mark_anew("best", best)
        elif (marked := self.marked("best")) is not None and int(marked.name) > int(newest.name):
            (self.path / "best").unlink()

    def _mark_anew(self, name: str, checkpoint: Path) -> None:
        if self.marked(name) != checkpoint:
            self.mark(name, checkpoint)

    def best_mean(self) -> float:
        """The mean of the evaluation that `best` stands for; -inf where there was none."""
        best = self.marked("best")
        evaluations = (record for record in self.records() if record["kind"] == "eval")
        return max((r["mean"] for r in evaluations if self.checkpoint_path(r["step"]) == best), default=-math.inf)

    def prune(self, keep: int, *, scheduled: bool = False) -> None:
        """Remove all but the best checkpoint and the newest `keep` up to the latest, and what a broken save left.

        What a run that diverges goes back to stays too; `scheduled`: that is what every run of this configuration saves.

        Of a replay memory stays what the newest need; the best is there to act. Newer ones than the latest are damaged:
        the run was resumed before them, and will make them again. Files that the run has not written stay, and nothing
        is removed through a link but files of the replay memory that this run's checkpoints name.
        """
        best, latest = self.marked("best"), self.marked("latest")
        known = [path for path in self.checkpoints() if latest is None or int(path.name) <= int(latest.name)]
        stored = _replay_files(known)
        kept = {*known[-keep:], *_to_go_back_to(known, keep, scheduled=scheduled)}
        needed = _replay_files(kept)
        broken = [path for path in _inside(self.path / "checkpoints") if _BROKEN_SAVE.fullmatch(path.name)]
        for path in [*known, *broken]:
            if path != best and path not in kept:
                checkpoint.delete(path)
        if not self.replay_folder.is_symlink():  # it is this run's alone
            names = (path.name for path in _inside(self.replay_folder))
            stored |= {name for name in names if checkpoint.REPLAY.fullmatch(name) or _BROKEN_SAVE.fullmatch(name)}
        for name in stored - needed:
            path = self.replay_folder / name
            if path.is_file() and not path.is_symlink():
                path.unlink()


def _packages(contract: Contract) -> dict[str, str]:
    """Versions of what a run depends on."""
    return {name: version(name) for name in _PACKAGES} | contract.versions


def _signed_part(facts: Mapping[str, Any]) -> str:
    """What the signature in config.json is of: all that decides which code a run runs."""
    return json.dumps([facts.get("config"), facts.get("contract")], sort_keys=True)


def _inside(folder: Path) -> Iterable[Path]:
    """What a folder holds; nothing where there is no folder."""
    return folder.iterdir() if folder.is_dir() else ()


def _to_go_back_to(checkpoints: Iterable[Path], keep: int, *, scheduled: bool) -> list[Path]:
    """The newest checkpoint whose weights are sound; and the newest `keep` where only `scheduled` ones count."""
    found = []
    for path in checkpoints:
        with contextlib.suppress(CheckpointError):  # a damaged one is no place to go back to
            found.append(checkpoint.read(path))
    counted = [one for one in found if one.scheduled or not scheduled]
    sound = [one for one in counted if one.sound]
    return [one.path for one in [*sound[-1:], *(counted[-keep:] if scheduled else ())]]


def _replay_files(checkpoints: Iterable[Path]) -> set[str]:
    """The names of the files that these checkpoints' replay memories are in; a damaged one needs none."""
    found: set[str] = set()
    for path in checkpoints:
        with contextlib.suppress(CheckpointError):
            found |= checkpoint.replay_files(path).keys()
    return found


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; of one that is too long, its beginning. One that does not end is the last."""
    while line := file.readline(_LONGEST_LINE):
        rest, pieces = line, 1
        while rest and not rest.endswith(b"\n"):
            if pieces == _MOST_PIECES:
                return
            rest, pieces = file.readline(_LONGEST_LINE), pieces + 1
        yield line if rest is line else line[:80] + rest[-1:]


def _record(line: bytes) -> Record | None:
    """What a line of metrics.jsonl says; None where it is damaged."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    fields: dict[str, type] = {"step": int, "update": int, "kind": str} | _FIELDS.get(str(found.get("kind")), {})
    return found if all(_is_a(kind, found.get(name)) for name, kind in fields.items()) else None


def _is_a(kind: type, value: object) -> bool:
    """Is a record's value a text, a number that is finite, or a count?"""
    if kind is str or isinstance(value, bool):
        return kind is str and isinstance(value, str)
    if kind is int:
        return isinstance(value, int) and 0 <= value < 2**63
    return isinstance(value, int | float) and abs(value) < math.inf


def checkpoint_folder(name: str | Path, prefer: str = "best") -> Path:
    """The checkpoint that `name` means: a checkpoint folder, a run folder or a pretrained name.

    Of a run it is the one marked `prefer` ("best" or "latest"), else the latest; RUN/best and RUN/latest say which.
    """
    if not isinstance(name, str | os.PathLike):
        raise UsageError(f"an agent is named by its run folder, as run.path, not by {reprlib.repr(name)}")
    path = Path(name)
    if (path / "manifest.json").is_file():
        return path
    if path.name in ("best", "latest") and path.is_file():
        path, prefer = path.parent, path.name
    if str(name).startswith("pretrained/") and not path.exists():
        if str(name) not in pretrained_names():
            raise UsageError(f"there is no agent {name}{suggestions(str(name), pretrained_names())}")
        return PRETRAINED / str(name).removeprefix("pretrained/")
    run = Run.open(path)
    for mark in dict.fromkeys((prefer, "latest")):
        found = run.marked(mark)
        if found is not None:
            return found
        if (path / mark).exists():
            warnings.warn(f"{path / mark} names no checkpoint of this run; taking the newest", DamageWarning, stacklevel=2)
    found = run.newest_whole()
    if found is None:
        raise UsageError(f"{path} has no checkpoint yet")
    return found


def newer_checkpoint(name: str | Path, chosen: Path) -> str:
    """The sentence for a person where the run `name` has a newer checkpoint than the `chosen` one; else ""."""
    run = Run(Path(name))
    latest = run.marked("latest") if (run.path / "config.json").is_file() else None
    if latest is None or latest == chosen:
        return ""
    return (
        f"step {int(chosen.name):,} is the best of {run.path}; its newest, step {int(latest.name):,}, is {run.path}/latest"
    )


def pretrained_names() -> list[str]:
    """Agents that come with the package."""
    return [f"pretrained/{p.name}" for p in sorted(PRETRAINED.iterdir()) if (p / "manifest.json").is_file()]


def _run_folders() -> list[str]:
    return [str(p.parent) for p in Path("runs").glob("*/config.json")]
