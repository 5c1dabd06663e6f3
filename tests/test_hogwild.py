"""Lock-free updates of shared weights: what holds without an order of updates, and what is refused."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from process_ends import still_running
from rich.console import Console

from asyncrl import hogwild
from asyncrl.acting.actor import Actor
from asyncrl.algorithms import ALGORITHMS
from asyncrl.api import configure
from asyncrl.cli import main
from asyncrl.envs import Contract, describe
from asyncrl.errors import ActorDied, AsyncRLError, DivergenceError, EnvironmentFault, UsageError
from asyncrl.experience import OffPolicy
from asyncrl.experience.rollout import Rollout, Ticket
from asyncrl.hogwild import HogwildLearner, WorkerReport
from asyncrl.launch import newest_checkpoint, resume, start
from asyncrl.monitor import Live
from asyncrl.runs.components import actor_spec, make_learner
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.config.summary import summary_lines
from asyncrl.runs.lookup import open_run
from asyncrl.runs.metrics.statistics import RunStatistics
from asyncrl.runs.run import Run

SMALL: dict[str, Any] = dict(engine="hogwild", steps=4_000, actors=2, envs_per_actor=4, eval_episodes=0, seed=5)
OWN = {
    "ppo": dict(t_max=8, epochs=2, minibatches=2),
    "reinforce": dict(longest_episode=10),
    "actor-critic": dict(longest_episode=10),
}


def resolved(algorithm: str = "a3c", **settings: Any) -> tuple[RunConfig, Contract]:
    contract = describe("worlds:Corridor-v0")
    return resolve(configure("worlds:Corridor-v0", algorithm, **{**SMALL, **settings}), contract), contract


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """Worker processes, which are children of the fork server."""
    return [worker for child in process.children() for worker in child.children()]


def test_two_workers_learn_cartpole_and_the_weights_that_reached_the_target_are_kept(tmp_path: Path) -> None:
    settings = dict(engine="hogwild", actors=2, steps=150_000, target_return=150.0, eval_every=15_000, eval_episodes=10)
    run, outcome = start(configure("CartPole-v1", "a3c", **settings), tmp_path / "run")
    assert outcome.evaluation is not None
    assert outcome.evaluation.mean >= 150
    last = [record for record in run.records() if record["kind"] == "eval"][-1]
    saved = newest_checkpoint(run)
    assert (saved.step, saved.update) == (outcome.step, outcome.update) == (last["step"], last["update"])
    assert last["mean"] == outcome.evaluation.mean


@pytest.mark.parametrize("algorithm", ["one-step-sarsa", "ppo", "reinforce"])
def test_steps_updates_and_episodes_of_all_workers_are_recorded_to_the_end(tmp_path: Path, algorithm: str) -> None:
    settings = SMALL | dict(steps=400, log_every=1) | OWN.get(algorithm, {})
    run, outcome = start(configure("worlds:Corridor-v0", algorithm, **settings), tmp_path / "run")
    saved = newest_checkpoint(run)
    assert torch.isfinite(saved.weights()).all()
    assert 400 <= outcome.step < 400 + saved.config.actors * saved.config.rollout_steps, "who sees the end begins nothing"
    records = run.records()
    trained = [record for record in records if record["kind"] == "train"]
    updates = [record["update"] for record in trained]
    assert updates == sorted(set(updates))
    assert (trained[-1]["step"], trained[-1]["update"]) == (outcome.step, outcome.update), "the end is recorded"
    assert all(0 <= (record["policy_lag"] or 0) <= record["policy_lag_max"] for record in trained)
    assert trained[-1]["episodes"] == sum(record["kind"] == "episode" for record in records) > 10
    assert workers_of(psutil.Process()) == []


class Witness:
    """A worker's pipe; meanwhile another worker makes two updates during every rollout."""

    def __init__(self, coordinator: HogwildLearner) -> None:
        self._everyone = coordinator
        self.report: list[WorkerReport] = []

    def poll(self, seconds: float | None = 0.0) -> bool:
        self._everyone.shared.updates[1] += 2
        return False

    def send(self, report: WorkerReport) -> None:
        self.report.append(report)

    def recv(self) -> None:
        raise EOFError


