"""asyncrl inspect RUN"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncrl.api import load
from asyncrl.cli.options import parse
from asyncrl.common.serialization import json_text, to_json
from asyncrl.envs import contract_lines
from asyncrl.runs.checkpoints.normalization import describe_normalization, normalization_facts
from asyncrl.runs.code_facts import describe_code
from asyncrl.runs.lookup import load_checkpoint, newer_checkpoint
from asyncrl.runs.provenance import describe_provenance
from asyncrl.runs.run import Run

_ORIGIN = ("date", "command", "git", "machine", "packages", "network", "algorithm", "resumed")
"""Fields of config.json on the origin of a run."""

BASIC = {"Options": ("json", "filters", "trust")}
"""Options of the short help, by section."""


@dataclass(frozen=True)
class Arguments:
    run: str
    """Run folder (its best checkpoint, or RUN/latest), checkpoint folder, pretrained agent, hf:USER/NAME, or a URL."""
    json: bool = False
    """Print one JSON object."""
    trust: bool = False
    """Run code that the folder names even if someone else made the folder."""
    filters: Path | None = None
    """Write a .png of the first convolution: its kernels, and their responses to a frame."""


def run(arguments: Sequence[str]) -> int:
    asked = parse(
        Arguments, "inspect", arguments, "Show the contents of a checkpoint. The hash of every file is checked.", BASIC
    )
    found = load_checkpoint(asked.run, trust=asked.trust)
    if asked.filters is not None:
        from asyncrl.agents.conv_filters import draw_filters

        agent = load(found.path, trust=asked.trust)
        draw_filters(agent.policy, agent.contract, asked.filters.absolute())
    origin = Run(found.path.parent.parent).facts()
    facts: dict[str, Any] = {
        "step": found.step,
        "update": found.update,
        "seconds": found.seconds,
        "weights_sha256": found.weights_sha256,
        "parameters": found.weights().numel(),
        "asyncrl": found.asyncrl,
        "contract": to_json(found.contract),
        "config": found.config.to_json(),
        "files": found.files,
        "normalization": normalization_facts(found),
        "provenance": {name: origin[name] for name in _ORIGIN if name in origin},
    }
    if asked.json:
        print(json_text(facts))
        return 0
    if newer := newer_checkpoint(asked.run, found.path):
        print(newer)
    print(f"{found.path}: written by asyncrl {found.asyncrl}, all hashes correct")
    print(f"{'algorithm':<20}{found.config.algorithm.name}, {found.config.network.network}")
    print(f"{'step':<20}{found.step:,} of {found.config.steps:,} (update {found.update:,}, {found.seconds:,.0f} s)")
    print(f"{'weights_sha256':<20}{found.weights_sha256}")
    print(f"{'parameters':<20}{facts['parameters']:,}")
    origins = [*describe_code(origin), *describe_provenance(origin)]
    lines = [*describe_normalization(facts["normalization"]), *origins, *contract_lines(found.contract)]
    print("\n".join(lines))
    for name, file in found.files.items():
        print(f"{name:<24}{file['bytes']:>12,} bytes  {file['sha256'][:16]}…")
    return 0
