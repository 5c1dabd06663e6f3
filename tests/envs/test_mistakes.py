"""Mistakes in an environment are named; merely unusual environments train."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

import asyncrl
from asyncrl.envs import Backend, Environments, EnvOptions, describe
from asyncrl.envs.families import envpool
from asyncrl.envs.families.atari import AtariOptions, Protocol
from asyncrl.errors import AsyncRLError, EnvironmentFault, UsageError

MADE = {
    "WantsSize": (UsageError, "cannot be made: missing a required argument: 'size'; --env-kwargs gives"),
    "NoEnv": (UsageError, "makes a invalid_envs.NoEnv, which does not inherit from gymnasium.Env"),
    "Old": (UsageError, r"of the old package gym \(gym.envs.old.Old\); wrap it in shimmy"),
    "nothing": (UsageError, "makes a builtins.NoneType, which does not inherit from gymnasium.Env"),
    "NoSpace": (UsageError, "has no action_space; set self.action_space in its constructor"),
    "ForeignSpace": (
        UsageError,
        r"has the action_space Discrete\(2\), a invalid_envs.ForeignSpace.Discrete; asyncrl takes",
    ),
    "CloseRaises": (EnvironmentFault, "raised RuntimeError when it was closed: nothing to close"),
    "ConstructorImports": (
        UsageError,
        "^invalid_envs:ConstructorImports needs something that cannot be imported: .*'nowhere'",
    ),
    "ConstructorRaises": (EnvironmentFault, "raised RuntimeError when it was made: no display"),
}
STEPPED = {
    "FourTuple": "a tuple of 4 from step, not the five .* replace the old gym's done by terminated and truncated",
    "BareReset": "from reset, not a pair of observation and info; return observation, {}",
    "NoObservation": r"returned an observation that is None \(NoneType\); its space has \(2,\)",
    "UnevenLists": r"returned an observation that is \[\[0.0\], \[0.0, 1.0\]\] \(list\); its space has \(2,\)",
    "WordFlag": "returned terminated = None .*, which is neither true nor false",
    "LargeReward": r"returned the reward -1e\+39, which is beyond ±3.4e\+38, the range of float32",
}


@pytest.mark.parametrize("name", MADE)
def test_what_cannot_be_made_is_named(name: str) -> None:
    kind, sentence = MADE[name]
    with pytest.raises(kind, match=sentence):
        describe(f"invalid_envs:{name}")


@pytest.mark.parametrize("cap", [None, 10])
@pytest.mark.parametrize("name", STEPPED)
def test_what_breaks_gymnasiums_interface_is_named(name: str, cap: int | None) -> None:
    environments = Environments(describe(f"invalid_envs:{name}", EnvOptions(episode_steps=cap)), 1)
    with pytest.raises(EnvironmentFault, match=STEPPED[name]) as caught:
        play(environments)
    assert caught.value.traceback == ""  # so that a worker does not try again


def play(environments: Environments) -> None:
    environments.reset([2])
    environments.step(np.zeros(1, dtype=np.int64))


@pytest.mark.parametrize("name", ["WantsMode", "ArrayFlags", "Tensors", "WithoutGradients"])
def test_unusual_environments_train(name: str, tmp_path: Path) -> None:
    try:
        asyncrl.train(f"invalid_envs:{name}", "a3c", steps=80, engine="serial", eval_episodes=0, run_dir=tmp_path / "run")
    finally:
        torch.set_grad_enabled(True)


def test_a_refused_option_is_named_as_it_was_typed() -> None:
    with pytest.raises(UsageError, match=r"takes no --protocol \(given: raw\)"):
        describe("CartPole-v1", AtariOptions(protocol=Protocol.RAW))


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that registers an id which EnvPool has, too."""
    monkeypatch.setattr(envpool, "_tasks", lambda: {"Shared-v0": ("envpool.box2d", "", {}), "Other-v0": ("", "", {})})
    module = types.ModuleType("shares_an_id")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(
        gymnasium.registry, "Shared-v0", gymnasium.envs.registration.EnvSpec("Shared-v0", "invalid_envs:Right")
    )
    return module.__name__


def test_an_imported_modules_environment_takes_precedence(package: str) -> None:
    contract = describe("Shared-v0", EnvOptions(imports=(package,)))
    assert (contract.family, contract.settings["imports"]) == ("gymnasium", [package])
    for env_id, backend in (("Other-v0", Backend.AUTO), ("Shared-v0", Backend.ENVPOOL)):
        with pytest.raises(UsageError, match=f"'{env_id}' is an environment of EnvPool, .*--import"):
            describe(env_id, EnvOptions(imports=(package,), env_backend=backend))


@pytest.mark.parametrize("env_id", ["CartPole-v1", "ALE/Pong-v5", "MiniGrid-Empty-5x5-v0", "CoinrunEasy-v0"])
def test_a_module_that_raises_when_it_is_imported_is_an_error_for_every_family(
    env_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raises_at_import.py").write_text("raise RuntimeError('half installed')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AsyncRLError, match="--import raises_at_import raised RuntimeError when it was imported"):
        describe(env_id, EnvOptions(imports=("raises_at_import",)))


@pytest.mark.parametrize("env_id", ["OurNoFrameskip-v4", "academy_of_ours-v1", "CoinrunEasy-v0", "SuperMarioBros-Ours-v0"])
def test_what_is_registered_is_not_taken_for_another_familys_because_of_its_name(
    env_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gymnasium.registry, env_id, gymnasium.envs.registration.EnvSpec(env_id, "invalid_envs:Right"))
    contract = describe(env_id)
    assert (contract.family, contract.spaces.observation_shape) == ("gymnasium", (2,))
