"""Checkpoints: a folder of safetensors files and a manifest with their hashes.

A checkpoint is written under a temporary name and renamed once it is complete, so a crash leaves the earlier
checkpoints intact and no partial one. Loading executes no code: there is no pickle.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asyncrl.algorithms import algorithm_named, network_outline
from asyncrl.common.os_errors import name_target
from asyncrl.common.serialization import (
    check_tensors,
    file_checksum,
    load_tensors,
    read_header,
    read_json,
    save_tensors,
    sync_folder,
    tensor_sha256,
    to_json,
    verify_file,
)
from asyncrl.envs import Contract, read_contract, reject_untrusted_code
from asyncrl.errors import CheckpointError, UsageError
from asyncrl.networks import factory_named, have_diverged, learned_part
from asyncrl.runs.checkpoints.manifest import (
    FORMAT,
    MANIFEST,
    WEIGHTS,
    Manifest,
    Rewind,
    is_signed,
    read_manifest,
    write_manifest,
)
from asyncrl.runs.config.resolution import check
from asyncrl.runs.config.run_config import RunConfig, code_named_in
from asyncrl.version import __version__

__all__ = [
    "Checkpoint",
    "amend",
    "check_trust",
    "delete",
    "export",
    "is_checkpoint_file",
    "load",
    "misread",
    "open_code",
    "read",
    "read_settings",
    "save",
    "verify",
]

_OWN_FILE = re.compile(r"(\.manifest\.json\.tmp|manifest\.json|[a-z_]+\.safetensors)", re.ASCII)
_MAX_FEATURES = 2**28
"""Limit of a network's numbers that are not learned, such as random features."""
_SLACK = 1024
"""A file of a checkpoint may be this many times larger than its weights and a MiB; larger ones are not hashed."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk: its manifest and the folder of its files."""

    path: Path
    step: int
    update: int
    seconds: float
    """Wall-clock time of the run so far."""
    weights_sha256: str
    """Hash of the weight vector, float32, in the order of `parameters`."""
    parameters: tuple[str, ...]
    contract: Contract
    config: RunConfig
    files: dict[str, dict[str, Any]]
    """By name of each file: {"sha256": …, "bytes": …}."""
    asyncrl: str
    """Version of asyncrl that wrote it."""
    replay: dict[str, dict[str, Any]]
    """The files in the run's `replay` folder that hold its replay buffer, oldest first; as `files`."""
    scheduled: bool = True
    """Made because `checkpoint_every` was due, and therefore by every run of this configuration."""
    sound: bool = True
    """The norm of the weights was in the normal range (`Learner.is_sound`)."""
    rewinds: tuple[Rewind, ...] = ()
    """Rewinds of the run so far."""
    diverged: bool = False
    """The run diverged after this checkpoint."""

    def check_trust(self) -> None:
        """Raise UsageError if continuing the run would execute code that another user's file names."""
        check_trust(self.config, self.contract)

    def has(self, name: str) -> bool:
        """Whether there is a file of tensors with this stem."""
        return f"{name}.safetensors" in self.files

    def tensors(self, name: str, expected: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The tensors of the file with the stem `name`.

        Raises CheckpointError if names, shapes or dtypes are not as `expected`, or numbers are not finite.
        """
        path = self.path / f"{name}.safetensors"
        found = load_tensors(path, expected)
        for tensor_name, tensor in found.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise CheckpointError(f"{path} has numbers in {tensor_name} that are not finite; use an earlier checkpoint")
        return found

    def weights(self) -> Tensor:
        """The weight vector [P] float32. Raises CheckpointError if its hash does not match or the weights have diverged."""
        network = self._built()
        named = self.tensors("weights", _parameters(network))
        vector = torch.cat([named[name].flatten() for name in self.parameters])
        if tensor_sha256(vector) != self.weights_sha256:
            raise CheckpointError(f"{self.path / WEIGHTS} does not hold the weights of its manifest")
        learned = learned_part(network, vector)
        if have_diverged(learned):
            norm = float(learned.norm())
            raise CheckpointError(
                f"{self.path / WEIGHTS} holds weights of a run that diverged (norm {norm:.3g}); use an earlier "
                "checkpoint, or start a run with a lower --learning-rate"
            )
        return vector

    def network(self) -> dict[str, Tensor]:
        """The parameters by name, in the network's order, as tensors on the device "meta": shapes and dtypes only.

        Raises CheckpointError if no network can be built from the configuration.
        """
        return _parameters(self._built())

    def _built(self) -> torch.nn.Module:
        """The network, on the device "meta" unless it is custom. Raises CheckpointError as `network` does."""
        config = self.config
        try:
            built = network_outline(config.algorithm, config.network, self.contract.spaces, config.precision.dtype)
        except (RuntimeError, ValueError, TypeError, AssertionError, OverflowError) as problem:
            raise CheckpointError(f"{self.path / MANIFEST} describes a network that cannot be built: {problem}") from None
        if sum(buffer.numel() for buffer in built.buffers()) > _MAX_FEATURES:
            raise CheckpointError(f"{self.path / MANIFEST} describes a network with more fixed features than fit")
        return built


def _parameters(network: torch.nn.Module) -> dict[str, Tensor]:
    """The parameters of a network by name, as tensors on the device "meta"."""
    return {name: parameter.detach().to("meta") for name, parameter in network.named_parameters()}


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
    """Write a checkpoint. `tensors` maps the stem of each file to its tensors; `weights` is required."""
    beside = path.with_name(f".{path.name}.tmp")
    delete(beside)
    with name_target(path, beside):
        beside.mkdir(parents=True)
    weights = tensors["weights"]
    facts = {
        "format": FORMAT,
        "asyncrl": __version__,
        "step": step,
        "update": update,
        "seconds": seconds,
        "weights_sha256": tensor_sha256(torch.cat([w.float().flatten() for w in weights.values()])),
        "parameters": list(weights),
        "contract": to_json(contract),
        "config": config.to_json(),
        "replay": dict(replay or {}),
        "scheduled": scheduled,
        "sound": sound,
        "rewinds": to_json(list(rewinds)),
    }
    aside = path.with_name(f".{path.name}.old")
    try:
        with name_target(path, beside):
            for stem, named in tensors.items():
                save_tensors(beside / f"{stem}.safetensors", named)
            files = {file.name: file_checksum(file) for file in sorted(beside.iterdir())}
            write_manifest(beside, {**facts, "files": files}, sign=True)
        if path.exists():
            delete(aside)
            os.replace(path, aside)
        os.replace(beside, path)
    except OSError:
        shutil.rmtree(beside, ignore_errors=True)  # a full disk needs the space
        if aside.exists() and not path.exists():
            os.replace(aside, path)
        raise
    sync_folder(path.parent)
    delete(aside)


def amend(checkpoint: Checkpoint, **facts: Any) -> Checkpoint:
    """Change `config`, `rewinds` or `diverged` in a checkpoint's manifest, atomically. Returns the changed checkpoint."""
    manifest = {**read_json(checkpoint.path / MANIFEST), **to_json(facts)}
    write_manifest(checkpoint.path, manifest, sign=checkpoint.contract.untrusted_source is None)
    return read(checkpoint.path, trust=checkpoint.contract.untrusted_source is None)


def check_trust(config: RunConfig, contract: Contract) -> None:
    """Raise UsageError if running this would execute code that another user's file names."""
    for one in contract.contracts:
        one.check_trust()
    if contract.untrusted_source is not None:
        reject_untrusted_code(contract.untrusted_source, config.named_outside())


def open_code(config: Any, untrusted_source: str | None, asked: Collection[str] = ()) -> None:
    """Import the algorithm and the network that the JSON of a configuration names, where they are not built in.

    Call it before `read_settings`. Raises UsageError if another user wrote the file (nothing is imported then) and the user
    has not `asked` for these names, or if there is no such code.
    """
    named = code_named_in(config)
    if untrusted_source is not None:
        unasked = [f"{kind} {json.dumps(name)}" for kind, name in named.items() if name not in asked]
        reject_untrusted_code(untrusted_source, unasked)
    if "algorithm" in named:
        algorithm_named(named["algorithm"])
    if "network" in named:
        factory_named(named["network"])


def read_settings(config: Any, contract: Any, untrusted_source: str | None) -> tuple[RunConfig, Contract]:
    """The configuration and contract in their JSON; `open_code` comes first. Raises UsageError for invalid data."""
    found = read_contract(contract, untrusted_source)
    settings = RunConfig.from_json(config)
    settings.environment.check()
    check(settings, found.spaces)
    return settings, found


def misread(file: Path, facts: Mapping[str, Any], problem: UsageError) -> UsageError:
    """The error for settings in `file`, with the JSON `facts`, that are invalid.

    Those of a custom algorithm may have changed since, and another version of asyncrl may have others.
    """
    algorithm, version = code_named_in(facts.get("config")).get("algorithm"), facts.get("asyncrl")
    if algorithm is not None:
        return UsageError(f"{file} does not fit the algorithm {algorithm} as it is now: {problem}")
    if isinstance(version, str) and version != __version__:
        return CheckpointError(
            f"{file} was written by asyncrl {version!r:.40}, and this one ({__version__}) cannot read its settings: "
            f"{problem}; use that version"
        )
    return CheckpointError(f"{file} is damaged: {problem}")


def is_checkpoint_file(file: Path) -> bool:
    """Whether `save` writes files of this name into a checkpoint's folder."""
    return _OWN_FILE.fullmatch(file.name) is not None


def delete(path: Path) -> None:
    """Remove a checkpoint's files, and its folder if nothing else is in it. Links are not followed.

    The manifest is removed first: if the process is killed then, no checkpoint lacks a file.
    """
    if path.is_symlink() or not path.is_dir():
        return
    for file in sorted(filter(is_checkpoint_file, path.iterdir()), key=lambda file: file.name != MANIFEST):
        if file.is_file() and not file.is_symlink():
            file.unlink()
    if not any(path.iterdir()):
        path.rmdir()


def export(checkpoint: Checkpoint, folder: Path) -> None:
    """Copy the files that acting needs into a new folder: the weights without the optimizer."""
    folder.mkdir(parents=True)
    shutil.copy(checkpoint.path / WEIGHTS, folder)
    manifest = read_json(checkpoint.path / MANIFEST)
    only = {**manifest, "files": {WEIGHTS: manifest["files"][WEIGHTS]}, "replay": {}}
    write_manifest(folder, only, sign=checkpoint.contract.untrusted_source is None)


def read(path: Path, *, trust: bool = False, asked: Collection[str] = ()) -> Checkpoint:
    """Read a checkpoint's manifest. Raises CheckpointError if it is damaged or of another format.

    If another user wrote it and its algorithm or network is neither built in nor among the names `asked` for, it raises
    UsageError unless `trust`.
    """
    data = read_manifest(path)
    manifest = Manifest.of(path, data)
    untrusted_source = None if trust or is_signed(data) else str(path)
    open_code(data.get("config"), untrusted_source, asked)
    try:
        config, contract = read_settings(data.get("config"), data.get("contract"), untrusted_source)
    except UsageError as problem:
        raise misread(path / MANIFEST, data, problem) from None
    checkpoint = Checkpoint(
        path=path,
        step=manifest.step,
        update=manifest.update,
        seconds=manifest.seconds,
        weights_sha256=manifest.weights_sha256,
        parameters=manifest.parameters,
        contract=contract,
        config=config,
        files=manifest.file_checksum(),
        asyncrl=manifest.asyncrl,
        replay=manifest.replay_facts(),
        scheduled=manifest.scheduled,
        sound=manifest.sound,
        rewinds=manifest.rewinds,
        diverged=manifest.diverged,
    )
    if checkpoint.parameters != tuple(checkpoint.network()):
        raise _misfit(checkpoint, f"{path / MANIFEST} is damaged: its parameters are not those of its network")
    return checkpoint


def verify(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError for the first file that is missing, truncated, changed, or does not fit the network."""
    network = checkpoint.network()
    most = _SLACK * (2**20 + sum(tensor.nbytes for tensor in network.values()))
    for name, facts in checkpoint.files.items():
        if facts["bytes"] > most:
            raise CheckpointError(f"{checkpoint.path / name} has {facts['bytes']:,} bytes, too many for its network")
        verify_file(checkpoint.path / name, facts)
    try:
        check_tensors(checkpoint.path / WEIGHTS, read_header(checkpoint.path / WEIGHTS), network)
    except CheckpointError as problem:
        raise _misfit(checkpoint, str(problem)) from None


def _misfit(checkpoint: Checkpoint, problem: str) -> UsageError:
    """The error for weights that do not fit the network: a custom network or algorithm may have changed since."""
    named = code_named_in(checkpoint.config.to_json())
    if named:
        maker = " with ".join(reversed(named.values()))
        return UsageError(
            f"{checkpoint.path} holds weights of a different network from the one {maker} builds now; undo the changes "
            "to its source"
        )
    return CheckpointError(problem)


def load(path: Path, *, trust: bool = False, asked: Collection[str] = ()) -> Checkpoint:
    """Read, as `read` does, and verify a checkpoint. Raises CheckpointError if anything in it is damaged."""
    checkpoint = read(path, trust=trust, asked=asked)
    verify(checkpoint)
    return checkpoint
