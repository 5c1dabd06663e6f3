"""Settings under the names of 0.1.0, in files, options and keyword arguments."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncrl.cli import main
from asyncrl.runs.config.former_names import rename_options
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.config.settings import configure
from asyncrl.runs.lookup import open_run

SMALL = "--steps 40 --actors 1 --envs-per-actor 1 --t-max 5 --eval-episodes 0 --quiet"


def test_a_saved_configuration_is_read_with_todays_names() -> None:
    saved = configure("CartPole-v1", "dqn").to_json()
    algorithm, exploration = saved["algorithm"], saved["algorithm"]["exploration"]
    algorithm["tau"], algorithm["td_loss"] = 0.5, "squared"
    today = RunConfig.from_json(saved)
    algorithm["target_rate"], algorithm["penalty"] = algorithm.pop("tau"), algorithm.pop("td_loss")
    exploration["epsilon_floors"] = exploration.pop("final_epsilons")
    saved["also"] = saved.pop("extra_envs")
    assert RunConfig.from_json(saved) == today


def test_the_replay_buffers_storage_has_its_own_name() -> None:
    saved = configure("CartPole-v1", "dqn", replay_storage="disk").to_json()
    today = RunConfig.from_json(saved)
    replay = saved["algorithm"]["replay"]
    replay["storage"] = replay.pop("replay_storage")
    assert RunConfig.from_json(saved) == today
    assert rename_options(["--storage", "disk", "--storage=s3://b"], "dqn") == [
        "--replay-storage",
        "disk",
        "--storage=s3://b",
    ]


def test_a_run_from_before_action_masks_ignores_them() -> None:
    saved = configure("Taxi-v4", "dqn").to_json()
    del saved["environment"]["action_mask"]
    assert not RunConfig.from_json(saved).environment.action_mask


def test_a_former_keyword_warns_and_has_its_effect() -> None:
    with pytest.warns(DeprecationWarning, match="kl_stop is now max_kl"):
        assert configure("CartPole-v1", "ppo", kl_stop=0.5).algorithm.max_kl == 0.5


@pytest.mark.parametrize(("anneal", "schedule"), [(True, "linear"), (False, "constant")])
def test_anneal_chooses_the_schedule_of_the_learning_rate(anneal: bool, schedule: str) -> None:
    with pytest.warns(DeprecationWarning, match="anneal is now learning_rate_schedule"):
        assert configure("CartPole-v1", "a3c", anneal=anneal).optimizer.learning_rate_schedule.value == schedule


@pytest.mark.parametrize("option", ["--trace-lambda 0.5", "--trace-lambda=0.5"])
def test_a_former_option_is_reported_and_has_its_effect(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"train actor-critic CartPole-v1 {option} {SMALL.replace('--t-max 5', '')} --run-dir {tmp_path / 'run'}"
    assert main(command.split()) == 0
    assert "--trace-lambda is now --gae-lambda" in capsys.readouterr().err
    assert open_run(tmp_path / "run").beginning()[0].algorithm.gae_lambda == 0.5
