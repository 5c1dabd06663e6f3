"""asyncrl export RUN --onnx DIR"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asyncrl.agents.export import Exported
from asyncrl.api import export, load
from asyncrl.cli.options import parse
from asyncrl.common.quoting import quoted
from asyncrl.common.serialization import json_text
from asyncrl.errors import UsageError
from asyncrl.runs.lookup import newer_checkpoint

_ABOUT = "Write an agent as an ONNX model, for programs without torch, and compare both."
BASIC = {"Options": ("onnx", "observations", "env", "json", "trust")}
"""Options of the short help, by section."""


@dataclass(frozen=True)
class Arguments:
    run: str
    """Run folder (its best checkpoint, or RUN/latest), checkpoint folder, pretrained agent (asyncrl list pretrained), or
    hf:USER/NAME on the Hugging Face Hub, or the URL of a run in a storage."""
    onnx: Path | None = None
    """Folder for policy.onnx and contract.json."""
    observations: int = 1_000
    """Observations of the environment on which the model is compared with the agent."""
    env: str | None = None
    """One of the environments that the agent was trained in. Default: the first."""
    trust: bool = False
    """Run code that the folder names even if someone else made the folder."""
    json: bool = False
    """Print one JSON object."""


def run(arguments: Sequence[str]) -> int:
    asked = parse(Arguments, "export", arguments, _ABOUT, BASIC)
    if asked.onnx is None:
        raise UsageError(f"--onnx is missing: asyncrl export {quoted(asked.run)} --onnx FOLDER")
    agent = load(asked.run, trust=asked.trust)
    exported = export(agent, asked.onnx, env=asked.env, observations=asked.observations)
    if asked.json:
        print(json_text({"model": str(exported.model), "contract": str(exported.contract), **exported.facts}))
        return 0
    if newer := newer_checkpoint(asked.run, agent.checkpoint.path):
        print(newer)
    print(*_lines(exported), sep="\n")
    return 0


def _lines(exported: Exported) -> list[str]:
    facts = exported.facts
    lines = [f"{exported.model}: {exported.model.stat().st_size:,} bytes, opset {facts['opset']}, {facts['precision']}"]
    for kind in ("inputs", "outputs"):
        lines += [
            f"{kind[:-1]:<10}{one['name']} {one['dtype']} [{', '.join(map(str, one['shape']))}]" for one in facts[kind]
        ]
    largest = ", ".join(f"{name} {difference:.1g}" for name, difference in exported.parity.differences.items())
    return [
        *lines,
        f"largest difference from the agent in {exported.parity.observations:,} observations: {largest}",
        f"{exported.contract}: what these mean",
    ]
