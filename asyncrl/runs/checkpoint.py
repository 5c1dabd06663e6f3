"""A learner's state as a folder: safetensors and a manifest that knows the hash of every file.

It is written beside its place and renamed when it is whole, so a crash at any moment leaves the old
checkpoints and no half one. Loading runs no code: there is no pickle.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asyncrl.common import signing
from asyncrl.common.serialization import (
    compare_tensors,
    file_facts,
    from_json,
    load_tensors,
    read_json,
    save_tensors,
    sync_folder,
    tensor_sha256,
    tensors_in,
    to_json,
    verify_file,
    write_atomically,
)
from asyncrl.envs import Contract, read_contract, reject_untrusted_code
from asyncrl.errors import CheckpointError, UsageError
from asyncrl.networks import have_diverged
from asyncrl.runs.config import RunConfig
from asyncrl.runs.resolution import check
from asyncrl.version import __version__

__all__ = [
    "Checkpoint",
    "Rewind",
    "amend",
    "check_trust",
    "delete",
    "export",
    "is_own",
    "load",
    "read",
    "read_settings",
    "replay_files",
    "save",
    "verify",
]

FORMAT = 1
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
_KIND = "checkpoint"
"""What a manifest's signature is for."""
_OWN = re.compile(r"(\.manifest\.json\.tmp|manifest\.json|[a-z_]+\.safetensors)", re.ASCII)
"""How files in a checkpoint's folder are called."""
_TENSORS = re.compile(r"[a-z_]+\.safetensors", re.ASCII)
REPLAY = re.compile(r"\d{12,20}\.safetensors", re.ASCII)
"""How files of a replay memory are called."""
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MOST_STEPS = 2**53
_MOST_FEATURES = 2**28
"""Numbers that a network may have and does not learn, as random features."""
_SLACK = 1024
"""Times the weights, and times a MiB, that a file of a checkpoint may have at most: its bytes are hashed."""


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

    def trusted(self) -> Checkpoint:
        """The same, whoever wrote it: what it names may be run."""
        return replace(self, contract=self.contract.from_stranger(None))

    def check_trust(self) -> None:
        """Raise UsageError where going on with the run would run code that somebody else's file names."""
        check_trust(self.config, self.contract)

    def has(self, name: str) -> bool:
        """Is there a file of tensors by this name?"""
        return f"{name}.safetensors" in self.files

    def tensors(self, name: str, expected: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The tensors of one of its files, as `weights`. Raises CheckpointError where they are not as `expected`
        (see `load_tensors`), or not finite.
        """
        path = self.path / f"{name}.safetensors"
        found = load_tensors(path, expected)
        for tensor_name, tensor in found.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise CheckpointError(
                    f"{path} has numbers in {tensor_name} that are not finite; take an earlier checkpoint"
                )
        return found

    def weights(self) -> Tensor:
        """The weight vector [P] float32. Raises CheckpointError where its hash is another, or where they have diverged."""
        named = self.tensors("weights", self.network())
        vector = torch.cat([named[name].flatten() for name in self.parameters])
        if tensor_sha256(vector) != self.weights_sha256:
            raise CheckpointError(f"{self.path / WEIGHTS} does not hold the weights that its manifest names")
        if have_diverged(vector):
            norm = float(vector.norm())
            raise CheckpointError(
                f"{self.path / WEIGHTS} holds weights of a run that diverged (their norm is {norm:.3g}); take an earlier "
                "checkpoint, or train anew with a lower --learning-rate"
            )
        return vector

    def network(self) -> dict[str, Tensor]:
        """Names, shapes and dtypes of the parameters, in the network's order: tensors on the device "meta", without memory.

        Raises CheckpointError where its configuration describes no network.
        """
        config = self.config
        try:
            with torch.device("meta"):
                built = config.algorithm.build(
                    config.network, self.contract.spaces, config.precision.dtype, torch.Generator("cpu")
                )
        except (RuntimeError, ValueError, TypeError, AssertionError, OverflowError) as problem:
            raise CheckpointError(f"{self.path / MANIFEST} describes no network that can be built: {problem}") from None
        if sum(buffer.numel() for buffer in built.buffers()) > _MOST_FEATURES:
            raise CheckpointError(f"{self.path / MANIFEST} describes a network with more fixed features than fit")
        return {name: parameter.detach() for name, parameter in built.named_parameters()}


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
    _write_manifest(beside, manifest, sign=True)
    aside = path.with_name(f".{path.name}.old")
    if path.exists():
        delete(aside)
        os.replace(path, aside)
    os.replace(beside, path)
    sync_folder(path.parent)
    delete(aside)


def amend(checkpoint: Checkpoint, **facts: Any) -> Checkpoint:
    """Change what a checkpoint's manifest says: its `config`, `rewinds`, or `diverged`. It is done or not, never half."""
    manifest = {**read_json(checkpoint.path / MANIFEST), **to_json(facts)}
    _write_manifest(checkpoint.path, manifest, sign=checkpoint.contract.stranger is None)
    return read(checkpoint.path)


def check_trust(config: RunConfig, contract: Contract) -> None:
    """Raise UsageError where a run of both would run code that somebody else's file names."""
    for one in contract.contracts:
        one.check_trust()
    if contract.stranger is not None:
        reject_untrusted_code(contract.stranger, config.named_outside())


def read_settings(config: Any, contract: Any, stranger: str | None) -> tuple[RunConfig, Contract]:
    """What a file says of a run, as JSON. Raises UsageError for what cannot be; `stranger`: see `read_contract`."""
    found = read_contract(contract, stranger)
    settings = RunConfig.from_json(config)
    settings.environment.check()
    check(settings, found.spaces)
    return settings, found


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
    only = {**manifest, "files": {WEIGHTS: manifest["files"][WEIGHTS]}, "replay": {}}
    _write_manifest(folder, only, sign=checkpoint.contract.stranger is None)


def replay_files(path: Path) -> dict[str, dict[str, Any]]:
    """The files of a replay memory that a checkpoint needs, by name. Raises CheckpointError where it is damaged."""
    return _facts(path, _manifest(path)).replay_files()


@dataclass(frozen=True)
class _File:
    sha256: str
    bytes: int


@dataclass(frozen=True)
class _Facts:
    """What a manifest says besides contract and configuration."""

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

    def check(self) -> None:
        """Raise UsageError for what `save` does not write: names are those of files inside of their folders."""
        if not (0 <= self.step < _MOST_STEPS and 0 <= self.update < _MOST_STEPS and 0 <= self.seconds < math.inf):
            raise UsageError("step, update or seconds cannot be")
        for name, file in [*self.files.items(), *self.replay.items()]:
            pattern = _TENSORS if name in self.files else REPLAY
            if not pattern.fullmatch(name) or not _SHA256.fullmatch(file.sha256) or file.bytes < 0:
                raise UsageError(f"it has no file {name[:80]!r}, or not of {file.bytes} bytes")
        if WEIGHTS not in self.files:
            raise UsageError(f"it has no {WEIGHTS}")

    def replay_files(self) -> dict[str, dict[str, Any]]:
        return {name: to_json(file) for name, file in self.replay.items()}


def _manifest(path: Path) -> dict[str, Any]:
    """What a manifest says. Raises CheckpointError where it is damaged or of another kind."""
    if not (path / MANIFEST).is_file():
        raise CheckpointError(f"{path} is not a checkpoint: it has no {MANIFEST}")
    manifest = read_json(path / MANIFEST)
    if not isinstance(manifest, dict) or "weights_sha256" not in manifest:
        raise CheckpointError(f"{path / MANIFEST} is not a manifest of asyncrl")
    if manifest.get("format") != FORMAT:
        raise CheckpointError(f"{path} has format {manifest.get('format')!r:.80}; this asyncrl reads format {FORMAT}")
    if manifest.get("manifest_sha256") != _manifest_sha256(manifest):
        raise CheckpointError(f"{path / MANIFEST} is damaged: its sha256 is not the one it names")
    return manifest


def _facts(path: Path, manifest: Mapping[str, Any]) -> _Facts:
    try:
        known = {field.name for field in fields(_Facts)}
        facts = from_json(_Facts, {name: value for name, value in manifest.items() if name in known})
        facts.check()
    except UsageError as problem:
        raise CheckpointError(f"{path / MANIFEST} is damaged: {problem}") from None
    return facts


def read(path: Path) -> Checkpoint:
    """Read a manifest. Raises CheckpointError where it is damaged, of another kind, or describes what cannot be."""
    manifest = _manifest(path)
    facts = _facts(path, manifest)
    try:
        stranger = None if _is_signed(manifest) else str(path)
        config, contract = read_settings(manifest.get("config"), manifest.get("contract"), stranger)
    except UsageError as problem:
        raise CheckpointError(f"{path / MANIFEST} is damaged: {problem}") from None
    found = Checkpoint(
        path=path,
        step=facts.step,
        update=facts.update,
        seconds=facts.seconds,
        weights_sha256=facts.weights_sha256,
        parameters=facts.parameters,
        contract=contract,
        config=config,
        files={name: to_json(file) for name, file in facts.files.items()},
        asyncrl=facts.asyncrl,
        replay=facts.replay_files(),
        scheduled=facts.scheduled,
        sound=facts.sound,
        rewinds=facts.rewinds,
        diverged=facts.diverged,
    )
    if found.parameters != tuple(found.network()):
        raise CheckpointError(
            f"{path / MANIFEST} is damaged: its parameters are not those of the network that it describes"
        )
    return found


def verify(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError that names the first file that is missing, truncated or changed, or is not of its network."""
    network = checkpoint.network()
    most = _SLACK * (2**20 + sum(tensor.nbytes for tensor in network.values()))
    for name, facts in checkpoint.files.items():
        if facts["bytes"] > most:
            raise CheckpointError(f"{checkpoint.path / name} has {facts['bytes']:,} bytes, which its network does not need")
        verify_file(checkpoint.path / name, facts)
    compare_tensors(checkpoint.path / WEIGHTS, tensors_in(checkpoint.path / WEIGHTS), network)


def load(path: Path) -> Checkpoint:
    """Read and verify."""
    checkpoint = read(path)
    verify(checkpoint)
    return checkpoint


def _write_manifest(folder: Path, manifest: dict[str, Any], *, sign: bool) -> None:
    facts = {name: value for name, value in manifest.items() if name != "signature"}
    signed = {**facts, "signature": signing.sign(_KIND, _manifest_sha256(facts)) if sign else ""}
    sealed = {**signed, "manifest_sha256": _manifest_sha256(signed)}
    write_atomically(folder / MANIFEST, json.dumps(sealed, indent=1) + "\n")


def _is_signed(manifest: dict[str, Any]) -> bool:
    """Has this user written it?"""
    facts = {name: value for name, value in manifest.items() if name != "signature"}
    return signing.is_signed(_KIND, _manifest_sha256(facts), manifest.get("signature"))


def _manifest_sha256(manifest: dict[str, Any]) -> str:
    """Hash of all that the manifest says, save the hash itself."""
    facts = {name: value for name, value in manifest.items() if name != "manifest_sha256"}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
