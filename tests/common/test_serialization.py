"""Serialized data reads back unchanged; errors name the place of an invalid value."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asyncrl.algorithms import A3C, NStepQ
from asyncrl.algorithms.exploration import Exploration
from asyncrl.algorithms.optimizers import LearningRateSchedule, Optimizer, OptimizerConfig
from asyncrl.common.serialization import (
    from_json,
    load_tensors,
    read_json,
    save_tensors,
    tensor_sha256,
    to_json,
    write_atomically,
)
from asyncrl.envs import Backend, Contract, EnvOptions, describe
from asyncrl.envs.families.atari import AtariOptions
from asyncrl.errors import CheckpointError, UsageError
from asyncrl.networks import BUILT_IN, NetworkConfig
from asyncrl.runs.config.run_config import RunConfig, ScheduleKind

reals = st.floats(allow_nan=False, allow_infinity=False)
explorations = st.builds(Exploration, final_epsilons=st.lists(reals).map(tuple))
environments = st.tuples(st.text(), st.builds(EnvOptions, env_backend=st.sampled_from([Backend.AUTO, Backend.SYNC])))
games = st.tuples(
    st.just("ALE/Pong-v5"),
    st.builds(
        AtariOptions,
        env_backend=st.sampled_from(Backend),
        sticky=st.none() | reals,
        life_loss=st.none() | st.booleans(),
        frame_skip=st.none() | st.integers(),
    ),
)
configs = st.builds(
    lambda env, **settings: RunConfig(env[0], environment=env[1], **settings),
    env=environments | games,
    algorithm=st.builds(A3C, t_max=st.integers(), discount=reals) | st.builds(NStepQ, exploration=explorations),
    optimizer=st.builds(
        OptimizerConfig,
        st.sampled_from(Optimizer),
        learning_rate=reals,
        learning_rate_schedule=st.sampled_from(LearningRateSchedule),
    ),
    network=st.builds(NetworkConfig, network=st.sampled_from([*BUILT_IN]), hidden=st.lists(st.integers()).map(tuple)),
    steps=st.integers(),
    schedule=st.sampled_from(ScheduleKind),
    queue_size=st.none() | st.integers(),
    target_return=st.none() | reals,
    eval_greedy=st.booleans(),
)


@given(configs)
def test_a_configuration_survives_a_round_trip(config: RunConfig) -> None:
    assert RunConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize("env", ["CartPole-v1", "ALE/Pong-v5"])
def test_a_contract_survives_a_round_trip(env: str) -> None:
    contract = describe(env)
    assert from_json(Contract, json.loads(json.dumps(to_json(contract)))) == contract


def test_absent_fields_keep_their_defaults() -> None:
    read = RunConfig.from_json({"env": "CartPole-v1", "algorithm": {"name": "a3c"}})
    assert read == RunConfig("CartPole-v1", A3C())


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"actros": 2}, "^actros is not a field of RunConfig; did you mean 'actors'"),
        ({"algorithm": {"name": "a3c", "discuont": 1}}, r"^algorithm\.discuont is not .* did you mean 'discount'"),
        ({"algorithm": {"name": "a3"}}, "unknown algorithm 'a3'; did you mean 'a3c'"),
        ({"environment": {"sticky": "much"}}, r"^environment\.sticky: expected a number, got 'much'"),
        ({"network": {"hidden": [64, "x"]}}, r"^network\.hidden\[1\]: expected a whole number, got 'x'"),
        ({"network": 3}, "^network: expected a table of fields, got 3"),
        ({"steps": True}, "^steps: expected a whole number, got True"),
        ({"steps": None}, "^steps: expected a whole number, got None"),
        ({"engine": "thread"}, "^engine: 'thread' is not one of .* did you mean 'threads'"),
    ],
)
def test_what_does_not_fit_is_named_by_its_place(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        RunConfig.from_json({"env": "CartPole-v1", "algorithm": {"name": "a3c"}, **changed})


def test_a_required_field_that_is_missing_is_named() -> None:
    with pytest.raises(UsageError, match="'env'"):
        RunConfig.from_json({"algorithm": {"name": "a3c"}})


@pytest.mark.parametrize(
    "data",
    [{"env": "x"}, {"env": "x", "algorithm": "a3c"}, {"env": "x", "algorithm": {}}],
    ids=["absent", "not a table", "without a name"],
)
def test_an_algorithm_that_cannot_be_read_is_named(data: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="algorithm"):
        RunConfig.from_json(data)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_atomically(path, "a long old text")
    write_atomically(path, "new ±")
    assert path.read_text(encoding="utf-8") == "new ±"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "x" * 100_000 + "\ud800")  # no UTF-8 has this
    assert path.read_text() == "old"


def test_a_write_that_ctrl_c_stops_leaves_nothing_beside_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    write_atomically(path, "old")
    monkeypatch.setattr(os, "fsync", lambda descriptor: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert {file: file.read_text() for file in tmp_path.iterdir()} == {path: "old"}


def test_tensors_survive_a_round_trip_with_dtype_and_shape(tmp_path: Path) -> None:
    tensors = {
        "transposed": torch.arange(6.0).view(2, 3).t(),
        "bfloat16": torch.tensor([0.1, -3.0], dtype=torch.bfloat16),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 4),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    save_tensors(tmp_path / "t.safetensors", tensors)
    read = load_tensors(tmp_path / "t.safetensors")
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor.detach())


def test_a_hash_is_of_the_values_and_not_of_how_they_lie() -> None:
    tensor = torch.arange(6.0).view(2, 3)
    assert tensor_sha256(tensor.t()) == tensor_sha256(tensor.t().contiguous()) != tensor_sha256(tensor)


@pytest.mark.parametrize("read", [load_tensors, read_json])
def test_a_damaged_or_missing_file_is_named(tmp_path: Path, read: Any) -> None:
    (tmp_path / "damaged").write_bytes(b"\xff\x00{")
    for name in ("damaged", "missing"):
        with pytest.raises(CheckpointError, match=f"{name} cannot be read as"):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("anneal", "schedule"), [(True, LearningRateSchedule.LINEAR), (False, LearningRateSchedule.CONSTANT)]
)
def test_a_configuration_of_0_1_0_is_read_with_todays_names(anneal: bool, schedule: LearningRateSchedule) -> None:
    data = RunConfig("CartPole-v1", A3C()).to_json()
    del data["optimizer"]["learning_rate_schedule"]
    data["optimizer"]["anneal"] = anneal
    assert RunConfig.from_json(data).optimizer.learning_rate_schedule is schedule
