"""Imitation of recorded episodes, and training from the imitated weights."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corridor_episodes import CORRIDOR, SMALL, random_player
from interrupted_runs import handled_by

import asyncrl
from asyncrl.acting import datasets
from asyncrl.acting.datasets import Demonstration
from asyncrl.agents.imitation import CloningOptions
from asyncrl.api import configure, evaluate, load, record
from asyncrl.cli import main
from asyncrl.envs import describe
from asyncrl.errors import CheckpointError, UsageError
from asyncrl.launch import imitate, start
from asyncrl.runs.run import Run

pytest.importorskip("minari", reason="datasets need it: pip install 'asyncrl[data]'")
pytestmark = pytest.mark.usefixtures("shelf")


@pytest.mark.parametrize("algorithm", ["a3c", "dqn", "c51"])
def test_imitation_does_what_was_done(tmp_path: Path, walked: str, algorithm: str) -> None:
    epochs = []
    config = configure(CORRIDOR, algorithm, eval_greedy=True, eval_episodes=10)
    options = CloningOptions(imitation_epochs=60, imitation_rate=1e-2)
    run, best = imitate(config, walked, options, tmp_path / "run", epochs.append)
    assert best.agreement == 1.0
    score = evaluate(run, 10)
    assert score.mean == pytest.approx(np.mean([one.score for one in datasets.read(walked, describe(CORRIDOR))]), abs=0.02)
    assert best.validation_loss == min(epoch.validation_loss for epoch in epochs)


@pytest.mark.parametrize(
    ("number", "code", "raised"), [(signal.SIGINT, 130, KeyboardInterrupt), (signal.SIGTERM, 0, SystemExit)]
)
def test_imitation_that_a_signal_stops_ends_as_training_does(
    tmp_path: Path, walked: str, monkeypatch: pytest.MonkeyPatch, number: int, code: int, raised: type[BaseException]
) -> None:
    def stopped(*arguments: Any, **options: Any) -> Any:
        return imitate(*arguments[:4], lambda epoch: os.kill(os.getpid(), number), **options)

    monkeypatch.setattr("asyncrl.cli.pretrain.imitate", stopped)
    assert main(["pretrain", "a3c", CORRIDOR, "--data", walked, "--run-dir", str(tmp_path / "run")]) == code
    monkeypatch.setattr("asyncrl.launch.imitate", stopped)
    with pytest.raises(raised), handled_by(signal.SIG_DFL):
        asyncrl.pretrain(CORRIDOR, "a3c", walked, run_dir=tmp_path / "again")
    assert Run(tmp_path / "again").interruption == signal.Signals(number).name


def test_ctrl_c_in_the_evaluation_of_an_imitation_comes_after_the_name_of_its_folder(
    tmp_path: Path, walked: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("asyncrl.cli.pretrain.evaluate", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    assert main(["pretrain", "a3c", CORRIDOR, "--data", walked, "--imitation-epochs", "1"]) == 130
    (run,) = Path("runs").iterdir()
    assert f"run folder: {run}\n" in capsys.readouterr().out


def test_a_bot_that_answers_with_numbers_is_recorded_and_imitated(tmp_path: Path) -> None:
    (tmp_path / "bots.py").write_text("def brake():\n    return lambda observation, info: [-observation[2] / 4]\n")
    record("Pendulum-v1", "pendulum/brake-v0", 3, bot=f"{tmp_path / 'bots.py'}:brake")
    config = configure("Pendulum-v1", "a3c", eval_episodes=0)
    options = CloningOptions(imitation_epochs=30, imitation_rate=1e-2)
    run, best = imitate(config, "pendulum/brake-v0", options, tmp_path / "run")
    assert best.agreement is None
    agent = load(run.path)
    for episode in datasets.read("pendulum/brake-v0", agent.contract):
        done = np.concatenate([agent.act(one) for one in episode.observation[:-1:20]])
        assert done == pytest.approx(-episode.observation[:-1:20, 2] / 4, abs=0.3)


def test_some_episodes_are_left_to_learn_from_however_many_are_held_out(tmp_path: Path, walked: str) -> None:
    options = CloningOptions(imitation_epochs=1, validation=0.99)
    _, best = imitate(configure(CORRIDOR, "a3c", eval_episodes=0), walked, options, tmp_path / "run")
    assert best.number == 1


def test_the_loss_of_an_epoch_is_the_mean_over_its_steps_however_they_are_divided(tmp_path: Path, chance: str) -> None:
    config = configure(CORRIDOR, "dqn", eval_episodes=0)
    losses = []
    for batch in (1, 128, 10_000):
        options = CloningOptions(imitation_epochs=1, imitation_batch=batch, imitation_rate=1e-30)
        _, epoch = imitate(config, chance, options, tmp_path / f"run-{batch}")
        losses.append(epoch.loss)
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


def test_imitation_ends_when_it_does_not_get_better(tmp_path: Path, chance: str) -> None:
    """There is nothing to learn from chance: what is learned by heart does not help with other episodes."""
    epochs: list[Any] = []
    options = CloningOptions(imitation_epochs=500, patience=3, imitation_rate=3e-2)
    config = configure(CORRIDOR, "a3c", eval_episodes=0)
    _, best = imitate(config, chance, options, tmp_path / "run", epochs.append)
    assert len(epochs) == best.number + 3 < 500


@pytest.mark.parametrize("algorithm", ["a3c", "dqn"])
def test_training_starts_from_the_imitated_weights(tmp_path: Path, walked: str, algorithm: str) -> None:
    run, _ = imitate(configure(CORRIDOR, algorithm, eval_episodes=0), walked, run_dir=tmp_path / "run")
    more = SMALL | dict(learning_starts=10) if algorithm == "dqn" else dict(actors=1, envs_per_actor=4, t_max=5)
    config = configure(CORRIDOR, algorithm, **more, init_from=str(run.path), steps=20, eval_episodes=10, eval_greedy=True)
    _, outcome = start(config, tmp_path / "trained")
    assert outcome.evaluation is not None
    assert outcome.evaluation.mean == evaluate(run.path, 10, greedy=True).mean
    with pytest.raises(CheckpointError, match="initial weights of a different network"):
        start(configure(CORRIDOR, algorithm, **more, init_from=str(run.path), hidden=(8,)), tmp_path / "other")
    with pytest.raises(
        CheckpointError, match=f"^--init-from .* of {algorithm}, with .* parameters, where iqn has .*; name a run of iqn$"
    ):
        start(configure(CORRIDOR, "iqn", init_from=str(run.path)), tmp_path / "other")
    with pytest.raises(CheckpointError, match="with another activation; add --activation tanh"):
        start(configure(CORRIDOR, algorithm, **more, init_from=str(run.path), activation="relu"), tmp_path / "other")


def test_layers_of_other_shapes_do_not_start_from_weights_of_the_same_number(tmp_path: Path, walked: str) -> None:
    run, _ = imitate(configure(CORRIDOR, "dqn", eval_episodes=0, hidden=(7, 8)), walked, run_dir=tmp_path / "run")
    other = configure(CORRIDOR, "dqn", **SMALL, init_from=str(run.path), hidden=(12, 3))
    with pytest.raises(CheckpointError, match="its layers have other shapes"):
        start(other, tmp_path / "other")


def test_one_episode_is_not_enough_to_imitate(tmp_path: Path) -> None:
    contract = describe(CORRIDOR)
    (one,) = datasets.record(random_player(CORRIDOR), contract, 1, 1)
    assert isinstance(one, Demonstration)
    datasets.write("corridor/one-v0", contract, [one], "chance")
    with pytest.raises(UsageError, match="at least two episodes"):
        imitate(configure(CORRIDOR, "a3c"), "corridor/one-v0", run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"imitation_epochs": 0}, "--imitation-epochs must be 1 or more"),
        ({"imitation_epochs": 2.5}, "imitation_epochs: expected a whole number"),
    ],
)
def test_impossible_options_of_imitation_leave_no_run(
    tmp_path: Path, walked: str, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        asyncrl.pretrain(CORRIDOR, "a3c", walked, run_dir=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
