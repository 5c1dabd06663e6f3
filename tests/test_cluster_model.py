"""The model of a cluster against the cases that have an answer in closed form."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    monkeypatch.delitem(sys.modules, "cluster_model", raising=False)
    import cluster_model

    return cluster_model


def outcome(
    model: ModuleType, *, acting: float, learning: float, nodes: int, rate: float = 1e12, **policy: object
) -> object:
    """Rollouts of 100 steps and 1 MB, weights of 4 MB, no spread, four cores per node, no latency."""
    workload = model.Workload("w", 100, 1_000_000, 4_000_000, acting, learning, spread=0.0)
    cluster = model.Cluster(nodes=nodes, cores=4, network_rate=rate, latency=0.0)
    return model.simulate(workload, cluster, model.Policy(**policy))


@pytest.mark.parametrize("policy", [{}, {"schedule": "free", "rollouts": 5}])
def test_a_learner_that_is_slow_learns_all_the_time(model: ModuleType, policy: dict[str, object]) -> None:
    found = outcome(model, acting=0.01, learning=0.1, nodes=4, **policy)
    assert found.steps_per_second == pytest.approx(100 / 0.1)
    assert found.learner_busy == pytest.approx(1.0)


@pytest.mark.parametrize("policy", [{}, {"schedule": "free"}])
def test_slow_actors_act_all_the_time(model: ModuleType, policy: dict[str, object]) -> None:
    found = outcome(model, acting=1.0, learning=1e-4, nodes=4, **policy)
    assert found.steps_per_second == pytest.approx(15 * 100 / 1.0, rel=0.01)
    assert found.learner_busy == pytest.approx(15 * 1e-4, rel=0.01)


def test_with_lag_0_actors_and_learner_take_turns(model: ModuleType) -> None:
    found = outcome(model, acting=1.0, learning=0.1, nodes=1, lag=0)
    assert found.steps_per_second == pytest.approx(3 * 100 / (1.0 + 3 * 0.1))
    assert found.policy_lag == 0


def test_a_slow_network_carries_rollouts_all_the_time(model: ModuleType) -> None:
    found = outcome(model, acting=0.01, learning=1e-5, nodes=8, rate=1e7, schedule="free", rollouts=31)
    remote = 28 / 31  # the share of rollouts by actors on other nodes, if all are equally fast
    assert found.network_busy == pytest.approx(1.0, abs=0.02)
    assert found.steps_per_second >= 100 * 1e7 / 1e6  # what the link carries; actors beside the learner come on top
    lockstep = outcome(model, acting=0.01, learning=1e-5, nodes=8, rate=1e7)
    assert lockstep.steps_per_second == pytest.approx(100 * 1e7 / 1e6 / remote, rel=0.02)


def test_weights_go_to_each_node_once_per_version(model: ModuleType) -> None:
    found = outcome(model, acting=0.001, learning=1e-6, nodes=9, rate=4e6)
    seconds_per_update = max(8 * 4_000_000, 32 * 1_000_000) / 4e6  # one link in each direction
    assert found.steps_per_second == pytest.approx(35 * 100 / seconds_per_update, rel=0.1)


def test_cost_counts_every_core_of_every_node(model: ModuleType) -> None:
    found = outcome(model, acting=0.01, learning=0.1, nodes=4)
    assert found.core_seconds == pytest.approx(16 * 1e6 / 1000)
    assert found.dollars == pytest.approx(found.core_seconds / 3600 * 0.04)


def test_lockstep_has_the_lag_that_was_asked_for(model: ModuleType) -> None:
    assert outcome(model, acting=0.1, learning=0.001, nodes=2, lag=3).policy_lag == 3
