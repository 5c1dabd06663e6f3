"""The run folder: configuration, metrics, checkpoints, and the marks `latest` and `best`."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asyncrl.common import signing
from asyncrl.common.file_lock import AlreadyLocked, file_lock
from asyncrl.common.os_errors import describe_os_error, is_of_users_code
from asyncrl.common.packages import version_of
from asyncrl.common.quoting import quoted
from asyncrl.common.serialization import read_text, to_json, write_atomically
from asyncrl.envs import Contract
from asyncrl.errors import CheckpointError, SystemFault, UsageError, suggestions
from asyncrl.monitor import Record
from asyncrl.monitor.table import columns
from asyncrl.runs.checkpoints import checkpoint
from asyncrl.runs.checkpoints.manifest import REPLAY_FILE, Manifest, read_manifest
from asyncrl.runs.code_facts import code_facts
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.config.saved_config import saved_facts
from asyncrl.runs.metrics.metrics_file import read_records, truncate
from asyncrl.runs.provenance import provenance
from asyncrl.runs.run_state import LOCK
from asyncrl.version import __version__

__all__ = ["RECORD_KINDS", "Run"]

_PACKAGES = ("torch", "numpy", "gymnasium", "safetensors")
RECORD_KINDS = ("train", "episode", "eval", "stages", "verdict", "video", "stop", "lost", "rewind", "pretrain")
"""Kinds of records in metrics.jsonl (docs/metrics.md)."""
_CHECKPOINT = re.compile(r"\d{12,}", re.ASCII)
"""Names of checkpoint folders: the environment step."""
_BROKEN_SAVE = re.compile(r"\.\d{12,}(\.[0-9a-f]{16})?\.(tmp|old)", re.ASCII)
"""Names of what an interrupted save or download leaves behind, beside checkpoints and in the replay folder."""
CONFIG = "config.json"
_INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Run:
    """One run's folder.

    ::

        config.json  config.toml  metrics.jsonl  log.txt  latest  best  interrupted  .lock
        checkpoints/000001000000/…  replay/  live/  tensorboard/  videos/
    """

    path: Path
    trusted: bool = field(default=False, compare=False)
    """Whether the code that its files name may run even if another user wrote them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))  # a str is accepted, too

    def __fspath__(self) -> str:
        """The folder's path: a run may be passed wherever a path is expected."""
        return str(self.path)

    def write_config(self, config: RunConfig, contract: Contract, *, video: bool = False) -> None:
        """Write config.json, which makes this folder a run. `video`: an episode is to be recorded at the end."""
        facts = {
            "asyncrl": __version__,
            "config": config.to_json(),
            "contract": to_json(contract),
            "packages": _packages(contract),
            **code_facts(config, contract),
            **provenance(),
            "video": video,
        }
        facts["signature"] = signing.sign("config", _signed_part(facts))
        (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / "config.json", json.dumps(facts, indent=1))

    def vanished(self) -> OSError | None:
        """An error if the folder has been moved or removed; else None."""
        if (self.path / "config.json").exists():
            return None
        return OSError(0, "the run's folder was moved or removed during training", str(self.path))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run's lock during the block. Raises UsageError if another process holds it.

        An OSError in the block becomes a SystemFault that says where the run can be resumed, unless the user's code
        raised it.
        """
        is_held = False
        try:
            with file_lock(self.path / LOCK):
                is_held = True
                yield
        except AlreadyLocked as lock:
            raise UsageError(f"{self.path} is being trained by {lock}; wait for it or stop it") from None
        except OSError as problem:
            if is_of_users_code(problem):
                raise
            if not is_held:  # resuming would fail in the same way
                raise SystemFault(describe_os_error(problem)) from problem
            latest = None
            with contextlib.suppress(OSError, UsageError):
                latest = self.marked("latest") or self.newest_valid()
            step = "its beginning" if latest is None else f"step {int(latest.name):,}"
            how = f"resume from {step} with: asyncrl train --resume {quoted(self.path)}"
            raise SystemFault(f"{describe_os_error(problem)}; {how}") from problem

    def facts(self) -> dict[str, Any]:
        """The contents of config.json; {} if it cannot be read. Checkpoints hold all that a run needs."""
        return saved_facts(self.path)

    def note_resumption(self, step: int, contract: Contract, changes: dict[str, Any], notes: Sequence[str]) -> None:
        """Add an entry to `resumed` in config.json: the step, provenance, changed settings and their consequences."""
        facts = self.facts()
        if not facts:
            return
        resumed = facts.get("resumed", [])
        entry = {"step": step, "changes": changes, "asyncrl": __version__, "packages": _packages(contract), **provenance()}
        noted = {**entry, "notes": list(notes)} if notes else entry
        facts["resumed"] = [*(resumed if isinstance(resumed, list) else []), noted]
        write_atomically(self.path / "config.json", json.dumps(facts, indent=1))

    @property
    def is_signed_by_user(self) -> bool:
        """Whether this user made the run on this machine."""
        facts = self.facts()
        return signing.is_signed("config", _signed_part(facts), facts.get("signature"))

    def sign(self) -> None:
        """Sign config.json as made by this user on this machine."""
        if facts := self.facts():
            facts["signature"] = signing.sign("config", _signed_part(facts))
            write_atomically(self.path / CONFIG, json.dumps(facts, indent=1))

    @property
    def video(self) -> Path | None:
        """The path for the video of the best agent; None before the first checkpoint."""
        agent = self.marked("best") or self.marked("latest")
        return None if agent is None else self.path / "videos" / f"{agent.name}.mp4"

    def beginning(self) -> tuple[RunConfig, Contract]:
        """The configuration and contract in config.json. Raises CheckpointError if it is damaged or of a `pretrain` run."""
        if any(record["kind"] == "pretrain" for record in self.records()):
            raise CheckpointError(
                f"{self.path} is an unfinished run of `asyncrl pretrain`; start it again in another folder"
            )
        path, facts = self.path / "config.json", self.facts()
        source = None if self.trusted or self.is_signed_by_user else str(path)
        checkpoint.open_code(facts.get("config"), source)
        try:
            return checkpoint.read_settings(facts.get("config"), facts.get("contract"), source)
        except UsageError as problem:
            raise checkpoint.misread(path, facts, problem) from None

    @property
    def interrupted(self) -> bool:
        """Whether a signal stopped the run; `asyncrl train --resume` continues it."""
        return self.interruption is not None

    @property
    def interruption(self) -> str | None:
        """The signal that stopped the run, such as "SIGTERM"; None if none did."""
        with contextlib.suppress(OSError):
            return (self.path / _INTERRUPTED).read_text(encoding="utf-8", errors="replace").strip()
        return None

    @property
    def stopped_because(self) -> str | None:
        """Why the run ended before taking all its steps; None if it did not, or has gone on since."""
        for record in reversed(self.records()):
            if record["kind"] == "stop":
                return str(record.get("reason", ""))
            if record["kind"] in ("train", "episode"):
                return None
        return None

    def metrics(self, kind: str = "train") -> dict[str, list[Any]]:
        """The records of a kind as columns, for example `pandas.DataFrame(run.metrics("eval"))`.

        Kinds and fields are those of docs/metrics.md. A field that a record lacks is None, and one that holds values by
        name is a column for each, as `means/CartPole-v1`. Raises UsageError for a kind that does not exist, and if the
        folder is not a run's.
        """
        if not (self.path / CONFIG).exists():
            raise UsageError(f"{self.path} is not a run folder: it has no config.json")
        found = [record for record in self.records() if record["kind"] == kind]
        if not found and kind not in RECORD_KINDS:
            near = suggestions(str(kind), RECORD_KINDS) or f"; there are {', '.join(RECORD_KINDS)}"
            raise UsageError(f"unknown kind of records {kind!r}{near}")
        return columns(found)

    def note_interruption(self, number: int | None) -> None:
        """Note in the folder which signal stopped the run; None removes the note."""
        if number is not None:
            write_atomically(self.path / _INTERRUPTED, signal.Signals(number).name + "\n")
        else:
            (self.path / _INTERRUPTED).unlink(missing_ok=True)

    @property
    def replay_folder(self) -> Path:
        """The folder of the replay buffer's files, which checkpoints share."""
        return self.path / "replay"

    def checkpoint_path(self, step: int) -> Path:
        """The folder of the checkpoint after `step` environment steps; it need not exist."""
        return self.path / "checkpoints" / f"{step:012d}"

    def checkpoints(self) -> list[Path]:
        """The folders of the run's checkpoints, oldest first. Anything else in the folder is ignored."""
        folder = self.path / "checkpoints"
        named = (path for path in _inside(folder) if _CHECKPOINT.fullmatch(path.name) and path.is_dir())
        return sorted(
            (path for path in named if any(map(checkpoint.is_checkpoint_file, _inside(path)))), key=lambda p: int(p.name)
        )

    @property
    def has_saved(self) -> bool:
        """Whether the run has made a checkpoint, also if its checkpoints are lost."""
        return bool(self.checkpoints()) or os.path.lexists(self.path / "latest")

    def check_own(self, saved: checkpoint.Checkpoint) -> None:
        """Raise CheckpointError if `saved` has another algorithm, environment or seed than config.json, as signed."""
        if not self.is_signed_by_user:
            return
        own, found = (_identity(config) for config in (self.facts().get("config"), saved.config.to_json()))
        if own != found:
            saved.check_trust()  # this is said first of a stranger's
            names = " and ".join("{} in {} with seed {}".format(*one) for one in (found, own))
            raise CheckpointError(f"{saved.path} is of another run: it and {self.path / CONFIG} have {names}")

    def mark(self, name: str, checkpoint: Path) -> None:
        """Set the mark `latest` or `best` to a checkpoint."""
        write_atomically(self.path / name, checkpoint.name + "\n")

    def marked(self, name: str) -> Path | None:
        """The checkpoint marked `latest` or `best`; None if there is none."""
        with contextlib.suppress(CheckpointError):  # missing or damaged
            found = read_text(self.path / name, max_bytes=100).strip()
            path = self.path / "checkpoints" / found
            return path if _CHECKPOINT.fullmatch(found) and path.is_dir() else None
        return None

    def newest_valid(self) -> Path | None:
        """The newest checkpoint that is not damaged; None if there is none."""
        for path in reversed(self.checkpoints()):
            with contextlib.suppress(CheckpointError):
                return checkpoint.load(path, trust=self.trusted).path
        return None

    def records(self) -> list[Record]:
        """The records of metrics.jsonl. Damaged lines are skipped with a DamageWarning, a torn last one without."""
        return read_records(self.path / "metrics.jsonl")

    def rewind(self, update: int) -> None:
        """Drop the metrics after `update`, which the resumed run repeats. No sink may have the file open."""
        truncate(self.path / "metrics.jsonl", update)

    def repair_marks(self, newest: Path) -> None:
        """Set `latest` and `best` as of the checkpoint `newest`: the run may have been killed before it set them."""
        self._set_mark("latest", newest)
        saved = dict.fromkeys((path for path in self.checkpoints() if int(path.name) <= int(newest.name)), -math.inf)
        for record in self.records():
            path = self.checkpoint_path(record["step"])
            if record["kind"] == "eval" and path in saved:
                saved[path] = max(saved[path], record["mean"])
        best = max(reversed(saved), key=lambda path: saved[path])
        if saved[best] > -math.inf:
            self._set_mark("best", best)
        elif (marked := self.marked("best")) is not None and int(marked.name) > int(newest.name):
            (self.path / "best").unlink()

    def _set_mark(self, name: str, checkpoint: Path) -> None:
        if self.marked(name) != checkpoint:
            self.mark(name, checkpoint)

    def best_mean(self) -> float:
        """The mean return of the checkpoint marked `best`; -inf without an evaluation."""
        best = self.marked("best")
        evaluations = (record for record in self.records() if record["kind"] == "eval")
        return max((r["mean"] for r in evaluations if self.checkpoint_path(r["step"]) == best), default=-math.inf)

    def prune(self, keep: int, *, scheduled: bool = False) -> None:
        """Remove old checkpoints and the remains of interrupted saves.

        The best checkpoint, the newest `keep` up to `latest`, and those that a diverging run returns to are kept; with
        `scheduled`, it returns to checkpoints that every run of this configuration makes. Replay files are kept if one of
        the newest checkpoints needs them. Checkpoints after `latest` are damaged; the resumed run saves them again. Files
        that the run has not written are kept, and links are not followed, except by replay files that checkpoints name.
        """
        best, latest = self.marked("best"), self.marked("latest")
        known = [path for path in self.checkpoints() if latest is None or int(path.name) <= int(latest.name)]
        manifests = {path: manifest for path in known if (manifest := _manifest(path)) is not None}
        kept = {*known[-keep:], *_rewind_targets(manifests, keep, scheduled=scheduled)}
        stored = {name for manifest in manifests.values() for name in manifest.replay}
        needed = {name for path, manifest in manifests.items() if path in kept for name in manifest.replay}
        broken = [path for path in _inside(self.path / "checkpoints") if _BROKEN_SAVE.fullmatch(path.name)]
        for path in [*known, *broken]:
            if path != best and path not in kept:
                checkpoint.delete(path)
        if not self.replay_folder.is_symlink():  # a linked folder may hold other files
            names = (path.name for path in _inside(self.replay_folder))
            stored |= {name for name in names if REPLAY_FILE.fullmatch(name) or _BROKEN_SAVE.fullmatch(name)}
        for name in stored - needed:
            path = self.replay_folder / name
            if path.is_file() and not path.is_symlink():
                path.unlink()


