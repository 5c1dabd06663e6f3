"""Doom: contracts, refusals, the package's own episodes to the tic, and training."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import gymnasium
import numpy as np
import pytest

from asyncrl.api import train
from asyncrl.envs import Backend, Environments, Step, View, describe, known_ids
from asyncrl.envs.families.vizdoom import VizDoom
from asyncrl.envs.family_options import read_options
from asyncrl.envs.registry import family_of
from asyncrl.envs.seeding import next_seed
from asyncrl.errors import UsageError

vizdoom = pytest.importorskip("vizdoom", reason="Doom needs it: pip install 'asyncrl[vizdoom]'")
BASIC = "VizdoomBasic-v1"
SCENARIOS = Path(vizdoom.scenarios_path)


@contextlib.contextmanager
def opened(env: str = BASIC, envs: int = 1, **options: Any) -> Iterator[Environments]:
    with contextlib.closing(Environments(describe(env, read_options(env, options)), envs)) as environments:
        yield environments


def play(environments: Environments, steps: int, action: int | None = None) -> list[Step]:
    """Random actions, or always the same."""
    random, spaces = np.random.default_rng(0), environments.contract.spaces
    environments.reset([2 * i + 2 for i in range(environments.num_envs)])
    count = environments.num_envs
    drawn = (spaces.actions.random(random, count) if action is None else np.full(count, action) for _ in range(steps))
    return [environments.step(actions) for actions in drawn]


def scenario(folder: Path, **changes: str) -> str:
    """Write the basic scenario with other settings into a new folder."""
    settings = dict(line.split(" = ") for line in (SCENARIOS / "basic.cfg").read_text().splitlines() if " = " in line)
    settings |= {"available_buttons": "{ MOVE_LEFT ATTACK }", **changes}
    (folder / "mine.cfg").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
    (folder / "basic.wad").write_bytes((SCENARIOS / "basic.wad").read_bytes())
    return str(folder / "mine.cfg")


def test_the_contract_of_basic() -> None:
    contract = describe(BASIC)
    spaces = contract.spaces
    assert (spaces.observation_shape, spaces.observation_dtype, spaces.actions.count) == ((4, 84, 84), "uint8", 4)
    assert (contract.family, contract.backend, contract.episode_cap) == ("vizdoom", Backend.SYNC, 75)
    assert (contract.frame_skip, contract.frame_stack, contract.screen_size, contract.gray) == (4, 4, 84, True)
    assert contract.action_set == "one or none of MOVE_LEFT, MOVE_RIGHT, ATTACK"
    assert contract.versions["vizdoom"] == vizdoom.__version__
    assert VizDoom().meanings(contract) == ["NOOP", "ATTACK", "MOVE_RIGHT", "MOVE_LEFT"]


@pytest.mark.parametrize(
    ("env", "options", "shape", "actions", "cap"),
    [
        (BASIC, {"gray": False, "frame_stack": 1, "screen_size": 48}, (3, 48, 48), "4", 75),
        (BASIC, {"env_kwargs": '{"max_buttons_pressed": 2}', "frame_skip": 7}, (4, 84, 84), "7", 43),
        (BASIC, {"episode_steps": 20}, (4, 84, 84), "4", 20),
        ("VizdoomBasic-MultiBinary-v1", {}, (4, 84, 84), "2 × 2 × 2", 75),
        ("VizdoomDeathmatch-v1", {"frame_skip": 10}, (4, 84, 84), "18", 420),
    ],
)
def test_options_change_the_contract(
    env: str, options: dict[str, Any], shape: tuple[int, ...], actions: str, cap: int
) -> None:
    contract = describe(env, read_options(env, options))
    assert (contract.spaces.observation_shape, str(contract.spaces.actions), contract.episode_cap) == (shape, actions, cap)


@pytest.mark.parametrize(
    ("env", "options", "sentence"),
    [
        ("VizdoomBasic-v0", {}, "there is no environment 'VizdoomBasic-v0'; did you mean 'VizdoomBasic-v1'"),
        ("nowhere/mine.cfg", {}, "there is no scenario 'nowhere/mine.cfg'"),
        ("VizdoomDoomE1M1-S1-v0", {}, r"VizdoomDoomE1M1-S1-v0 needs a file that is missing: .*doom\.wad"),
        (BASIC, {"sticky": 0.25}, "takes no --sticky"),
        (BASIC, {"screen_size": 20}, "--screen-size must be 36 or more"),
        (BASIC, {"frame_skip": -1}, "--frame-skip must be between 1 and 10000, not -1"),
        (BASIC, {"env_backend": Backend.NATIVE}, "--env-backend native is not possible; use sync or async"),
        (BASIC, {"env_kwargs": '{"frame_skip": 2}'}, "cannot set 'frame_skip' of VizdoomBasic-v1: use --frame-skip"),
        (BASIC, {"env_kwargs": '{"living_rewrd": 2}'}, "not all of --env-kwargs .*'living_rewrd': 2"),
    ],
)
def test_impossible_requests_are_refused_with_a_reason(env: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        describe(env, read_options(env, options))


def test_ids_are_claimed_by_name_and_listed_if_their_game_is_installed() -> None:
    assert all(family_of(env).name == "vizdoom" for env in (BASIC, "VizdoomCorridor-v0", "some/where.cfg"))
    assert family_of("CartPole-v1").name == "gymnasium"
    ids = known_ids()
    assert len(ids) == len(set(ids))
    assert {BASIC, "VizdoomFreedoom1E1M1-S1-v0"} <= set(ids)
    assert "VizdoomDoomE1M1-S1-v0" not in ids


def test_without_the_package_the_error_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vizdoom.gymnasium_wrapper", None)
    assert VizDoom().known_ids() == []
    for env in (BASIC, "mine.cfg"):
        with pytest.raises(UsageError, match=r"Doom needs the package vizdoom: pip install 'asyncrl\[vizdoom\]'"):
            describe(env)


@pytest.mark.parametrize("skip", [4, 7])
def test_episodes_equal_the_packages_own(skip: int) -> None:
    """The same rewards and, made small, the same frames; only that a timeout is a truncation with something to see."""
    bare: Any = gymnasium.make(BASIC, frame_skip=skip, disable_env_checker=True).unwrapped
    seed = 2
    seen, _ = bare.reset(seed=seed)
    timeouts, episodes, random = 0, 0, np.random.default_rng(1)
    with opened(frame_skip=skip, frame_stack=1) as environments:
        ours = environments.reset([seed])
        for t in range(200):
            gray = cv2.resize(cv2.cvtColor(seen["screen"], cv2.COLOR_RGB2GRAY), (84, 84), interpolation=cv2.INTER_AREA)
            assert np.array_equal(ours[0, 0], gray)
            action = np.array([random.integers(4) if t > 90 else 3])  # walks until time is up at first
            seen, reward, terminated, truncated, _ = bare.step(action[0])
            ours, its, dead, done = environments.step(action)
            assert (its[0], dead[0], done[0]) == (reward, terminated and not truncated, terminated or truncated)
            if done[0]:
                assert ours.any()  # the package shows zeros here
                timeouts, episodes = timeouts + truncated, episodes + 1
                seen, _ = bare.reset(seed=(seed := next_seed(seed)))
                ours, *_ = environments.step(action)
    bare.close()
    assert 1 <= timeouts < 200 // 20


def test_the_same_seed_and_actions_give_the_same_episodes_on_every_backend() -> None:
    played = []
    for backend in (Backend.SYNC, Backend.SYNC, Backend.ASYNC):
        with opened(envs=2, env_backend=backend, env_kwargs='{"screen_resolution": "RES_160X120"}') as environments:
            played.append(play(environments, 80))
    assert any(step.done.any() for step in played[0])
    assert not np.array_equal(played[0][9].observation[0], played[0][9].observation[1])
    for again in played[1:]:
        for one, other in zip(played[0], again, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_user_scenario_with_game_variables(tmp_path: Path) -> None:
    changes = {"episode_timeout": "40", "available_game_variables": "{ HEALTH AMMO2 }"}
    with opened(scenario(tmp_path, **changes), game_variables=True, frame_stack=2) as environments:
        spaces, action_set = environments.contract.spaces, environments.contract.action_set
        assert [entry.name for entry in spaces.entries] == ["gamevariables", "screen"]
        assert action_set == "one or none of MOVE_LEFT, ATTACK"
        played = play(environments, 10, action=1)  # ATTACK
    numbers = [step.observation[0, -1, :8].copy().view(np.float32).tolist() for step in played]
    assert numbers[0] == [100, 50]
    assert numbers[-1][1] < 50
    assert (played[-1].done[0], played[-1].terminated[0]) == (True, False)


def test_training_with_game_variables_leaves_no_files_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = train(
        BASIC,
        "a3c",
        steps=300,
        actors=1,
        envs_per_actor=2,
        engine="serial",
        game_variables=True,
        screen_size=36,
        eval_episodes=1,
    )
    assert run.path.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert running() == []


def test_a_game_ends_with_its_process_and_ignores_ctrl_c() -> None:
    with opened(envs=2) as environments:
        environments.reset([2, 4])
        games = running()
        assert len(games) == 2
        for game in games:
            os.kill(game, 2)  # a terminal sends SIGINT to all there is
        environments.step(np.zeros(2, np.int64))
    deadline = time.monotonic() + 10
    while running() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running() == []


def test_a_killed_process_leaves_no_game_behind(tmp_path: Path) -> None:
    code = "import asyncrl.envs, time; envs = asyncrl.envs.make('VizdoomBasic-v1', 1, 2); print(flush=True); time.sleep(60)"
    before = shared_files()
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as player:
        assert player.stdout is not None
        player.stdout.readline()
        assert list(tmp_path.glob("asyncrl-vizdoom-*"))
        assert shared_files() - before
        player.kill()
    deadline = time.monotonic() + 10
    while (list(tmp_path.iterdir()) or shared_files() - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(tmp_path.iterdir()) == []
    assert shared_files() <= before


def shared_files() -> set[str]:
    """What games keep in shared memory, where other tests' temporary files come and go."""
    return {name for name in os.listdir("/dev/shm") if name.startswith("ViZDoom")}


def running() -> list[int]:
    """The games that this process plays."""
    import psutil

    children = psutil.Process().children(recursive=True)
    alive = [child for child in children if child.status() != "zombie"]
    return [child.pid for child in alive if "-iwad" in child.cmdline() and not child.exe().endswith("sh")]


def test_pictures_are_full_size() -> None:
    with contextlib.closing(View(describe(BASIC))) as view:
        view.reset(2)
        view.step(np.array([1]))
        picture = view.picture()
        assert (picture.shape, picture.dtype, view.frames_per_second) == ((240, 320, 3), np.uint8, 35 / 4)
        assert 30 < picture.mean() < 120
        assert len(np.unique(picture)) > 50
