"""Exported policies take what environments return, and act as their agents do."""

from __future__ import annotations

import contextlib
import errno
import importlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from algorithm_worlds import world_of
from forged_runs import forged
from generated_spaces import action_spaces, observation_spaces
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array
from hypothesis import given, settings

import asyncrl
from asyncrl.agents.agent import Agent
from asyncrl.agents.export.contract import _before, _input_facts
from asyncrl.agents.export.model import open_session, to_onnx
from asyncrl.agents.export.parity import check_parity
from asyncrl.agents.export.policy import ExportedPolicy, policy_inputs
from asyncrl.algorithms import A3C, ALGORITHMS, Policy
from asyncrl.api import configure
from asyncrl.cli import main
from asyncrl.common.serialization import to_json
from asyncrl.envs import Backend, Contract, Environments, EnvOptions, describe
from asyncrl.envs.families.atari import AtariOptions, Protocol
from asyncrl.envs.space_reading import spaces_of
from asyncrl.envs.spaces import MaskSource
from asyncrl.errors import AsyncRLError, UsageError
from asyncrl.launch import start
from asyncrl.networks import Init, NetworkConfig
from asyncrl.runs.checkpoints.checkpoint import Checkpoint
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.run import Run

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL: dict[str, Any] = dict(steps=160, actors=1, envs_per_actor=4, engine="serial", eval_episodes=0)
MEMORY: dict[str, Any] = dict(capacity=200, learning_starts=50, batch_size=4)


def agent_of(config: RunConfig, contract: Contract) -> tuple[Agent, ExportedPolicy]:
    """An agent with random weights, and its policy for export."""
    saved = Checkpoint(Path(), 0, 0, 0.0, "", (), contract, config, {}, "", {})
    policy = Policy(config.algorithm, config.network, contract.spaces, torch.float32)
    size = sum(tensor.numel() for tensor in saved.network().values())
    weights = 0.3 * torch.randn(size, generator=torch.Generator().manual_seed(1))
    policy.load(weights)
    exported = ExportedPolicy(saved, contract, weights)
    return Agent(saved, policy, torch.Generator().manual_seed(1)), exported


def agent_for(
    observation: spaces.Space, action: spaces.Space, mask: MaskSource = MaskSource.NONE, stack: int = 1, **network: Any
) -> tuple[Agent, ExportedPolicy]:
    """One for these spaces."""
    seen = spaces_of("Some-v0", observation, action, mask).stacked(stack)
    contract = Contract("Some-v0", "gymnasium", Backend.SYNC, seen, frame_stack=stack)
    return agent_of(RunConfig("Some-v0", A3C(), network=NetworkConfig(hidden=(4,), init=Init.FAN_IN, **network)), contract)


def batch_of(space: spaces.Space, count: int = 3) -> Any:
    """Observations as a vector environment gives them."""
    space.seed(1)
    return concatenate(space, [space.sample() for _ in range(count)], create_empty_array(space, count))


def tensors_of(policy: ExportedPolicy, observation: Any) -> list[torch.Tensor]:
    """The inputs of a policy for a batch of the environment's observations."""
    values = [one.part.find(observation) for one in policy.inputs]
    return [torch.from_numpy(np.array(x).astype(one.dtype)) for one, x in zip(policy.inputs, values, strict=True)]


def assert_same(found: torch.Tensor, expected: np.ndarray) -> None:
    assert found.dtype is getattr(torch, expected.dtype.name)
    assert found.shape == expected.shape
    assert np.allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=20)
@given(observation_spaces, action_spaces)
def test_a_policy_takes_any_observation_as_the_environment_returns_it(observation: Any, action: Any) -> None:
    agent, policy = agent_for(observation, action)
    batch = batch_of(observation)
    assert_same(policy.named(*tensors_of(policy, batch))["action"], agent.act(batch, greedy=True))


@pytest.mark.parametrize("shape", [(40, 40), (40, 40, 3), (1, 40, 40)], ids=["gray", "channels last", "channels first"])
def test_a_policy_takes_stacked_frames_in_the_layout_of_the_environment(shape: tuple[int, ...]) -> None:
    agent, policy = agent_for(spaces.Box(0, 255, shape, np.uint8), spaces.Discrete(4), stack=2)
    stacks = np.random.default_rng(1).integers(256, size=(3, *policy.inputs[0].shape), dtype=np.uint8)
    assert policy.inputs[0].shape == {3: (2, 40, 40)}.get(len(policy.inputs[0].shape), (2, 40, 40, 3))
    assert_same(policy.named(torch.from_numpy(stacks))["action"], agent.act(stacks, greedy=True))


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS.keys() - {"random"}))
def test_the_policy_of_every_algorithm_acts_as_its_agent(algorithm: str) -> None:
    world = "CartPole-v1" if algorithm == "linear-q" else world_of(algorithm)
    contract, config = describe(world), configure(world, algorithm)
    agent, policy = agent_of(config, contract)
    batch = np.stack([np.asarray(space_of(contract).sample()) for _ in range(5)])
    found = policy.named(*tensors_of(policy, batch))
    assert_same(found["action"], agent.act(batch, greedy=True))
    assert found.keys() - {"action"} in ({"action_probabilities"}, {"q"}, {"mean", "scale"}, set())


