"""Networks that users bring: by name, by value and from packages; and what is wrong with some."""

from __future__ import annotations

import hashlib
import linecache
import sys
from pathlib import Path
from typing import Any

import numpy as np
import own_networks
import pytest
import torch
from torch import nn

import asyncrl
from asyncrl.algorithms import A3C, C51, DQN, PPO, build_network
from asyncrl.cli import main
from asyncrl.envs import EnvOptions, describe
from asyncrl.envs.spaces import Actions, Spaces, pack
from asyncrl.errors import UsageError
from asyncrl.networks import FrameConv2d, NetworkConfig, bind, copy_into, keep_in_compute_dtype, unpack
from asyncrl.runs.checkpoints import checkpoint
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.settings import configure

SMALL: dict[str, Any] = dict(steps=480, actors=2, envs_per_actor=4, t_max=8, eval_episodes=0, seed=5, run_dir=None)
VECTOR = Spaces((4,), "float32", Actions((2,), (0,)))
PIXELS = Spaces((4, 84, 84), "uint8", Actions((6,), (0,)))


def weights(folder: Path, network: Any, env: str = "CartPole-v1", algorithm: str = "a3c", **more: Any) -> str:
    run = asyncrl.train(env, algorithm, network=network, **{**SMALL, "run_dir": folder, **more})
    return checkpoint.load(run.marked("latest")).weights_sha256


def build(name: str, spaces: Spaces, seed: int = 1, dtype: torch.dtype = torch.float32, **settings: Any) -> nn.Module:
    config = NetworkConfig(name, **settings)
    return build_network(A3C(), config, spaces, dtype, torch.Generator().manual_seed(seed))


def refusal(name: str, algorithm: str = "a3c", **settings: Any) -> str:
    config = configure("CartPole-v1", algorithm, network=name, **settings)
    with pytest.raises(UsageError) as caught:
        resolve(config, describe("CartPole-v1"))
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "algorithm", "more"),
    [
        ("own_networks:Encoder", "a3c", dict(recurrent="lstm", recurrent_size=8)),
        ("own_networks:Encoder", "dqn", dict(dueling=True, noisy=True, learning_starts=100, capacity=400, batch_size=8)),
        ("own_networks:policy", "ppo", dict(epochs=2, minibatches=2)),
        ("own_networks:Values", "n-step-q", {}),
    ],
)
def test_an_own_network_gives_the_same_weights_on_every_engine(
    tmp_path: Path, network: str, algorithm: str, more: dict[str, Any]
) -> None:
    hashes = {
        weights(tmp_path / engine, network, algorithm=algorithm, engine=engine, **more)
        for engine in ("serial", "threads", "processes")
    }
    assert len(hashes) == 1


@pytest.mark.slow
def test_a_class_that_only_this_process_has_reaches_others(tmp_path: Path) -> None:
    class Local(own_networks.Encoder): ...

    hashes = {engine: weights(tmp_path / engine, Local, engine=engine) for engine in ("serial", "processes")}
    assert len({*hashes.values(), weights(tmp_path / "named", "own_networks:Encoder")}) == 1
    hogwild = asyncrl.train("CartPole-v1", network=Local, **{**SMALL, "run_dir": tmp_path / "free", "engine": "hogwild"})
    assert len(asyncrl.evaluate(hogwild, episodes=2).returns) == 2


def test_a_run_with_an_own_network_is_resumed_and_evaluated(tmp_path: Path) -> None:
    constant = dict(learning_rate_schedule="constant")
    whole = weights(tmp_path / "whole", "own_networks:Encoder", steps=960, **constant)
    part = weights(tmp_path / "part", "own_networks:Encoder", **constant)
    run = asyncrl.resume(tmp_path / "part", steps=960, engine="processes")
    assert checkpoint.load(run.marked("latest")).weights_sha256 == whole != part
    assert len(asyncrl.evaluate(run, episodes=2).returns) == 2


