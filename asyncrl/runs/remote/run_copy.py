"""Copies a run folder into a storage and back. A checkpoint counts there, as everywhere, once its manifest is there.

Uploads write a checkpoint's manifest last and removals delete it first, and the metrics are there before it. So an upload
that is killed leaves the earlier checkpoint or the new one, complete, with the metrics up to it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from asyncrl.common.os_errors import name_target
from asyncrl.common.quoting import quoted
from asyncrl.common.serialization import MAX_BYTES, file_sha256, parse_json, verify_file, write_atomically
from asyncrl.errors import CheckpointError, UsageError, suggestions
from asyncrl.runs.checkpoints import checkpoint
from asyncrl.runs.checkpoints.manifest import MANIFEST, Manifest, checked_manifest, read_manifest
from asyncrl.runs.remote.folder import RemoteFolder, remote_errors
from asyncrl.runs.run import Run

__all__ = [
    "TOP_FILES",
    "RemoteRun",
    "check_exists",
    "check_storage",
    "check_vacant",
    "newest_complete",
    "pull",
    "undamaged",
]

_RECORDS = ("config.json", "config.toml", "log.txt", "metrics.jsonl")
_GROWING = ("log.txt", "metrics.jsonl")
_MARKS = ("best", "latest", "interrupted")
TOP_FILES = (*_RECORDS, *_MARKS)
"""Files in the run folder itself that are copied."""
_OURS = re.compile(
    r"(checkpoints/(?P<step>\d{12,20})/\.?(manifest\.json|[a-z_]+\.safetensors)(\.tmp)?"
    r"|replay/\.?\d{12,20}\.safetensors(\.tmp)?)",
    re.ASCII,
)
"""Files of checkpoints and of the replay buffer, and the remains of interrupted uploads."""
_REMAINS = re.compile(r"\.[a-z0-9]+\.[0-9a-f]{16}\.tmp", re.ASCII)
"""Names of what is being copied, or was when the process was killed (`_new_beside`)."""
_ABANDONED = 86_400.0
"""Seconds after which a copy that another process may be making counts as abandoned."""


def undamaged(run: Run) -> list[Path]:
    """The checkpoints of a run folder up to the one marked `latest`, oldest first: later ones are damaged."""
    latest = run.marked("latest")
    return [path for path in run.checkpoints() if latest is None or int(path.name) <= int(latest.name)]


def check_storage(url: str, run_folder: Path | None) -> None:
    """Raise UsageError if the storage `url` cannot be written, or has a run of the name of `run_folder` already."""
    storage = RemoteFolder(url)
    if run_folder is None:
        storage.check_writable()
    elif storage.local is not None and storage.local.resolve() == run_folder.parent.resolve():
        raise UsageError(f"--storage {url} has no effect: the run folder {run_folder} is in it anyway")
    else:
        check_vacant(storage / run_folder.name)


def check_vacant(remote: RemoteFolder) -> None:
    """Raise UsageError if a run is in `remote` already, or if it cannot be written."""
    with remote_errors(f"{remote.url} cannot be read"):
        taken = remote.has("config.json")
    if taken:
        raise UsageError(
            f"{remote.url} already holds a run; continue it with --resume {quoted(remote.url)}, or choose another --run-dir"
        )
    remote.check_writable()


def check_exists(remote: RemoteFolder) -> None:
    """Raise UsageError, with what is there instead, if there is no run in `remote`."""
    with remote_errors(f"{remote.url} cannot be read"):
        if not remote.has("config.json"):
            raise UsageError(f"there is no run in {remote.url}{_others(remote)}")


def newest_complete(remote: RemoteFolder) -> int | None:
    """The step of the newest checkpoint in a storage whose files are all there; None if there is none."""
    sizes = remote.sizes()
    return next((int(step) for step, _, _ in _complete(remote, sizes, replay=True)), None)


class RemoteRun:
    """The copy of a run in a storage. It knows what is there, so that nothing is sent twice."""

    def __init__(self, remote: RemoteFolder) -> None:
        """Hashes are those in the storage's manifests, of files that are there with the right size."""
        self.remote = remote
        sizes = remote.sizes()
        self._sent = {name: "" for name in sizes if name in TOP_FILES or _OURS.fullmatch(name)}
        """By name of each file that is there: its sha256, or "" if it is not known."""
        for step in _steps(self._sent):
            with contextlib.suppress(CheckpointError):
                content, manifest = _read(remote, step, sizes)
                self._sent[f"checkpoints/{step}/{MANIFEST}"] = hashlib.sha256(content).hexdigest()
                files = _files_of(step, manifest)
                self._sent |= {name: one["sha256"] for name, one in files.items() if sizes.get(name) == one["bytes"]}

    def push(self, run: Run) -> None:
        """Make it a copy of the run folder: its settings, records and checkpoints, and the replay files that they need.

        What the storage has of an old checkpoint whose manifest is damaged or missing in the run folder stays as it is.
        Raises OSError, or what the storage's package raises; then a later call continues.
        """
        checkpoints = _manifests(run)
        needed = {step: _files_of(step, manifest) for step, manifest in checkpoints.items()}
        for step, files in needed.items():
            if any(self._sent.get(name, one["sha256"]) != one["sha256"] for name, one in files.items()):
                self._remove(f"checkpoints/{step}/{MANIFEST}")  # it was saved again and changes now
        kept = {f"checkpoints/{step}/{MANIFEST}" for step in checkpoints}
        for name, one in (item for files in needed.values() for item in files.items()):
            if os.path.lexists(run.path / name):  # an old checkpoint may lack its replay files
                self._send(run, name, one["sha256"])
                kept.add(name)
        self._send_records(run, list(checkpoints))
        for name in _MARKS:
            if (run.path / name).exists():
                self._send(run, name)
            else:
                self._remove(name)
        unread = {path.name for path in undamaged(run)} - checkpoints.keys()
        for name in sorted(self._sent, key=lambda name: not name.endswith(MANIFEST)):
            found = _OURS.fullmatch(name)
            if found and name not in kept and found["step"] not in unread:
                self._remove(name)

    def _send_records(self, run: Run, steps: list[str]) -> None:
        """Send settings, metrics and manifests, so that no checkpoint ever counts that is ahead of the metrics."""
        records = [name for name in _RECORDS if (run.path / name).exists()]
        manifests = [f"checkpoints/{step}/{MANIFEST}" for step in steps]
        stale = [step for step in _steps(self._sent) if steps and int(step) > int(steps[-1])]
        for name in manifests if stale else records:
            self._send(run, name)
        for step in stale:  # the run went back to an earlier one: the metrics are shorter, too
            self._remove(f"checkpoints/{step}/{MANIFEST}")
        for name in records if stale else manifests:
            self._send(run, name)

    def _send(self, run: Run, name: str, sha256: str | None = None) -> None:
        sha256 = sha256 or file_sha256(run.path / name)
        if self._sent.get(name) != sha256:
            self._sent.pop(name, None)
            self.remote.upload(run.path / name, name)
            self._sent[name] = sha256

    def _remove(self, name: str) -> None:
        if name in self._sent:
            self.remote.remove(name)
            del self._sent[name]


