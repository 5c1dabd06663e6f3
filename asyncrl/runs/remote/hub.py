"""Agents on the Hugging Face Hub: `hf:USER/NAME`, as `asyncrl share --upload` puts them there."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asyncrl.common.serialization import MAX_BYTES
from asyncrl.errors import CheckpointError, UsageError
from asyncrl.runs.checkpoints.manifest import MANIFEST, WEIGHTS, Manifest, read_manifest

__all__ = ["PREFIX", "check_repository_name", "downloaded", "hub_errors", "hub_name", "import_hub", "is_on_hub"]

PREFIX = "hf:"
_METRICS = "metrics.jsonl"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
_MAX_METRICS = 64 * 2**20
"""Bytes of a metrics.jsonl that are downloaded."""


def is_on_hub(name: str | os.PathLike[str]) -> bool:
    """Whether a name stands for an agent on the Hub, such as hf:USER/NAME."""
    return os.fspath(name).startswith(PREFIX)


def downloaded(name: str | os.PathLike[str]) -> Path:
    """Return the folder of the checkpoint hf:USER/NAME or hf:USER/NAME@REVISION, which is downloaded if it is new.

    Of the repository, its manifest, weights and metrics are downloaded, into the cache of huggingface_hub. Names of its
    other files do not matter, and nothing in it is run. Without a connection, an earlier download serves.

    Raises UsageError if there is no such agent or no connection, or huggingface_hub is missing; CheckpointError if the
    files cannot be those of a checkpoint.
    """
    repository, _, revision = os.fspath(name).removeprefix(PREFIX).partition("@")
    check_repository_name(repository, f"{PREFIX}{repository}")
    if revision and not _REVISION.fullmatch(revision):
        raise UsageError(f"{name}: {revision!r} is not a revision; expected a branch, a tag or the hash of a commit")
    hub = import_hub()
    with hub_errors(os.fspath(name)):
        manifest = _fetched(hub, repository, revision or None, MANIFEST, MAX_BYTES)
        if manifest is None:
            raise UsageError(f"{name} is not an agent of asyncrl: the repository has no {MANIFEST}")
        folder, commit = manifest.parent, manifest.parent.name
        expected = Manifest.of(folder, read_manifest(folder)).files[WEIGHTS].bytes
        if _fetched(hub, repository, commit, WEIGHTS, expected) is None:
            raise CheckpointError(f"{name} has no {WEIGHTS}")
        with contextlib.suppress(Exception):  # an agent plays without them
            _fetched(hub, repository, commit, _METRICS, _MAX_METRICS)
    return folder


def hub_name(folder: Path) -> str | None:
    """Return hf:USER/NAME of a downloaded agent, from its folder; None for another folder."""
    repository = folder.parent.parent.name.split("--")
    is_snapshot = folder.parent.name == "snapshots" and repository[0] == "models" and len(repository) == 3
    return f"{PREFIX}{repository[1]}/{repository[2]}" if is_snapshot else None


def check_repository_name(name: str, given: str) -> None:
    """Raise UsageError if `name` is not USER/NAME."""
    if not _REPOSITORY.fullmatch(name) or ".." in name:
        raise UsageError(f"{given} does not name a repository of the Hugging Face Hub; expected USER/NAME")


def import_hub() -> Any:
    """Return the module huggingface_hub. Raises UsageError if it is missing."""
    try:
        import huggingface_hub
    except ImportError:
        raise UsageError("the Hugging Face Hub needs huggingface_hub: pip install 'asyncrl[share]'") from None
    return huggingface_hub


@contextmanager
def hub_errors(name: str) -> Iterator[None]:
    """Turn what huggingface_hub raises about the repository `name` into a UsageError in one sentence."""
    from huggingface_hub import errors

    unreachable: Any = (OSError, *errors.HfHubHTTPError.__bases__)  # httpx's errors of the connection are not OSErrors
    try:
        yield
    except errors.GatedRepoError:
        raise UsageError(
            f"{name} is open only to users whom its author admits: ask on its page, then `hf auth login`"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UsageError(
            f"there is no {name} on the Hub, or it is private: check the name, or log in (hf auth login)"
        ) from None
    except errors.RevisionNotFoundError:
        raise UsageError(f"{name}: the repository has no such revision") from None
    except errors.LocalEntryNotFoundError:
        raise UsageError(
            f"{name} cannot be downloaded, and no earlier download is there: the Hub does not answer"
        ) from None
    except errors.HfHubHTTPError as problem:
        reason = " ".join(str(problem).split())[:200]
        raise UsageError(f"{name}: the Hub answered: {reason}") from None
    except unreachable as problem:
        raise UsageError(f"{name}: the Hub cannot be reached: {' '.join(str(problem).split())[:200]}") from None


def _fetched(hub: Any, repository: str, revision: str | None, file: str, most: int) -> Path | None:
    """Return a file of the repository in the cache; None if the repository has none.

    Raises CheckpointError if it is larger than `most` bytes; nothing is downloaded where the Hub says so.
    """
    from huggingface_hub import errors

    known = hub.try_to_load_from_cache(repository, file, revision=revision)
    if known is not None and _COMMIT.fullmatch(revision or ""):  # a commit does not change
        return Path(known) if isinstance(known, str) else None
    size, is_reachable = 0, True
    try:
        size = hub.get_hf_file_metadata(hub.hf_hub_url(repository, file, revision=revision)).size or 0
    except errors.HfHubHTTPError:
        pass  # hf_hub_download says what is wrong
    except Exception:
        is_reachable = False  # an earlier download serves at once; hf_hub_download would try for half a minute
    _check_size(f"{PREFIX}{repository}: {file}", size, most)
    try:
        path = Path(hub.hf_hub_download(repository, file, revision=revision, local_files_only=not is_reachable))
    except errors.LocalEntryNotFoundError:
        raise
    except errors.EntryNotFoundError:
        return None
    _check_size(f"{PREFIX}{repository}: {file}", path.stat().st_size, most)
    return path


def _check_size(file: str, size: int, most: int) -> None:
    if size > most:
        raise CheckpointError(f"{file} has {size:,} bytes, more than the {most:,} expected")