def test_a_run_notes_its_source_and_says_when_that_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "brief_nets.py"
    file.write_text("from own_networks import Encoder\nclass Net(Encoder):\n    depth = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    run = asyncrl.train("CartPole-v1", network="brief_nets:Net", **{**SMALL, "run_dir": tmp_path / "run"})
    noted = run.facts()["network"]
    assert noted["name"] == "brief_nets:Net"
    assert noted["parameters"] == len(checkpoint.load(run.marked("latest")).weights())
    assert noted["source_sha256"] == hashlib.sha256(b"class Net(Encoder):\n    depth = 1\n").hexdigest()
    assert main(["inspect", str(run.path)]) == 0
    assert f"network source      sha256 {noted['source_sha256'][:16]}…" in capsys.readouterr().out
    asyncrl.resume(run, steps=640)
    assert "has changed" not in (run.path / "log.txt").read_text()
    file.write_text(file.read_text().replace("1", "22"))
    monkeypatch.delitem(sys.modules, "brief_nets")
    linecache.checkcache()
    asyncrl.resume(run, steps=800)
    assert (
        "The source of the network brief_nets:Net has changed since the run started" in (run.path / "log.txt").read_text()
    )


@pytest.mark.parametrize("change", [("8", "9"), ("Linear(4, 8)", "Sequential(nn.Linear(4, 8))")])
def test_a_run_whose_network_has_got_other_parameters_is_not_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: tuple[str, str]
) -> None:
    file = tmp_path / "growing_nets.py"
    file.write_text("from torch import nn\ndef net(spaces):\n    return nn.Linear(4, 8)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "growing_nets", raising=False)
    run = asyncrl.train("CartPole-v1", network="growing_nets:net", **{**SMALL, "run_dir": tmp_path / "run"})
    file.write_text(file.read_text().replace(*change) + "# longer\n")
    for use in (asyncrl.resume, asyncrl.load):
        monkeypatch.delitem(sys.modules, "growing_nets")
        with pytest.raises(UsageError, match="weights of a different network from the one growing_nets:net builds now"):
            use(run)


def test_its_initial_weights_are_its_own_and_follow_the_seed() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, again, other = (bind(build("own_networks:Encoder", VECTOR, seed))[0].detach() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    layer = build("own_networks:Encoder", VECTOR).body.encoder.module.layers[0]
    assert layer.bias.abs().max() > 0  # ours are 0


def test_layers_are_sized_by_the_first_observation() -> None:
    made = build("own_networks:Lazy", PIXELS)
    assert made.body.encoder.features == 8
    assert made(torch.zeros(1, 3, 4, 84, 84, dtype=torch.uint8), torch.zeros(3, 0)).value.shape == (1, 3)


@pytest.mark.parametrize("name", ["own_networks:Lazy", "own_networks:Cosine"])
def test_acting_in_bfloat16_computes_what_learning_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Cosine(own_networks.Lazy):
        """Uses a layer's weights in a way that autocast does not convert."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * self.layers[0].weight.exp().mean((1, 2, 3))

    monkeypatch.setattr(own_networks, "Cosine", Cosine, raising=False)
    learned, acting = (build(name, PIXELS, seed, torch.bfloat16).requires_grad_(False) for seed in (1, 2))
    keep_in_compute_dtype(acting)
    assert acting.body.encoder.module.layers[0].weight.dtype == (torch.bfloat16 if "Lazy" in name else torch.float32)
    copy_into(acting, bind(learned)[0])
    observation = torch.randint(256, (1, 3, 4, 84, 84), dtype=torch.uint8)
    one, other = (made(observation, torch.zeros(3, 0)).value for made in (learned, acting))
    assert torch.equal(one, other)


def test_a_first_layer_that_takes_pixels_scales_its_weights() -> None:
    layer, pixels = FrameConv2d(4, 8, 8, 4, centered=False), torch.randint(256, (2, 4, 84, 84), dtype=torch.uint8)
    expected = nn.functional.conv2d(pixels / 255, layer.weight, layer.bias, 4)
    assert torch.allclose(layer(pixels), expected, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(pixels).dtype == torch.bfloat16


def test_a_run_says_if_the_algorithm_relies_on_layers_that_the_network_must_have(tmp_path: Path) -> None:
    weights(tmp_path / "run", "own_networks:Encoder", algorithm="pqn", minibatches=2)
    assert "pqn relies on layer normalization, which own_networks:Encoder" in (tmp_path / "run" / "log.txt").read_text()


def test_observations_with_parts_come_by_name(tmp_path: Path) -> None:
    contract = describe("space_envs:SpaceEnv", EnvOptions(env_kwargs='{"kind": "keys"}'))
    rows = [{"arm.left": 1, "": np.float32([0.5, -1]), 7: np.int8([0, 1])}] * 2
    packed = np.concatenate([pack(contract.spaces, row, single=True) for row in rows])
    parts = unpack(contract.spaces, torch.from_numpy(packed))
    assert {name: (x.dtype, x.tolist()) for name, x in parts.items()} == {
        "'arm.left'": (torch.int64, [1, 1]),
        "''": (torch.float32, [[0.5, -1]] * 2),
        "[7]": (torch.float32, [[0, 1]] * 2),
    }
    weights(tmp_path / "run", "own_networks:Parts", "space_envs:SpaceEnv", env_kwargs='{"kind": "keys"}')


def test_frozen_parameters_stay_and_a_network_may_have_none(tmp_path: Path) -> None:
    run = asyncrl.train("CartPole-v1", network=own_networks.Frozen, **{**SMALL, "run_dir": tmp_path / "run"})
    start = build("own_networks:Frozen", describe("CartPole-v1").spaces)
    trained = checkpoint.load(run.marked("latest")).tensors("weights")
    names = {name for name, x in start.named_parameters() if not x.requires_grad}
    assert names == {"body.encoder.module.layers.0.weight", "body.encoder.module.layers.0.bias"}
    again = asyncrl.train("CartPole-v1", network=own_networks.Frozen, **{**SMALL, "run_dir": tmp_path / "2", "steps": 64})
    first = checkpoint.load(again.marked("latest")).tensors("weights")
    assert {name for name in trained if torch.equal(trained[name], first[name])} == names
    weights(tmp_path / "none", "own_networks:Constant")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("natur-cnn", r"--network natur-cnn: there is no such network; did you mean 'nature-cnn'"),
        ("own_netwrks:Encoder", r"there is no module 'own_netwrks'; did you mean 'own_networks'"),
        ("own_networks:Encodr", r"own_networks has no 'Encodr'; did you mean 'Encoder'"),
        ("own_networks:number", r"is 3; expected a class or a function"),
        ("own_networks:nothing", r"made None; expected a torch.nn.Module"),
        ("own_networks:raising", r"raised KeyError: 'layers' \(.*own_networks.py, line \d+\)"),
        ("own_networks:NoBatch", r"returned a tensor \[8\] float32 .* expected floating-point features \[2, F\]"),
        ("own_networks:NoFeatures", r"returned a tensor \[2, 0\] float32 .* expected floating-point features \[2, F\]"),
        ("own_networks:NeedsWidth", r"the environment's spaces, which it does not take: missing .* 'width'$"),
        ("own_networks:NotFinite", r"returned numbers that are not finite for 2 observations \(4 float32\)"),
        ("own_networks:OnlyTwo", r"raised RuntimeError: .*own_networks.py, line \d+\) for 3 observations"),
        ("own_networks:InPlace", r"raised RuntimeError: .* modified by an inplace operation"),
        ("own_networks:Detached", r"learns nothing: no gradient passes from its output to its parameters"),
        ("own_networks:Exits", r"raised SystemExit: 3 \(.*own_networks.py, line \d+\)"),
        ("own_networks:Tuple", r"returned a tuple; expected a tensor"),
        ("own_networks:Mismatched", r"mat1 and mat2 .*own_networks.py, line \d+\) for 2 observations \(4 float32\)"),
        ("own_networks:BatchNorm", r"changes the buffer .*running_mean"),
        ("own_networks:Dropout", r"draws random numbers"),
        ("own_networks:Unregistered", r"tensors that differ between two networks"),
        ("own_networks:Double", r"the parameter unused is float64; expected float32"),
        ("own_networks:NoValue", r"returned PolicyValue with value \[1, 2, 1\] float32 .* expected \[1, 2\] float32"),
        ("own_networks:Values", r"returned an ActionValues; the algorithm needs a PolicyValue"),
    ],
)
def test_a_network_that_cannot_be_trained_is_refused_in_one_sentence(name: str, sentence: str) -> None:
    import re

    said = refusal(name)
    assert re.search(sentence, said), said
    assert "\n" not in said


def test_what_an_own_network_does_not_heed_is_refused(tmp_path: Path) -> None:
    for name, settings in (
        ("own_networks:Encoder", dict(hidden=(8,))),
        ("own_networks:Encoder", dict(layer_norm=True)),
        ("own_networks:Policy", dict(recurrent="gru")),
        ("own_networks:Policy", dict(precision="bf16")),
    ):
        with pytest.raises(UsageError, match=f"{next(iter(settings)).replace('_', '-')} has no effect on --network {name}"):
            asyncrl.train("CartPole-v1", network=name, **{**SMALL, **settings, "run_dir": tmp_path / "run"})
    with pytest.raises(UsageError, match="but a run makes several"):
        configure("CartPole-v1", network=nn.Linear(4, 2))


@pytest.mark.parametrize("algorithm", [C51(), DQN(), PPO()])
def test_a_complete_network_is_compared_with_the_algorithms_own(algorithm: Any) -> None:
    config = NetworkConfig("own_networks:Values")
    make = lambda: build_network(algorithm, config, VECTOR, torch.float32, torch.Generator().manual_seed(1))  # noqa: E731
    if isinstance(algorithm, DQN):
        assert isinstance(make(), own_networks.Values)
    else:
        with pytest.raises(UsageError, match=r"outputs \[1, 2, 2, 1\] .* expected \[1, 2, 2, 51\]|needs a PolicyValue"):
            make()


def test_a_package_registers_a_network_by_an_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "deep_nets-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: deep-nets\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[asyncrl.networks]\ndeep = own_networks:Encoder\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert asyncrl.networks.installed_networks() == {"deep": "own_networks:Encoder of deep-nets 1.2"}
    assert weights(tmp_path / "run", "deep") == weights(tmp_path / "named", "own_networks:Encoder")
    assert "did you mean 'deep'" in refusal("dep")