def pull(remote: RemoteFolder, run: Run, *, replay: bool, say: Callable[[str], None] = lambda line: None) -> None:
    """Copy a run from a storage into the folder `run`, up to its newest complete checkpoint.

    Files that are there with the same hash are kept. Without `replay`, only what acting needs is copied, replacing any
    other run. Damaged checkpoints are reported to `say`. Raises UsageError if another run is in the folder.
    """
    with remote_errors(f"{remote.url} cannot be read"):
        sizes = remote.sizes()
        if replay:
            _check_same(run, _small(remote, "config.json", sizes), remote)
        elif not _is_same(run, _small(remote, "config.json", sizes)):
            shutil.rmtree(run.path)
        _remove_remains(run, 0 if replay else _ABANDONED)  # with `replay`, the caller holds the run's lock
        found = _complete(remote, sizes, replay=replay)
        marked = {_small(remote, name, sizes).decode().strip() for name in ("best", "latest") if name in sizes}
        kept = [one for i, one in enumerate(found) if replay or i == 0 or one[0] in marked]
        if replay and kept and _is_here(run, *kept[0][1:], replay=True):
            return  # and perhaps later ones, made on this machine
        (run.path / "checkpoints").mkdir(parents=True, exist_ok=True)
        for name in TOP_FILES:
            path = run.path / name
            if name in _MARKS and name not in sizes:
                path.unlink(missing_ok=True)
            if name in sizes and not (name in _GROWING and path.is_file() and path.stat().st_size == sizes[name]):
                _fetch(remote, name, path)
        for step, content, manifest in reversed(kept):  # the newest last
            try:
                _fetch_checkpoint(
                    remote, run, step, content, manifest, replay=replay and (step, content, manifest) == kept[0]
                )
            except CheckpointError as problem:
                say(f"{remote.url}: {problem}; it is left out")
    if kept and not run.checkpoints():
        raise CheckpointError(f"{remote.url} has no checkpoint that is not damaged")


