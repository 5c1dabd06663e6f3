"""Datasets: recording, reading, and offline training."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from corridor_episodes import CORRIDOR, SMALL, random_player
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array
from interrupted_runs import Listener
from space_envs import KINDS

from asyncrl.acting import datasets
from asyncrl.acting.actor import ActorSpec
from asyncrl.acting.datasets import Demonstration
from asyncrl.acting.playback import Playback
from asyncrl.agents.imitation import CloningOptions
from asyncrl.api import configure, evaluate, record
from asyncrl.cli import main
from asyncrl.envs import EnvOptions, describe
from asyncrl.envs.families.atari import AtariOptions
from asyncrl.envs.spaces import pack
from asyncrl.errors import UsageError
from asyncrl.experience import stack_frames
from asyncrl.experience.rollout import Ticket
from asyncrl.launch import imitate, resume, start
from asyncrl.runs.components import actor_spec
from asyncrl.runs.config.resolution import resolve

minari = pytest.importorskip("minari", reason="datasets need it: pip install 'asyncrl[data]'")
pytestmark = pytest.mark.usefixtures("shelf")


@pytest.mark.parametrize("env", [CORRIDOR, "Pendulum-v1", "ALE/Pong-v5"])
def test_what_is_written_is_what_is_read(env: str) -> None:
    contract = describe(env, AtariOptions(episode_frames=400) if "ALE" in env else None)
    played = list(datasets.record(random_player(env), contract, 2, seed=1))
    datasets.write("any/play-v0", contract, played, "random")
    for one, again in zip(played, datasets.read("any/play-v0", contract), strict=True):
        assert np.array_equal(one.observation, again.observation)
        assert again.action == pytest.approx(one.action, abs=1e-6)
        assert np.array_equal(one.reward, again.reward)
        assert one.terminated == again.terminated


@pytest.mark.parametrize(
    ("kind", "acts"),
    [
        *[("scalar", "one choice"), ("scalar", "one bit"), ("bool", None), ("negative", None), ("keys", None)],
        *[("gray", None), ("frames last", None), ("cube", None)],
    ],
)
def test_rare_kinds_of_observations_and_actions_are_written_read_and_imitated(
    kind: str, acts: str | None, tmp_path: Path
) -> None:
    settings = dict(env_kwargs=json.dumps({"kind": kind, "acts": acts}))
    contract = describe("space_envs:SpaceEnv", EnvOptions(**settings))
    random = np.random.default_rng(1)
    played = list(datasets.record(lambda *_: contract.spaces.actions.random(random, 1), contract, 3, seed=1))
    datasets.write("any/rare-v0", contract, played, "random")
    for one, again in zip(played, datasets.read("any/rare-v0", contract), strict=True):
        assert np.array_equal(one.observation, again.observation)
        assert np.array_equal(one.action, again.action)
    config = configure("space_envs:SpaceEnv", "a3c", eval_episodes=0, **settings)
    _, epoch = imitate(config, "any/rare-v0", CloningOptions(imitation_epochs=1), tmp_path / "run")
    assert 0 <= epoch.agreement <= 1


@pytest.mark.parametrize("kind", ["gray", "frames last", "negative"])
def test_a_dataset_of_others_is_read_as_its_environment_is_seen(kind: str) -> None:
    """It holds what the environment returned, not what networks take."""
    contract = describe("space_envs:SpaceEnv", EnvOptions(env_kwargs=json.dumps({"kind": kind})))
    space = KINDS[kind]
    space.seed(1)
    seen = [space.sample() for _ in range(4)]
    together = concatenate(space, seen, create_empty_array(space, 4))
    flags = dict(terminations=[False, False, True], truncations=[False] * 3, infos={})
    buffer = minari.data_collector.EpisodeBuffer(
        id=0, observations=together, actions=np.zeros(3, int), rewards=[0.0] * 3, **flags
    )
    with warnings.catch_warnings(action="ignore"):  # of what a published dataset should have
        minari.create_dataset_from_buffers(
            "other/rare-v0", [buffer], observation_space=space, action_space=spaces.Discrete(2), algorithm_name="x"
        )
    (read,), (own,) = datasets.read("other/rare-v0", contract), minari.load_dataset("other/rare-v0").iterate_episodes()
    assert np.array_equal(read.observation, pack(contract.spaces, own.observations))


def recording(tmp_path: Path) -> list[str]:
    return ["record", CORRIDOR, "--out", "corridor/more-v0", "--bot", f"{tmp_path / 'bots.py'}:right", "--episodes=9"]


def test_a_dataset_that_does_not_fit_on_the_disk_is_not_begun(walked: str, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="Windows has no limits")
    words = recording(tmp_path)
    limited = subprocess.run(
        [sys.executable, "-m", "asyncrl", *words],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536)),
    )
    assert limited.returncode == 1
    assert limited.stderr.count("\n") == 1, "HDF5 would crash"
    assert "corridor/more-v0: File too large; raise the limit" in limited.stderr
    assert [folder.name for folder in (tmp_path / "shelf" / "corridor").iterdir() if folder.is_dir()] == ["right-v0"]
    assert main(words) == 0


def test_a_recording_that_is_killed_leaves_its_name_free(
    walked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = minari.dataset._storages.hdf5_storage.HDF5Storage
    killed, write = tmp_path / "killed", storage.update_episodes

    def kill(self: Any, episodes: Any) -> None:
        write(self, episodes)
        shutil.copytree(tmp_path / "shelf", killed)
        assert main(recording(tmp_path)) == 2, "at the same time"
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(storage, "update_episodes", kill)
        with pytest.raises(KeyboardInterrupt):
            record(CORRIDOR, "corridor/more-v0", 2, bot=f"{tmp_path / 'bots.py'}:right")
    assert "corridor/more-v0 is being recorded by process" in capsys.readouterr().err
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(killed))
    assert list(minari.list_local_datasets()) == ["corridor/right-v0"]
    assert main(recording(tmp_path)) == 0
    assert minari.load_dataset("corridor/more-v0").total_episodes == 9
    assert sorted(file.name for file in (killed / "corridor").iterdir()) == [
        "more-v0",
        "namespace_metadata.json",
        "right-v0",
    ]


def test_every_observation_is_recorded_where_the_environment_shows_them_in_one_array() -> None:
    (one,) = datasets.record(lambda *_: np.array([0]), describe("space_envs:Reusing-v0"), 1, seed=1)
    assert one.observation.ravel().tolist() == [*range(11)]


def test_a_recorded_agent_plays_as_it_is_evaluated(tmp_path: Path, walked: str) -> None:
    run, _ = imitate(configure(CORRIDOR, "a3c", eval_greedy=True), walked, run_dir=tmp_path / "run")
    recorded = record(run, "corridor/again-v0", 5)
    assert recorded.returns == pytest.approx(evaluate(run, 5).returns)
    assert recorded.lengths == evaluate(run, 5).lengths


def test_episodes_that_nothing_ends_are_recorded_up_to_a_limit(tmp_path: Path) -> None:
    settings = dict(steps=200, actors=1, envs_per_actor=1, engine="serial", eval_episodes=0)
    run, _ = start(configure("worlds:Endless", "a3c", **settings), tmp_path / "run")
    recorded = record(run.path, "corridor/endless-v0", 2, max_steps=5)
    played = datasets.read("corridor/endless-v0", describe("worlds:Endless"))
    assert [(len(one.reward), one.terminated) for one in played] == [(5, False)] * 2
    assert (recorded.lengths, recorded.cut_off) == ((5, 5), 2)


def test_a_recorded_episode_that_the_environment_truncates_is_not_cut_off(tmp_path: Path) -> None:
    (tmp_path / "bots.py").write_text("def idle():\n    return lambda observation, info: [0.0]\n")
    recorded = record("Pendulum-v1", "pendulum/idle-v0", 1, bot=f"{tmp_path / 'bots.py'}:idle", max_steps=200)
    assert (recorded.lengths, recorded.cut_off) == ((200,), 0)


def test_playback_deals_out_what_was_recorded_in_order(walked: str) -> None:
    config = resolve(configure(CORRIDOR, "dqn", **SMALL, offline=walked, t_max=7), describe(CORRIDOR))
    spec: ActorSpec = actor_spec(config, describe(CORRIDOR))
    playback, layout = Playback(spec, 0), spec.layout()
    episodes = datasets.read(walked, spec.contract)
    slots = [layout.slot(torch.zeros(layout.nbytes, dtype=torch.uint8), 0) for _ in range(9)]
    for number, slot in enumerate(slots):
        playback.collect(Ticket(number, 0, 0, 0, 0), slot)
    seen = torch.cat([stack_frames([slot])[:-1] for slot in slots])
    reset = torch.cat([slot.reset[:-1] for slot in slots])
    for column in range(4):
        row = 0
        for episode in [episodes[(column * 10 // 4 + i) % 10] for i in range(10)]:
            steps = len(episode.reward)
            if row + steps >= len(seen):
                break
            assert np.array_equal(seen[row : row + steps + 1, column], episode.observation)
            assert reset[row : row + steps + 1, column].tolist() == [False] * steps + [True]
            row += steps + 1
    for before, after in itertools.pairwise(slots):
        assert torch.equal(before.frames[-1], after.frames[0])
        assert torch.equal(before.reset[-1], after.reset[0])
    resumed = layout.slot(torch.zeros(layout.nbytes, dtype=torch.uint8), 0)
    Playback(spec, 0).collect(Ticket(5, 0, 0, 0, 0), resumed)
    assert all(torch.equal(x, slots[5].carry(0).tensors()[name]) for name, x in resumed.carry(0).tensors().items())


def test_a_resumed_run_counts_the_whole_of_recorded_episodes(tmp_path: Path, walked: str) -> None:
    config = configure(CORRIDOR, "dqn", **SMALL, offline=walked, t_max=7, steps=280, eval_episodes=0)
    whole, _ = start(config, tmp_path / "whole")
    first, _ = start(replace(config, steps=140), tmp_path / "first")
    resumed, _ = resume(first.path, steps=280)
    ours, theirs = (
        [(one["step"], one["env"], one["length"]) for one in run.records() if one["kind"] == "episode"]
        for run in (resumed, whole)
    )
    assert ours == theirs


def test_a_resumed_run_without_environments_does_not_say_that_they_are_lost(tmp_path: Path, walked: str) -> None:
    more = dict(offline=walked, schedule="free", steps=200, eval_episodes=0)
    first, _ = start(configure(CORRIDOR, "dqn", **SMALL | more), tmp_path / "first")
    view = Listener()
    resume(first.path, view, steps=400)
    assert view.said
    assert not [line for line in view.said if line.startswith("New episodes")]


def test_the_corridor_is_learned_from_chance_without_playing(tmp_path: Path, chance: str) -> None:
    more = dict(steps=4_000, offline=chance, learning_rate=2e-3, target_every=100, discount=0.9)
    config = configure(CORRIDOR, "dqn", **SMALL, **more, eval_episodes=20, eval_greedy=True)
    _, outcome = start(config, tmp_path / "run")
    assert outcome.evaluation is not None
    assert outcome.evaluation.mean > 0.95


def test_what_cannot_be_read_is_refused_in_a_sentence(tmp_path: Path, walked: str) -> None:
    cart, corridor = describe("CartPole-v1"), describe(CORRIDOR)
    with pytest.raises(UsageError, match=r"has observations \(6,\) float32, but CartPole-v1 has \(4,\)"):
        datasets.read(walked, cart)
    with pytest.raises(UsageError, match="dataset corridor/rigth-v0 was not found; did you mean 'corridor/right-v0'"):
        datasets.read("corridor/rigth-v0", corridor)
    with pytest.raises(UsageError, match=r"'\? To download it: minari download corridor/rigth-v0$"):
        datasets.read("corridor/rigth-v0", corridor)
    for env, dataset in (("CartPole-v1", walked), (CORRIDOR, "corridor/left-v0")):
        with pytest.raises(UsageError, match=f"dataset {dataset}"):
            start(configure(env, "dqn", offline=dataset), tmp_path / "run")
        assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="dataset corridor/right-v0 already exists"):
        datasets.write(walked, corridor, [], "a policy")
    file = tmp_path / "shelf" / "corridor" / "right-v0" / "data" / "main_data.hdf5"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UsageError, match="dataset corridor/right-v0 is damaged"):
        datasets.read(walked, corridor)
    file.unlink()
    file.symlink_to("/dev/zero")  # where HDF5 looks for a beginning, and finds no end
    with pytest.raises(UsageError, match="is not a plain file"):
        datasets.read(walked, corridor)


@pytest.mark.parametrize("name", ["not a name", "corridor", "c/right-v0", "../right-v0", "corridor/right-v0"])
def test_a_name_that_cannot_be_is_refused_before_anybody_plays(tmp_path: Path, walked: str, name: str) -> None:
    (tmp_path / "shelf" / "no dataset" / "data").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    (tmp_path / "bots.py").write_text("def broken():\n    raise SystemExit('it was called')\n")
    with pytest.raises(UsageError, match=f"dataset {name}"):
        record(CORRIDOR, name, 1, bot=f"{tmp_path / 'bots.py'}:broken")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture
def masked(tmp_path: Path) -> str:
    """Ten episodes of a bot that takes the last allowed action, which is the best one."""
    (tmp_path / "bots.py").write_text("def last():\n    return lambda _, info: info['action_mask'].nonzero()[0][-1:]\n")
    record("masked_envs:ByMethod", "masked/last-v0", 10, bot=f"{tmp_path / 'bots.py'}:last")
    return "masked/last-v0"


def test_what_was_recorded_under_a_mask_is_imitated_and_learned_from_under_it(tmp_path: Path, masked: str) -> None:
    config = configure("masked_envs:ByMethod", "a3c", eval_greedy=True, hidden=(8,))
    run, best = imitate(config, masked, CloningOptions(imitation_epochs=60, imitation_rate=0.03), tmp_path / "imitated")
    assert best.agreement == 1.0
    played = evaluate(run.path, 5)
    assert played.returns == played.lengths
    small = dict(envs_per_actor=4, actors=1, learning_starts=100, capacity=2_000, engine="serial", eval_episodes=3)
    offline = configure("masked_envs:ByMethod", "dqn", steps=600, offline=masked, **small)
    start(offline, tmp_path / "offline")


def test_a_recorded_action_that_its_mask_forbids_is_refused(tmp_path: Path, masked: str) -> None:
    contract = describe("masked_envs:ByMethod")
    one, *others = datasets.read(masked, contract)
    forbidden = np.where(contract.spaces.legal(one.observation[:1]), 0, 1).argmax(1)
    wrong = Demonstration(one.observation, np.concatenate([forbidden, one.action[1:]]), one.reward, one.terminated)
    datasets.write("masked/wrong-v0", contract, [wrong, *others], "nobody")
    with pytest.raises(UsageError, match="episode 0 has an action that the action mask of its step forbids"):
        datasets.read("masked/wrong-v0", contract)
