"""Checkpoints as an attacker could write them: arbitrary content with matching hashes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from asyncrl.common.serialization import file_checksum
from asyncrl.runs.checkpoints.manifest import manifest_sha256
from asyncrl.runs.run import Run

__all__ = ["forge", "forge_tensors", "forged"]

Manifest = dict[str, Any]


def forged(run: Run, path: Path, change: Callable[[Manifest], None]) -> Run:
    """A copy of a run with changed manifests."""
    copy = Run(Path(shutil.copytree(run.path, path)))
    for folder in copy.checkpoints():
        forge(folder, change)
    return copy


def forge(folder: Path, change: Callable[[Manifest], None]) -> None:
    """Change a checkpoint's manifest and update its hash."""
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    manifest.pop("manifest_sha256")
    file.write_text(json.dumps({**manifest, "manifest_sha256": manifest_sha256(manifest)}))


def forge_tensors(folder: Path, name: str, change: Callable[[dict[str, Tensor]], None]) -> None:
    """Change the tensors in a checkpoint's file and update the hashes."""
    file = folder / f"{name}.safetensors"
    tensors = {key: x.clone() for key, x in load_file(file).items()}
    change(tensors)
    save_file(tensors, file)
    forge(folder, lambda manifest: manifest["files"].update({file.name: file_checksum(file)}))