def _complete(remote: RemoteFolder, sizes: dict[str, int], *, replay: bool) -> list[tuple[str, bytes, Manifest]]:
    """The checkpoints in a storage whose files are all there, newest first; the newest with its replay files."""
    found: list[tuple[str, bytes, Manifest]] = []
    for step in reversed(_steps(sizes)):
        with contextlib.suppress(CheckpointError):
            content, manifest = _read(remote, step, sizes)
            files = _files_of(step, manifest, replay=replay and not found)
            if all(sizes.get(name) == facts["bytes"] for name, facts in files.items()):
                found.append((step, content, manifest))
    return found


def _fetch_checkpoint(
    remote: RemoteFolder, run: Run, step: str, content: bytes, manifest: Manifest, *, replay: bool
) -> None:
    """Copy a checkpoint into the run folder, whole or not at all. Raises CheckpointError if a hash is wrong."""
    for name, facts in manifest.replay_facts().items() if replay else ():
        if not _is_intact(run.replay_folder / name, facts):
            _fetch(remote, f"replay/{name}", run.replay_folder / name, facts)
    path = run.checkpoint_path(int(step))
    if _is_here(run, content, manifest, replay=False):
        return
    beside = _new_beside(path)
    try:
        for name, facts in manifest.file_checksum().items():
            _fetch(remote, f"checkpoints/{step}/{name}", beside / name, facts)
        write_atomically(beside / MANIFEST, content.decode())
        if _is_here(run, content, manifest, replay=False):  # another process was faster
            return
        checkpoint.delete(path)
        try:
            os.replace(beside, path)
        except OSError:
            if not _is_here(run, content, manifest, replay=False):
                raise
    finally:
        checkpoint.delete(beside)


def _new_beside(path: Path) -> Path:
    """A new name beside `path`: several processes may copy a run into the user's cache."""
    return path.with_name(f".{path.stem}.{secrets.token_hex(8)}.tmp")


def _remove_remains(run: Run, seconds: float) -> None:
    """Remove what copies that were killed have left of files, if it has not grown for this long."""
    end = time.time() - seconds
    for folder in (run.path, run.path / "checkpoints", run.replay_folder):
        for path in folder.glob(".*.tmp") if not folder.is_symlink() else ():
            with contextlib.suppress(OSError):
                if not _REMAINS.fullmatch(path.name) or path.is_symlink():
                    continue
                if path.is_dir() and max(one.stat().st_mtime for one in (path, *path.iterdir())) <= end:
                    shutil.rmtree(path)
                elif path.is_file() and path.stat().st_mtime <= end:
                    path.unlink()


def _is_here(run: Run, content: bytes, manifest: Manifest, *, replay: bool) -> bool:
    """Whether the run folder has this checkpoint, undamaged, with its replay files."""
    path = run.checkpoint_path(manifest.step)
    with contextlib.suppress(OSError):
        return (
            (path / MANIFEST).read_bytes() == content
            and all(_is_intact(path / name, facts) for name, facts in manifest.file_checksum().items())
            and all(
                _is_intact(run.replay_folder / name, facts) for name, facts in manifest.replay_facts().items() if replay
            )
        )
    return False


def _is_intact(path: Path, facts: dict[str, Any]) -> bool:
    with contextlib.suppress(CheckpointError):
        verify_file(path, facts)
        return True
    return False


