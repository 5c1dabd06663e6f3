"""Super Mario Bros.: contracts, the same games as the package's own, and how episodes end."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from asyncrl.agents.human import Keyboard
from asyncrl.api import evaluate, train
from asyncrl.envs import Backend, Environments, EnvOptions, Step, View, describe, known_ids
from asyncrl.envs.families import nes
from asyncrl.envs.families.atari import AtariOptions
from asyncrl.envs.families.mario import ActionSet, MarioOptions
from asyncrl.envs.registry import family_named, family_of
from asyncrl.errors import UsageError

LEVEL = "SuperMarioBros-1-1-v0"
NOOP, RIGHT, RIGHT_B = 0, 1, 3

try:
    importlib.import_module("asyncrl.envs.families.nes").registry()
except ImportError:
    pytest.skip("Super Mario is not installed: pip install 'asyncrl[mario]'", allow_module_level=True)


def opened(envs: int = 1, **options: Any) -> Environments:
    environments = Environments(describe(LEVEL, MarioOptions(**options)), envs)
    environments.reset([2 * i for i in range(envs)])
    return environments


def until_the_end(action: int, most: int, **options: Any) -> tuple[int, Step, dict[str, np.ndarray]]:
    """Hold the same buttons; returns the number of steps, the last step and the measures."""
    environments, played = opened(**options), []
    while len(played) < most and not any(step.done[0] for step in played):
        played.append(environments.step(np.array([action])))
    environments.close()
    return len(played), played[-1], environments.measures


def test_the_contract_of_a_level() -> None:
    contract = describe(LEVEL)
    spaces = contract.spaces
    assert (spaces.observation_shape, spaces.observation_dtype, spaces.actions.count) == ((4, 84, 84), "uint8", 7)
    assert (contract.family, contract.backend, contract.frame_skip, contract.frame_stack) == ("mario", Backend.SYNC, 4, 4)
    assert (contract.gray, contract.screen_size, contract.action_set) == (True, 84, "simple")
    assert {"gym-super-mario-bros", "nes-py"} <= contract.versions.keys()
    assert contract.settings["rules"].startswith("gym-super-mario-bros ")


def test_options_change_the_frames() -> None:
    options = dict(gray=False, screen_size=48, frame_stack=2, frame_skip=2, action_set=ActionSet.RIGHT_ONLY)
    environments = opened(2, **options)
    observation = environments.step(np.array([RIGHT, RIGHT])).observation
    environments.close()
    assert observation.shape == (2, 2, 3, 48, 48)
    assert environments.contract.spaces.actions.count == 5
    sky = observation[0, 1, :, 10, 40].astype(int)
    assert sky[2] > sky[0], "the sky is blue: channels are red, green and blue"


@pytest.mark.parametrize(
    ("env", "options", "sentence"),
    [
        (LEVEL, AtariOptions(sticky=0.25), r"takes no --sticky \(given: 0.25\): it is an option of atari environments"),
        (LEVEL, MarioOptions(screen_size=8), "--screen-size must be 36 or more for .*, not 8"),
        (LEVEL, MarioOptions(stuck_steps=-1), "--stuck-steps must be 0 or more, not -1"),
        (
            LEVEL,
            EnvOptions(env_backend=Backend.NATIVE),
            "no vector environment; use --env-backend sync or async",
        ),
        ("SuperMarioBros-1-5-v0", EnvOptions(), "there is no environment 'SuperMarioBros-1-5-v0'; did you mean"),
        ("CartPole-v1", MarioOptions(stuck_steps=9), "CartPole-v1 takes no --stuck-steps"),
    ],
)
def test_impossible_requests_are_refused_with_a_reason(env: str, options: EnvOptions, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        describe(env, options)


def test_all_ids_of_the_package_are_known() -> None:
    ids = set(known_ids())
    assert {f"SuperMarioBros-{world}-{stage}-v0" for world in range(1, 9) for stage in range(1, 5)} <= ids
    assert {"SuperMarioBros-v0", "SuperMarioBros2-v0"} <= ids


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    nes._package.cache_clear()
    monkeypatch.setitem(sys.modules, "gym_super_mario_bros", None)
    assert family_of(LEVEL).name == "mario"
    assert not [env_id for env_id in known_ids() if "SuperMario" in env_id]
    with pytest.raises(UsageError, match=r"needs a package that is not installed .*: pip install 'asyncrl\[mario\]'"):
        describe(LEVEL)


def test_action_sets_equal_the_packages_own() -> None:
    package = importlib.import_module("gym_super_mario_bros.actions")
    for chosen, theirs in zip(
        ActionSet, (package.RIGHT_ONLY, package.SIMPLE_MOVEMENT, package.COMPLEX_MOVEMENT), strict=True
    ):
        contract = describe(LEVEL, MarioOptions(action_set=chosen))
        ours = family_named("mario").meanings(contract)
        assert ours == [" ".join(buttons).upper() for buttons in theirs]
        assert contract.spaces.actions.count == len(ours)


def test_a_step_repeats_the_buttons_for_each_frame() -> None:
    """Its rewards added up, and its last picture made gray and small."""
    buttons = importlib.import_module("nes_py.wrappers").JoypadSpace._button_map
    held = [sum(buttons[name] for name in names) for names in (["NOOP"], ["right"], ["right", "A"], ["right", "B"])]
    (make,) = nes.makers_of(LEVEL, {})
    bare, ours, actions = make(), opened(), np.random.default_rng(3).integers(1, 4, 100)
    bare.reset()
    for action in actions:
        total = 0.0
        for _ in range(4):
            screen, reward, done, *_ = bare.step(held[action])
            total += reward
            if done:
                break
        step = ours.step(np.array([action]))
        gray = cv2.cvtColor(np.array(screen), cv2.COLOR_RGB2GRAY)
        assert np.array_equal(step.observation[0, -1], cv2.resize(gray, (84, 84), interpolation=cv2.INTER_AREA))
        assert (step.reward[0], step.done[0]) == (total, done)
        if done:
            break
    bare.close()
    ours.close()
    assert ours.measures["distance"][0] > 256, "further than eight bits reach"


def test_the_same_actions_give_the_same_game_in_every_backend() -> None:
    actions, played = np.random.default_rng(0).integers(1, 7, (30, 2)), []
    for backend in (Backend.SYNC, Backend.ASYNC):
        environments = opened(2, env_backend=backend)
        played.append([environments.step(action) for action in actions])
        environments.close()
    for ours, theirs in zip(*played, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert np.array_equal(one, other)


def test_running_into_the_first_enemy_terminates() -> None:
    steps, last, measures = until_the_end(RIGHT, 100)
    assert steps < 100
    assert (last.terminated[0], last.reward[0] < 0) == (True, True)
    assert (int(measures["distance"][0]) > 256, int(measures["flags"][0])) == (True, 0)


def test_standing_still_is_truncated_with_stuck_steps() -> None:
    steps, last, _ = until_the_end(NOOP, 30, stuck_steps=12)
    assert (steps, last.done[0], last.terminated[0]) == (13, True, False)  # the first step sets the position
    _, last, _ = until_the_end(NOOP, 30)
    assert not last.done[0]


def test_every_episode_begins_alike() -> None:
    environments = opened(stuck_steps=5)
    first = [environments.step(np.array([NOOP])) for _ in range(6)]
    assert first[-1].done[0]
    environments.step(np.array([RIGHT]))  # resets
    again = [environments.step(np.array([NOOP])) for _ in range(6)]
    environments.close()
    assert all(np.array_equal(a.observation[0, -1], b.observation[0, -1]) for a, b in zip(first, again, strict=True))


def test_an_environment_may_be_closed_twice() -> None:
    game = nes.NesGame(nes.makers_of(LEVEL, {}), [0])
    game.reset()
    game.close()
    game.close()


@pytest.mark.skipif(
    "SuperMarioBrosRandomStages-v0" not in nes.registry(), reason="the package's new version has it no more"
)
def test_random_stages_are_drawn_by_the_seed() -> None:
    contract = describe("SuperMarioBrosRandomStages-v0", EnvOptions(env_kwargs='{"stages": ["1-1", "5-2"]}'))
    game = nes.NesGame(nes.makers_of(contract.env, contract.settings["kwargs"]), [0])
    drawn = []
    for seed in (1, 1, 2, 3, 4, 5):
        game.reset(seed=seed)
        info = game.step(0)[-1]
        drawn.append(f"{info['world']}-{info['stage']}")
    game.close()
    assert drawn[0] == drawn[1]
    assert set(drawn) == {"1-1", "5-2"}


def test_the_picture_is_the_whole_screen_in_real_time() -> None:
    view = View(describe(LEVEL))
    view.reset(1)
    view.step(np.array([RIGHT_B]))
    picture = view.picture()
    view.close()
    assert (picture.shape, picture.dtype, view.frames_per_second) == ((240, 256, 3), np.uint8, 15)
    assert picture[100, 128].tolist() == [104, 136, 252], "the sky"


def test_keys_run_and_jump() -> None:
    family = family_named("mario")
    meanings = family.meanings(describe(LEVEL))
    keyboard = Keyboard(len(meanings), family.keys, meanings)
    keys = {
        "": "NOOP",
        "right": "RIGHT",
        "right space": "RIGHT A",
        "x right space": "RIGHT A B",
        "space": "A",
        "left": "LEFT",
    }
    for pressed, meaning in keys.items():
        assert meanings[keyboard.action(set(pressed.split()))] == meaning


def test_evaluations_report_how_far_mario_came(tmp_path: Path) -> None:
    small = dict(actors=1, envs_per_actor=2, engine="serial", t_max=10, episode_steps=40)
    run = train(LEVEL, "a3c", run_dir=tmp_path / "run", steps=40, eval_episodes=2, **small)
    records = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    (record,) = (record for record in records if record["kind"] == "eval")
    assert record["measures"].keys() == {"distance", "flags"}
    assert 40 <= record["measures"]["distance"] <= 3_200
    again = evaluate(run.path, 2)
    assert len(again.measures["distance"]) == 2
    assert again.mean_measures["flags"] == 0