def _packages(contract: Contract) -> dict[str, str]:
    """Versions of the packages that a run depends on."""
    return {name: version_of(name) for name in _PACKAGES} | contract.versions


def _signed_part(facts: Mapping[str, Any]) -> str:
    """The part of config.json that is signed: everything that decides which code a run executes."""
    return json.dumps([facts.get("config"), facts.get("contract")], sort_keys=True)


def _identity(config: Any) -> tuple[Any, ...]:
    """The algorithm, environment and seed in the JSON of a configuration."""
    table = config if isinstance(config, dict) else {}
    algorithm = table.get("algorithm")
    return algorithm.get("name") if isinstance(algorithm, dict) else None, table.get("env"), table.get("seed")


def _inside(folder: Path) -> Iterable[Path]:
    """The contents of a folder; [] if it does not exist, or no longer: the run may be removing it."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return [*folder.iterdir()]
    return []


def _manifest(path: Path) -> Manifest | None:
    """The manifest of a checkpoint; None if it is damaged."""
    with contextlib.suppress(CheckpointError):
        return Manifest.of(path, read_manifest(path))
    return None


def _rewind_targets(manifests: Mapping[Path, Manifest], keep: int, *, scheduled: bool) -> list[Path]:
    """The newest sound checkpoint; with `scheduled`, only scheduled ones count, if there are any, and the newest
    `keep` are added.
    """
    counted = [path for path, manifest in manifests.items() if manifest.scheduled or not scheduled]
    sound = [path for path, manifest in manifests.items() if manifest.sound]
    targets = [path for path in sound if path in counted] or sound
    return [*targets[-1:], *(counted[-keep:] if scheduled else ())]
