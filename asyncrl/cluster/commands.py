"""Commands of `asyncrl` on the nodes of a Ray cluster, with their files brought back while they run.

The folder of a study stays on this machine. A command gets copies of the files that it reads, in a temporary folder on its
node; what it writes there is copied back about every second. If the node is lost, the command begins again on another one
with what has been copied back.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from asyncrl.cluster.connection import import_ray
from asyncrl.cluster.node_folder import NodeFolder
from asyncrl.common.command_process import CommandProcess
from asyncrl.common.counting import counted
from asyncrl.common.serialization import write_atomically

__all__ = ["Command", "FolderChanges", "RemoteProcess"]

_POLL = 1.0
"""Seconds that a poll of a command waits for its end."""
_SILENCE = 120.0
"""Seconds after which a node that does not answer is given up."""
_MAX_RESTARTS = 3
"""Times that a command is restarted."""
_MESSAGE = 2**28
"""Bytes of files that are copied at once, if they are several."""
_MARKS = ("latest", "best")
"""Files that name others: they are read before the others and written after them."""
_TAIL = 64
"""Bytes before its end by which a file is known that has grown."""


@dataclass(frozen=True)
class Command:
    """A command line without `asyncrl`."""

    words: tuple[str, ...]
    inputs: tuple[Path, ...] = ()
    """Files and folders that it reads; those in the study's folder may be continued."""


class _Piece(NamedTuple):
    """A file, or what it has grown by."""

    name: str
    """Its path in the folder, with slashes"""
    at: int | None
    """Where the content begins; None if it replaces the file"""
    content: bytes


class _Answer(NamedTuple):
    """What has happened since the last poll."""

    code: int | None
    """The exit code, once every file has been copied"""
    pieces: list[_Piece]
    gone: list[str]


class _Known(NamedTuple):
    """The state in which a file was copied."""

    size: int
    changed: int
    """Time of its last change, in nanoseconds"""
    copied: int
    """Bytes that were copied: those of whole lines, where a file has records"""
    tail: bytes


@dataclass
class FolderChanges:
    """What has changed in a folder since it was last checked, to be copied elsewhere."""

    root: Path
    known: dict[str, _Known] = field(default_factory=dict)

    def take(self) -> tuple[list[_Piece], list[str], bool]:
        """New pieces of files, names of removed files, and whether there is more."""
        marks = {}
        for name in (name for name in self._names() if Path(name).name in _MARKS):
            with contextlib.suppress(FileNotFoundError):
                marks[name] = (self.root / name).read_bytes()
        names, size = sorted(self._names(), key=lambda name: (name in marks, name)), 0
        pieces: list[_Piece] = []
        for name in names:
            if size > _MESSAGE:
                return pieces, [], True
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                piece = self._piece(name, marks.get(name))
                pieces += [] if piece is None else [piece]
                size += 0 if piece is None else len(piece.content)
        gone = [name for name in self.known if name not in names]
        for name in gone:
            del self.known[name]
        return pieces, gone, False

    def note(self) -> None:
        """Take every file as copied."""
        for name in self._names():
            self._piece(name, None)

    def _names(self) -> Iterator[str]:
        """Paths of the files, without hidden ones: locks and files that are being written."""
        for folder, folders, files in os.walk(self.root):
            folders[:] = [name for name in folders if not name.startswith(".") and name != "live"]
            yield from ((Path(folder) / name).relative_to(self.root).as_posix() for name in files if name[0] != ".")

    def _piece(self, name: str, mark: bytes | None) -> _Piece | None:
        """What has changed of a file; None if nothing has."""
        path, before = self.root / name, self.known.get(name)
        status = path.stat()
        if before is not None and (before.size, before.changed) == (status.st_size, status.st_mtime_ns):
            return None
        content, at = path.read_bytes() if mark is None else mark, None
        if path.suffix == ".jsonl":
            content = content[: content.rfind(b"\n") + 1]
        if before is not None and not _has_paths(name) and content[: before.copied].endswith(before.tail):
            at = before.copied if len(content) > before.copied else None
        is_partial = before is not None and path.suffix == ".jsonl" and len(content) == before.copied and not at
        self.known[name] = _Known(status.st_size, status.st_mtime_ns, len(content), content[-_TAIL:])
        return None if is_partial else _Piece(name, at, content[at or 0 :])


