"""Compare end-to-end training speed with Stable-Baselines3's A2C and DQN on one machine.

    .venv/bin/python benchmarks/peers/compare.py a2c --repeats 3 --seconds 30
    .venv/bin/python benchmarks/peers/compare.py dqn --repeats 3 --seconds 30

Both train on PongNoFrameskip-v4 with the Nature network (parameters are counted on both sides), 84×84 gray frames, stack
4, frame skip 4 with the maximum of two frames, and clipped rewards. A2C: 16 environments, one update per 16 × T steps. DQN:
a memory of 50,000 steps, 32 samples per four steps (the peer with one environment and with 16). They run in turns, so
drift of the machine affects both; a warm-up of 5 s is not counted. The peer runs in a separate virtual environment, created
here once, with the same torch, and the better of its configurations counts. Results go to
benchmarks/results/compare-a2c.json or compare-dqn.json and, as a table, to standard output.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from asyncrl.runs.provenance import machine

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
VENV = HERE.parent / ".peers" / "sb3"
RESULTS = HERE.parent / "results"
PACKAGES = ("stable-baselines3==2.9.2", "torch==2.13.0", "ale-py", "opencv-python-headless")
PARAMETERS = {"a2c": 1_687_719, "dqn": 1_687_206}
KINDS = {
    "a2c": {"asyncrl": ("processes", "threads"), "sb3": ("dummy", "subproc")},
    "dqn": {"asyncrl": ("processes", "threads"), "sb3": ("single", "dummy")},
}


@dataclass(frozen=True)
class Arguments:
    method: Annotated[Literal["a2c", "dqn"], tyro.conf.Positional]
    env: str = "PongNoFrameskip-v4"
    """Environment id, known to both sides."""
    envs: int = 16
    """Environments on each side."""
    t: tuple[int, ...] | None = None
    """Steps per rollout. Default: 5 (the peer's) and 20 for a2c, 4 for dqn."""
    repeats: int = 3
    """Measurements of each kind; the median is reported."""
    seconds: float = 30.0
    """Seconds per measurement."""


def peer_python() -> Path:
    """The peer's Python, installed on first use."""
    python = VENV / "bin" / "python"
    if not (VENV / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", *PACKAGES], check=True)
        (VENV / "installed").touch()
    return python


def measure(asked: Arguments, side: str, kind: str, steps: int) -> dict[str, Any]:
    """Measure one side once, in a separate process."""
    python, worker = (sys.executable, "our_worker.py") if side == "asyncrl" else (peer_python(), "sb3_worker.py")
    words = [python, HERE / worker, asked.method, asked.env, asked.envs, steps, asked.seconds, kind]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side} ({kind}) ended with {done.returncode}:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["parameters"] == PARAMETERS[asked.method], found
    print(f"{side:<8} {kind:<10} T={steps:<3} {found['steps_per_second']:>8,.0f} steps/s", file=sys.stderr, flush=True)
    return {"side": side, "kind": kind, "t": steps, **found}


def rounds(runs: list[dict[str, Any]], steps: int, count: int) -> list[float]:
    """The ratio of the best configurations in each round, which is robust against drift of the machine."""
    those, ratios = [run for run in runs if run["t"] == steps], []
    for first in range(0, len(those), count):
        best: dict[str, float] = {}
        for run in those[first : first + count]:
            best[run["side"]] = max(best.get(run["side"], 0.0), run["steps_per_second"])
        ratios.append(best["asyncrl"] / best["sb3"])
    return ratios


def main() -> None:
    asked = tyro.cli(Arguments, description=__doc__)
    peer_python()
    lengths, kinds = asked.t or {"a2c": (5, 20), "dqn": (4,)}[asked.method], KINDS[asked.method]
    sides = [(side, kind) for side, own in kinds.items() for kind in own]
    runs = [measure(asked, *side, steps) for steps in lengths for _ in range(asked.repeats) for side in sides]

    def median(side: str, kind: str, steps: int) -> float:
        return statistics.median(
            r["steps_per_second"] for r in runs if (r["side"], r["kind"], r["t"]) == (side, kind, steps)
        )

    print("| T | " + " | ".join(f"{side}, {kind}" for side, kind in sides) + " | best to best, median of rounds |")
    print("|---" * (len(sides) + 2) + "|")
    ratios = {steps: round(statistics.median(rounds(runs, steps, len(sides))), 3) for steps in lengths}
    for steps in lengths:
        rates = [median(side, kind, steps) for side, kind in sides]
        print(f"| {steps} | {' | '.join(f'{rate:,.0f}' for rate in rates)} | {ratios[steps]:.2f} × |")
    report = {"command": " ".join(sys.argv), "machine": machine(), "ratios": ratios, "runs": runs}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"compare-{asked.method}.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
