"""A learner's state as a folder: safetensors and a manifest that knows the hash of every file.

It is written beside its place and renamed when it is whole, so a crash at any moment leaves the old
checkpoints and no half one. Loading runs no code: there is no pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asyncrl.config import RunConfig
from asyncrl.envs import Contract
from asyncrl.errors import CheckpointError, UsageError
from asyncrl.networks import have_diverged
from asyncrl.serialization import (
    file_facts,
    from_json,
    load_tensors,
    read_json,
    save_tensors,
    sync_folder,
    tensor_sha256,
    to_json,
    verify_file,
    write_atomically,
)
from asyncrl.version import __version__

__all__ = ["Checkpoint", "Rewind", "amend", "delete", "export", "is_own", "load", "read", "replay_files", "save", "verify"]

FORMAT = 1
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
_OWN = re.compile(r"(\.manifest\.json\.tmp|manifest\.json|[a-z_]+\.safetensors)", re.ASCII)
"""How files in a checkpoint's folder are called."""


@dataclass(frozen=True)
class Rewind:
    """A run diverged and went back to a checkpoint, to go on from there with a lower learning rate."""

    step: int
    """Where it diverged."""
    update: int
    back_to: int
    """The update of the checkpoint."""
    learning_rate: float
    """From there on."""
    reason: str


@dataclass(frozen=True)
class Checkpoint:
    """What a manifest says, and where its files are."""

    path: Path
    step: int
    update: int
    seconds: float
    """Time the run had taken."""
    weights_sha256: str
    """Hash of the weight vector, float32, in the order of `parameters`."""
    parameters: tuple[str, ...]
    contract: Contract
    config: RunConfig
    files: dict[str, dict[str, Any]]
    """name → {"sha256", "bytes"}"""
    asyncrl: str
    """Version that wrote it."""
    replay: dict[str, dict[str, Any]]
    """Files of the run's folder `replay` that hold its replay memory: as `files`, oldest first. Acting needs none."""
    scheduled: bool = True
    """Made where `checkpoint_every` was due, and so by every run of this configuration."""
    sound: bool = True
    """The weights are no longer than training makes them where it does not diverge: `Learner.is_sound`."""
    rewinds: tuple[Rewind, ...] = ()
    """How often the run has diverged and gone back, up to here."""
    diverged: bool = False
    """The run diverged after this checkpoint."""

    def has(self, name: str) -> bool:
        """Is there a file of tensors by this name?"""
        return f"{name}.safetensors" in self.files

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of one of its files, as `weights`."""
        return load_tensors(self.path / f"{name}.safetensors")

    def weights(self) -> Tensor:
        """The weight vector [P] float32. Raises CheckpointError where its hash is another, or where they have diverged."""
        named = self.tensors("weights")
        vector = torch.cat([named[name].float().flatten() for name in self.parameters])
        if tensor_sha256(vector) != self.weights_sha256:
            raise CheckpointError(f"{self.path / WEIGHTS} does not hold the weights that its manifest names")
        if have_diverged(vector):
            norm = float(vector.norm())
            raise CheckpointError(
                f"{self.path / WEIGHTS} holds weights of a run that diverged (their norm is {norm:.3g}); take an earlier "
                "checkpoint, or train anew with a lower --learning-rate"
            )
        return vector


def save(
    path: Path,
    tensors: Mapping[str, Mapping[str, Tensor]],
    *,
    step: int,
    update: int,
    seconds: float,
    contract: Contract,
    config: RunConfig,
    replay: Mapping[str, Mapping[str, Any]] | None = None,
    scheduled: bool = True,
    sound: bool = True,
    rewinds: Sequence[Rewind] = (),
) -> None:
    """Write a checkpoint folder; `tensors` maps a file's stem to its tensors and has `weights`."""
    beside = path.with_name(f".{path.name}.tmp")
    delete(beside)
    beside.mkdir(parents=True)
    try:
        for stem, named in tensors.items():
            save_tensors(beside / f"{stem}.safetensors", named)
    except OSError:
        shutil.rmtree(beside, ignore_errors=True)  # on a full disk it takes the room of the next one
        raise
    files = {file.name: file_facts(file) for file in sorted(beside.iterdir())}
    weights = tensors["weights"]
    manifest = {
        "format": FORMAT,
        "asyncrl": __version__,
        "step": step,
        "update": update,
        "seconds": seconds,
        "weights_sha256": tensor_sha256(torch.cat([w.float().flatten() for w in weights.values()])),
        "parameters": list(weights),
        "contract": to_json(contract),
        "config": config.to_json(),
        "files": files,
        "replay": dict(replay or {}),
        "scheduled": scheduled,
        "sound": sound,
        "rewinds": to_json(list(rewinds)),
    }
    _write_manifest(beside, manifest)
    aside = path.with_name(f".{path.name}.old")
    if path.exists():
        delete(aside)
        os.replace(path, aside)
    os.replace(beside, path)
    sync_folder(path.parent)
    delete(aside)


