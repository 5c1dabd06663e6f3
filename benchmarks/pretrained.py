"""Put the best agent of a run into the package, with the metrics of the run that made it.

    .venv/bin/python benchmarks/pretrained.py runs/a3c-ALE-Pong-v5-… pong-a3c

What an agent needs is kept: weights, manifest, metrics. The optimizer's state stays behind, so it plays and is
evaluated, and is not resumed.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from asyncrl import checkpoint
from asyncrl.run import PRETRAINED, checkpoint_folder

KEPT = "weights.safetensors"


@dataclass(frozen=True)
class Arguments:
    run: Annotated[Path, tyro.conf.Positional]
    """The run folder."""
    name: Annotated[str, tyro.conf.Positional]
    """The agent's name in the package."""


def main() -> None:
    asked = tyro.cli(Arguments, description=__doc__)
    found = checkpoint.load(checkpoint_folder(asked.run))
    folder = PRETRAINED / asked.name
    folder.mkdir(parents=True)
    shutil.copy(found.path / KEPT, folder)
    shutil.copy(asked.run / "metrics.jsonl", folder)
    manifest = json.loads((found.path / checkpoint.MANIFEST).read_text())
    manifest["files"] = {KEPT: manifest["files"][KEPT]}
    (folder / checkpoint.MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    print(f"{folder}: step {found.step:,}, {sum(f.stat().st_size for f in folder.iterdir()) / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
