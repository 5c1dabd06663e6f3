"""Measure environment steps to a score by the number of actors, as in table 2 of Mnih et al. (2016).

    .venv/bin/python benchmarks/scaling.py --seeds 3

The paper timed 1 to 16 threads. Here the result is simulated: each actor has one environment and each update learns from
one rollout of one actor, as in the paper, and environment steps are counted until CartPole's evaluation (20 greedy
episodes, every 5,000 steps) reaches the reference score. With as many cores as actors, the time would fall by
speed-up = actors × steps(1 actor) / steps(n actors). Results go to benchmarks/results/scaling.json and scaling.png.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import tyro

from asyncrl.api import configure
from asyncrl.launch import start
from asyncrl.runs.provenance import machine

RESULTS = Path(__file__).parent / "results"
METHODS = ("one-step-q", "one-step-sarsa", "n-step-q", "a3c")
ACTORS = (1, 2, 4, 8, 16)
PAPER = {
    "one-step-q": (1.0, 3.0, 6.3, 13.3, 24.1),
    "one-step-sarsa": (1.0, 2.8, 5.9, 13.1, 22.1),
    "n-step-q": (1.0, 2.7, 5.9, 10.7, 17.2),
    "a3c": (1.0, 2.1, 3.7, 6.9, 12.5),
}
"""Table 2: mean over seven games."""
COMMON = dict(
    t_max=5,
    envs_per_actor=1,
    optimizer="rmsprop",
    learning_rate=5e-4,
    learning_rate_schedule="constant",
    optimizer_epsilon=1e-4,
    reward_scale=0.05,
    eval_every=5_000,
    eval_episodes=20,
    eval_greedy=True,
    learner_threads=1,
    schedule="free",
)
VALUES = dict(target_every=2_000, epsilon_steps=30_000)


@dataclass(frozen=True)
class Arguments:
    seeds: int = 3
    reference: float = 195.0
    """The mean return to reach."""
    steps: int = 200_000
    """Steps after which a run is abandoned."""
    engines: tuple[str, ...] = ("free", "hogwild")
    jobs: int = 2
    """Runs in parallel."""


class Case(NamedTuple):
    method: str
    engine: str
    actors: int
    seed: int


def run(case: Case, asked: Arguments) -> int | None:
    """Environment steps until the reference score; None if it was not reached."""
    settings: dict[str, Any] = {**COMMON, **({} if case.method == "a3c" else VALUES)}
    if case.engine == "hogwild":
        settings |= dict(engine="hogwild")
    else:
        settings |= dict(engine="serial", rollouts_per_update=1, queue_size=case.actors)
    settings |= dict(actors=case.actors, seed=case.seed, steps=asked.steps, target_return=asked.reference)
    with tempfile.TemporaryDirectory() as folder:
        _, outcome = start(configure("CartPole-v1", case.method, **settings), Path(folder) / "run")
    reached = outcome.evaluation is not None and outcome.evaluation.mean >= asked.reference
    return outcome.step if reached else None


def plot(speedups: dict[str, dict[str, list[float]]], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(METHODS), figsize=(4 * len(METHODS), 3.6), sharey=True)
    for axis, method in zip(axes, METHODS, strict=True):
        for engine, found in speedups.items():
            axis.plot(ACTORS, found[method], marker="o", label=engine)
        axis.plot(ACTORS, PAPER[method], "k--", marker="x", label="paper (seven Atari games, time)")
        axis.plot(ACTORS, ACTORS, color="0.8", label="linear")
        axis.set(title=method, xlabel="actors", xscale="log", yscale="log", xticks=ACTORS, xticklabels=ACTORS)
    axes[0].set_ylabel("speed-up: actors × steps(1) / steps(n)")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def main() -> None:
    asked = tyro.cli(Arguments, description=__doc__)
    seeds = range(1, asked.seeds + 1)
    cases = [Case(m, e, n, s) for m in METHODS for e in asked.engines for n in ACTORS for s in seeds]
    with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn")) as pool:
        steps = dict(zip(cases, pool.map(run, cases, [asked] * len(cases)), strict=True))
    rows: list[dict[str, Any]] = []
    speedups: dict[str, dict[str, list[float]]] = {engine: {} for engine in asked.engines}
    for engine in asked.engines:
        for method in METHODS:
            found = {n: [steps[Case(method, engine, n, s)] for s in seeds] for n in ACTORS}
            medians = {n: statistics.median(asked.steps if x is None else x for x in found[n]) for n in ACTORS}
            speedups[engine][method] = [round(n * medians[1] / medians[n], 2) for n in ACTORS]
            rows.append({"method": method, "engine": engine, "steps": found, "speedup": speedups[engine][method]})
            print(f"| {method} | {engine} | " + " | ".join(f"{medians[n]:,.0f}" for n in ACTORS) + " |", flush=True)
            print(f"|  | speed-up | {' | '.join(f'{x:g}' for x in speedups[engine][method])} |", flush=True)
    report = {"command": " ".join(sys.argv), "machine": machine(), "paper": PAPER, "rows": rows}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scaling.json").write_text(json.dumps(report, indent=1) + "\n")
    plot(speedups, RESULTS / "scaling.png")


if __name__ == "__main__":
    main()
