"""Algorithms that users bring: by name, as a class or an instance, and from packages; and what is wrong with some."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import own_algorithms
import pytest

import asyncrl
from asyncrl.algorithms import PPO, algorithm_name_of, algorithm_named, installed_algorithms
from asyncrl.cli import main
from asyncrl.errors import UsageError
from asyncrl.runs.config.settings import configure, tailor

SMALL: dict[str, Any] = dict(steps=480, actors=2, envs_per_actor=4, eval_episodes=0, seed=5, device="cpu")
PLAIN = "own_algorithms:Plain"


def test_its_fields_are_settings_and_its_defaults_are_its_own() -> None:
    config = tailor("CartPole-v1", PLAIN, clip=3, shape="round")
    assert config.algorithm == own_algorithms.Plain(clip=3.0, shape=own_algorithms.Shape.ROUND)
    assert config.optimizer == own_algorithms.Plain.optimizer
    assert config.network == own_algorithms.Plain.network_config
    assert config.to_json()["algorithm"]["name"] == PLAIN
    assert type(config).from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize("source", [PLAIN, own_algorithms.Plain, own_algorithms.Plain()])
def test_a_name_a_class_and_an_instance_mean_the_same(source: Any) -> None:
    assert tailor("CartPole-v1", source) == tailor("CartPole-v1", PLAIN)


def test_an_instance_brings_its_hyperparameters() -> None:
    ours = PPO(t_max=16, gae_lambda=0.8)
    config = tailor("CartPole-v1", ours, gae_lambda=0.9)
    assert config.preset == "ppo/cartpole"
    assert config.algorithm == PPO(t_max=16, gae_lambda=0.9)
    assert algorithm_name_of(ours) == "ppo"


def test_a_class_that_only_this_process_has_is_trained_in_others(tmp_path: Path) -> None:
    class Local(own_algorithms.Plain): ...

    run = asyncrl.train("CartPole-v1", Local, **SMALL, engine="hogwild", run_dir=tmp_path / "run")
    assert run.path.name == "run"
    assert len(asyncrl.evaluate(run, episodes=2).returns) == 2


def test_the_command_line_trains_evaluates_and_continues_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["--steps", "480", "--eval-episodes", "2", "--no-video", "--quiet", "--actors", "2", "--envs-per-actor", "4"]
    assert main(["train", PLAIN, "CartPole-v1", *small, "--clip", "1.5", "--run-dir", "run"]) == 0
    assert main(["evaluate", "run", "--episodes", "2"]) == 0
    assert main(["train", "--resume", "run", "--steps", "960", "--no-video"]) == 0
    assert main(["train", "--config", "run/config.toml", "--run-dir", "again", "--no-video", "--quiet"]) == 0
    assert main(["bench", "CartPole-v1", "--algo", PLAIN, "--seconds", "0.1"]) == 0
    capsys.readouterr()
    assert main(["inspect", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["algorithm"]["name"] == PLAIN


def test_the_order_of_algorithm_and_environment_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "CartPole-v1", PLAIN]) == 2
    assert f"the algorithm comes first: asyncrl train {PLAIN} CartPole-v1" in capsys.readouterr().err
    for words in ([PLAIN, "CartPole-v1"], ["CartPole-v1", PLAIN]):
        assert main(["bench", *words]) == 2
        assert f"the algorithm is an option of bench: asyncrl bench CartPole-v1 --algo {PLAIN}" in capsys.readouterr().err


def test_its_help_shows_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", PLAIN, "CartPole-v1", "--help-all"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "A3C with settings of its own." in shown
    assert "Factor of the loss" in shown
    assert "flat round" in re.sub(r"[|,]", " ", shown).replace("  ", " ")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("own_algorithms:Plan", "own_algorithms has no 'Plan'; did you mean 'Plain'"),
        ("own_algoritms:Plain", "there is no module 'own_algoritms'; did you mean 'own_algorithms'"),
        ("own_algorithms:function", "expected a subclass of asyncrl.algorithms.Algorithm"),
        ("own_algorithms:Undecorated", r"add @dataclass\(frozen=True\)"),
        ("own_algorithms:NoDefault", "the hyperparameter 'factor' needs a default"),
        ("own_algorithms:Listed", r"the hyperparameter 'sizes' has the type list\[int\]; it must be bool, int, float"),
        ("own_algorithms:Either", r"the hyperparameter 'shape' has the type int \| str; it must be"),
        ("own_algorithms:Unknown", "the types of its hyperparameters cannot be read: name 'Form' is not defined"),
        ("own_algorithms:NotClassVar", r"'optimizer' is not a hyperparameter; annotate it with ClassVar"),
        ("own_algorithms:Aimless", "the method 'experience' returned None; expected OnPolicy, FullEpisodes or OffPolicy"),
        ("own_algorithms:Colliding", "the hyperparameter 'steps' has the name of a setting of every run"),
        ("own_algorithms:Unfinished", "does not define the method 'loss'"),
        ("own_algorithms:NoNetwork", "has no network"),
        ("a3x", "unknown algorithm 'a3x'; did you mean 'a3c'"),
    ],
)
def test_what_is_no_algorithm_is_refused_in_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        configure("CartPole-v1", name)
    assert "\n" not in str(caught.value)


def test_a_run_whose_algorithm_has_got_other_settings_is_not_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "changing.py"
    imports = "from dataclasses import dataclass\nfrom asyncrl.algorithms import A3C\n\n"
    head = f"{imports}@dataclass(frozen=True)\nclass Mine(A3C):\n"
    file.write_text(f"{head}    beta: float = 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    run = asyncrl.train("CartPole-v1", "changing:Mine", **SMALL, run_dir=tmp_path / "run")
    file.write_text(f"{head}    gamma: float = 1.0  # longer\n")
    monkeypatch.delitem(sys.modules, "changing")
    for use in (asyncrl.resume, asyncrl.load):
        with pytest.raises(
            UsageError, match=r"does not fit the algorithm changing:Mine as it is now: algorithm\.beta is not"
        ):
            use(run)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("own_algorithms:FloatLoss", "the method 'loss' returned 0.5; expected a Loss"),
        ("own_algorithms:LongMetric", r"the metric 'advantages' has the shape \[\d+, \d+\]; expected one number"),
        ("own_algorithms:TakenMetric", "the metric 'episodes' has the name of another field of metrics.jsonl; rename it"),
        ("own_algorithms:Detached", "the loss does not depend on the network's parameters"),
    ],
)
def test_a_loss_that_cannot_be_learned_from_is_refused(tmp_path: Path, name: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        asyncrl.train("CartPole-v1", name, **SMALL, run_dir=tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "own_algorithms:OldCheck",
            r"algorithm oldcheck raised TypeError: .*takes 2 positional arguments but 3 were given",
        ),
        ("own_algorithms:BareAction", r"the method 'act' returned tensor\(\[.*\]\); expected an ActionOutput"),
        (
            "own_algorithms:FloatAction",
            r"returned actions \[2\] torch.float32 for 2 environments; expected \[2\] torch.int64",
        ),
        ("own_algorithms:SeventhAction", r"chose the actions \[7, 7\], but the choices are 0 to \[1\]"),
    ],
)
def test_an_algorithm_that_cannot_act_is_refused_before_the_run(tmp_path: Path, name: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        asyncrl.train("CartPole-v1", name, **SMALL, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_its_constructor_refuses_is_answered_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "own_algorithms:Particular", "CartPole-v1", "--factor", "1"]) == 2
    assert capsys.readouterr().err == "asyncrl: Particular: the factor must be 2 or more\n"
    with pytest.raises(UsageError, match="algorithm: the factor must be 2 or more"):
        tailor("CartPole-v1", "own_algorithms:Particular", factor=1.0)


def test_a_package_registers_an_algorithm_by_an_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    info = tmp_path / "more_rl-0.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: more-rl\nVersion: 0.3\n")
    (info / "entry_points.txt").write_text("[asyncrl.algorithms]\nplain = own_algorithms:Plain\ngone = no_such_module:X\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert installed_algorithms()["plain"] == f"{PLAIN} of more-rl 0.3"
    assert algorithm_named("plain") is own_algorithms.Plain
    assert configure("CartPole-v1", "plain").to_json()["algorithm"]["name"] == PLAIN
    assert main(["list", "algorithms", "plain"]) == 0
    assert "more-rl" in capsys.readouterr().out
    with pytest.raises(UsageError, match="there is no module 'no_such_module'"):
        configure("CartPole-v1", "gone")
