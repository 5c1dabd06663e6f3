"""An agent plays beside its run: what the page is shown, and what it may ask for."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import psutil
import pytest
import torch
from dashboard_client import viewing
from forged_runs import forged
from PIL import Image

import asyncrl
from asyncrl.agents.evaluation import watch
from asyncrl.api import configure
from asyncrl.common.child_process import ChildProcess
from asyncrl.common.serialization import to_json
from asyncrl.dashboard.player.episodes import recorded_episodes
from asyncrl.dashboard.player.messages import pack, unpack
from asyncrl.dashboard.player.players import Player
from asyncrl.dashboard.player.stage import Stage
from asyncrl.envs import Contract, EnvOptions, View, describe
from asyncrl.envs.supervision import capsule
from asyncrl.envs.supervision.worker import Failure, FailureKind
from asyncrl.errors import UsageError
from asyncrl.launch import start
from asyncrl.monitor import Record, Stop
from asyncrl.runs.components import make_learner
from asyncrl.runs.live_weights import LiveWriter
from asyncrl.runs.run import Run

SMALL: dict[str, Any] = dict(steps=80, actors=1, envs_per_actor=2, t_max=5, engine="serial", eval_episodes=0)
REPLAY: dict[str, Any] = dict(capacity=100, learning_starts=40, batch_size=8)


def trained(folder: Path, env: str, algorithm: str = "a3c", **settings: Any) -> Run:
    return start(configure(env, algorithm, **SMALL | settings), folder)[0]


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    settings = dict(eval_episodes=3, eval_greedy=True, env_backend="sync")
    return trained(tmp_path_factory.mktemp("player") / "run", "CartPole-v1", **settings)


@pytest.fixture
def run(cartpole: Run, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(cartpole.path, tmp_path / "run")))


def test_a_player_that_still_loads_leaves_the_cores_to_training(tmp_path: Path) -> None:
    async def started() -> int:
        player = Player(str(tmp_path), trust=False)
        await player.start()
        assert player._process is not None
        try:
            return psutil.Process(player._process.pid).nice()
        finally:
            player.stop()

    assert asyncio.run(started()) == 19


@contextlib.contextmanager
def killing(process: ChildProcess) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()


def test_an_episode_is_the_one_that_play_shows(cartpole: Run) -> None:
    agent = asyncrl.load(cartpole)
    view = View(agent.contract)
    *_, last = watch(agent.policy, view, 7, greedy=True)
    view.close()
    with viewing(cartpole.path) as player:
        player.command(seed=7)
        assert player.frame(lambda frame: frame["seed"] == 7 and frame["done"])["return"] == last.score


def test_a_picture_comes_with_what_the_network_computed(cartpole: Run) -> None:
    with viewing(cartpole.path) as player:
        frame = player.first_step()
        assert Image.open(io.BytesIO(player.picture)).size == (600, 400)
    (bars,) = frame["bars"]
    assert sum(bars["values"]) == pytest.approx(1)
    assert bars["names"][int(bars["chosen"][0])] == frame["action"]
    assert frame["value_name"] == "V(s)"


@pytest.mark.parametrize(
    ("env", "algorithm", "settings", "title", "value"),
    [
        ("CartPole-v1", "dqn", REPLAY, "action values Q(s, a)", "max Q(s, a)"),
        ("CartPole-v1", "a3c", dict(recurrent="lstm"), "action probabilities", "V(s)"),
        ("worlds:Toolbox-v0", "a3c", {}, "action probabilities, part 1", "V(s)"),
        ("Pendulum-v1", "a3c", {}, "mean ± standard deviation", "V(s)"),
        ("Pendulum-v1", "sac", REPLAY, "most probable action", "Q(s, a)"),
        ("CartPole-v1", "sac-discrete", REPLAY, "action probabilities", "Q(s, a)"),
    ],
)
def test_every_kind_of_policy_has_bars(
    tmp_path: Path, env: str, algorithm: str, settings: dict[str, Any], title: str, value: str
) -> None:
    if settings is REPLAY:
        settings = settings | {"t_max": SMALL["t_max"]}
    found = trained(tmp_path / "run", env, algorithm, **settings)
    with viewing(found.path) as player:
        frame = player.first_step()
    assert frame["bars"][-1]["title"] == title
    assert frame["value_name"] == value


def test_an_environment_whose_pictures_fail_says_why(cartpole: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(view: View) -> np.ndarray:
        raise UsageError("CartPole-v1 cannot be drawn: its render raised an error")

    monkeypatch.setattr(View, "picture", fail)
    with viewing(cartpole.path) as player:
        ready = player.until(lambda message: message["kind"] == "ready" and message["not_drawn"])
        assert ready["not_drawn"] == "CartPole-v1 cannot be drawn: its render raised an error"
        assert player.frame()["numbers"]


def test_an_environment_that_cannot_be_made_leaves_the_one_before(cartpole: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(contract: Contract) -> None:
        raise UsageError(f"{contract.env} cannot be made")

    with viewing(cartpole.path) as player:
        player.frame()
        closed: list[Stage] = []
        monkeypatch.setattr(Stage, "close", lambda stage: closed.append(stage))
        monkeypatch.setattr("asyncrl.dashboard.player.viewer.Stage", fail)
        player.command(environment="CartPole-v1")
        assert player.notice() == "CartPole-v1 cannot be made"
    assert not closed


def test_an_environment_that_is_not_drawn_shows_its_numbers(tmp_path: Path) -> None:
    found = trained(tmp_path / "run", "failing_envs:Counting")
    with viewing(found.path) as player:
        assert player.until(lambda message: message["kind"] == "ready")["not_drawn"]
        frame = player.frame()
    assert list(frame["numbers"]) == ["observation[0]", "observation[1]", "observation[2]"]
    assert not frame["type"]


def test_a_network_that_sees_images_shows_them_where_nothing_is_drawn(tmp_path: Path) -> None:
    found = trained(tmp_path / "run", "worlds:Toolbox-v0")
    with viewing(found.path) as player:
        player.command(saliency=True)
        frame = player.frame(lambda frame: frame.get("saliency"))
        assert Image.open(io.BytesIO(player.picture)).size == (44, 40)
    assert frame["saliency"]["maps"].keys() == {"policy", "value"}


def test_pong_is_drawn_with_saliency() -> None:
    with viewing("pretrained/pong-ppo") as player:
        player.command(pause=True)
        player.command(saliency=True)
        frame = player.frame(lambda frame: frame.get("saliency"))
        assert Image.open(io.BytesIO(player.picture)).size == (160, 210)
    assert len(frame["bars"][0]["names"]) == 6
    assert frame["saliency"]["maps"]["policy"]["height"] > 8


def test_the_newest_weights_play_while_the_run_learns(tmp_path: Path) -> None:
    """The run ends when a picture has shown weights that no checkpoint holds."""
    updates: list[int] = []
    settings = SMALL | dict(steps=10_000_000, log_every=1, checkpoint_every=10_000_000)
    opened: list[Any] = []

    def look(record: Record) -> Stop | None:
        if not opened:
            opened.append(viewing(tmp_path / "run"))
            opened.append(opened[0].__enter__())
        frame = opened[1].frame()
        if frame["weights"]["checkpoint"] is None:
            updates.append(frame["weights"]["update"])
        return Stop("seen") if updates else None

    found, result = start(configure("worlds:Corridor-v0", "a3c", **settings), tmp_path / "run", callbacks=[look])
    opened[0].__exit__(None, None, None)
    assert 0 < updates[0] <= result.update
    assert found.stopped_because == "seen"


def test_the_weights_of_a_checkpoint_can_be_chosen(run: Run) -> None:
    beginning = run.checkpoints()[0].name
    config, contract = run.beginning()
    learner = make_learner(config, contract)
    learner.updates = 99
    with viewing(run.path) as player:
        player.frame()
        LiveWriter(run.path, learner).offer()
        assert player.frame(lambda frame: frame["weights"]["checkpoint"] is None)["weights"]["update"] == 99
        player.command(weights=beginning)
        assert player.frame(lambda frame: frame["weights"]["checkpoint"] == beginning)
        player.command(weights="000000000007")
        assert "has no checkpoint '000000000007'" in player.notice()


def test_a_paused_player_shows_what_other_weights_compute(run: Run) -> None:
    beginning = run.checkpoints()[0].name
    learner = make_learner(*run.beginning())
    learner.updates = 99
    learner.weights.copy_(torch.randn(learner.weights.shape, generator=torch.Generator().manual_seed(1)))
    with viewing(run.path) as player:
        step = player.first_step()["step"]
        player.command(weights=beginning)
        old = player.frame(lambda frame: frame["weights"]["checkpoint"] == beginning)
        player.command(weights="newest")
        LiveWriter(run.path, learner).offer()
        new = player.frame(lambda frame: frame["weights"]["update"] == 99)
        player.command(weights=beginning)
        again = player.frame(lambda frame: frame["weights"]["checkpoint"] == beginning)
    assert old["step"] == new["step"] == again["step"] == step
    assert new["bars"] != old["bars"]
    assert new["value"] != old["value"]
    assert again["bars"] == old["bars"]


def test_an_evaluations_episode_is_played_again(run: Run) -> None:
    found = recorded_episodes(run.path)
    worst = found["worst"][0]
    assert worst["return"] == min(run.metrics("eval")["returns"][-1])
    asked = {name: worst[name] for name in ("checkpoint", "number", "environment", "return")}
    with viewing(run.path) as player:
        player.command(evaluation=asked)
        assert player.notice() == f"Return {worst['return']:g}, as in the evaluation."


def test_an_evaluations_episode_that_was_changed_is_not_blamed_on_the_environment(run: Run) -> None:
    worst = recorded_episodes(run.path)["worst"][0]
    asked = {name: worst[name] for name in ("checkpoint", "number", "environment")}
    with viewing(run.path) as player:
        player.command(pause=True)
        player.command(evaluation=asked | {"return": 12_345.0}, epsilon=0.5)
        assert player.notice().endswith("the evaluation recorded 12345, but its environments were made in another way.")
        player.command(evaluation=asked | {"return": 12_345.0}, step=True)
        player.frame(lambda frame: frame["step"] == 0)
        player.command(epsilon=1, pause=False)
        assert player.notice().endswith("the evaluation recorded 12345, but its actions or its weights were changed here.")


def test_what_is_recorded_is_listed_by_its_return(run: Run) -> None:
    found = recorded_episodes(run.path)
    returns = [episode["return"] for episode in found["best"]]
    assert returns == sorted(returns, reverse=True)
    assert [one["name"] for one in found["checkpoints"]] == [path.name for path in reversed(run.checkpoints())]
    assert found["checkpoints"][0]["marks"] == ["best", "latest"]


def test_pausing_stops_and_one_step_makes_one(cartpole: Run) -> None:
    with viewing(cartpole.path) as player:
        assert player.first_step()["step"] == 1
        player.command(step=True)
        assert player.frame()["step"] == 2


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ({"speed": "fast"}, "speed must be a number between 0 and 64"),
        ({"epsilon": 2}, "ε must be a number between 0 and 1"),
        ({"capsule": "../config.json"}, "the run has no crash capsule"),
        ({"weights": "../.."}, "has no checkpoint"),
        ({"environment": "CartPole-v0"}, "the agent was trained in CartPole-v1"),
        ({"jump": 1}, "the player has no command 'jump'"),
    ],
)
def test_a_command_that_is_impossible_gets_a_sentence(cartpole: Run, command: dict[str, Any], sentence: str) -> None:
    with viewing(cartpole.path) as player:
        player.command(**command)
        assert sentence in player.notice()


def crash(run: Run, at: int = 5) -> Path:
    """A crash capsule in the run's folder, of an environment that raises in its step `at`, or with 0 in its reset."""
    return capsule.write(
        run.path / "capsules",
        to_json(describe("failing_envs:Raising", EnvOptions(env_kwargs=json.dumps({"at": at})))),
        seed=1,
        options=None,
        actions=[np.int64(1)] * at,
        action_space=gymnasium.spaces.Discrete(3),
        failure=Failure(FailureKind.RAISED, "raised RuntimeError: the walk collapsed"),
    )


