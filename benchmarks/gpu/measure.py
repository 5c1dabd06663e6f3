"""Check and measure asyncrl on a GPU, one part after the other; `run.sh` calls this.

    benchmarks/gpu/run.sh RESULTS
    benchmarks/gpu/run.sh RESULTS --device cpu --scale 0.05    (tries the script without a GPU)
    benchmarks/gpu/run.sh RESULTS --only resume

A part that fails or exceeds its time limit is recorded with the end of its output, and the next one runs. Results are in
RESULTS/gpu.json, written again after each part.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncrl.runs.provenance import machine

PONG = "PongNoFrameskip-v4"
SMALL = ["--eval-episodes", "0", "--no-video", "--quiet", "--log-every", "1"]
METHODS = {
    "a3c": [],
    "impala": [],
    "ppo": [],
    "pqn": [],
    "impala, ResNet": ["--network", "impala-resnet"],
    "dqn": [],
}
"""Options of the speed measurements by name; the name's first word is the algorithm."""


class Failed(Exception):
    """A command failed; the message is the end of its output."""


@dataclass(frozen=True)
class Bench:
    """Runs commands on one device, within one part's time limit."""

    device: str
    scale: float
    """Factor of all lengths: below 1 to try the script."""
    folder: Path
    until: float

    def asyncrl(self, *words: str) -> str:
        """Return the output of `asyncrl` with these arguments."""
        left = self.until - time.monotonic()
        try:
            found = subprocess.run([sys.executable, "-m", "asyncrl", *words], capture_output=True, text=True, timeout=left)
        except subprocess.TimeoutExpired as late:
            raise Failed(f"{' '.join(words)}: more than {left:.0f} s") from late
        if found.returncode:
            raise Failed(f"{' '.join(words)}: {(found.stderr or found.stdout)[-1500:]}")
        return found.stdout

    def train(self, name: str, *words: str, device: str | None = None) -> Path:
        """Train in a folder of this name, which may be there; returns the folder."""
        run = self.folder / name
        self.asyncrl("train", *words, *SMALL, "--device", device or self.device, "--run-dir", str(run))
        return run

    def steps(self, number: int) -> str:
        return str(max(200, round(number * self.scale)))

    def weights(self, run: Path) -> str:
        found: str = json.loads(self.asyncrl("inspect", f"{run}/latest", "--json"))["weights_sha256"]
        return found


def first_losses(run: Path, count: int = 5) -> list[dict[str, float]]:
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    losses = [{k: r[k] for k in ("loss", "gradient_norm")} for r in records if r["kind"] == "train" and r.get("loss")]
    return losses[:count]


def equality(bench: Bench) -> dict[str, Any]:
    """The first losses of the CPU and of the device; the device's weights from two runs of the same seed."""
    found: dict[str, Any] = {}
    cases = {
        "a3c": ["a3c", PONG, "--t-max", "20"],
        "a3c, LSTM": ["a3c", PONG, "--t-max", "20", "--recurrent", "lstm"],
        "dqn": ["dqn", PONG, "--learning-starts", "150"],
    }
    for name, words in cases.items():
        given = [*words, "--steps", bench.steps(2_000), "--engine", "serial", "--precision", "fp32", "--seed", "7"]
        cpu, *same = [
            bench.train(f"{name}-{number}", *given, device=device)
            for number, device in enumerate(("cpu", bench.device, bench.device))
        ]
        here, there = first_losses(cpu), first_losses(same[0])
        found[name] = {
            "cpu": here,
            "device": there,
            "first_loss_difference": abs(here[0]["loss"] - there[0]["loss"]) / max(1e-8, abs(here[0]["loss"])),
            "same_seed_same_weights": bench.weights(same[0]) == bench.weights(same[1]),
        }
    return found


def resume(bench: Bench) -> dict[str, Any]:
    """Whether a run that was extended has the weights of one that ran through (the optimizer's state is restored)."""
    found: dict[str, Any] = {}
    half, whole = bench.steps(2_000), bench.steps(4_000)
    for name, words in {
        "a3c": ["a3c", PONG, "--optimizer", "adam", "--learning-rate-schedule", "constant"],
        "ppo": ["ppo", "CartPole-v1", "--learning-rate-schedule", "constant"],
        "dqn": ["dqn", "CartPole-v1", "--learning-starts", "100", "--epsilon-steps", "1000", "--target-every", "100"],
        "sac": ["sac", "Pendulum-v1", "--learning-starts", "100"],
    }.items():
        through = bench.train(f"{name}-through", *words, "--steps", whole)
        parts = bench.train(f"{name}-parts", *words, "--steps", half)
        bench.asyncrl("train", "--resume", str(parts), "--steps", whole, "--quiet")
        found[name] = {"equal": bench.weights(through) == bench.weights(parts)}
    return found


