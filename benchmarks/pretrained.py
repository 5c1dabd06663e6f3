"""Add the best agent of a run to the package, with the metrics of the run.

    .venv/bin/python benchmarks/pretrained.py runs/a3c-ALE-Pong-v5-… pong-a3c

Weights, manifest and metrics are kept. The optimizer's state is not, so the agent can play and be evaluated, but its run
cannot be resumed.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from asyncrl.runs.checkpoints import checkpoint
from asyncrl.runs.lookup import checkpoint_folder
from asyncrl.runs.names import PRETRAINED


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
    checkpoint.export(found, folder)
    shutil.copy(asked.run / "metrics.jsonl", folder)
    print(f"{folder}: step {found.step:,}, {sum(f.stat().st_size for f in folder.iterdir()) / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