def work(config: RunConfig, contract: Contract) -> tuple[HogwildLearner, list[WorkerReport]]:
    """Run worker 0 in this process; returns the shared state and its reports."""
    coordinator = HogwildLearner.coordinator(config, contract)
    pipe: Any = Witness(coordinator)
    hogwild._work(0, pipe, config, contract, coordinator.shared, first=0)
    return coordinator, pipe.report


LEARNING_AT_ONCE = [
    name for name, cls in ALGORITHMS.items() if name != "random" and not isinstance(cls().experience(), OffPolicy)
]


@pytest.mark.parametrize("algorithm", LEARNING_AT_ONCE)
def test_an_algorithm_needs_no_change(algorithm: str) -> None:
    coordinator, report = work(*resolved(algorithm, **{"steps": 400} | OWN.get(algorithm, {})))
    before = coordinator.weights.clone()
    coordinator.pull()
    assert coordinator.step >= 400
    assert torch.isfinite(coordinator.weights).all()
    assert not torch.equal(coordinator.weights, before)
    assert {"loss", "gradient_norm", "learning_rate"} <= report[-1].metrics.keys()


def test_policy_lag_is_what_others_did_between_the_copy_and_the_step() -> None:
    coordinator, report = work(*resolved(steps=500))
    assert [lag for word in report for lag in word.lags] == [2] * int(coordinator.shared.updates[0])
    assert [word.final for word in report] == [False] * (len(report) - 1) + [True]
    assert sum(episode.length for word in report for episode in word.episodes) > 300


def test_a_worker_whose_reports_are_not_received_learns_on_and_loses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hogwild, "_REPORT_EVERY", 0.0)
    coordinator, report = work(*resolved(steps=500))  # whose coordinator evaluates meanwhile
    assert [word.final for word in report] == [False, True], "more would fill the pipe"
    assert sum(len(word.lags) for word in report) == coordinator.shared.updates[0]
    assert sum(episode.length for word in report for episode in word.episodes) > 300


def rollouts(config: RunConfig, contract: Contract) -> Iterator[Rollout]:
    """The rollouts of actor 0 with its initial weights."""
    spec = actor_spec(config, contract)
    layout = spec.layout()
    slot = layout.slot(torch.zeros(layout.nbytes, dtype=torch.uint8), 0)
    with closing(Actor(spec, 0)) as actor:
        for number in range(100):
            actor.collect(Ticket(number, 0, 0, 0, 0), slot)
            yield slot


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        ("a3c", dict(optimizer="rmsprop")),
        ("a3c", dict(optimizer="rmsprop-outside", momentum=0.5)),
        ("a3c", dict(optimizer="sgd")),
        ("a3c", dict(optimizer="sgd", momentum=0.5)),
        ("a3c", dict(optimizer="adam", recurrent="lstm")),
        ("ppo", dict(optimizer="adam", **OWN["ppo"])),
        ("n-step-q", dict(optimizer="rmsprop", target_every=50)),
    ],
)
def test_a_worker_that_is_alone_learns_what_the_learner_learns(algorithm: str, settings: dict[str, Any]) -> None:
    config, contract = resolved(algorithm, **settings)
    learner, member = make_learner(config, contract), HogwildLearner.coordinator(config, contract)
    for rollout in islice(rollouts(config, contract), 4):
        learner.update([rollout])
        member.update([rollout])
        member.pull()
        assert torch.equal(member.weights, learner.weights)
        assert (member.updates, member.step) == (learner.updates, learner.step)
    target = learner.state().get("target", {})
    assert all(torch.equal(x, member.state()["target"][name]) for name, x in target.items())
    kept = learner.state().get("optimizer", {})
    assert all(torch.equal(x, member.shared.statistics[0][name]) for name, x in kept.items())


class Stop:
    """Sends a signal after the third record."""

    records = 0

    def write(self, record: dict[str, Any]) -> None:
        self.records += record["kind"] == "train"
        if self.records == 3:
            signal.raise_signal(signal.SIGTERM)

    def say(self, line: str) -> None: ...

    def close(self) -> None: ...