def imitation(bench: Bench) -> dict[str, Any]:
    """Behavioral cloning from a recorded dataset."""
    agent = bench.train("teacher", "a3c", "CartPole-v1", "--steps", bench.steps(2_000))
    data, student = bench.folder / "data.npz", bench.folder / "student"
    bench.asyncrl("record", str(agent), str(data), "--episodes", "5")
    words = [
        "a3c",
        "CartPole-v1",
        "--data",
        str(data),
        "--epochs",
        "1",
        "--device",
        bench.device,
        "--run-dir",
        str(student),
    ]
    bench.asyncrl("pretrain", *words)
    return {"weights": bench.weights(student)}


def engines(bench: Bench) -> dict[str, Any]:
    """A start of every engine on the device, with its weights."""
    found = {}
    for engine in ("serial", "threads", "processes", "hogwild"):
        words = ["a3c", "CartPole-v1", "--engine", engine, "--steps", bench.steps(4_000)]
        found[engine] = bench.weights(bench.train(engine, *words))[:12]
    return found


def speed(name: str) -> Callable[[Bench], dict[str, Any]]:
    """Return the measurement of one method: `asyncrl bench`."""

    def measured(bench: Bench) -> dict[str, Any]:
        sizes = ["--envs-per-actor", "64"] if bench.device == "cuda" and not name.startswith("dqn") else []
        seconds = f"{max(1, 6 * bench.scale):.1f}"
        words = ["bench", PONG, "--algo", name.split(",")[0], *METHODS[name], *sizes, "--seconds", seconds, "--json"]
        found: dict[str, Any] = json.loads(bench.asyncrl(*words))
        return found

    return measured


def pong(bench: Bench) -> dict[str, Any]:
    """PPO on Pong until the training return is 18, or for three minutes."""
    run = bench.folder / "pong"
    words = ["train", "ppo", PONG, "--target-return", "18", "--eval-every", "50000", "--eval-episodes", "10"]
    words += ["--no-video", "--quiet", "--device", bench.device, "--run-dir", str(run)]
    began, ended = time.monotonic(), ""
    try:
        bench.asyncrl(*words)
    except Failed as problem:
        ended = str(problem)[-300:]
    finally:
        if (run / "metrics.jsonl").exists():
            shutil.copy(run / "metrics.jsonl", bench.folder.parent / "pong.jsonl")
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    curve = [(r["step"], r["time"], r["mean_return"]) for r in records if r["kind"] == "train"]
    scores = [(r["step"], r["time"], r["mean"]) for r in records if r["kind"] == "eval"]
    return {"seconds": time.monotonic() - began, "ended": ended, "curve": curve[-1:], "evaluations": scores}


def utilization() -> str:
    """What nvidia-smi says of the GPUs."""
    query = "--query-gpu=name,driver_version,memory.used,memory.total,utilization.gpu"
    try:
        return subprocess.run(["nvidia-smi", query, "--format=csv"], capture_output=True, text=True).stdout
    except FileNotFoundError:
        return "no nvidia-smi"


def parts() -> Iterator[tuple[str, float, Callable[[Bench], dict[str, Any]]]]:
    """Name, time limit in seconds and function of each part, in order."""
    yield "equality", 90, equality
    yield "engines", 60, engines
    yield "resume", 90, resume
    yield "imitation", 40, imitation
    for name in METHODS:
        yield f"speed, {name}", 60, speed(name)
    yield "pong", 180, pong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=560.0, help="no part starts later than this")
    parser.add_argument("--only", default="", help="parts whose name contains this")
    asked = parser.parse_args()
    began = time.monotonic()
    report: dict[str, Any] = {"machine": machine(), "gpu": utilization(), "device": asked.device, "parts": {}}
    patience = 1 if asked.device == "cuda" else 5
    for name, limit, measure in parts():
        if asked.only not in name:
            continue
        left = asked.seconds - (time.monotonic() - began)
        started = time.monotonic()
        with tempfile.TemporaryDirectory(dir=asked.results) as folder:
            bench = Bench(asked.device, asked.scale, Path(folder), started + min(patience * limit, left))
            try:
                found = measure(bench) if left > 0 else {"failed": "no time left"}
            except Exception as problem:  # the next part may work
                found = {"failed": f"{type(problem).__name__}: {problem}"}
        report["parts"][name] = found | {"part_seconds": round(time.monotonic() - started, 1)}
        (asked.results / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
        print(f"{time.monotonic() - began:6.1f} s  {name}: {json.dumps(found)[:300]}")


if __name__ == "__main__":
    main()
