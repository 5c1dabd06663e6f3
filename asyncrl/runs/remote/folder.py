"""A folder in any place that fsspec can write to: s3://BUCKET/FOLDER, a network drive, file:///FOLDER, …"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asyncrl.common.os_errors import describe_os_error, is_full
from asyncrl.errors import AsyncRLError, UsageError, suggestions

__all__ = ["RemoteFolder", "is_url", "remote_errors"]

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.ASCII | re.IGNORECASE)
_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]*://[^/@]*:[^/]*@", re.ASCII | re.IGNORECASE)
_EXTRAS = {"s3": "asyncrl[s3]", "s3a": "asyncrl[s3]", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
"""What to install for a protocol."""


def is_url(name: str | os.PathLike[str]) -> bool:
    """Whether a name is a URL, such as s3://bucket/runs."""
    return _URL.match(os.fspath(name)) is not None


class RemoteFolder:
    """A folder in a storage. Its files appear complete or not at all, except where a file system cannot rename.

    Credentials and addresses come from the environment variables and configuration files of fsspec and its packages.
    Methods raise what these raise; `remote_errors` turns that into a sentence.
    """

    def __init__(self, url: str) -> None:
        """Raises UsageError for a URL that has a password, or whose protocol is unknown or not installed."""
        self.url = url.rstrip("/")
        self._files, self._root = _open(url)
        self._root = self._root.rstrip("/")

    def __truediv__(self, name: str) -> RemoteFolder:
        return RemoteFolder(f"{self.url}/{name}")

    @property
    def local(self) -> Path | None:
        """The folder's path on this machine; None if it is elsewhere."""
        from fsspec.implementations.local import LocalFileSystem

        return Path(self._root) if isinstance(self._files, LocalFileSystem) else None

    def check_writable(self) -> None:
        """Write and remove an empty file. Raises UsageError if that fails."""
        name = f".asyncrl-{secrets.token_hex(8)}"
        with remote_errors(f"{self.url} cannot be written"):
            if not self._is_object_store:
                self._files.makedirs(self._root, exist_ok=True)
            self._files.pipe_file(self._place(name), b"")
            self._files.rm_file(self._place(name))

    def sizes(self) -> dict[str, int]:
        """Size in bytes of every file in the folder and below, by its name relative to the folder."""
        self._files.invalidate_cache()
        found = self._files.find(self._root, detail=True)
        start = len(self._root) + 1
        return {path[start:]: int(facts.get("size") or 0) for path, facts in found.items() if len(path) > start}

    def folders(self) -> list[str]:
        """Names of the folders in this folder; [] if there is none of this name."""
        self._files.invalidate_cache()
        try:
            found = self._files.ls(self._root, detail=True)
        except FileNotFoundError:
            return []
        return sorted(one["name"].rstrip("/").rpartition("/")[2] for one in found if one["type"] == "directory")

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        self._files.invalidate_cache()
        return bool(self._files.isfile(self._place(name)))

    def read(self, name: str) -> bytes:
        """The contents of a small file."""
        return bytes(self._files.cat_file(self._place(name)))

    def modified(self, name: str) -> float:
        """When a file last changed, in seconds since 1970."""
        return float(self._files.modified(self._place(name)).timestamp())

    def download(self, name: str, path: Path) -> None:
        """Copy a file of the folder to `path`."""
        try:
            self._files.get_file(self._place(name), str(path))
        except OSError as problem:
            if problem.filename is None and is_full(problem):  # an error of the network has no path
                problem.filename = str(path)
            raise

    def upload(self, path: Path, name: str) -> None:
        """Copy the file `path` into the folder, replacing one of the same name."""
        place = self._place(name)
        if self._is_object_store:
            self._files.put_file(str(path), place)
            return
        parent, _, base = place.rpartition("/")
        self._files.makedirs(parent, exist_ok=True)
        beside = f"{parent}/.{base}.tmp"
        self._files.put_file(str(path), beside)
        self._files.mv(beside, place)

    def remove(self, name: str) -> None:
        """Remove a file, and its folder if that is empty now. A missing file is no error."""
        with contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._place(name))
        if not self._is_object_store:
            with contextlib.suppress(OSError):  # it has other files
                self._files.rmdir(self._place(name).rpartition("/")[0])

    @property
    def _is_object_store(self) -> bool:
        """Whether a file that is written appears when it is complete, and folders are only names."""
        from fsspec.asyn import AsyncFileSystem

        return isinstance(self._files, AsyncFileSystem)

    def _place(self, name: str) -> str:
        return f"{self._root}/{name}"


@contextmanager
def remote_errors(sentence: str) -> Iterator[None]:
    """Turn what fsspec or a package of it raises into a UsageError: `sentence` and the reason."""
    try:
        yield
    except AsyncRLError:
        raise
    except Exception as problem:  # the packages raise many kinds of exceptions
        raise UsageError(f"{sentence}: {describe(problem)}") from None


def describe(problem: Exception) -> str:
    """An exception of fsspec or a package of it as one sentence."""
    if isinstance(problem, OSError):
        return describe_os_error(problem)
    return " ".join(f"{type(problem).__name__}: {problem}".split())[:300]


def _open(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    import fsspec

    if _PASSWORD.match(url):
        shown = re.sub(r"//[^/]*@", "//…@", url)
        raise UsageError(
            f"{shown} holds a password, which would be saved with the run; leave it out, and put credentials in the "
            "storage's environment variables or configuration files"
        )
    protocol = fsspec.utils.get_protocol(url)
    try:
        files, path = fsspec.core.url_to_fs(url)
    except ImportError:
        package = _EXTRAS.get(protocol)
        how = f"pip install '{package}'" if package else "install the package of fsspec for it"
        raise UsageError(f"{protocol}:// needs a package that is not installed: {how}") from None
    except ValueError as problem:
        known = fsspec.available_protocols()
        if protocol in known:
            raise UsageError(f"{url} does not name a folder: {describe(problem)}") from None
        raise UsageError(f"there is no storage {protocol}://{suggestions(protocol, known)}") from None
    return files, str(path)