@pytest.mark.parametrize("optimizer_statistics", ["shared", "own"])
def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path: Path, optimizer_statistics: str) -> None:
    settings = SMALL | dict(steps=40_000, log_every=100, target_every=500, optimizer_statistics=optimizer_statistics)
    run, outcome = start(configure("worlds:Corridor-v0", "n-step-q", **settings), tmp_path / "run", Stop())
    saved = newest_checkpoint(open_run(run.path))
    assert outcome.signal == signal.SIGTERM
    assert 0 < saved.step == outcome.step < 40_000
    kept = {name.split(".")[1] for name in saved.tensors("optimizer")}
    assert kept == ({"0"} if optimizer_statistics == "shared" else {"0", "1"})
    assert saved.has("target")
    with pytest.raises(UsageError, match="cannot be resumed with --engine serial"):
        resume(run.path, engine="serial")
    _, again = resume(run.path, steps=saved.step + 400)
    assert again is not None
    assert again.step >= saved.step + 400
    assert again.update > outcome.update


def assert_every_episode_is_recorded(run: Run, step: int) -> None:
    """Those of a run of `SMALL` that ended in its first `step` steps."""
    recorded = sum(one["length"] + 1 for one in run.records() if one["kind"] == "episode")  # a reset is a step, too
    unfinished = 10 * SMALL["actors"] * SMALL["envs_per_actor"]  # steps of one episode in each environment
    assert abs(step - recorded) <= unfinished


def test_a_run_that_is_stopped_records_every_episode_of_its_steps(tmp_path: Path) -> None:
    """The signal comes when the workers have learned for some seconds without being heard."""

    def busy(record: dict[str, Any]) -> None:
        if record["kind"] == "train" and not stopped:
            stopped.append(record["step"])
            time.sleep(2.0)
            signal.raise_signal(signal.SIGTERM)

    stopped: list[int] = []
    settings = SMALL | dict(steps=10_000_000, log_every=1)
    run, outcome = start(configure("worlds:Corridor-v0", "a3c", **settings), tmp_path / "run", callbacks=[busy])
    assert outcome.signal == signal.SIGTERM
    assert outcome.step > stopped[0] + 500
    assert newest_checkpoint(run).step == outcome.step
    assert_every_episode_is_recorded(run, outcome.step)
    trained = [record for record in run.records() if record["kind"] == "train"]
    assert (trained[-1]["step"], trained[-1]["update"]) == (outcome.step, outcome.update), "the end is recorded"
    assert workers_of(psutil.Process()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_program_that_is_ended_leaves_no_process_and_can_go_on(tmp_path: Path, number: signal.Signals, code: int) -> None:
    command = [sys.executable, "-m", "asyncrl", "train", "a3c", "worlds:Dawdling-v0", "--engine", "hogwild"]
    command += ["--steps", "100000000", "--checkpoint-every", "200", "--run-dir", "run", "--quiet"]
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True, stderr=subprocess.DEVNULL) as child:
        try:
            deadline = time.monotonic() + 120
            while not list((tmp_path / "run" / "checkpoints").glob("*[1-9]*")):  # beyond step 0
                assert child.poll() is None, "it ended by itself"
                assert time.monotonic() < deadline, "it does not get there"
                time.sleep(0.05)
            workers = workers_of(psutil.Process(child.pid))
            assert len(workers) == 2
            os.kill(child.pid, number)
            assert child.wait(60) == code
        finally:
            child.kill()
    assert still_running(workers) == []
    assert not list(Path("/dev/shm").glob(f"torch_{child.pid}_*"))
    saved = newest_checkpoint(open_run(tmp_path / "run"))
    if number == signal.SIGKILL:
        return
    words = ["--resume", str(tmp_path / "run"), "--steps", str(saved.step + 200), "--no-video", "--quiet"]
    assert main(["train", *words]) == 0
    assert newest_checkpoint(open_run(tmp_path / "run")).step >= saved.step + 200


