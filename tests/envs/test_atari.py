"""Atari: the meaning of ids, refusals, and an emulator that follows the contract."""

from __future__ import annotations

from typing import Any

import ale_py
import cv2
import numpy as np
import pytest

from asyncrl.envs import Backend, Contract, Environments, EnvOptions, Step, View, describe
from asyncrl.envs.families.atari import AtariOptions, Protocol
from asyncrl.errors import UsageError


def play(environments: Environments, seeds: list[int], steps: int, actions_seed: int = 0) -> list[Step]:
    """Random actions; the reset is the first entry."""
    count, actions = environments.num_envs, np.random.default_rng(actions_seed)
    nothing = np.zeros(count, bool)
    played = [Step(environments.reset(seeds), np.zeros(count, np.float32), nothing, nothing)]
    for _ in range(steps):
        played.append(environments.step(environments.contract.spaces.actions.random(actions, count)))
    environments.close()
    return played


def same(one: list[Step], other: list[Step]) -> bool:
    return all(np.array_equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize(("env", "sticky"), [("ALE/Pong-v5", 0.25), ("PongNoFrameskip-v4", 0.0)])
def test_the_usual_ids_differ_only_in_sticky_actions(env: str, sticky: float) -> None:
    contract = describe(env)
    assert contract.sticky == sticky
    assert (contract.frame_skip, contract.max_pool, contract.frame_stack, contract.screen_size) == (4, True, 4, 84)
    assert (contract.spaces.observation_shape, contract.spaces.observation_dtype) == ((4, 84, 84), "uint8")
    assert (contract.spaces.actions.count, contract.action_set) == (6, "the game's own")
    assert (contract.reward_clip, contract.life_loss, contract.noop_max, contract.fire_reset) == (1, False, 30, False)
    assert contract.episode_cap == 108_000 / 4
    assert (contract.family, contract.backend, contract.autoreset) == ("atari", Backend.NATIVE, "next-step")


def test_options_reach_the_emulator() -> None:
    options = AtariOptions(frame_skip=2, sticky=0.5, frame_stack=3, screen_size=42, full_actions=True, reward_clip=0)
    contract = describe("PongNoFrameskip-v4", options)
    assert (contract.frame_skip, contract.sticky, contract.reward_clip, contract.spaces.actions.count) == (2, 0.5, None, 18)
    assert play(Environments(contract, 2), [2, 4], 1)[1].observation.shape == (2, 3, 42, 42)


@pytest.mark.parametrize(
    ("env", "options", "sentence"),
    [
        ("ALE/Pong-v5", AtariOptions(frame_skip=4), "already skips 4 frames; --frame-skip 4 .* Use PongNoFrameskip-v4"),
        ("Pong-v4", EnvOptions(), r"skips a random number of frames \(2, 5\); use ALE/Pong-v5 or a …NoFrameskip-v4"),
        (
            "ALE/Pong-v5",
            AtariOptions(episode_frames=3),
            "--episode-frames 3 ends before the first step, which takes 4 frames",
        ),
        ("ALE/Pong-v5", EnvOptions(env_backend=Backend.SYNC), "--env-backend sync is not possible"),
        ("ALE/Pnog-v5", EnvOptions(), "there is no Atari environment 'ALE/Pnog-v5'; did you mean 'ALE/Pong-v5'"),
        ("PnogNoFrameskip-v4", EnvOptions(), "no Atari .*did you mean 'PongNoFrameskip-v4'"),
        ("PnogDeterministic-v4", EnvOptions(), "there is no Atari environment 'PnogDeterministic-v4'"),
    ],
)
def test_impossible_requests_are_refused_with_a_reason(env: str, options: EnvOptions, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        describe(env, options)


def test_the_same_seeds_and_actions_give_the_same_game_on_any_number_of_threads() -> None:
    contract = describe("ALE/Breakout-v5")
    one, other = (play(Environments(contract, 3, threads), [2, 4, 6], 100) for threads in (1, 3))
    assert same(one, other)
    assert not same(one, play(Environments(contract, 3), [2, 4, 8], 100))


def test_a_frame_is_what_the_raw_emulator_shows() -> None:
    """The newest of two frames' maximum, gray, shrunk by area; four emulator frames a step, whose rewards are summed."""
    played = play(Environments(describe("PongNoFrameskip-v4", AtariOptions(sticky=0.0, noop_max=0)), 1), [2], 300)
    raw = ale_py.ALEInterface()
    raw.setFloat("repeat_action_probability", 0.0)
    raw.loadROM(ale_py.roms.get_rom_path("pong"))
    raw.reset_game()
    actions = np.random.default_rng(0)
    for step in played[1:]:
        action = raw.getMinimalActionSet()[actions.integers(0, 6, 1)[0]]
        frames, reward = [], 0
        for _ in range(4):
            reward += raw.act(action)
            frames.append(raw.getScreenGrayscale())
        expected = cv2.resize(np.maximum(frames[2], frames[3]), (84, 84), interpolation=cv2.INTER_AREA)
        assert np.array_equal(step.observation[0, -1], expected)
        assert step.reward[0] == reward
    assert any(step.reward[0] for step in played)


def test_games_in_colour_can_be_restored_like_gray_ones() -> None:
    environments = Environments(describe("ALE/Pong-v5", AtariOptions(gray=False)), 2)
    played = play(environments, [1, 2], 3)
    assert played[0].observation.shape == (2, 4, 3, 84, 84)
    assert environments.seeds_and_steps is not None
    assert environments.seeds_and_steps.tolist() == [[1, 2], [3, 3]]


def test_the_raw_protocol_shows_every_frame_of_the_screen() -> None:
    contract = describe("ALE/Pong-v5", AtariOptions(protocol=Protocol.RAW))
    assert contract.spaces.observation_shape == (1, 3, 210, 160)
    assert (contract.frame_skip, contract.sticky, contract.noop_max, contract.reward_clip) == (1, 0, 0, None)
    played = play(Environments(contract, 1), [2], 60)
    raw = ale_py.ALEInterface()
    raw.setFloat("repeat_action_probability", 0.0)
    raw.loadROM(ale_py.roms.get_rom_path("pong"))
    raw.reset_game()
    actions = np.random.default_rng(0)
    for step in played[1:]:
        raw.act(raw.getMinimalActionSet()[actions.integers(0, 6, 1)[0]])
        assert np.array_equal(step.observation[0, 0], raw.getScreenRGB().transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("env", "options", "rules"),
    [
        ("ALE/Pong-v5", AtariOptions(protocol=Protocol.MNIH2016), (4, 0.0, 30, True)),
        ("PongNoFrameskip-v4", AtariOptions(protocol=Protocol.MACHADO2018), (4, 0.25, 0, True)),
        ("ALE/Pong-v5", AtariOptions(protocol=Protocol.MACHADO2018, sticky=0.1, gray=False), (4, 0.1, 0, False)),
        ("PongDeterministic-v4", EnvOptions(), (4, 0.0, 30, True)),
        ("SpaceInvadersDeterministic-v0", EnvOptions(), (3, 0.25, 30, True)),
        ("Pong-v0", AtariOptions(frame_skip=3), (3, 0.25, 30, True)),
        ("ALE/Tetris-v5", AtariOptions(frame_skip=3), (3, 0.25, 30, True)),  # TetrisNoFrameskip-v4 does not exist
    ],
)
def test_ids_and_protocols_set_the_documented_rules(env: str, options: EnvOptions, rules: tuple[Any, ...]) -> None:
    contract = describe(env, options)
    assert (contract.frame_skip, contract.sticky, contract.noop_max, contract.gray) == rules
    assert contract.spaces.observation_shape == ((4, 84, 84) if contract.gray else (4, 3, 84, 84))
    play(Environments(contract, 1), [2], 2)


def test_sticky_actions_make_the_game_another() -> None:
    sticky, plain = (play(Environments(describe("ALE/Pong-v5", AtariOptions(sticky=p)), 1), [2], 100) for p in (0.25, 0.0))
    assert not same(sticky, plain)


def test_an_episode_is_truncated_at_its_cap_and_then_reset() -> None:
    """After a reset the stack holds one frame; before it, the true last observation."""
    played = play(Environments(describe("ALE/Breakout-v5", AtariOptions(episode_frames=400)), 2), [2, 4], 102)
    last, after = played[100], played[101]
    assert [t for t, step in enumerate(played) if step.done.any()] == [100]
    assert last.done.all()
    assert not last.terminated.any()
    assert last.observation[:, 0].any()
    assert not after.observation[:, :3].any()


def lives(*, training: bool) -> tuple[list[int], list[int]]:
    """Steps at which a return ended, and at which a game was over."""
    contract = describe("ALE/Breakout-v5", AtariOptions(life_loss=True))
    played = play(Environments(contract, 1, training=training), [2], 320)
    return [t for t, s in enumerate(played) if s.terminated[0]], [t for t, s in enumerate(played) if s.done[0]]


def test_a_lost_life_ends_the_return_but_not_the_game() -> None:
    ended, done = lives(training=True)
    assert len(done) == 1
    assert ended.index(done[0]) == 4  # the fifth of five lives


def test_a_life_lost_in_the_last_step_before_the_cap_ends_the_game() -> None:
    cap = 100
    contract = describe(
        "BreakoutNoFrameskip-v4", AtariOptions(sticky=0.0, noop_max=30, life_loss=True, episode_frames=4 * cap)
    )
    environments, random = Environments(contract, 8), np.random.default_rng(0)
    environments.reset(list(range(8)))
    since, lost = np.zeros(8, dtype=int), 0
    for _ in range(420):
        step = environments.step(random.integers(0, 4, 8))
        since += 1
        assert not (since > cap).any(), "no game outlasts its cap"
        assert step.done[since == cap].all()
        lost += int((step.done & step.terminated & (environments.infos["lives"] > 0)).sum())
        since[step.done] = -1
        if lost:
            break
    environments.close()
    assert lost, "some life was lost in a step of the cap"


def test_lost_lives_are_ignored_outside_training() -> None:
    ended, done = lives(training=False)
    assert ended == done == lives(training=True)[1]


def watch(contract: Contract, seed: int, steps: int) -> tuple[list[Step], list[np.ndarray]]:
    view, actions = View(contract), np.random.default_rng(0)
    view.reset(seed)
    played, pictures = [], []
    for _ in range(steps):
        played.append(view.step(contract.spaces.actions.random(actions, 1)))
        pictures.append(view.picture())
    view.close()
    return played, pictures


def test_a_view_shows_the_game_that_is_evaluated() -> None:
    """The twin's picture, made gray and shrunk, is the frame that the policy sees, over several lives and games."""
    contract = describe("ALE/Breakout-v5", AtariOptions(life_loss=True))
    played, pictures = watch(contract, 3, 400)
    assert same(played, play(Environments(contract, 1, training=False), [3], 400)[1:])
    assert any(step.done[0] for step in played)
    assert pictures[0].shape == (210, 160, 3)
    for step, picture in zip(played, pictures, strict=True):
        gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        assert np.array_equal(cv2.resize(gray, (84, 84), interpolation=cv2.INTER_AREA), step.observation[0, -1])


def test_no_op_starts_are_below_noop_max_and_not_counted_in_the_cap() -> None:
    environments = Environments(describe("PongNoFrameskip-v4", AtariOptions(noop_max=3, episode_frames=40)), 8)
    observation = environments.reset(list(range(8)))
    assert set(environments.infos["episode_frame_number"].tolist()) == {0, 1, 2}
    assert observation[:, -1].any()
    assert not observation[:, :-1].any(), "frames from before the game are zero"
    done = [environments.step(np.zeros(8, np.int64)).done for _ in range(40 // 4)]
    environments.close()
    assert [step.all() for step in done] == [False] * 9 + [True]
    assert not np.any(done[:-1])
