"""Settings in a TOML file: read, merged with what is given beside it, and written so that the run starts again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import asyncrl
from asyncrl.algorithms import ALGORITHMS
from asyncrl.cli import main
from asyncrl.envs import describe_all
from asyncrl.errors import UsageError
from asyncrl.launch import start
from asyncrl.presets import preset_names, read_preset
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.config.settings import configure, tailor
from asyncrl.runs.config.settings_file import read_settings_file, settings_text

ENV = "worlds:Corridor-v0"
SMALL: dict[str, Any] = dict(steps=480, actors=2, envs_per_actor=3, t_max=8, eval_episodes=0, engine="serial")

MINE = f"""
[algorithm]
name = "a3c"

[optimizer]
learning_rate = 1e-3   # a comment

[run]
env = "{ENV}"
steps = 1e6
"""


def weights_of(run: asyncrl.Run) -> str:
    latest = run.marked("latest")
    assert latest is not None
    return str(json.loads((latest / "manifest.json").read_text())["weights_sha256"])


def written(folder: Path, text: str) -> Path:
    file = folder / "mine.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_file_may_begin_with_the_mark_of_a_windows_editor(tmp_path: Path) -> None:
    assert read_settings_file(written(tmp_path, f"\ufeff{MINE}")).env == ENV


def test_what_is_given_goes_before_the_file_and_the_file_before_the_preset(tmp_path: Path) -> None:
    file = read_settings_file(written(tmp_path, MINE))
    config = configure(file.env or "", file.algorithm, file.preset, **{**file.settings, "steps": 500})
    assert (config.env, config.steps, config.optimizer.learning_rate) == (ENV, 500, 1e-3)
    assert config.optimizer.decay == configure(ENV, "a3c").optimizer.decay


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        (
            "learning_rate",
            "learning_rat",
            r"line 6: unknown setting 'learning_rat' in \[optimizer\]; did you mean 'learn",
        ),
        ("[optimizer]", "[optimiser]", r"line 5: there is no table \[optimiser\]; did you mean 'optimizer'"),
        ("steps", "hidden", r"line 10: 'hidden' belongs to the table \[network\], not to \[run\]"),
        ("steps = 1e6", 'preset = "a3c/cartpol"', "line 10: there is no preset 'a3c/cartpol'; did you mean 'a3c/cartpole'"),
        ('name = "a3c"', 'name = "a3d"', "line 3: unknown algorithm 'a3d'; did you mean 'a3c'"),
        ("1e-3", "1e-3e", "line 6, column 21: expected newline or end of document"),
        ("steps = 1e6", "hidden = [1,", "line 10, at the end of the file: "),
        ("1e-3", '"fast"', "line 6: optimizer.learning_rate: expected a number, got 'fast'"),
        ("1e-3", "-1.0", "line 6: .*--learning-rate must be"),
        ("steps = 1e6", "gae_lambda = 0.9", r"line 10: 'gae_lambda' belongs to the table \[algorithm\]"),
        (
            "steps = 1e6",
            'algo = "a3c"',
            r"line 10: unknown setting 'algo' in \[run\]; the algorithm is `name` in \[algo",
        ),
        ("steps = 1e6", 'engine = "thread"', "line 10: engine: 'thread' is not one of .*did you mean 'threads'"),
        ("steps = 1e6", "queue_size = 1", "line 10: --queue-size 1: in lockstep"),
        (f'env = "{ENV}"', "env = 3", "line 9: run.env must be a string, not 3"),
        ("[run]", "lag = 2\n[run]", r"line 8: 'lag' belongs to the table \[run\], not to \[optimizer\]"),
        ("[run]", "[[run]]", r"line 8: 'run' is a table: write \[run\]"),
        ("steps = 1e6", "hidden = 64", r"line 10: 'hidden' belongs to the table \[network\]"),
        ("steps = 1e6", 'track = "csv"', "line 10: track: expected a list, got 'csv'"),
        ("steps = 1e6", 'track = ["csv", "csv"]', "line 10: --track csv is given 2 times"),
        ("\n[algorithm]", "lag = 2\n[algorithm]", "line 1: 'lag' stands above the first table"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, before: str, after: str, complaint: str) -> None:
    file = written(tmp_path, MINE.replace(before, after, 1))
    with pytest.raises(UsageError, match=f"mine.toml, {complaint}"):
        asyncrl.train(config=file, run_dir=tmp_path / "run", eval_episodes=0)
    assert not (tmp_path / "run").exists()


def test_a_file_without_effect_is_told_so_unless_a_keyword_replaces_the_setting(tmp_path: Path) -> None:
    file = written(tmp_path, MINE + "\n[network]\nnoisy_sigma = 0.1\n")
    with pytest.raises(UsageError, match=r"line 13: .*--noisy-sigma has no effect without --noisy"):
        asyncrl.train(config=file, run_dir=tmp_path / "run")
    with pytest.raises(UsageError, match=r"^worlds:Corridor-v0: --noisy-sigma has no effect"):
        asyncrl.train(config=file, noisy_sigma=0.2, run_dir=tmp_path / "run")


def test_without_an_environment_it_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"config is the path of a TOML file, not \{'steps': 3\}; settings are keywords"):
        asyncrl.train(ENV, config={"steps": 3})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="the environment is missing"):
        asyncrl.train(config=written(tmp_path, '[algorithm]\nname = "a3c"\n'))
    with pytest.raises(UsageError, match=r"mine\.toml is for a3c, not ppo"):
        asyncrl.train(ENV, "ppo", config=written(tmp_path, MINE))
    with pytest.raises(UsageError, match=r"--config: .*no\.toml does not exist"):
        asyncrl.train(ENV, "ppo", config=tmp_path / "no.toml")
    written(tmp_path, MINE).rename(tmp_path / "config.toml")
    with pytest.raises(UsageError, match=r"did you mean .*config\.toml"):
        asyncrl.train(ENV, "ppo", config=tmp_path)


def again(config: RunConfig, folder: Path) -> tuple[RunConfig, RunConfig]:
    """A configuration, resolved, before and after it was written to a file."""
    contract = describe_all(config.env_ids, config.environment)
    file = read_settings_file(written(folder, settings_text(config, contract)))
    return resolve(config, contract), resolve(
        tailor(file.env or "", file.algorithm, file.preset, **file.settings), contract
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_written_configuration_is_read_back(tmp_path: Path, algorithm: str) -> None:
    env = "Pendulum-v1" if algorithm in ("sac", "td3") else ENV
    before, after = again(tailor(env, algorithm, steps=5_000, seed=7), tmp_path)
    assert after == before


@pytest.mark.parametrize(
    "settings",
    [
        dict(engine="hogwild"),
        dict(preset="a3c/discrete", rollouts_per_update=None),  # None where the preset has a number
        dict(hidden=(16,), env_kwargs='{"render_mode": "rgb_array"}', reward_clip=0.5, imports=("tabular_networks",)),
        dict(schedule="free", queue_size=9, precision="bf16", target_return=float("1e30")),
    ],
)
def test_so_are_unusual_values(tmp_path: Path, settings: dict[str, Any]) -> None:
    before, after = again(tailor(ENV, "a3c", **settings), tmp_path)
    assert after == before


@pytest.mark.parametrize("name", [name for name in preset_names() if read_preset(name)["environments"] == ["CartPole-v*"]])
def test_a_preset_is_a_settings_file(name: str) -> None:
    path = Path(asyncrl.__file__).parent / "presets" / f"{name}.toml"
    file = read_settings_file(path)
    found = configure("CartPole-v1", file.algorithm, name, **file.settings)
    assert found == configure("CartPole-v1", preset=name)


def test_the_file_of_a_run_starts_it_again(tmp_path: Path) -> None:
    run = asyncrl.train(ENV, "a3c", run_dir=tmp_path / "one", seed=9, learning_rate=0.01, **SMALL)
    same = asyncrl.train(config=run.path / "config.toml", run_dir=tmp_path / "two")
    other = asyncrl.train(config=run.path / "config.toml", run_dir=tmp_path / "three", seed=10)
    assert weights_of(same) == weights_of(run) != weights_of(other)


def test_the_command_line_prints_the_file_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, MINE)
    assert main(["train", "--config", str(file), "--print-config", "--lag", "2"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    printed = read_settings_file(written(tmp_path, shown.out))
    assert printed.env == ENV
    assert (printed.settings["lag"], printed.settings["learning_rate"]) == (2, 1e-3)
    assert main(["train", "--config", str(file), "--print-config", "--lagg", "2"]) == 2
    assert capsys.readouterr().err == "asyncrl: unknown option --lagg; did you mean '--lag'?\n"


def test_a_preset_beside_the_file_says_whose_settings_they_are(tmp_path: Path) -> None:
    file = read_settings_file(written(tmp_path, "[algorithm.replay]\ncapacity = 500\n"), preset="dqn/cartpole")
    config = configure("CartPole-v1", preset="dqn/cartpole", **file.settings)
    assert config.algorithm.experience().replay.capacity == 500  # type: ignore[union-attr]


def test_keywords_of_the_environment_may_be_a_table(tmp_path: Path) -> None:
    file = read_settings_file(written(tmp_path, MINE + "\n[environment.env_kwargs]\nsize = 3\n"))
    assert configure(ENV, file.algorithm, **file.settings).environment.env_kwargs == '{"size": 3}'


def test_a_strangers_run_folder_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "theirs"))
    run, _ = start(configure(ENV, "a3c", **SMALL), tmp_path / "run")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "mine"))
    file = run.path / "config.toml"
    file.write_text(file.read_text().replace(ENV, "no_such_module:Env"))
    with pytest.raises(UsageError, match=r"names code from outside asyncrl and Gymnasium: .*no_such_module"):
        asyncrl.train(config=file, run_dir=tmp_path / "again")
    with pytest.raises(UsageError, match="there is no module"):
        asyncrl.train(config=file, run_dir=tmp_path / "again", trust=True)