class _Node:
    """A command on its node. It ends with the Ray actor that has this object, and so with the program that asked for it."""

    def __init__(self, words: list[str], files: dict[str, bytes], place: _Place) -> None:
        self._temporary = NodeFolder()
        self._root = self._temporary.path
        for name, content in files.items():
            path = self._root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.replace(place.study.encode(), bytes(self._root)) if _has_paths(name) else content)
        for name in (place.out, place.errors):
            (self._root / name).parent.mkdir(parents=True, exist_ok=True)
        self._study = place.study
        self._folder = FolderChanges(self._root)
        self._folder.note()
        words = [word.replace(place.study, str(self._root)) for word in words]
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | place.environment
        here = Path(place.working_directory)
        out, errors = self._root / place.out, self._root / place.errors
        self._process = CommandProcess(
            words, out, errors, folder=here if here.is_dir() else self._root, environment=environment
        )

    def look(self) -> _Answer:
        """What is new. Returns at the command's end, or after about a second."""
        end = time.monotonic() + _POLL
        while (code := self._process.poll()) is None and time.monotonic() < end:
            time.sleep(0.05)
        pieces, gone, is_more = self._folder.take()
        here, there = bytes(self._root), self._study.encode()
        pieces = [
            piece._replace(content=piece.content.replace(here, there)) if _has_paths(piece.name) else piece
            for piece in pieces
        ]
        return _Answer(None if is_more else code, pieces, gone)

    def interrupt(self) -> None:
        """Ask the command to save and end."""
        self._process.interrupt()

    def close(self) -> None:
        """Kill the command if it runs, and remove its files."""
        self._process.kill()
        self._temporary.remove()


class _Place(NamedTuple):
    """Where a command runs and what it writes, as seen from here."""

    study: str
    """The folder of the study"""
    out: str
    errors: str
    """Files of its output, relative to it"""
    working_directory: str
    environment: dict[str, str]


