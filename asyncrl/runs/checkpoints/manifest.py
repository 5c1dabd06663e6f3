"""The manifest of a checkpoint: counters, configuration, contract, and the hash of every file."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from asyncrl.common import signing
from asyncrl.common.serialization import from_json, read_json, to_json, write_atomically
from asyncrl.errors import CheckpointError, UsageError

__all__ = [
    "FORMAT",
    "MANIFEST",
    "REPLAY_FILE",
    "TENSOR_FILE",
    "WEIGHTS",
    "Manifest",
    "Rewind",
    "checked_manifest",
    "is_signed",
    "manifest_sha256",
    "read_manifest",
    "write_manifest",
]

FORMAT = 1
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
TENSOR_FILE = re.compile(r"[a-z_]+\.safetensors", re.ASCII)
"""Names of the files in a checkpoint's folder."""
REPLAY_FILE = re.compile(r"\d{12,20}\.safetensors", re.ASCII)
"""Names of the files of a replay buffer."""
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_LARGEST_COUNT = 2**53
_PURPOSE = "checkpoint"
"""The purpose of a manifest's signature."""


@dataclass(frozen=True)
class Rewind:
    """A return to an earlier checkpoint with a lower learning rate, after the run diverged."""

    step: int
    """Environment step at which the run diverged."""
    update: int
    back_to: int
    """Update of the checkpoint that the run returned to."""
    learning_rate: float
    """Learning rate from there on."""
    reason: str


@dataclass(frozen=True)
class _File:
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """A manifest without its configuration and contract."""

    step: int
    update: int
    seconds: float
    weights_sha256: str
    parameters: tuple[str, ...]
    files: dict[str, _File]
    asyncrl: str
    replay: dict[str, _File] = field(default_factory=dict)
    scheduled: bool = True
    sound: bool = True
    rewinds: tuple[Rewind, ...] = ()
    diverged: bool = False

    @classmethod
    def of(cls, folder: Path | str, data: Mapping[str, Any]) -> Manifest:
        """The manifest with the JSON `data`. Raises CheckpointError, which names the folder, if it is damaged."""
        known = {field.name for field in fields(cls)}
        try:
            manifest = from_json(cls, {name: value for name, value in data.items() if name in known})
            manifest._check()
        except UsageError as problem:
            raise CheckpointError(f"{folder}/{MANIFEST} is damaged: {problem}") from None
        return manifest

    def _check(self) -> None:
        """Raise UsageError for values that no checkpoint has, and for names that may lead out of its folder."""
        counts_are_valid = 0 <= self.step < _LARGEST_COUNT and 0 <= self.update < _LARGEST_COUNT
        if not counts_are_valid or not 0 <= self.seconds < math.inf:
            raise UsageError("step, update or seconds are out of range")
        for name, file in [*self.files.items(), *self.replay.items()]:
            pattern = TENSOR_FILE if name in self.files else REPLAY_FILE
            if not pattern.fullmatch(name) or not _SHA256.fullmatch(file.sha256) or file.bytes < 0:
                raise UsageError(f"{name[:80]!r} with {file.bytes} bytes is not a file of a checkpoint")
        if WEIGHTS not in self.files:
            raise UsageError(f"{WEIGHTS} is missing")

    def file_checksum(self) -> dict[str, dict[str, Any]]:
        """By name of each file: its sha256 and bytes."""
        return {name: to_json(file) for name, file in self.files.items()}

    def replay_facts(self) -> dict[str, dict[str, Any]]:
        """The same for the files of the replay buffer."""
        return {name: to_json(file) for name, file in self.replay.items()}


def read_manifest(folder: Path) -> dict[str, Any]:
    """The JSON of a checkpoint's manifest. Raises CheckpointError if it is missing, damaged or of another format."""
    path = folder / MANIFEST
    if not path.is_file():
        raise CheckpointError(f"{folder} is not a checkpoint: it has no {MANIFEST}")
    return checked_manifest(read_json(path), folder)


def checked_manifest(data: Any, folder: Path | str) -> dict[str, Any]:
    """`data` if it is the JSON of a manifest, from this folder. Raises CheckpointError as `read_manifest` does."""
    if not isinstance(data, dict) or "weights_sha256" not in data:
        raise CheckpointError(f"{folder}/{MANIFEST} is not a manifest of asyncrl")
    if data.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder} has format {data.get('format')!r:.80}; this asyncrl reads format {FORMAT}: use the one that wrote it"
        )
    if data.get("manifest_sha256") != manifest_sha256(data):
        raise CheckpointError(f"{folder}/{MANIFEST} is damaged: its sha256 does not match")
    return data


def write_manifest(folder: Path, data: Mapping[str, Any], *, sign: bool) -> None:
    """Write `data` with its hash, and with this user's signature if `sign`."""
    facts = {name: value for name, value in data.items() if name != "signature"}
    signed = {**facts, "signature": signing.sign(_PURPOSE, manifest_sha256(facts)) if sign else ""}
    sealed = {**signed, "manifest_sha256": manifest_sha256(signed)}
    write_atomically(folder / MANIFEST, json.dumps(sealed, indent=1) + "\n")


def is_signed(data: Mapping[str, Any]) -> bool:
    """Whether this user has signed the manifest."""
    facts = {name: value for name, value in data.items() if name != "signature"}
    return signing.is_signed(_PURPOSE, manifest_sha256(facts), data.get("signature"))


def manifest_sha256(data: Mapping[str, Any]) -> str:
    """Hash of a manifest without the hash itself."""
    facts = {name: value for name, value in data.items() if name != "manifest_sha256"}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
