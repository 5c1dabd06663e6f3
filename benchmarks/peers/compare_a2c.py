"""End-to-end training speed against Stable-Baselines3's A2C, in one run on one machine.

    .venv/bin/python benchmarks/peers/compare_a2c.py --repeats 3 --seconds 30

Both train on PongNoFrameskip-v4 with 16 environments, the Nature network (1,687,719 parameters, counted on both sides),
84×84 gray frames, stack 4, frame skip 4 with the maximum of two frames, clipped rewards, and one update for every
16 × T steps. They take turns, so that a machine that drifts drifts for both; a warm-up of 5 s is not counted. The peer
runs in a virtual environment of its own, made here once, with the same torch, and its better vector environment counts.
Results go to benchmarks/results/compare_a2c.json and, as a table, to standard output.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from asyncrl.bench.usage import machine

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
VENV = HERE.parent / ".peers" / "sb3"
RESULTS = HERE.parent / "results"
PACKAGES = ("stable-baselines3==2.9.2", "torch==2.13.0", "ale-py", "opencv-python-headless")
PARAMETERS = 1_687_719
OURS, THEIRS = ("processes", "threads"), ("dummy", "subproc")


@dataclass(frozen=True)
class Arguments:
    env: str = "PongNoFrameskip-v4"
    """Environment id that both sides know."""
    envs: int = 16
    """Environments on each side."""
    t: tuple[int, ...] = (5, 20)
    """Steps per rollout; 5 is the peer's default."""
    repeats: int = 3
    """Measurements of each kind, of which the median counts."""
    seconds: float = 30.0
    """Time that each measurement counts."""


def peer_python() -> Path:
    """The peer's interpreter, installed on first use."""
    python = VENV / "bin" / "python"
    if not (VENV / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", *PACKAGES], check=True)
        (VENV / "installed").touch()
    return python


def measure(asked: Arguments, side: str, kind: str, steps: int) -> dict[str, Any]:
    """One measurement of one side in a process of its own."""
    python, worker = (sys.executable, "our_worker.py") if side == "asyncrl" else (peer_python(), "sb3_worker.py")
    words = [python, HERE / worker, asked.env, asked.envs, steps, asked.seconds, kind]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side} ({kind}) ended with {done.returncode}:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["parameters"] == PARAMETERS, found
    print(f"{side:<8} {kind:<10} T={steps:<3} {found['steps_per_second']:>8,.0f} steps/s", file=sys.stderr, flush=True)
    return {"side": side, "kind": kind, "t": steps, **found}


def main() -> None:
    asked = tyro.cli(Arguments, description=__doc__)
    peer_python()
    sides = [*(("asyncrl", kind) for kind in OURS), *(("sb3", kind) for kind in THEIRS)]
    runs = [measure(asked, *side, steps) for steps in asked.t for _ in range(asked.repeats) for side in sides]

    def median(side: str, kind: str, steps: int) -> float:
        return statistics.median(
            r["steps_per_second"] for r in runs if (r["side"], r["kind"], r["t"]) == (side, kind, steps)
        )

    print("| T | asyncrl, processes | asyncrl, threads | SB3, DummyVecEnv | SB3, SubprocVecEnv | best to best |")
    print("|---|---|---|---|---|---|")
    ratios = {}
    for steps in asked.t:
        ours, theirs = [median("asyncrl", k, steps) for k in OURS], [median("sb3", k, steps) for k in THEIRS]
        ratios[steps] = max(ours) / max(theirs)
        print(f"| {steps} | {' | '.join(f'{rate:,.0f}' for rate in ours + theirs)} | {ratios[steps]:.2f} × |")
    report = {"command": " ".join(sys.argv), "machine": machine(), "ratios": ratios, "runs": runs}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "compare_a2c.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