def space_of(contract: Contract) -> spaces.Space:
    spec = contract.spaces
    space = spaces.Box(-1, 1, spec.observation_shape, np.float32)
    return space if not spec.entries else spaces.Discrete(spec.entries[0].choices)


def trained(folder: Path, algorithm: str, env: str, **more: Any) -> Run:
    return start(configure(env, algorithm, **{**SMALL, **more}), folder)[0]


CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "memory and a mask": ("a3c", "masked_envs:Moves", dict(recurrent="lstm", recurrent_size=8, normalize_observation=True)),
    "images and other parts": ("ppo", "worlds:Toolbox-v0", dict(recurrent="gru", recurrent_size=8, epochs=1)),
    "quantiles, dueling and noise": ("iqn", "CartPole-v1", dict(MEMORY, dueling=True, noisy=True)),
    "continuous actions": ("sac", "Pendulum-v1", dict(MEMORY, standardize=100)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_what_is_exported_agrees_with_the_agent(case: Any, tmp_path: Path) -> None:
    algorithm, env, more = case
    run = trained(tmp_path / "run", algorithm, env, **more)
    exported = asyncrl.export(run, tmp_path / "onnx", observations=64)
    assert exported.parity.observations == 64
    facts = json.loads(exported.contract.read_text(encoding="utf-8"))
    session = open_session(exported.model.read_bytes())
    given = [(one.name, one.shape) for one in session.get_inputs()]
    assert given == [(one["name"], one["shape"]) for one in facts["inputs"]]
    assert [one.name for one in session.get_outputs()] == [one["name"] for one in facts["outputs"]]
    assert ("state" in dict(given)) == ("recurrent" in more)
    assert facts["weights_sha256"] == asyncrl.load(run.path).checkpoint.weights_sha256
    assert sorted(path.name for path in (tmp_path / "onnx").iterdir()) == ["contract.json", "policy.onnx"]


def test_a_policy_that_differs_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    agent = asyncrl.load(trained(tmp_path / "run", "a3c", "CartPole-v1"))
    other = ExportedPolicy(agent.checkpoint, agent.contract, agent.checkpoint.weights() + 0.1)
    with pytest.raises(AsyncRLError, match=r"in observations 1 to 8: action.* by .*, more than 1e-05; nothing was written"):
        check_parity(open_session(to_onnx(other, {})), other, agent, agent.contract, 64)


def test_an_export_that_cannot_be_written_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = asyncrl.load(trained(tmp_path / "run", "a3c", "CartPole-v1"))
    earlier = asyncrl.export(agent, tmp_path / "earlier", observations=8)
    before = {path: path.read_bytes() for path in (tmp_path / "earlier").iterdir()}
    model = earlier.model.read_bytes()
    monkeypatch.setattr("asyncrl.agents.export.to_onnx", lambda *_: model)  # the same one takes two seconds each time

    for folder, free in itertools.product((tmp_path / "earlier", tmp_path / "more" / "onnx"), (0, 1)):
        fits = iter([True] * free)

        def full(file: int, fits: Iterator[bool] = fits) -> None:
            if not next(fits, False):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left on device"):
                asyncrl.export(agent, folder, observations=8)
    assert {path: path.read_bytes() for path in (tmp_path / "earlier").iterdir()} == before
    assert not (tmp_path / "more").exists()


def test_the_contract_says_what_the_numbers_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained(tmp_path / "run", "ppo", "Pendulum-v1", normalize_observation=True, eval_episodes=2)
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "contract.json").write_text("of an earlier export")
    command = ["export", str(run.path), "--onnx", str(tmp_path / "onnx"), "--observations", "8"]
    assert main(command) == 0
    assert "largest difference from the agent in 8 observations: action " in capsys.readouterr().out
    facts = json.loads((tmp_path / "onnx" / "contract.json").read_text(encoding="utf-8"))
    (observation,) = facts["inputs"]
    assert (observation["name"], observation["shape"], observation["dtype"]) == ("observation", ["batch", 3], "float32")
    assert [output["name"] for output in facts["outputs"]] == ["action", "mean", "scale"]
    assert (facts["actions"]["low"], facts["actions"]["high"]) == ([-2.0], [2.0])
    (normalized,) = facts["preprocessing"]["inside"]["normalized"]
    assert (normalized["input"], len(normalized["mean"]), min(normalized["std"]) > 0) == ("observation", 3, True)
    assert facts["score"]["episodes"] == 2
    assert facts["opset"] == 18
    assert facts["contract"]["env"] == "Pendulum-v1"


