"""The command line: exit codes, output, and files."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest
from commands import TRAIN, command, command_here, contents, ran

from asyncrl.agents.agent import load
from asyncrl.algorithms import ALGORITHMS
from asyncrl.algorithms.optimizers import LearningRateSchedule
from asyncrl.cli import COMMANDS, main
from asyncrl.presets import read_preset
from asyncrl.version import __version__


def shape_of(video: Path) -> list[int]:
    """[frames, height, width, 3]; imageio runs in another process because its ffmpeg reader leaves pipes open."""
    code = "import sys, imageio.v3; print(list(imageio.v3.imread(sys.argv[1], index=None).shape))"
    shape: list[int] = json.loads(subprocess.check_output([sys.executable, "-c", code, str(video)]))
    return shape


def test_training_leaves_a_run_folder_with_a_video_of_the_trained_agent(trained: Path) -> None:
    names = set(contents(trained))
    assert {"config.json", "metrics.jsonl", "log.txt", "latest", "best"} <= names
    (video,) = (trained / "videos").iterdir()
    assert shape_of(video)[0] > 1


@pytest.mark.parametrize(("name", "shape"), [("game.gif", [32, 192, 3]), ("game.mp4", [96, 576, 3])])
def test_play_writes_a_video_with_every_step_of_the_episode(
    trained: Path, tmp_path: Path, name: str, shape: list[int]
) -> None:
    done = command_here("play", trained, "--video", name, "--greedy", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, episode, last = done.stdout.splitlines()
    assert first == f"recording 1 episode of {load(trained).checkpoint.path} in worlds:Corridor-v0 to {name}"
    assert last == f"video: {name}"
    score = float(episode.removeprefix("episode 1: "))
    pictures, *size = shape_of(tmp_path / name)
    assert size == shape
    steps = pictures - 1
    assert score == pytest.approx(1 - 0.01 * (steps - 1))  # the goal is reached with the last of `steps` steps
    assert os.listdir(tmp_path) == [name]


def test_evaluate_prints_one_json_object_and_the_same_seed_gives_the_same_scores(trained: Path, tmp_path: Path) -> None:
    done = [
        command_here("evaluate", trained, "--json", "--episodes", 7, "--seed", seed, cwd=tmp_path) for seed in (4, 4, 5)
    ]
    one, again, other = (json.loads(d.stdout) for d in done)
    assert one == again
    assert one["returns"] != other["returns"]
    assert len(one["returns"]) == one["episodes"] == 7
    assert one["mean"] == pytest.approx(sum(one["returns"]) / 7)
    assert one["contract"]["env"] == "worlds:Corridor-v0"
    assert Path(one["checkpoint"]).name == f"{one['step']:012d}"


def test_the_best_agent_is_used_and_a_run_that_ends_with_a_worse_one_reports_it(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = [{**record, **({"mean": 99.0} if record["kind"] == "eval" else {})} for record in records]
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in best))
    done = command_here("train", "--resume", run, "--steps", 4000, "--no-video", cwd=tmp_path)
    assert "best evaluation: 99.00 at step 2,000; play and evaluate use that agent" in done.stdout
    assert json.loads(command_here("evaluate", run, "--json", cwd=tmp_path).stdout)["step"] == 2000


def test_a_command_reports_damage_once(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    with open(run / "metrics.jsonl", "ab") as file:
        file.write(b"\xff\n")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        done = command_here("train", "--resume", run, "--steps", 2100, "--no-video", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr.count("metrics.jsonl has 1 damaged line") == 1


def test_inspect_shows_the_contents_of_the_checkpoint(trained: Path, tmp_path: Path) -> None:
    facts = json.loads(command_here("inspect", trained, "--json", cwd=tmp_path).stdout)
    manifest = json.loads((trained / "checkpoints" / "000000002000" / "manifest.json").read_text())
    assert {name: facts[name] for name in ("step", "update", "weights_sha256", "files", "config", "contract")} == {
        name: manifest[name] for name in ("step", "update", "weights_sha256", "files", "config", "contract")
    }
    text = command_here("inspect", trained, cwd=tmp_path)
    assert manifest["weights_sha256"] in text.stdout
    assert text.returncode == 0


def test_an_existing_run_is_not_overwritten_and_a_complete_one_is_reported(trained: Path) -> None:
    before = contents(trained)
    again = command_here(*TRAIN, "--run-dir", trained, cwd=trained.parent)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert f"--resume {trained}" in again.stderr
    complete = command_here("train", "--resume", trained, cwd=trained.parent)
    assert complete.returncode == 0
    assert "is complete" in complete.stdout
    assert "--steps N" in complete.stdout
    assert contents(trained) == before


def test_resuming_a_complete_run_records_a_missing_video(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    shutil.rmtree(run / "videos")
    assert "video" not in command_here("train", "--resume", run, "--no-video", cwd=tmp_path).stdout
    done = command_here("train", "--resume", run, cwd=tmp_path)
    assert done.returncode == 0
    assert "video of one episode" in done.stdout
    assert "is complete" in done.stdout
    assert contents(run).keys() == contents(trained).keys()


def test_an_environments_fault_shows_its_traceback_and_exits_with_1(tmp_path: Path) -> None:
    done = command("train", "a3c", "worlds:Failing-v0", "--engine", "processes", "--run-dir", "run", cwd=tmp_path)
    assert done.returncode == 1
    assert 'raise RuntimeError("the corridor collapsed")' in done.stderr
    assert done.stderr.count("Traceback") == 1, "only the environment's traceback is shown"
    assert f"is saved in {tmp_path / 'run'}" in done.stdout


def test_training_succeeds_without_a_video_if_the_environment_cannot_be_drawn(tmp_path: Path) -> None:
    (tmp_path / "blind.py").write_text(
        "from worlds import Corridor\n\n\nclass Blind(Corridor):\n    def render(self):\n"
        "        raise RuntimeError('no display')\n"
    )
    done = command("train", "a3c", "blind:Blind", *TRAIN[3:], "--run-dir", "run", cwd=tmp_path)
    assert done.stderr == "no video: blind:Blind cannot be drawn: its render raised RuntimeError: no display\n"
    assert "run folder: run" in done.stdout
    assert done.returncode == 0


def test_version_and_help_do_not_import_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    assert command("--version", cwd=tmp_path).stdout == f"asyncrl {__version__}\n"
    assert all(name in command("--help", cwd=tmp_path).stdout for name in COMMANDS)


def test_main_can_be_called_twice(tmp_path: Path) -> None:
    code = "from asyncrl.cli import main; main(['list', 'networks']); main(['--version'])"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=False).returncode == 0


OPTIONS = {
    "train a3c worlds:Corridor-v0": ["--learning-rate", "--actors", "--run-dir", "--help-all"],
    "train --resume": ["--steps", "--engine"],
    "evaluate": ["--episodes", "--greedy", "--json"],
    "play": ["--video", "--max-steps"],
    "record": ["--out", "--bot"],
    "pretrain dqn worlds:Corridor-v0": ["--data", "--imitation-epochs", "--run-dir"],
    "inspect": ["--json"],
    "repro": ["--step-timeout"],
    "bench": ["--seconds", "--network", "--tune"],
    "list": ["presets", "networks"],
    "doctor": ["--ray-address"],
    "watch": ["--port", "--trust"],
    "export": ["--onnx", "--observations"],
    "share": ["--upload", "--onnx"],
    "plot": ["--what", "--out"],
    "benchmark": ["--seeds", "--vs"],
    "compare": ["--video", "--json"],
    "tune a3c CartPole-v1": ["--trials", "--objectives"],
}


def test_help_is_a_command_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert ran("help") == ran("-h") == ran("help", "help") == 0
    assert ran("help", "evaluate") == ran("-h", "evaluate") == ran("evaluate", "-h") == 0
    assert capsys.readouterr().out.count("usage: asyncrl evaluate") == 3


def test_the_help_of_train_names_the_preset(capsys: pytest.CaptureFixture[str]) -> None:
    for env, preset in (("CartPole-v1", "ppo/cartpole"), ("worlds:Corridor-v0", "ppo/discrete")):
        assert ran("train", "ppo", env, "--help") == 0
        assert f"Defaults from preset {preset}." in capsys.readouterr().out


SHORT = [
    *(f"train {algorithm} CartPole-v1" for algorithm in ALGORITHMS),
    *(f"train {algorithm} ALE/Pong-v5" for algorithm in ("a3c", "ppo", "dqn", "c51", "n-step-q")),
    *("train", "train --resume", "pretrain dqn CartPole-v1", "evaluate", "play", "record", "bench", "list", "inspect"),
]


@pytest.mark.parametrize("line", SHORT)
def test_a_help_fits_a_screen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert ran(*line.split(), "--help") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert len(lines) < 40


def test_the_whole_help_shows_what_concerns_the_algorithm_and_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    shown = {}
    for line in ("a3c CartPole-v1", "dqn ALE/Pong-v5"):
        assert ran("train", *line.split(), "--help-all") == 0
        shown[line] = capsys.readouterr().out
    for option in ("--sticky", "--capacity", "--dueling", "--bot-share", "--frame-skip"):
        assert f"  {option}" in shown["dqn ALE/Pong-v5"].replace("[no-]", "")
        assert option not in shown["a3c CartPole-v1"]
    assert "--hidden" in shown["a3c CartPole-v1"]
    assert "--hidden" not in shown["dqn ALE/Pong-v5"]
    assert "--recurrent CELL" in shown["dqn ALE/Pong-v5"]


@pytest.mark.parametrize("command", OPTIONS)
def test_every_command_explains_its_options(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert {line.split()[0] for line in OPTIONS} == set(COMMANDS)
    assert ran(*command.split(), "--help") == 0
    printed = capsys.readouterr().out
    assert [option for option in OPTIONS[command] if option not in printed] == []


@pytest.mark.parametrize(
    ("what", "known"),
    [
        ("algorithms", "a3c"),
        ("envs", "CartPole-v1"),
        ("presets", "a3c/atari"),
        ("networks", "nature-cnn"),
        ("pretrained", "pretrained/pong-ppo"),
    ],
)
def test_list_lists(capsys: pytest.CaptureFixture[str], what: str, known: str) -> None:
    assert ran("list", what) == 0
    assert known in {line.split()[0] for line in capsys.readouterr().out.splitlines() if line}


@pytest.mark.parametrize("what", ["algorithms", "envs", "presets", "networks", "presets rainbow/atari"])
@pytest.mark.parametrize("width", [80, 60])
def test_a_list_fits_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, what: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert ran("list", *what.split()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= (100 if width == 80 else 140)
    assert [line for line in lines if len(line) > width] == []


def test_environments_can_be_listed_by_family_by_part_of_the_name_and_by_pattern(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = {}
    for name in ("gymnasium", "cartpole", "CartPole-v?", "*"):
        assert ran("list", "envs", name) == 0
        found[name] = set(capsys.readouterr().out.splitlines())
    assert {"CartPole-v0", "CartPole-v1"} == found["CartPole-v?"] < found["cartpole"] < found["*"]
    assert {"CartPole-v1", "Pendulum-v1"} < found["gymnasium"] < found["*"]


def test_the_name_of_a_preset_shows_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert ran("list", "presets", "rainbow/atari") == 0
    shown = capsys.readouterr().out
    assert tomllib.loads(shown[shown.index("[algorithm]") :]).items() <= read_preset("rainbow/atari").items()
    assert "table 1" in shown
    assert "sixteen environments step together" in " ".join(shown.split())


def test_a_preset_says_for_which_environments_it_is_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    for preset, chosen in (
        ("ppo/images", "any environment with images"),
        ("a3c/atari", "ALE/*, *NoFrameskip-v*, any environment with images"),
        ("ppo/cartpole", "CartPole-v*"),
        ("rainbow/atari", "any, if named by --preset"),
    ):
        assert ran("list", "presets", preset) == 0
        shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.startswith("env"))
        assert shown["environments"] == chosen


def test_commands_take_the_best_agent_of_a_run_and_name_the_latest(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    shutil.copytree(run / "checkpoints" / "000000002000", run / "checkpoints" / "000000003000")
    (run / "latest").write_text("000000003000\n")
    for command_line in ("inspect run", "evaluate run --episodes 1"):
        done = command_here(*command_line.split(), cwd=tmp_path)
        assert "step 2,000 is the best of run; its newest, step 3,000, is run/latest" in done.stdout
    assert command_here("inspect", "run/latest", cwd=tmp_path).stdout.startswith("run/checkpoints/000000003000: ")
    assert command_here("inspect", "run/best", cwd=tmp_path).stdout.startswith("run/checkpoints/000000002000: ")


def test_doctor_names_the_machine_and_every_extra(capsys: pytest.CaptureFixture[str]) -> None:
    assert ran("doctor") == 0
    printed = capsys.readouterr().out
    extras = set(importlib.metadata.metadata("asyncrl").get_all("Provides-Extra") or []) - {"test"}
    assert {"football", "atari"} < extras <= {line.split()[0] for line in printed.splitlines() if line}
    assert all(word in printed for word in (f"asyncrl {__version__}", "cores", "memory", "torch", "bfloat16"))
    assert ("What to do:" in printed) != ("Everything is in order. Try: asyncrl train" in printed)


def test_an_option_of_0_1_0_still_works_and_its_new_name_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = "--steps 200 --actors 1 --eval-episodes 0 --no-video --quiet --engine serial"
    assert main(f"train a3c CartPole-v1 --no-anneal {small} --run-dir {tmp_path / 'run'}".split()) == 0
    assert load(tmp_path / "run").checkpoint.config.optimizer.learning_rate_schedule is LearningRateSchedule.CONSTANT
    assert "--no-anneal is now --learning-rate-schedule=constant" in capsys.readouterr().err


def test_inspect_draws_the_first_convolution(tmp_path: Path) -> None:
    done = command_here("inspect", "pretrained/pong-a3c", "--filters", "out.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert shape_of(tmp_path / "out.png")[0] > 16 * 8  # a row for each of 16 filters of 8 pixels


def test_inspect_refuses_to_draw_a_network_without_convolutions(trained: Path, tmp_path: Path) -> None:
    done = command_here("inspect", trained, "--filters", "out.png", cwd=tmp_path)
    assert (done.returncode, done.stderr.strip()) == (2, "asyncrl: --filters: this network has no convolutions")
