"""The Python API: settings reach their fields, and a trained agent acts."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interrupted_runs import handled_by
from worlds import Corridor

import asyncrl
from asyncrl.algorithms import A3C
from asyncrl.api import configure
from asyncrl.errors import UsageError
from asyncrl.launch import newest_checkpoint, resume
from asyncrl.runs.config.run_config import EngineKind
from asyncrl.runs.lookup import open_run
from asyncrl.runs.run import Run


def test_a_setting_reaches_the_field_of_its_name() -> None:
    config = configure("ALE/Pong-v5", "a3c", network="nature-cnn", t_max=7, sticky=0.1, engine="threads", actors=3)
    assert config.network.network == "nature-cnn"
    assert isinstance(config.algorithm, A3C)
    assert config.algorithm.t_max == 7
    assert config.environment.sticky == 0.1
    assert (config.engine, config.actors) == (EngineKind.THREADS, 3)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"learning_rat": 1.0}, "did you mean 'learning_rate'"),
        ({"steps": "many"}, "steps: expected a whole number"),
        ({"engine": "thread"}, "did you mean 'threads'"),
        ({"algorithm": "a3c", "preset": "a3c/cartpol"}, "did you mean 'a3c/cartpole'"),
    ],
)
def test_a_bad_setting_is_named(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        configure("CartPole-v1", **settings)  # type: ignore[arg-type]


def test_train_load_act_evaluate(tmp_path: Path) -> None:
    run = asyncrl.train("worlds:Corridor-v0", "a3c", run_dir=tmp_path / "run", steps=500, eval_episodes=0)
    agent = asyncrl.load(run.path)
    observation = np.eye(6, dtype=np.float32)
    assert agent.act(observation[0]) in (0, 1)
    assert agent.act(observation).shape == (6,)
    assert (agent.act(observation, greedy=True) == agent.act(observation, greedy=True)).all()
    assert len(asyncrl.evaluate(agent, episodes=3).returns) == 3
    with pytest.raises(UsageError, match=r"an observation of shape \(6, 5\); the agent takes what worlds"):
        agent.act(observation[:, :5])


def test_ctrl_c_saves_and_ends_the_callers_loop_too(tmp_path: Path) -> None:
    kwargs = json.dumps({"sent": str(tmp_path / "sent")})
    settings = dict(steps=4_000, actors=1, envs_per_actor=1, engine="serial", eval_episodes=0, env_kwargs=kwargs)
    with pytest.raises(KeyboardInterrupt, match="continue with: asyncrl train --resume"):
        asyncrl.train("worlds:Signalling-v0", "a3c", run_dir=tmp_path / "run", **settings)
    run = open_run(tmp_path / "run")
    assert run.interrupted
    assert 0 < newest_checkpoint(run).step < 4_000
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_saves_ends_the_program_and_marks_the_run_until_it_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    settings = dict(steps=400, actors=1, envs_per_actor=1, engine="serial", eval_episodes=0)
    kwargs = json.dumps({"sent": str(tmp_path / "sent"), "name": name})
    with pytest.raises(SystemExit) as end, handled_by(signal.SIG_DFL, signal.Signals[name]):
        asyncrl.train("worlds:Signalling-v0", "a3c", run_dir=tmp_path / "run", env_kwargs=kwargs, **settings)
    assert end.value.code == 128 + signal.Signals[name]
    run = open_run(tmp_path / "run")
    assert f"continue with: asyncrl train --resume {run.path}" in capsys.readouterr().err
    assert run.interrupted
    assert 0 < newest_checkpoint(run).step < 80
    again, _ = resume(run.path, steps=60)
    assert not again.interrupted


def test_a_signal_that_the_program_handles_reaches_its_handler_once_the_run_is_saved(tmp_path: Path) -> None:
    settings = dict(steps=400, actors=1, envs_per_actor=1, engine="serial", eval_episodes=0)
    kwargs = json.dumps({"sent": str(tmp_path / "sent"), "name": "SIGTERM"})
    steps: list[int] = []
    with handled_by(lambda *_: steps.append(newest_checkpoint(open_run(tmp_path / "run")).step)):
        run = asyncrl.train("worlds:Signalling-v0", "a3c", run_dir=tmp_path / "run", env_kwargs=kwargs, **settings)
    assert run.interrupted
    assert steps == [newest_checkpoint(run).step]


def test_the_progress_of_a_run_that_was_lengthened_is_of_its_whole_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[int] = []
    monkeypatch.setattr(asyncrl.api, "training_view", lambda title, steps, progress: shown.append(steps))
    settings = dict(steps=96, actors=1, envs_per_actor=2, t_max=8, engine="serial", eval_episodes=0)
    run = asyncrl.train("worlds:Corridor-v0", "a3c", run_dir=tmp_path / "run", **settings)
    asyncrl.resume(run, steps=192)
    asyncrl.resume(run)
    assert shown == [96, 192, 192]
    with pytest.raises(UsageError, match="steps: expected a whole number, got 'many'"):
        asyncrl.resume(run, steps="many")


def test_an_environment_that_changes_the_working_directory_changes_no_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, away = tmp_path / "home", tmp_path / "away"
    home.mkdir()
    away.mkdir()
    settings: dict[str, Any] = dict(steps=400, envs_per_actor=1, eval_episodes=1, env_kwargs=json.dumps({"to": str(away)}))
    settings |= dict(engine="serial", learning_starts=100, capacity=1_000, bot_prefill=50)
    monkeypatch.chdir(home)
    (home / "bots.py").write_text("def still():\n    return lambda observation, info: 0\n")
    first = asyncrl.train("worlds:Wandering-v0", "dqn", bot="bots.py:still", **settings)
    monkeypatch.chdir(home)
    begun = str(first.path.relative_to(home))
    second = asyncrl.train("worlds:Wandering-v0", "dqn", run_dir="second", init_from=begun, bot="bots.py:still", **settings)
    monkeypatch.chdir(home)
    resume("second", steps=800)
    assert newest_checkpoint(second).step == 800
    assert second.path == home / "second"
    assert list(away.iterdir()) == []


@pytest.mark.parametrize("given", [None, 3, ["run"], object()])
@pytest.mark.parametrize(
    "opens",
    [
        *(asyncrl.load, asyncrl.resume),
        *(lambda given: asyncrl.export(given, "onnx"), lambda given: asyncrl.share(given, "shared")),
    ],
    ids=["load", "resume", "export", "share"],
)
def test_what_is_not_a_path_is_refused(opens: Callable[[Any], object], given: Any) -> None:
    named = r"a run or an agent is named by the path of its run folder \(run\.path\), not by "
    with pytest.raises(UsageError, match=named):
        opens(given)


@pytest.mark.parametrize("given", [3, ["run"], "a\0b"])
@pytest.mark.parametrize(
    ("name", "writes"),
    [
        ("run_dir", lambda given: asyncrl.train("worlds:Corridor-v0", "a3c", run_dir=given)),
        ("run_dir", lambda given: asyncrl.pretrain("worlds:Corridor-v0", "a3c", "corridor/none-v0", run_dir=given)),
        ("onnx", lambda given: asyncrl.export("run", given)),
        ("folder", lambda given: asyncrl.share("run", given)),
        ("video", lambda given: asyncrl.play("run", video=given)),
        ("video", lambda given: asyncrl.compare("run", "run", video=given)),
        ("out", lambda given: asyncrl.plot("run", out=given)),
    ],
    ids=["train", "pretrain", "export", "share", "play", "compare", "plot"],
)
def test_what_is_not_the_path_of_a_result_is_refused(name: str, writes: Callable[[Any], object], given: Any) -> None:
    with pytest.raises(UsageError, match=f"^{name} is the path of a file or folder, not "):
        writes(given)


def test_the_functions_take_runs_and_environment_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("minari", reason="datasets need it: pip install 'asyncrl[data]'")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    (tmp_path / "datasets").mkdir()
    (tmp_path / "bots.py").write_text("def right():\n    return lambda observation, info: 1\n")
    bot = f"{tmp_path / 'bots.py'}:right"
    recorded = asyncrl.record(Corridor, "corridor/right-v0", 4, bot=bot)
    assert len(recorded.returns) == len(recorded.lengths) == 4
    imitating = asyncrl.pretrain(Corridor, "a3c", "corridor/right-v0", run_dir=tmp_path / "imitating", imitation_epochs=20)
    settings = dict(envs_per_actor=1, actors=1, engine="serial", eval_episodes=0)
    run = asyncrl.train(Corridor, "a3c", run_dir=tmp_path / "run", steps=100, init_from=str(imitating.path), **settings)
    assert capsys.readouterr() == ("", "")
    resumed = asyncrl.resume(run, steps=200, progress=True)
    assert "200 steps" in capsys.readouterr().out
    assert newest_checkpoint(resumed).step >= 200
    assert asyncrl.resume(run, steps=200) == run
    assert asyncrl.evaluate(run, 3, env=Corridor, greedy=True) == asyncrl.evaluate(asyncrl.load(run), 3, greedy=True)
    played = asyncrl.play(run, 2, video=tmp_path / "play.gif", max_steps=4)
    assert (len(played.returns), (tmp_path / "play.gif").is_file()) == (2, True)


@pytest.mark.parametrize("function", ["train", "tune"])
def test_the_environment_comes_first(function: str) -> None:
    call: Callable[..., object] = getattr(asyncrl, function)
    with pytest.raises(UsageError, match=rf'^the environment comes first: {function}\("CartPole-v1", "a3c"\)$'):
        call("a3c", "CartPole-v1")
    with pytest.raises(UsageError, match=rf'^the environment comes first: {function}\(ENV, "a3c"\)$'):
        call("a3c")


@pytest.mark.parametrize("play", [asyncrl.evaluate, asyncrl.play, lambda run, **given: asyncrl.compare(run, run, **given)])
@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (dict(seed=-1), "--seed must be 0 or more, not -1"),
        (dict(seed=2**63), f"--seed must be at most {2**63 - 1}, not {2**63}"),
        (dict(seed=1.0), "--seed must be a whole number, not 1.0"),
        (dict(episodes=2.0), "--episodes must be a whole number, not 2.0"),
        (dict(episodes="2"), "--episodes must be a whole number, not '2'"),
        (dict(episodes=True), "--episodes must be a whole number, not True"),
        (dict(episodes=0), "--episodes must be 1 or more, not 0"),
    ],
)
def test_numbers_that_the_command_line_refuses_are_refused(
    play: Callable[..., object], given: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError, match=f"^{sentence}$"):
        play("pretrained/pong-ppo", **given)


def test_a_vector_environment_has_one_environment_or_more() -> None:
    with pytest.raises(UsageError, match=r"^--num-envs must be 1 or more, not 0$"):
        asyncrl.envs.make("CartPole-v1", num_envs=0)


@pytest.mark.parametrize("shows", [asyncrl.plot, asyncrl.watch])
def test_runs_may_be_given_as_one_list(shows: Callable[[Any], object], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^run folder .*nowhere does not exist"):
        shows([tmp_path / "nowhere", Run(tmp_path / "nowhere")])
    with pytest.raises(UsageError, match="named by the path of its run folder"):
        shows([3])


def test_a_list_is_no_suite() -> None:
    with pytest.raises(UsageError, match=r"^a suite is a Suite, a name or the path of a file, not \['a3c'\]"):
        asyncrl.benchmark(["a3c"])  # type: ignore[arg-type]


def test_a_setting_that_is_a_path_may_be_a_run(tmp_path: Path) -> None:
    for start in (tmp_path / "my run", Run(tmp_path / "my run")):
        assert configure("CartPole-v1", "a3c", init_from=start).init_from == str(tmp_path / "my run")


def test_an_unknown_keyword_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown setting 'learning_rat'; did you mean 'learning_rate'"):
        asyncrl.train("CartPole-v1", "a3c", learning_rat=1.0)