def test_a_crash_capsule_is_replayed_until_it_fails(run: Run) -> None:
    name = crash(run).name
    assert recorded_episodes(run.path)["capsules"] == [name]
    with viewing(run.path) as player:
        player.command(capsule=name)
        assert player.notice() == "Its step raised RuntimeError: the walk collapsed (step 5)."


def test_a_crash_in_the_reset_is_told_before_another_episode_begins(run: Run) -> None:
    name = crash(run, at=0).name
    with viewing(run.path) as player:
        player.command(capsule=name)
        shown = player.until(lambda message: message.get("capsule") or (message["kind"] == "notice" and message["message"]))
        assert shown["capsule"]
        assert player.notice() == "Its reset raised RuntimeError: the walk collapsed."
        player.command(pause=False)
        assert player.frame(lambda frame: "capsule" not in frame)


def test_a_strangers_capsule_in_ones_own_run_is_refused(run: Run) -> None:
    file = crash(run)
    facts = json.loads(file.read_text())
    file.write_text(json.dumps({**facts, "signature": None}))
    with viewing(run.path) as player:
        player.command(capsule=file.name)
        assert "was not made by you" in player.notice()


def test_a_strangers_run_with_outside_code_is_refused(cartpole: Run, tmp_path: Path) -> None:
    def outside(manifest: dict[str, Any]) -> None:
        manifest["contract"].update(env="spy:make", backend="sync", settings={})
        manifest["config"]["env"] = "spy:make"

    (tmp_path / "spy.py").write_text("import pathlib\npathlib.Path(__file__).with_name('HAPPENED').touch()\n")
    stranger = forged(cartpole, tmp_path / "run", outside)
    own, other = socket.socketpair()
    with (
        own,
        other,
        killing(ChildProcess("asyncrl.dashboard.player.process", [other.fileno()])),
        own.makefile("rb") as file,
    ):
        own.sendall(pack({"run": str(stranger.path), "trust": False}))
        found = unpack(file.read)
    assert found is not None
    assert found[0]["kind"] == "refused"
    assert "was not made by you" in found[0]["message"]
    assert not (tmp_path / "HAPPENED").exists()


def test_requests_for_agents_that_do_not_play_get_a_sentence(run: Run) -> None:
    testclient = pytest.importorskip("starlette.testclient", reason="pip install 'asyncrl[watch]'")
    from asyncrl.dashboard.app import make_app
    from asyncrl.dashboard.watched import WatchedRuns

    app = make_app(WatchedRuns([run.path]), token="token", port=8765)
    with contextlib.closing(testclient.TestClient(app, base_url="http://127.0.0.1:8765")) as client:
        answers = [
            client.get("/token/api/player/7/stream"),
            client.get("/token/api/player/7/episodes"),
            client.post("/token/api/player/0/command", json={"pause": True}),
        ]
        assert client.get("/token/api/player/0/episodes").json()["checkpoints"]
    assert [answer.status_code for answer in answers] == [404, 404, 409]
    assert answers[0].json() == {"error": "there is no run '7'"}
