"""Measure what `--track` costs: runs with and without a tracker, in turns.

    .venv/bin/python benchmarks/trackers.py csv wandb --out benchmarks/results/trackers.json

Each run is a separate process. Its rate is read from `metrics.jsonl`, in the second half of its steps, when the tracker's
package is imported: that happens once, in a thread, and shows in the CPU time. Reported are medians over consecutive runs.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

import asyncrl
from asyncrl.runs.provenance import machine

SETTINGS = dict(actors=2, envs_per_actor=8, t_max=20, engine="serial", eval_episodes=0, seed=1)


@dataclass(frozen=True)
class Arguments:
    trackers: tyro.conf.Positional[tuple[str, ...]] = ("csv",)
    pairs: int = 5
    steps: int = 300_000
    out: Path | None = None


def measure(tracker: str, steps: int) -> dict[str, float]:
    """Train in another process; steps per second and CPU seconds."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "child", tracker, str(steps)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def child(tracker: str, steps: int) -> None:
    track = () if tracker == "none" else (tracker,)
    run = asyncrl.train("CartPole-v1", "a3c", run_dir="run", steps=steps, track=track, **SETTINGS)
    table = run.metrics("train")
    step, time = table["step"], table["time"]
    middle = len(step) // 2
    rate = (step[-1] - step[middle]) / (time[-1] - time[middle])
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"steps_per_second": rate, "cpu_seconds": used.ru_utime + used.ru_stime}))


def main() -> None:
    arguments = tyro.cli(Arguments)
    rows = []
    for tracker in arguments.trackers:
        pairs = []
        for turn in range(arguments.pairs):
            order = ("none", tracker) if turn % 2 == 0 else (tracker, "none")
            found = {one: measure(one, arguments.steps) for one in order}
            pairs.append((found["none"], found[tracker]))
        ratio = statistics.median(b["steps_per_second"] / a["steps_per_second"] for a, b in pairs)
        cpu = statistics.median(b["cpu_seconds"] - a["cpu_seconds"] for a, b in pairs)
        rows.append({"tracker": tracker, "ratio": ratio, "more_cpu_seconds": cpu, "pairs": pairs})
        print(f"{tracker:8} {ratio:6.3f} of the speed without it, {cpu:+.2f} s of CPU time, start-up included", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2], int(sys.argv[3]))
    else:
        main()
