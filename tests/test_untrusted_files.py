"""Files are checked before anything is built or allocated from them: types, ranges, sizes and names."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from forged_runs import forge, forge_tensors
from torch import Tensor

import asyncrl
from asyncrl.api import configure
from asyncrl.cli import main
from asyncrl.common.serialization import parse_json, read_json
from asyncrl.envs.supervision import capsule
from asyncrl.errors import CheckpointError, UsageError
from asyncrl.launch import resume, start
from asyncrl.runs.checkpoints import checkpoint
from asyncrl.runs.run import Run

SMALL: dict[str, Any] = dict(steps=160, actors=2, envs_per_actor=2, engine="serial", eval_episodes=0)
REPLAY: dict[str, Any] = dict(
    capacity=100, learning_starts=50, batch_size=8, prioritized=True, target_every=50, optimizer="adam"
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Small runs of CartPole, by algorithm."""
    folder = tmp_path_factory.mktemp("doors")
    more: dict[str, dict[str, Any]] = {"a3c": dict(t_max=5, lag=2), "dqn": REPLAY}
    return {name: start(configure("CartPole-v1", name, **SMALL, **how), folder / name)[0] for name, how in more.items()}


@pytest.fixture
def copies(runs: dict[str, Run], tmp_path: Path) -> Callable[[str], Run]:
    return lambda name: Run(Path(shutil.copytree(runs[name].path, tmp_path / name)))