def amend(checkpoint: Checkpoint, **facts: Any) -> Checkpoint:
    """Change what a checkpoint's manifest says: its `config`, `rewinds`, or `diverged`. It is done or not, never half."""
    _write_manifest(checkpoint.path, {**read_json(checkpoint.path / MANIFEST), **to_json(facts)})
    return read(checkpoint.path)


def is_own(file: Path) -> bool:
    """Is this a file that `save` writes into a checkpoint's folder, by its name?"""
    return _OWN.fullmatch(file.name) is not None


def delete(path: Path) -> None:
    """Remove a checkpoint's files, and its folder unless somebody else has put something there; never through a link."""
    if path.is_symlink() or not path.is_dir():
        return
    for file in sorted(filter(is_own, path.iterdir())):  # the manifest first: what is half removed is no checkpoint
        if file.is_file() and not file.is_symlink():
            file.unlink()
    if not any(path.iterdir()):
        path.rmdir()


def export(checkpoint: Checkpoint, folder: Path) -> None:
    """Copy into a new folder what acting needs: the weights, not the optimizer."""
    folder.mkdir(parents=True)
    shutil.copy(checkpoint.path / WEIGHTS, folder)
    manifest = read_json(checkpoint.path / MANIFEST)
    _write_manifest(folder, {**manifest, "files": {WEIGHTS: manifest["files"][WEIGHTS]}, "replay": {}})


def read(path: Path) -> Checkpoint:
    """Read a manifest. Raises CheckpointError where it is damaged or of another kind."""
    if not (path / MANIFEST).is_file():
        raise CheckpointError(f"{path} is not a checkpoint: it has no {MANIFEST}")
    manifest = read_json(path / MANIFEST)
    if not isinstance(manifest, dict) or "weights_sha256" not in manifest:
        raise CheckpointError(f"{path / MANIFEST} is not a manifest of asyncrl")
    if manifest.get("format") != FORMAT:
        raise CheckpointError(f"{path} has format {manifest.get('format')}; this asyncrl reads format {FORMAT}")
    if manifest.get("manifest_sha256") != _manifest_sha256(manifest):
        raise CheckpointError(f"{path / MANIFEST} is damaged: its sha256 is not the one it names")
    try:
        return Checkpoint(
            path=path,
            step=manifest["step"],
            update=manifest["update"],
            seconds=manifest["seconds"],
            weights_sha256=manifest["weights_sha256"],
            parameters=tuple(manifest["parameters"]),
            contract=from_json(Contract, manifest["contract"], "contract"),
            config=RunConfig.from_json(manifest["config"]),
            files=manifest["files"],
            asyncrl=manifest["asyncrl"],
            replay=manifest.get("replay", {}),
            scheduled=manifest.get("scheduled", True),
            sound=manifest.get("sound", True),
            rewinds=from_json(tuple[Rewind, ...], manifest.get("rewinds", []), "rewinds"),
            diverged=manifest.get("diverged", False),
        )
    except (KeyError, TypeError, AttributeError, UsageError) as problem:
        raise CheckpointError(f"{path / MANIFEST} is damaged: {problem}") from None


def replay_files(path: Path) -> dict[str, dict[str, Any]]:
    """The files of a replay memory that a checkpoint needs, by name. Raises CheckpointError where it is damaged."""
    return read(path).replay


def verify(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError that names the first file that is missing, truncated or changed."""
    for name, facts in checkpoint.files.items():
        verify_file(checkpoint.path / name, facts)


def load(path: Path) -> Checkpoint:
    """Read and verify."""
    checkpoint = read(path)
    verify(checkpoint)
    return checkpoint


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    sealed = {**manifest, "manifest_sha256": _manifest_sha256(manifest)}
    write_atomically(folder / MANIFEST, json.dumps(sealed, indent=1) + "\n")


def _manifest_sha256(manifest: dict[str, Any]) -> str:
    """Hash of all that the manifest says, save the hash itself."""
    facts = {name: value for name, value in manifest.items() if name != "manifest_sha256"}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