@pytest.mark.parametrize(
    ("env", "fault", "sentence"),
    [
        ("worlds:Failing-v0", EnvironmentFault, "the corridor collapsed"),
        ("worlds:Crashing-v0", ActorDied, r"actor \d died \(killed by SIGABRT\)"),
        ("worlds:Exploding-v0", DivergenceError, r"the gradient of \w+(\.\w+)+ is not finite"),
    ],
)
def test_what_a_worker_ends_with_is_raised_and_what_was_learned_is_saved(
    tmp_path: Path, env: str, fault: type[AsyncRLError], sentence: str
) -> None:
    with pytest.raises(fault, match=sentence):
        start(configure(env, "a3c", **SMALL | dict(t_max=8)), tmp_path / "run")
    run = open_run(tmp_path / "run")
    saved = newest_checkpoint(run)
    assert torch.isfinite(saved.weights()).all()
    assert saved.update >= (0 if fault is DivergenceError else 4)
    if fault is EnvironmentFault:
        assert_every_episode_is_recorded(run, saved.step)
    assert workers_of(psutil.Process()) == []


def test_a_saved_state_is_everyones_again() -> None:
    config, contract = resolved("n-step-q", optimizer="adam")
    one, other = HogwildLearner.coordinator(config, contract), HogwildLearner.coordinator(config, contract)
    for x in (one.shared.weights, one.shared.target, *one.shared.statistics[0].values()):
        x.copy_(torch.rand(x.shape))
    one.pull()
    other.restore({name: dict(tensors) for name, tensors in one.state().items()}, updates=7, step=70)
    other.pull()
    assert torch.equal(one.shared.weights, other.shared.weights)
    assert torch.equal(one.shared.target, other.shared.target)
    assert (other.updates, other.step) == (7, 70)
    for name, x in one.shared.statistics[0].items():
        assert torch.equal(x, other.shared.statistics[0][name])


def test_a_step_of_one_worker_is_seen_by_the_others_and_so_are_shared_statistics() -> None:
    for sharing, seen in (("shared", True), ("own", False)):
        config, contract = resolved(optimizer_statistics=sharing)
        first = HogwildLearner.coordinator(config, contract)
        second = HogwildLearner(config, contract, first.shared, worker=1)
        first._gradients.flat.fill_(1.0)
        first._optimizer.step(config.optimizer.learning_rate)
        second.pull()
        assert torch.equal(second.weights, first.shared.weights)
        average = second._optimizer.state()["square_average"]
        assert bool(average.any()) == seen


def test_the_worker_that_passes_target_every_copies_the_target_network() -> None:
    config, contract = resolved("n-step-q", target_every=100)
    first = HogwildLearner.coordinator(config, contract)
    second = HogwildLearner(config, contract, first.shared, worker=1)
    first.shared.weights.fill_(1.0)
    first.count_update(60)
    assert not (first.shared.target == 1).all()
    second.count_update(60)  # 120 together
    assert (first.shared.target == 1).all()
    assert (first.shared.steps.tolist(), second.step) == ([60, 60], 120)
    first.shared.weights.fill_(2.0)
    first.count_update(60)
    assert (first.shared.target == 1).all(), "180 is not a multiple"


def test_the_live_view_shows_a_run_without_a_queue() -> None:
    config, contract = resolved()
    statistics = RunStatistics(config.algorithm.experience(), [contract.env] * 2, 4, contract.frame_skip, slots=2)
    statistics.updated(1, 80, {"loss": 0.5})
    screen = io.StringIO()
    view = Live("hogwild", config.steps, Console(file=screen, force_terminal=True, width=100))
    view.write(statistics.record())
    view.close()
    assert "none" in screen.getvalue()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(schedule="lockstep"), "has no order of updates"),
        (dict(device="cuda"), "leave out --device cuda"),
    ],
)
def test_what_has_no_meaning_without_an_order_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        resolved(**settings)


def test_without_a_word_about_the_schedule_it_is_free_and_says_what_that_means() -> None:
    config, _ = resolved()
    assert config.schedule.value == "free"
    assert any("without lag or queue" in line for line in summary_lines(config))
