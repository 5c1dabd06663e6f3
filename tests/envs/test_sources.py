"""Environments given as code, and how other processes get what a script defines."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import pytest
from worlds import Corridor

import asyncrl
from asyncrl.api import configure
from asyncrl.common import import_strings
from asyncrl.envs import describe, env_id_of, make
from asyncrl.errors import UsageError
from asyncrl.launch import resume, start

TINY: dict[str, Any] = dict(steps=80, actors=1, envs_per_actor=2, eval_episodes=2)

SCRIPT = """
import functools, json
import gymnasium
import numpy as np
from gymnasium import spaces
import asyncrl

class Small(gymnasium.Env):
    observation_space, action_space = spaces.Box(-9, 9, (2,), np.float32), spaces.Discrete(2)

    def __init__(self, length=5, render_mode=None):
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.see(), {}

    def see(self):
        return self.np_random.normal(size=2).astype(np.float32).clip(-9, 9)

    def step(self, action):
        self.steps += 1
        return self.see(), 1.0, self.steps >= self.length, False, {}

def make_bot():
    return lambda observation, info: 1

gymnasium.register("Here-v0", Small)
gymnasium.register("Named-v0", "__main__:Small")
gymnasium.register("CartPole-v1", Small)  # another meaning of a known id
settings = dict(steps=80, actors=1, envs_per_actor=2, eval_episodes=0)
found = {}

def train(name, env, **how):
    run = asyncrl.train(env, "a3c", run_dir=name, **settings, **how)
    found[name] = asyncrl.load(run.path).checkpoint.weights_sha256

train("over another", "CartPole-v1", engine="serial")
train("class", Small, engine="serial")
train("partial, async", functools.partial(Small, length=5), engine="serial", env_backend="async")
train("over another, processes", "CartPole-v1", engine="processes")  # the first of these, which share a fork server
train("class, processes", Small, engine="processes")
train("lambda, processes", lambda **kwargs: Small(**kwargs), engine="processes")
train("registered, processes", "Here-v0", engine="processes")
train("registered by name, async", "Named-v0", engine="processes", env_backend="async")
asyncrl.train(Small, "dqn", run_dir="bot", engine="processes", bot="__main__:make_bot", bot_share=0.5, learning_starts=20,
              capacity=200, **settings)
run = asyncrl.train(Small, "a3c", run_dir="hogwild", engine="hogwild", **settings)
found["scores"] = list(asyncrl.evaluate(run.path, episodes=2).returns)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a script without a guard, read from standard input, trained in its own environment."""
    folder = tmp_path_factory.mktemp("home")
    done = subprocess.run([sys.executable, "-W", "ignore", "-"], input=SCRIPT, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (folder / "found.json").write_text(done.stdout)
    return folder


def test_a_script_without_a_guard_can_train_in_its_own_classes(home: Path) -> None:
    found = json.loads((home / "found.json").read_text())
    assert found.pop("scores") == [5.0, 5.0]
    assert found.pop("over another") == found.pop("over another, processes")
    assert len(found) == 6
    assert len(set(found.values())) == 1


@pytest.mark.parametrize("run", ["class", "lambda, processes", "partial, async", "registered, processes"])
def test_an_agent_of_a_scripts_environment_acts_elsewhere_but_cannot_be_evaluated(home: Path, run: str) -> None:
    agent = asyncrl.load(home / run)
    assert agent.act(np.zeros(2, np.float32)) in (0, 1)
    with pytest.raises(UsageError, match=r"defined in a script, a notebook|--import MODULE for what a module registers"):
        asyncrl.evaluate(agent)
    with pytest.raises(UsageError, match=r"defined in a script, a notebook|--import MODULE for what a module registers"):
        resume(home / run, steps=200)


def test_an_importable_class_is_saved_by_name() -> None:
    assert env_id_of(Corridor) == "worlds:Corridor"
    assert configure(Corridor, "a3c", extra_envs=[Corridor]).env_ids == ("worlds:Corridor", "worlds:Corridor")
    with closing(make(Corridor, 2)) as envs:
        assert envs.num_envs == 2


def test_functions_with_the_same_name_are_different_environments() -> None:
    ids = {env_id_of(lambda: Corridor()), env_id_of(lambda: gymnasium.make("CartPole-v1"))}
    assert len(ids) == 2
    assert {describe(env_id).spaces.observation_shape for env_id in ids} == {(6,), (4,)}


@pytest.mark.parametrize("given", [3, [], {"id": "CartPole-v1"}, Corridor(), gymnasium.spec("CartPole-v1")])
def test_objects_that_cannot_be_made_many_times_are_refused(given: Any, tmp_path: Path) -> None:
    for call in (asyncrl.train, make, describe):
        with pytest.raises(UsageError, match=r"^the environment was given as .*: give .*a function that makes one$"):
            call(given, **({} if call is not make else {"num_envs": 1}))
    assert list(tmp_path.iterdir()) == []


def test_threads_may_send_code_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("of_a_notebook")
    exec("class Env: pass", module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(3) as threads:
            sent = [*threads.map(lambda _: import_strings.dump(["of_a_notebook:Env"], [], "the environment"), range(300))]
    finally:
        sys.setswitchinterval(interval)
    assert len(set(map(len, sent))) == 1, "by value, each of them"


def test_code_that_cannot_be_pickled_is_refused_before_a_run_is_made(tmp_path: Path) -> None:
    lock = threading.Lock()

    def corridor() -> Corridor:
        with lock:
            return Corridor()

    with pytest.raises(UsageError, match=r"corridor cannot be sent to another process \(TypeError: .*--engine threads"):
        start(configure(corridor, "a3c", engine="processes", **TINY), tmp_path / "run")
    assert not (tmp_path / "run").exists()