class RemoteProcess:
    """A command on some node of the connected cluster, with the verbs of `CommandProcess`."""

    def __init__(
        self,
        make: Callable[[], Command],
        out: Path,
        errors: Path,
        *,
        study: Path,
        cores: int,
        gpus: int,
        stored: Callable[[Path], None],
        say: Callable[[str], None],
    ) -> None:
        """Args:
        make: Returns the command; called again for each restart.
        out, errors: Files in `study` for its output.
        study: The folder whose files the command reads and writes.
        cores, gpus: What it takes of its node.
        stored: Told about every file that has been copied back completely.
        say: Told about lost nodes.
        """
        self._make, self._study, self._stored, self._say = make, study, stored, say
        environment = {"OMP_NUM_THREADS": os.environ["OMP_NUM_THREADS"]} if "OMP_NUM_THREADS" in os.environ else {}
        if not gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        names = [path.relative_to(study).as_posix() for path in (out, errors)]
        self._place = _Place(str(study), names[0], names[1], os.getcwd(), environment)
        self._takes = {"num_cpus": cores, "num_gpus": gpus, "scheduling_strategy": "SPREAD"}
        self._code: int | None = None
        self._next: Any
        """The answer that is waited for"""
        self._heard: float | None
        """When the node has answered last"""
        self._losses = 0
        self._is_interrupted = False
        self._begin()

    def poll(self) -> int | None:
        """The exit code, or None while it runs or waits for a node with free cores."""
        ray = import_ray()
        if self._code is not None:
            return self._code
        ready, _ = ray.wait([self._next], timeout=0)
        if not ready:
            if self._heard is not None and time.monotonic() - self._heard > _SILENCE:
                self._lose(f"its node has not answered for {_SILENCE:g} s")
            return self._code
        try:
            answer: _Answer = ray.get(self._next, timeout=_SILENCE)
        except ray.exceptions.RayTaskError as problem:
            self._note(f"asyncrl: {problem.cause}")
            self._end(1)
            return self._code
        except ray.exceptions.RayError as problem:
            self._lose(f"its node was lost ({type(problem).__name__})")
            return self._code
        self._heard = time.monotonic()
        self._store(answer)
        if answer.code is None:
            self._next = self._actor.look.remote()
        elif answer.code < 0 and not self._is_interrupted:  # a node that is lost may end its processes one by one
            self._lose(f"signal {-answer.code} ended it")
        else:
            self._end(answer.code)
        return self._code

    def interrupt(self) -> None:
        """Ask the command to save and end; one that has not begun ends at once. Only the first call does."""
        if self._is_interrupted or self._code is not None:
            return
        self._is_interrupted = True
        if self._heard is None:
            self._end(130)
        else:
            self._actor.interrupt.remote()

    def kill(self) -> None:
        """Kill the command. Idempotent."""
        if self._code is None:
            self._end(-9)

    def _begin(self) -> None:
        ray = import_ray()
        command = self._make()
        words, files = [*command.words], dict[str, bytes]()
        log = self._study / self._place.errors
        for path in (*command.inputs, *([log] if log.is_file() else [])):
            if path.is_relative_to(self._study):
                each = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
                hidden = [file for file in each if any(part[0] == "." for part in file.relative_to(self._study).parts)]
                files |= {
                    file.relative_to(self._study).as_posix(): file.read_bytes() for file in each if file not in hidden
                }
            else:
                name = f"inputs/{len(files)}-{path.name}"
                files[name] = path.read_bytes()
                words = [f"{self._study}/{name}" if word == str(path) else word for word in words]
        node = ray.remote(_Node).options(**self._takes, max_restarts=0, max_task_retries=0)
        self._actor = node.remote(words, files, self._place)
        self._next = self._actor.look.remote()
        self._heard = None

    def _lose(self, why: str) -> None:
        """Restart the command on another node, unless that has happened too often."""
        ray = import_ray()
        self._losses += 1
        ray.kill(self._actor)
        if self._is_interrupted or self._losses > _MAX_RESTARTS:
            self._note(f"asyncrl: {why}, {counted(self._losses, 'time')}")
            self._code = 1
            return
        self._say(f"{self._place.errors}: {why}; restarting it from the files copied back so far")
        self._begin()

    def _note(self, line: str) -> None:
        """Add a line to the command's log."""
        with open(self._study / self._place.errors, "a", encoding="utf-8") as log:
            print(line, file=log)

    def _end(self, code: int) -> None:
        ray = import_ray()
        self._code = code
        with contextlib.suppress(ray.exceptions.RayError):
            if self._heard is not None:
                ray.get(self._actor.close.remote(), timeout=_POLL + 10)
        ray.kill(self._actor)

    def _store(self, answer: _Answer) -> None:
        """Write what has been copied to the study's folder."""
        for piece in answer.pieces:
            path = self._study / piece.name
            if ".." in path.parts:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if piece.at is None:
                write_atomically(path, piece.content)
            else:
                with open(path, "r+b") as file:
                    file.seek(piece.at)
                    file.write(piece.content)
                    file.truncate()
            self._stored(path)
        for name in answer.gone:
            path = self._study / name
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it has other files
                path.parent.rmdir()


def _has_paths(name: str) -> bool:
    """Whether a file names its own folder."""
    return name.endswith((".txt", "config.json")) or (name.startswith("logs/") and name.endswith(".json"))