def _fetch(remote: RemoteFolder, name: str, path: Path, facts: dict[str, Any] | None = None) -> None:
    """Copy a file from a storage, whole or not at all. Raises CheckpointError if it is not as `facts` say."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = _new_beside(path)
    try:
        with name_target(path, beside):
            remote.download(name, beside)
        if facts is not None:
            verify_file(beside, facts)
        os.replace(beside, path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def _read(remote: RemoteFolder, step: str, sizes: dict[str, int]) -> tuple[bytes, Manifest]:
    """A checkpoint's manifest in a storage: its bytes, and what is in them. Raises CheckpointError if it is damaged."""
    name = f"checkpoints/{step}/{MANIFEST}"
    content = _small(remote, name, sizes)
    place = f"{remote.url}/checkpoints/{step}"
    try:
        data = parse_json(content.decode())
    except ValueError as problem:
        raise CheckpointError(f"{remote.url}/{name} cannot be read as JSON: {problem}") from None
    manifest = Manifest.of(place, checked_manifest(data, place))
    if manifest.step != int(step):
        raise CheckpointError(f"{remote.url}/{name} belongs to step {manifest.step:,}")
    return content, manifest


def _manifests(run: Run) -> dict[str, Manifest]:
    """The manifests of a run folder's checkpoints by their steps, without those of old ones that cannot be read.

    Old ones may be damaged, or were being removed when the process was killed. Raises CheckpointError if the newest cannot
    be read.
    """
    found = {}
    for path in (paths := undamaged(run)):
        try:
            found[path.name] = Manifest.of(path, read_manifest(path))
        except CheckpointError:
            if path == paths[-1]:
                raise
    return found


def _small(remote: RemoteFolder, name: str, sizes: dict[str, int]) -> bytes:
    """The contents of a file that is never large. Raises CheckpointError if it is."""
    if sizes[name] > MAX_BYTES:
        raise CheckpointError(f"{remote.url}/{name} has {sizes[name]:,} bytes, more than the {MAX_BYTES:,} allowed")
    return remote.read(name)


def _files_of(step: str, manifest: Manifest, *, replay: bool = True) -> dict[str, dict[str, Any]]:
    """The files that a checkpoint needs, by their names in the run folder, the replay buffer's first."""
    files = {f"replay/{name}": facts for name, facts in manifest.replay_facts().items()} if replay else {}
    return files | {f"checkpoints/{step}/{name}": facts for name, facts in manifest.file_checksum().items()}


def _steps(names: dict[str, Any]) -> list[str]:
    """The checkpoints that have a manifest among these files, oldest first."""
    found = (_OURS.fullmatch(name) for name in names)
    steps = {one["step"] for one in found if one is not None and one["step"] and one.string.endswith(f"/{MANIFEST}")}
    return sorted(steps, key=int)


def _check_same(run: Run, config: bytes, remote: RemoteFolder) -> None:
    """Raise UsageError if the folder holds anything but this run."""
    if not _is_same(run, config):
        raise UsageError(f"{run.path} holds a run other than {remote.url}; move it away, or work in another folder")
    if not run.facts() and run.path.exists() and any(_foreign(run.path)):
        raise UsageError(f"{run.path} is in the way of the run from {remote.url}; move it away")


def _is_same(run: Run, config: bytes) -> bool:
    """Whether the run folder holds the run with the config.json `config`, or none."""
    mine, theirs = run.facts(), None
    with contextlib.suppress(ValueError):
        theirs = parse_json(config.decode())
    return not mine or (
        isinstance(theirs, dict) and all(mine.get(name) == theirs.get(name) for name in ("date", "config", "command"))
    )


def _foreign(path: Path) -> Iterator[str]:
    """What is in a folder, except for the remains of an interrupted copy."""
    ours = {*TOP_FILES, "checkpoints", "replay", ".lock"}
    for entry in path.iterdir():
        if entry.name not in ours and not entry.name.endswith(".tmp"):
            yield entry.name


def _others(remote: RemoteFolder) -> str:
    """The end of a sentence: which runs are there instead."""
    found = remote.folders()
    if found:
        return f", but it has folders: {', '.join(found[:5])}{', …' if len(found) > 5 else ''}"
    above, _, name = remote.url.rpartition("/")
    with contextlib.suppress(Exception):
        return suggestions(name, RemoteFolder(above).folders())
    return ""
