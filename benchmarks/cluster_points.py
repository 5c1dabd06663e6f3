"""Measure `--engine ray` on 1 to 4 nodes simulated on this machine, and compare with cluster_model.py.

    .venv/bin/python benchmarks/cluster_points.py

The environments wait, because one machine cannot compute for four nodes. So this checks how actors, schedule and
learner overlap; it says nothing about a network. Results go to benchmarks/results/cluster-points.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from cluster_model import Cluster, Policy, Workload, simulate

import asyncrl

ROOT = Path(__file__).parents[1]
STEPS, ENVS, ACTORS = 10, 2, 2
"""Steps of a rollout, environments per actor, actors per node."""
ROUNDS = 7


def compare(nodes: int, rollouts: int, address: str, folder: Path) -> dict[str, float]:
    """Steps per second of a run with `rollouts` per update in lockstep with lag 1: measured and predicted."""
    size, actors = STEPS * ENVS, nodes * ACTORS
    run = asyncrl.train(
        "benchmarks.slow_environments:Slow", "a3c", engine="ray", ray_address=address, lag=1, actors=actors,
        envs_per_actor=ENVS, t_max=STEPS, rollouts_per_update=rollouts, steps=ROUNDS * 2 * rollouts * size,
        log_every=1, eval_episodes=0, run_dir=folder,
    )  # fmt: skip
    records = [record for record in run.records() if record["kind"] == "train"]
    half = records[len(records) // 2 :]
    rate = (half[-1]["step"] - half[0]["step"]) / (half[-1]["time"] - half[0]["time"])
    workload = Workload("waiting", size, 10_000, 20_000, acting=size * 0.04, learning=0.005, spread=0.0)
    # on one node, as the simulated ones are: its one core without an actor is the learner's
    predicted = simulate(workload, Cluster(nodes=1, cores=actors + 1), Policy(rollouts=rollouts))
    return {
        "nodes": nodes, "actors": actors, "rollouts_per_update": rollouts, "measured": round(rate, 1),
        "predicted": round(predicted.steps_per_second, 1), "policy_lag": half[-1]["policy_lag"],
    }  # fmt: skip


def main() -> None:
    """Measure, predict, print and save."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    from engines.ray_clusters import cluster

    found = []
    with cluster(0) as simulated, tempfile.TemporaryDirectory() as folder:
        for nodes in (1, 2, 3, 4):
            simulated.add_node(num_cpus=ACTORS)
            for rollouts in (1, nodes * ACTORS):
                found.append(compare(nodes, rollouts, simulated.address, Path(folder) / f"{nodes}-{rollouts}"))
                print(found[-1], flush=True)
    (ROOT / "benchmarks" / "results" / "cluster-points.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
