"""The nodes of a cluster; the Ray engine gives the weights of `serial`, whichever actors and nodes it loses on the way."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from engines.ray_clusters import cluster
from small_runs import contract_of

from asyncrl.api import configure
from asyncrl.cluster.connection import check_nodes, connect, nodes
from asyncrl.engines import MemoryPlan, RayEngine, RayOptions, connected
from asyncrl.errors import ActorDied, UsageError
from asyncrl.launch import newest_checkpoint, start
from asyncrl.runs.components import actor_spec
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.run import Run

pytest.importorskip("ray")

SMALL: dict[str, Any] = dict(steps=1_280, actors=2, envs_per_actor=4, t_max=8, eval_episodes=0, seed=5, log_every=1)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Any]:
    """A cluster of a node for the learner and one with two places for actors."""
    with cluster(0, 2) as found:
        yield found


def at_update(update: int, *actions: Callable[[], object]) -> Callable[[dict[str, Any]], None]:
    """A callback that calls the first of `actions` after that update, the next after twice as many, and so on."""
    todo = {update * (index + 1): action for index, action in enumerate(actions)}

    def callback(record: dict[str, Any]) -> None:
        due = [number for number in todo if record["update"] >= number]
        for number in due:
            todo.pop(number)()

    return callback


def kill_an_actor() -> None:
    actors = [process for process in psutil.Process().children(recursive=True) if "RemoteActor" in process.name()]
    os.kill(actors[0].pid, signal.SIGKILL)


def train(folder: Path, *callbacks: Any, **settings: Any) -> Run:
    run, _ = start(configure("worlds:Corridor-v0", "a3c", **{**SMALL, **settings}), folder, callbacks=callbacks)
    return run


def plan_of(env: str = "worlds:Corridor-v0", **settings: Any) -> tuple[Any, MemoryPlan]:
    """The actors of a run and the memory that it needs."""
    config = configure(env, "a3c", **{**SMALL, **settings})
    contract = contract_of(config)
    config = resolve(config, contract)
    spec = actor_spec(config, contract)
    return spec, MemoryPlan(spec.layout(), config.queue_size or 1, num_buffers=2, num_weights=100)


def losses(run: Run) -> list[dict[str, Any]]:
    return [record for record in run.records() if record["kind"] == "lost"]


def test_the_nodes_of_a_cluster_are_listed_and_need_the_same_version(ray_cluster: Any) -> None:
    with connect(ray_cluster.address):
        assert [node.cpus for node in nodes()] == [0, 2]
        check_nodes()
        with pytest.raises(UsageError, match=r"has asyncrl 0\.1\.0, but this machine has 99\.0: install the same"):
            check_nodes("99.0")


def test_a_killed_actor_and_a_lost_node_do_not_change_the_weights(ray_cluster: Any, tmp_path: Path) -> None:
    def lose_a_node() -> None:
        (node,) = ray_cluster.worker_nodes
        ray_cluster.add_node(num_cpus=2)
        ray_cluster.remove_node(node)

    expected = newest_checkpoint(train(tmp_path / "serial", engine="serial", lag=2)).weights_sha256
    mishaps = at_update(4, kill_an_actor, lose_a_node)
    run = train(tmp_path / "ray", mishaps, engine="ray", ray_address=ray_cluster.address, lag=2)
    assert newest_checkpoint(run).weights_sha256 == expected
    assert [record.keys() - {"step", "update", "time", "kind"} for record in losses(run)] == [
        {"actor", "rollout", "reason"}
    ] * 3  # one actor, then both


def test_free_continues_after_a_loss(ray_cluster: Any, tmp_path: Path) -> None:
    settings = dict(engine="ray", ray_address=ray_cluster.address, schedule="free")
    run = train(tmp_path / "free", at_update(3, kill_an_actor), **settings)
    assert len(losses(run)) == 1
    assert max(record["policy_lag"] for record in run.records() if record["kind"] == "train") > 0
    assert newest_checkpoint(run).step == SMALL["steps"]


def test_a_store_that_is_too_small_is_refused_before_the_start(ray_cluster: Any) -> None:
    _, plan = plan_of(envs_per_actor=64, t_max=40_000)
    with pytest.raises(
        UsageError, match=r"4 rollouts of [\d.]+ MB .* take [\d,]+ MB of Ray's object store, but .* has 157 MB"
    ):
        connected(ray_cluster.address, 2, plan).__enter__()


@pytest.mark.parametrize("restores", [True, False])
def test_an_actor_that_restores_its_environments_is_neither_dead_nor_without_a_place(
    ray_cluster: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, restores: bool
) -> None:
    held = tmp_path / "held"
    spec, plan = plan_of("worlds:Held-v0", actors=1, env_kwargs=json.dumps({"held": str(held)}))
    held.touch()
    states: Any = {0: None} if restores else {}
    said: list[str] = []
    with connect(ray_cluster.address):
        engine = RayEngine(replace(spec, states=states), 1, plan, RayOptions(say=said.append))
        try:
            assert engine.collect(1, lambda: engine._actors[0].has_place) == {}
            said.clear()  # a busy machine may have been reported
            monkeypatch.setattr("asyncrl.engines.ray_engine._SLOW_START", 0.0)
            monkeypatch.setattr(engine._completed, "_timeout", 2.5)
            polls = itertools.count()
            with contextlib.nullcontext() if restores else pytest.raises(ActorDied, match="no actor took a step"):
                assert engine.collect(1, lambda: next(polls) > 4) == {}
        finally:
            engine.close()
    assert said == []


def test_actors_without_a_place_are_reported_until_the_deadline(ray_cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncrl.engines.ray_engine._SLOW_START", 0.5)
    for node in list(ray_cluster.worker_nodes):
        ray_cluster.remove_node(node)
    spec, plan = plan_of()
    said: list[str] = []
    with connect(ray_cluster.address):
        engine = RayEngine(spec, 2, plan, RayOptions(say=said.append, deadline=1.5))
        try:
            with pytest.raises(ActorDied, match="actors 0, 1 found no free processor within 2 s: the cluster has 0"):
                engine.collect(1, lambda: False)
        finally:
            engine.close()
    assert said == [
        "Waiting for a free processor for actors 0, 1: the cluster has 0 processors for 2 actors; add nodes, or lower "
        "--actors."
    ]


def test_the_address_is_only_for_the_ray_engine(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--ray-address has no effect without --engine ray"):
        start(configure("worlds:Corridor-v0", "a3c", ray_address="auto"), tmp_path, asked=["ray_address"])
