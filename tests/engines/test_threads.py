"""Actors in threads: errors on starting them, and their end."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from small_runs import contract_of

from asyncrl.api import configure
from asyncrl.engines import MemoryPlan, Threads
from asyncrl.errors import UsageError
from asyncrl.experience.rollout import Ticket
from asyncrl.launch import start
from asyncrl.runs.components import actor_spec, make_learner
from asyncrl.runs.config.resolution import resolve


def test_more_threads_than_the_system_allows_are_refused_in_a_sentence_and_none_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, begun = threading.Thread.start, list[str]()

    def begin_two_actors(thread: threading.Thread) -> None:
        if thread.name.startswith("actor-"):
            if len(begun) == 2:
                raise RuntimeError("can't start new thread")  # as Python says it
            begun.append(thread.name)
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", begin_two_actors)
    with pytest.raises(UsageError, match=r"^--actors 4: actor 2 could not be started \(can't start new thread\): reduce"):
        start(configure("worlds:Corridor-v0", "a3c", engine="threads", actors=4, steps=400), tmp_path / "run")
    assert begun == ["actor-0", "actor-1"]
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("actor-")] == []


def test_an_actor_ends_in_the_middle_of_a_rollout_when_the_engine_is_closed() -> None:
    config = configure("worlds:Corridor-v0", "a3c", actors=1, envs_per_actor=1, t_max=200_000)
    contract = contract_of(config)
    config = resolve(config, contract)
    spec, weights = actor_spec(config, contract), make_learner(config, contract).weights
    plan = MemoryPlan(spec.layout(), num_slots=1, num_buffers=1, num_weights=len(weights))
    engine = Threads(spec, 1, plan)
    engine.publish(0, weights)
    engine.request([Ticket(0, actor=0, version=0, slot=0, step=0)])
    assert engine.collect(1, lambda: engine.steps > 0) == {}
    engine.close()
    assert 0 < engine.steps < 200_000
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("actor-")] == []