def test_what_cannot_be_exported_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(tmp_path / "run", "random", "CartPole-v1")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="random has no policy to export"):
        asyncrl.export(run, tmp_path / "onnx")
    with pytest.raises(UsageError, match="is a file; name a folder"):
        asyncrl.export(run, tmp_path / "file")
    assert main(["export", str(run.path)]) == 2
    assert "--onnx is missing: asyncrl export" in capsys.readouterr().err
    with pytest.raises(UsageError, match="reads observations with several parts as bytes"):
        agent_for(
            spaces.Dict(a=spaces.Discrete(2), b=spaces.Box(0, 1, (2,))), spaces.Discrete(2), network="own_networks:Policy"
        )
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"exporting needs onnxruntime: pip install 'asyncrl\[export\]'"):
        asyncrl.export(run, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_the_users_encoder_is_exported_if_torch_can_trace_it() -> None:
    agent, policy = agent_for(spaces.Box(-1, 1, (3,)), spaces.Discrete(4), network="own_networks:Encoder")
    batch = batch_of(spaces.Box(-1, 1, (3,)))
    assert_same(policy.named(*tensors_of(policy, batch))["action"], agent.act(batch, greedy=True))
    _, untraceable = agent_for(spaces.Box(-1, 1, (3,)), spaces.Discrete(4), network="own_networks:Branching")
    with pytest.raises(UsageError, match=r"^torch cannot export this network: ") as caught:
        to_onnx(untraceable, {})
    assert len(str(caught.value).splitlines()) == 1


def test_a_strangers_run_is_not_played_without_trust(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", "a3c", "CartPole-v1")

    def names_code(manifest: dict[str, Any]) -> None:
        manifest["contract"]["env"] = "spy:make"

    with pytest.raises(UsageError, match=r'was not made by you .* environment "spy:make"'):
        asyncrl.export(forged(run, tmp_path / "forged", names_code), tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


WITHOUT_TORCH = """
import sys
for name in ("torch", "asyncrl"):
    sys.modules[name] = None  # importing it raises
sys.path.insert(0, sys.argv[1])
import play_onnx
print(play_onnx.play(sys.argv[2], steps=int(sys.argv[3])))
"""


@pytest.fixture
def play_onnx(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("play_onnx")


def facts_of(contract: Contract) -> dict[str, Any]:
    """What contract.json says about an environment."""
    inputs = [_input_facts(one, contract.frame_stack) for one in policy_inputs(contract.spaces, contract.frame_stack)]
    before = {"before": _before(contract)}
    return {"environment": contract.env, "inputs": inputs, "preprocessing": before, "contract": to_json(contract)}


@pytest.mark.parametrize(
    "options",
    [
        dict(sticky=0.0, noop_max=0),
        dict(frame_skip=3, frame_stack=2, gray=False, screen_size=60, full_actions=True, episode_frames=30, noop_max=1),
        dict(protocol=Protocol.RAW, episode_frames=10),
    ],
    ids=["default", "other", "raw"],
)
def test_the_example_makes_atari_games_as_the_contract_says(options: dict[str, Any], play_onnx: Any) -> None:
    contract = describe("PongNoFrameskip-v4", AtariOptions(**options))
    facts = facts_of(contract)
    ours, theirs = Environments(contract, 1, threads=1, training=False, seed=1), play_onnx.make(facts)
    with contextlib.closing(ours), contextlib.closing(theirs):
        expected, (found, _), ended = ours.reset([1]), theirs.reset(seed=1), False
        assert theirs.action_space.n == contract.spaces.actions.count
        for action in range(contract.episode_cap if "episode_frames" in options else 8):
            shown = np.moveaxis(expected, -3, -1) if contract.spaces.channels_last else expected
            assert (1, *facts["inputs"][0]["shape"][1:]) == shown.shape
            assert np.array_equal(np.reshape(found, shown.shape), shown)
            expected, *_ = ours.step(np.array([action % 6]))
            found, _, _, ended, _ = theirs.step(action % 6)
        assert ended == ("episode_frames" in options)


def test_the_example_makes_an_environment_with_its_arguments_or_says_what_it_lacks(play_onnx: Any) -> None:
    with_arguments = describe("Pendulum-v1", EnvOptions(env_kwargs='{"g": 5.0}', episode_steps=7))
    env = play_onnx.make(facts_of(with_arguments))
    assert (env.unwrapped.g, env.spec.max_episode_steps) == (5.0, 7)
    for contract, missing in (
        (describe("masked_envs:Moves"), "the input action_mask"),
        (describe("CartPole-v1", EnvOptions(imports=("worlds",))), "import worlds"),
        (replace(describe("CartPole-v1"), family="mario"), "environments of mario"),
    ):
        with pytest.raises(SystemExit, match=rf"needs what `make` in play_onnx\.py does not do: .*{missing}"):
            play_onnx.make(facts_of(contract))


def test_an_exported_agent_plays_without_torch(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", "a3c", "CartPole-v1", recurrent="lstm", recurrent_size=8)
    asyncrl.export(run, tmp_path / "cartpole", observations=8)
    asyncrl.export("pretrained/pong-ppo", tmp_path / "pong", observations=32)
    for folder, steps, least in (("cartpole", 500, 5.0), ("pong", 400, 1.0)):
        command = [sys.executable, "-c", WITHOUT_TORCH, str(EXAMPLES), str(tmp_path / folder), str(steps)]
        played = subprocess.run(command, capture_output=True, text=True, check=False)
        assert played.returncode == 0, played.stderr
        assert float(played.stdout) >= least
