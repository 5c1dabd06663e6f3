"""Mistakes on the command line: one sentence, exit code 2, and nothing is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from commands import contents, ran

CORRIDOR = "train a3c worlds:Corridor-v0"
MISTAKES = {
    "trian": "did you mean 'train'",
    "train a3 CartPole-v1": "unknown algorithm 'a3'; did you mean 'a3c'?",
    "train CartPole-v1 a3c": "the algorithm comes first: asyncrl train a3c CartPole-v1",
    "pretrain CartPole-v1 dqn": "the algorithm comes first: asyncrl pretrain dqn CartPole-v1",
    "train CartPole-v1": "the algorithm is missing: asyncrl train ALGO CartPole-v1",
    "train tqc CartPole-v1": "unknown algorithm 'tqc'; sac learns continuous actions from a replay buffer as well",
    "train sac CartPole-v1": "but the environment has 2 discrete actions; use sac-discrete, dqn or ppo",
    "train A2C CartPole-v1": "unknown algorithm 'A2C'; A2C is a3c with --lag 0",
    "train nonsense CartPole-v1": "unknown algorithm 'nonsense'; there are a3c, impala, ppo",
    "train a3c CartPole-v1 --protocol raw": "takes no --protocol",
    "train a3c CartPole-v1 --learning-rate nan": "--learning-rate must be a finite number below 3.4e38, not nan",
    "train a3c CartPole-v1 --momentum 0.5": "--momentum has no effect with --optimizer rmsprop",
    "train a3c CartPole-v1 --lag 1 --engine hogwild": "--lag has no effect with --engine hogwild",
    "train dqn CartPole-v1 --target-every 300 --tau 0.1": "exclude each other",
    "train dqn CartPole-v1 --learning-starts 1M": "--learning-starts 1000000: a run of 160,000 steps ends before",
    "train a3c CartPole-v1 --envs-per-actor 1e9": "lower --actors, --envs-per-actor or the rollouts' length",
    "train a3c CartPole-v1 --actors 1e6 --envs-per-actor 1 --t-max 1 --lag 0 --engine processes": "1,000,000 actors, ",
    "record CartPole-v1 --bot bots.py:make --out demo/bot-v0 --epsilon 0.5": "--epsilon has no effect with --bot",
    "play CartPole-v1 --human --greedy": "--greedy has no effect with --human",
    "bench worlds:Corridor-v0 --engine hogwild --lag 2": "--lag has no effect with --engine hogwild",
    "bench CartPole-v1 --tune --seconds 0": "--seconds must be positive, not 0",
    "bench CartPole-v1 --tune --actors auto": "--actors: 'auto' is not a whole number",
    "train a3c CartPole-v1 --actors auto --engine ray": "which says nothing about a Ray cluster: give a number",
    "train a3c CartPole-v1 --device gpu": "--device: 'gpu' is not one of auto, cpu, cuda; did you mean 'cuda'?\n",
    "train a3c CartPole-v1 --precision bfloat16": "; did you mean 'bf16'?\n",
    "train a3c CartPole-v1 --actors some": "--actors: 'some' is not a whole number",
    "train --resume run --actors auto": "--actors cannot change when a run is resumed: it affects the weights",
    "evaluate run --seed -1": "--seed must be 0 or more, not -1",
    "help trian": "did you mean 'train'",
    "train a3c CartPol-v1": "there is no environment 'CartPol-v1'; did you mean 'CartPole-v1'",
    "train a3c ALE/Pongg-v5": "there is no Atari environment 'ALE/Pongg-v5'; did you mean 'ALE/Pong-v5'",
    "train a3c nowhere:Corridor-v0": "there is no module 'nowhere'; its folder must be the working directory",
    "train --preset a3c/atary": "there is no preset 'a3c/atary'; did you mean 'a3c/atari'",
    "train a3c": "the environment is missing",
    "train one-step-q Pendulum-v1": "Pendulum-v1: one-step-q needs one discrete action per step",
    **{
        f"train linear-q CartPole-v1 --network {name}": f"linear-q needs fixed features: use --network radial, not {name}"
        for name in ("mlp", "auto")
    },
    f"{CORRIDOR} --optimizer-epsilon 0": "--optimizer-epsilon must be positive, not 0",
    f"{CORRIDOR} --actors 0": "--actors must be 1 or more, not 0",
    f"{CORRIDOR} --steps -5": "--steps must be 1 or more, not -5",
    "train --preset mnih2016/n-step-q CartPole-v1": "preset mnih2016/n-step-q does not fit CartPole-v1: it sets --sticky, "
    "and CartPole-v1 takes no --sticky (given: 0.0): it is an option of atari environments",
    "train ppo CartPole-v1 --preset ppo/atari --steps 5M": "preset ppo/atari does not fit CartPole-v1: it sets --",
    "train --preset mnih2016/n-step-q CartPole-v1 --sticky 0": "asyncrl: CartPole-v1 takes no --sticky",
    "train ppo CartPole-v1 --minibatches 1e6": "asyncrl: --minibatches 1000000: an update has",
    "train ppo CartPole-v1 --actors 1 --t-max 1 --minibatches 5": "asyncrl: --minibatches 5: a minibatch of one",
    f"{CORRIDOR} --steps 5 --envs-per-actor 60": "--steps 5: one update is 960 steps; lower --actors, --envs-per-actor or",
    f"{CORRIDOR} --lag -1": "--lag must be 0 or more, not -1",
    f"{CORRIDOR} --learning-rate 0": "--learning-rate must be positive, not 0",
    f"{CORRIDOR} --queue-size 3": "takes exactly 2",
    f"{CORRIDOR} --sticky 0.25": "takes no --sticky",
    f"{CORRIDOR} --init-from nowhere --run-dir new": "--init-from nowhere: run folder nowhere does not exist",
    f"{CORRIDOR} --init-from nowhere --run-dir new --seeds 2": "--init-from nowhere: run folder nowhere does not exist",
    "tune a3c worlds:Corridor-v0 --init-from nowhere": "--init-from nowhere: run folder nowhere does not exist",
    f"{CORRIDOR} --init-from damaged --run-dir new": "--init-from damaged: /",
    f"{CORRIDOR} --init-from pretrained/pong-ppo": "--init-from pretrained/pong-ppo: initial weights of ppo",
    "train --resume nowhere": "run folder nowhere does not exist",
    "train --resume run/checkpoints": "run/checkpoints is not a run folder: it has no config.json",
    "train --resume run/latest": "a checkpoint cannot be resumed; name its run: run\n",
    "train --resume run/checkpoints/000000002000": "a checkpoint cannot be resumed; name its run: run\n",
    "train --resume pretrained/pong-ppo": "--init-from pretrained/pong-ppo starts from its weights",
    "train a3c CartPole-v1 --resume run": "has its algorithm and environment: asyncrl train --resume run\n",
    "train --resume run --print-config": "--print-config is for new runs; RUN/config.toml has the settings",
    "train --resume run --steps 10": "--steps 10: the run has taken 2,000 steps already; --steps is its whole length (it",
    "train --resume run --lag 3": "--lag cannot change when a run is resumed: it affects the weights. These can: --steps, ",
    "train --resume run --t-max=3": "--t-max cannot change when a run is resumed: it affects the weights",
    "train --resume run --reward-clip 1": "; a new run with another value can start from these weights: --init-from ",
    "train --resume run --config run/config.toml": "--config cannot change when a run is resumed: it has its own",
    "train --config run/config.toml --config x.toml": "--config takes one file, not 2: run/config.toml, x.toml",
    "train --config run": "run is not a file; did you mean run/config.toml?",
    "train --resume run --run-dir other": "--run-dir cannot change when a run is resumed: a run stays in its own folder",
    "train --resume run --learning-rate 1": "affects the weights; a new run with another value can",
    "train --resume run --log-evry 3": "unknown option --log-evry; did you mean '--log-every'",
    "evaluate nowhere": "run folder nowhere does not exist",
    "evaluate .": ". holds 2 runs; name one, such as damaged",
    "play nowhere": "run folder nowhere does not exist",
    "inspect run/videos": "run/videos is not a run folder: it has no config.json",
    f"{CORRIDOR} --hidden 64 0": "--hidden must be between 1 and 65536, not 0\n",
    "repro nope": "capsule nope does not exist\n",
    "evaluate run --greedy --sample": "--greedy and --sample exclude each other",
    "evaluate run --episodes 0": "--episodes must be 1 or more, not 0",
    "play run --video x.avi": "x.avi: the file must end in .mp4 or .gif",
    "play run --video nowhere/x.gif": "nowhere/x.gif: there is no folder",
    "list envs nothing-like-it": "nothing matches 'nothing-like-it'",
    "play run --episodes 0": "--episodes must be 1 or more, not 0",
    "evaluate damaged": "damaged/checkpoints/000000002000/weights.safetensors is truncated",
    "train --resume damaged": "damaged/checkpoints/000000002000/weights.safetensors is truncated",
}


@pytest.fixture
def beside(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a valid run and a damaged one."""
    for name in ("run", "damaged"):
        shutil.copytree(trained, tmp_path / name)
    for file in (tmp_path / "damaged" / "checkpoints").glob("*/weights.safetensors"):
        file.write_bytes(file.read_bytes()[:1000])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_answered_in_one_sentence(beside: Path, capsys: pytest.CaptureFixture[str], line: str) -> None:
    before = contents(beside)
    assert ran(*line.split()) == 2
    printed = capsys.readouterr()
    assert MISTAKES[line] in printed.err
    assert printed.err.startswith("asyncrl: ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert contents(beside) == before


FOREIGN = {
    "train a3c CartPole-v1 --lr 3": "unknown option --lr; use --learning-rate",
    "train a3c CartPole-v1 --gamma 1": "unknown option --gamma; use --discount",
    "train ppo CartPole-v1 --batch-size 64": "--batch-size; use --minibatches or --rollouts-per-update",
    "train ppo CartPole-v1 --ent-coef 0": "unknown option --ent-coef; use --entropy-cost",
    "train sac Pendulum-v1 --ent-coef 0": "use --learn-temperature or --temperature",
    "train a3c CartPole-v1 --gpu": "unknown option --gpu; use --device",
    "train a3c CartPole-v1 --algo ppo": "the algorithm is named by its place: asyncrl train ALGO ENV",
    "train --algorithm a3c CartPole-v1": "unknown option --algorithm; the algorithm is named by its place",
    "train a3c CartPole-v1 --total_timesteps 9": "unknown option --total_timesteps; use --steps",
    "train a3c CartPole-v1 --n-envs 8": "unknown option --n-envs; use --envs-per-actor",
    "train a3c CartPole-v1 --tensorboard": "; every run writes TensorBoard events, to RUN/tensorboard",
    "train a3c CartPole-v1 --out x": "unknown option --out; use --run-dir",
    "train ppo CartPole-v1 --double": "--double; it is an option of dqn, c51, qr-dqn, iqn",
    "train ppo CartPole-v1 --buffer-size 9": "--capacity is an option of dqn, c51, qr-dqn, iqn, sac, sac-discrete, td3",
    "train r2d2 CartPole-v1": "unknown algorithm 'r2d2'; R2D2 is dqn with --recurrent lstm",
    "play run --gpu": "unknown option --gpu",
}


@pytest.mark.parametrize("line", FOREIGN)
def test_a_name_of_another_library_is_answered_with_the_one_here(capsys: pytest.CaptureFixture[str], line: str) -> None:
    assert ran(*line.split()) == 2
    printed = capsys.readouterr().err
    assert FOREIGN[line] in printed
    assert "did you mean" not in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "near"), [(f"{CORRIDOR} --learning-rat 3", "--learning-rate"), ("play run --vidoe x.gif", "--video")]
)
def test_an_unknown_option_is_answered_with_a_similar_one(capsys: pytest.CaptureFixture[str], line: str, near: str) -> None:
    assert ran(*line.split()) == 2
    printed = capsys.readouterr().err
    assert f"did you mean '{near}'" in printed
    assert printed.count("\n") == 1