def at(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of one value in a manifest."""

    def change(manifest: dict[str, Any]) -> None:
        table = manifest
        for key in path[:-1]:
            table = table[key]
        table[path[-1]] = value

    return change


FILE = {"sha256": "0" * 64, "bytes": 1}
IMPOSSIBLE: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "a step that is text": (at("step", value="1"), "step: expected a whole number"),
    "a step below 0": (at("step", value=-1), "out of range"),
    "no weights": (at("files", value={}), "weights.safetensors is missing"),
    "a way out": (at("files", "../../weights.safetensors", value=FILE), "'../../weights"),
    "an absolute name": (at("files", "/etc/passwd", value=FILE), "'/etc/passwd' with"),
    "a way out of the replay buffer": (at("replay", "../config.json", value=FILE), "'../config.json' with"),
    "bytes that are text": (at("files", "weights.safetensors", "bytes", value="1"), "expected a whole number"),
    "a file too large": (
        at("files", "recent.safetensors", value={**FILE, "bytes": 2**50}),
        "too many for its network",
    ),
    "parameters in another order": (lambda m: m["parameters"].reverse(), "are not those of its network"),
    "a large network": (at("config", "network", "hidden", value=[40_000, 40_000]), r"does not fit: .* expected \[40000\]"),
    "a network of many layers": (at("config", "network", "hidden", value=[1] * 300), "are not those of its network"),
    "random features without end": (
        lambda m: m["config"]["network"].update(network="radial", radial_gammas=[1.0] * 1_000, radial_features=10**6),
        "more fixed features than fit",
    ),
    "no network": (at("config", "network", "hidden", value=[]), "must have at least one number"),
    "a network for pictures": (at("config", "network", "network", value="nature-cnn"), "nature-cnn needs images"),
    "a table instead of the configuration": (at("config", value=[1]), "algorithm: expected a table"),
    "actors without end": (at("config", "actors", value=10**400), "expected|fit|at most"),
    "a learning rate that is not a number": (
        at("config", "optimizer", "learning_rate", value=float("nan")),
        "learning-rate",
    ),
    "an unknown family": (at("contract", "family", value="os"), "no family of environments 'os'"),
    "a frame skip of -1": (at("contract", "frame_skip", value=-1), "frame-skip"),
    "an observation of 10^18 numbers": (
        at("contract", "spaces", "observation_shape", value=[10**9, 10**9]),
        "cannot have the shape",
    ),
    "a dtype of objects": (at("contract", "spaces", "observation_dtype", value="object"), "cannot have the dtype"),
    "a dtype that torch has": (at("contract", "spaces", "observation_dtype", value="save"), "cannot have the dtype"),
    "no actions": (at("contract", "spaces", "actions", "choices", value=[]), "differ in length|one or more choices"),
    "a table too many": (at("contract", "spaces", "actions", "choices", value=[2, 2]), "differ in length"),
    "no spread": (lambda m: m["contract"].update(observation_mean=[0.0] * 4, observation_spread=[0.0] * 4), "spread"),
    "a mean of another size": (at("contract", "observation_mean", value=[0.0]), "as many numbers"),
    "others inside of others": (
        lambda m: m["contract"].update(others=[{**m["contract"], "others": [{**m["contract"]}]}]),
        "others",
    ),
    "imports that are text": (at("contract", "settings", value={"imports": "os"}), "must be a list of modules"),
}


@pytest.mark.parametrize(("change", "sentence"), IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_a_manifest_that_says_what_cannot_be_is_refused_in_a_sentence(
    copies: Callable[[str], Run], change: Callable[[dict[str, Any]], None], sentence: str
) -> None:
    (path,) = copies("a3c").checkpoints()[-1:]
    forge(path, change)
    with pytest.raises(CheckpointError, match=sentence) as caught:
        checkpoint.load(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize("command", ["evaluate", "play", "inspect", "resume"])
def test_weights_that_are_not_finite_are_refused_though_their_hashes_are_right(
    copies: Callable[[str], Run], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copies("a3c")
    (path,) = run.checkpoints()[-1:]
    forge_tensors(path, "weights", lambda tensors: next(iter(tensors.values())).view(-1)[:1].fill_(torch.nan))

    def rehash(manifest: dict[str, Any]) -> None:
        named = checkpoint.load_tensors(path / "weights.safetensors")
        vector = torch.cat([named[name].flatten() for name in manifest["parameters"]])
        manifest["weights_sha256"] = checkpoint.tensor_sha256(vector)

    forge(path, rehash)
    for other in run.checkpoints()[:-1]:
        shutil.rmtree(other)
    words = {
        "resume": ["train", "--resume", str(run.path), "--steps", "320"],
        "play": ["play", str(run.path), "--video", "x.gif"],
    }
    assert main(words.get(command, [command, str(run.path)])) == 2
    assert "not finite" in capsys.readouterr().err


def lost(name: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: tensors.pop(name) is None or None


def put(name: str, value: Tensor) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: tensors.update({name: value})


UNFIT: list[tuple[str, str, Callable[[dict[str, Tensor]], None], str]] = [
    ("a3c", "weights", put("value.bias", torch.zeros(2)), r"'value.bias' is \[2\] float32, expected \[1\] float32"),
    ("a3c", "weights", put("value.bias", torch.zeros(1, dtype=torch.float64)), "float64, expected"),
    ("a3c", "weights", put("more", torch.zeros(1)), r"'more' is \[1\] float32, expected missing"),
    ("a3c", "optimizer", put("square_average", torch.zeros(3)), "optimizer.safetensors does not fit"),
    ("a3c", "recent", put("0", torch.zeros(3)), "recent.safetensors does not fit"),
    ("a3c", "recent", put("newest", torch.zeros(3)), "'newest'"),
    ("a3c", "recent", lambda tensors: tensors.pop(max(tensors, key=int)) is None, "lacks the weights of version"),
    ("a3c", "actors", lost("1.carry.reset"), "'1.carry.reset' is missing"),
    ("a3c", "actors", put("9.actions", torch.zeros(3)), "'9.actions'"),
    ("a3c", "actors", lambda tensors: tensors["0.lengths"].fill_(10**9) is None, "holds impossible steps"),
    ("a3c", "actors", lambda tensors: tensors["0.actions"].fill_(9) is None, "holds impossible steps"),
    ("a3c", "episodes", put("return", torch.zeros(2, 2)), "episodes.safetensors does not fit"),
    ("dqn", "target", lost("q.bias"), "target.safetensors does not fit"),
    ("dqn", "replay", lambda tensors: tensors["priorities"].fill_(-1) is None, "holds impossible priorities"),
    ("dqn", "replay", put("priorities", torch.zeros(10**6, dtype=torch.float64)), "replay.safetensors does not fit"),
    ("dqn", "optimizer", put("exp_avg", torch.zeros(1)), "optimizer.safetensors does not fit"),
]


@pytest.mark.parametrize(("algorithm", "name", "change", "sentence"), UNFIT)
def test_a_resumed_run_takes_no_tensors_but_those_that_it_would_write(
    copies: Callable[[str], Run], algorithm: str, name: str, change: Callable[[dict[str, Tensor]], None], sentence: str
) -> None:
    run = copies(algorithm)
    for path in run.checkpoints():
        if (path / f"{name}.safetensors").exists():
            forge_tensors(path, name, change)
        else:
            shutil.rmtree(path)
    with pytest.raises(CheckpointError, match=sentence):
        resume(run.path, steps=320)


def test_a_file_of_the_replay_memory_is_compared_with_its_plan(copies: Callable[[str], Run]) -> None:
    run = copies("dqn")
    newest = run.checkpoints()[-1]
    name = next(iter(checkpoint.load(newest).replay))
    found = checkpoint.load_tensors(run.replay_folder / name)
    checkpoint.save_tensors(run.replay_folder / name, found | {"0.frames": found["0.frames"][:, :1]})
    facts = checkpoint.file_checksum(run.replay_folder / name)
    for path in run.checkpoints():
        forge(path, lambda manifest: manifest["replay"].update({name: facts}) if name in manifest["replay"] else None)
    with pytest.raises(CheckpointError, match=r"safetensors does not fit: '0\.frames'"):
        resume(run.path, steps=320)


def test_a_file_is_not_read_that_is_larger_than_its_kind_can_be(copies: Callable[[str], Run]) -> None:
    (path,) = copies("a3c").checkpoints()[-1:]
    os.truncate(path / "manifest.json", 2_000_000_000)
    with pytest.raises(CheckpointError, match="has 2,000,000,000 bytes, more than the 16,777,216 allowed"):
        checkpoint.load(path)


def test_what_would_be_waited_for_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="it is not a plain file"):
        read_json(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="it is not a plain file"):
        checkpoint.load_tensors(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested too deep"),
        ("[" * 80 + "]" * 80, "more than 64 levels"),
        ('{"a":' * 80 + "0" + "}" * 80, "more than 64 levels"),
        ('{"a": 1, "b": {"a": 1, "a": 2}}', "a key occurs twice"),
        ("1" * 5_000, "digits"),
        ("\x00", "Expecting value"),
    ],
)
def test_json_that_this_package_does_not_write_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(text)


def test_json_of_every_allowed_depth_is_read() -> None:
    assert parse_json("[" * 64 + "]" * 64) == json.loads("[" * 64 + "]" * 64)


CAPSULE: dict[str, Any] = {
    "contract": {},
    "seed": 1,
    "options": None,
    "steps": 1,
    "actions": [0],
    "kind": "raised",
    "what": "raised",
    "traceback": "",
    "memory_limit": None,
    "versions": {},
}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seed": -1}, "seed must be 0 or more"),
        ({"seed": 10**30}, "seed must be"),
        ({"seed": True}, "seed: expected a whole number"),
        ({"steps": "1"}, "steps: expected a whole number"),
        ({"actions": "0"}, "'actions' must be a list"),
        ({"kind": "burnt"}, "'kind' cannot be 'burnt'"),
        ({"memory_limit": 0}, "memory-limit must be 1 or more"),
        ({"options": []}, "options: expected a table"),
        ({"versions": {"python": 3}}, "versions.python: expected a string"),
    ],
)
def test_a_capsule_that_cannot_be_is_refused(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    file = tmp_path / "capsule.json"
    file.write_text(json.dumps(CAPSULE))
    assert capsule.load(file).seed == 1
    file.write_text(json.dumps({**CAPSULE, **change}))
    with pytest.raises(UsageError, match=sentence) as caught:
        capsule.load(file)
    assert str(file) in str(caught.value)


def test_checkpoints_of_before_the_doors_load_as_they_did(runs: dict[str, Run], copies: Callable[[str], Run]) -> None:
    run = copies("a3c")
    for path in run.checkpoints():
        forge(path, lambda manifest: manifest.pop("signature") and None)
    weights = asyncrl.load(run.path).checkpoint.weights()
    assert torch.equal(weights, asyncrl.load(runs["a3c"].path).checkpoint.weights())
    assert resume(run.path, steps=320)[1] is not None
