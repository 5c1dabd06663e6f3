"""The times of a run's stages, on every engine."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from asyncrl.api import configure
from asyncrl.common.stopwatch import ACTOR_STAGES, LEARNER_STAGES, Stopwatch, processor_times
from asyncrl.launch import start
from asyncrl.monitor import Callback
from asyncrl.runs.speed.verdict import Verdict


class Sleeper(gymnasium.Env[np.ndarray, int]):
    """Steps take 20 ms, in which the processor does nothing."""

    observation_space: ClassVar = spaces.Box(0.0, 1.0, (2,), np.float32)
    action_space: ClassVar = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        time.sleep(0.02)
        return np.zeros(2, np.float32), 0.0, False, False, {}


def records(folder: Path, *callbacks: Callback, **settings: Any) -> list[dict[str, Any]]:
    config = configure(settings.pop("env"), "a3c", **{"actors": 2, "envs_per_actor": 2, "t_max": 4, "seed": 1} | settings)
    return start(config, folder, callbacks=callbacks)[0].records()


@pytest.mark.parametrize("engine", ["serial", "threads", "processes", "hogwild"])
def test_every_engine_records_where_the_time_goes(tmp_path: Path, engine: str) -> None:
    found = records(tmp_path / "run", env="worlds:Corridor-v0", engine=engine, steps=320, eval_episodes=1)
    (last,) = (record for record in found if record["kind"] == "verdict")
    stages = [record for record in found if record["kind"] == "stages"][-1]
    learns = ("batch", "forward", "backward", "optimizer", "publish") if engine == "hogwild" else ()
    assert list(last["actors"]) == list(stages["actors"]) == [*ACTOR_STAGES, *learns]
    assert sum(last["actors"].values()) == pytest.approx(1, abs=1e-3)
    assert min(last["actors"]["environments"], last["actors"]["acting"]) > 0
    assert sum(stages["actor_steps"]) == stages["step"]
    assert min(stages["actor_idle"]) >= 0
    if engine == "hogwild":
        assert "learner" not in last
    else:
        assert list(last["learner"]) == list(LEARNER_STAGES)
        assert sum(last["learner"].values()) == pytest.approx(1, abs=1e-3)
        assert min(last["learner"][stage] for stage in ("waiting", "forward", "backward", "evaluation")) > 0


def test_slow_environments_are_found_in_a_real_run(tmp_path: Path) -> None:
    found = records(tmp_path / "run", env=f"{__name__}:Sleeper", engine="threads", steps=240, eval_episodes=0)
    (last,) = (record for record in found if record["kind"] == "verdict")
    assert last["seconds"] > 1
    assert last["actors"]["environments"] > 0.5 > last["actors"]["acting"]
    assert last["learner"]["waiting"] > 0.5
    assert isinstance(last["flag"], str)
    assert last["gain"] > 1.5


def test_the_time_of_callbacks_is_not_waiting_for_rollouts(tmp_path: Path) -> None:
    settings: dict[str, Any] = dict(engine="serial", steps=320, eval_episodes=0, log_every=1)
    found = records(tmp_path / "run", lambda record: time.sleep(0.05), env="worlds:Corridor-v0", **settings)
    (last,) = (record for record in found if record["kind"] == "verdict")
    assert last["learner"]["other"] > 0.5 > last["learner"]["waiting"]


def test_a_stopwatch_divides_all_of_the_time() -> None:
    began = time.perf_counter()
    watch = Stopwatch()
    for stage in ("a", "b", "a"):
        time.sleep(0.001)
        watch.lap(stage)
    assert 0.003 <= sum(watch.seconds.values()) <= time.perf_counter() - began
    assert set(watch.take()) == {"a", "b"}
    assert watch.seconds == {}


def test_processor_times_grow_with_work_alone() -> None:
    before = processor_times()
    time.sleep(0.05)
    asleep = processor_times()
    while processor_times().used < asleep.used + 0.02:
        pass
    assert asleep.used - before.used < 0.02
    assert processor_times().delayed >= before.delayed >= 0


def test_threads_that_have_ended_leave_no_file_open() -> None:
    processor_times()
    open_before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        thread = threading.Thread(target=processor_times)
        thread.start()
        thread.join()
    assert len(os.listdir("/proc/self/fd")) <= open_before


def test_a_verdict_is_recorded_in_full() -> None:
    verdict = Verdict("learner", "The learner works.", "--epochs 2", 1.987)
    assert verdict.fields() == {
        "bottleneck": "learner", "verdict": "The learner works.", "flag": "--epochs 2", "gain": 1.99
    }  # fmt: skip
