"""The replay buffer against a list of all steps, with random episodes, rollout borders and wrap-arounds."""

from __future__ import annotations

import resource
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncrl.envs.rewards import Rewards
from asyncrl.errors import UsageError
from asyncrl.experience import ReplayBuffer, ReplayOptions, ReplayPlan, ReplayStorage, Sample, SequenceOptions
from asyncrl.experience.priorities import SumTree
from asyncrl.experience.rollout import Field, Layout, Rollout

ENVS = 2


@dataclass
class Row:
    """What was seen, done and got in one step of one environment."""

    seen: list[int]
    """the stack of frames, oldest first"""
    action: int = 0
    reward: float = 0.0
    terminated: bool = False
    reset: bool = False


@dataclass
class Life:
    """Everything that ever happened in one environment; frames are numbered."""

    stack: int
    random: np.random.Generator
    rows: list[Row] = field(default_factory=list)
    frames: int = 0

    def begin(self) -> None:
        """An episode begins: in the newest row, or in a new row if there is none."""
        self.frames += 1
        self.rows.append(Row([0] * (self.stack - 1) + [self.frames]))

    def step(self) -> None:
        """Fill the newest row and see the next one."""
        row = self.rows[-1]
        row.action, row.reward = int(self.random.integers(50_000)), float(self.random.integers(-3, 4))
        if row.reset:
            self.begin()
            return
        event = self.random.choice(["nothing", "terminated", "truncated", "life lost"], p=[0.7, 0.1, 0.1, 0.1])
        row.terminated = event in ("terminated", "life lost")
        self.frames += 1
        self.rows.append(Row([*row.seen[1:], self.frames], reset=event in ("terminated", "truncated")))

    def interrupt(self) -> None:
        """What was seen last ends the episode; another begins."""
        self.rows[-1].reset = True
        self.begin()


class World:
    """Actors with environments, as rollouts and as lives."""

    def __init__(self, actors: int, steps: int, stack: int, seed: int, state: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.layout = Layout(steps, ENVS, stack, Field((1,), torch.float32), Field((), torch.int64), state)
        self.starts: list[set[int]] = [set() for _ in range(actors)]
        self.lives = [[Life(stack, random) for _ in range(ENVS)] for _ in range(actors)]
        self._interrupted: set[int] = set()
        for life in (life for lives in self.lives for life in lives):
            life.begin()

    def interrupt(self) -> None:
        """Every actor's next rollout begins new episodes."""
        self._interrupted = set(range(len(self.lives)))

    def rollout(self, actor: int) -> Rollout:
        """The next one of this actor, as it would fill a slot."""
        slot = self.layout.slot(torch.zeros(self.layout.nbytes, dtype=torch.uint8), 0)
        slot.stamp[1], slot.starts_reset[0] = actor, actor in self._interrupted
        if slot.starts_reset:
            self._interrupted.remove(actor)
            for life in self.lives[actor]:
                life.interrupt()
        stack, steps = self.layout.stack, self.layout.steps
        for env, life in enumerate(self.lives[actor]):
            first = len(life.rows) - 1
            self.starts[actor].add(first)
            slot.state[env] = first + env / 8
            for _ in range(steps):
                life.step()
            rows = life.rows[first:]
            frames = rows[0].seen[:-1] + [row.seen[-1] for row in rows]
            slot.frames[:, env, 0] = torch.tensor(frames, dtype=torch.float32)
            slot.reset[:, env] = torch.tensor([row.reset for row in rows])
            for name in ("action", "reward", "terminated"):
                getattr(slot, name)[:, env] = torch.tensor([getattr(row, name) for row in rows[:-1]])
        assert slot.frames.shape[0] == steps + stack
        return slot


def expected(life: Life, row: int, window: int) -> tuple[list[float], int, bool]:
    """By hand: the rewards of the return from `row` on, the row that it ends in, and whether nothing follows."""
    rewards = []
    for k in range(row, row + window):
        rewards.append(life.rows[k].reward)
        if life.rows[k].terminated:
            return rewards, k + 1, True
        if life.rows[k + 1].reset:
            return rewards, k + 1, False
    return rewards, row + window, False


def usable(life: Life, rows: int, window: int, stack: int) -> set[int]:
    """Rows that can be sampled when a ring has room for `rows`."""
    newest = len(life.rows) - 1
    oldest = newest - rows + 1
    first = 0 if oldest <= 0 else oldest + stack - 1
    return {row for row in range(first, newest - window + 1) if not life.rows[row].reset}


def places(sample_index: np.ndarray, plan: ReplayPlan, world: World) -> list[tuple[int, int, int]]:
    """Actor, environment and number of the rows at these indices."""
    actor, slot, env = np.unravel_index(sample_index, (plan.actors, plan.rows, ENVS))
    newest = np.array([len(world.lives[a][e].rows) - 1 for a, e in zip(actor, env, strict=True)])
    row = newest - (newest - slot) % plan.rows
    return list(zip(actor.tolist(), env.tolist(), row.tolist(), strict=True))


def check(sample: Sample, plan: ReplayPlan, world: World, window: int) -> None:
    for i, (actor, env, row) in enumerate(places(sample.index.numpy(), plan, world)):
        life = world.lives[actor][env]
        rewards, end, terminated = expected(life, row, window)
        assert sample.observation[i].flatten().tolist() == life.rows[row].seen
        assert int(sample.action[i]) == life.rows[row].action
        assert sample.reward[:, i].tolist() == rewards + [0.0] * (window - len(rewards))
        assert (int(sample.steps[i]), bool(sample.terminated[i])) == (len(rewards), terminated)
        if not terminated:
            assert sample.next_observation[i].flatten().tolist() == life.rows[end].seen


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    stack=st.integers(1, 4),
    window=st.integers(1, 4),
    steps=st.integers(1, 5),
    capacity=st.integers(60, 120),
    prioritized=st.booleans(),
    actors=st.integers(1, 2),
    events=st.lists(st.sampled_from([0, 0, 0, 1, "interrupt"]), min_size=6, max_size=60),
)
def test_samples_equal_the_recorded_history(
    seed: int, stack: int, window: int, steps: int, capacity: int, prioritized: bool, actors: int, events: list[int | str]
) -> None:
    """Every step that can be sampled is, and nothing else: for uniform memories by drawing many, else by priority."""
    world = World(actors, steps, stack, seed)
    options = ReplayOptions(capacity, batch_size=300, learning_starts=50, prioritized=prioritized)
    plan = ReplayPlan(world.layout, actors, options, window)
    replay, random = ReplayBuffer(plan), torch.Generator().manual_seed(seed)
    for event in [0] * 5 + [actors - 1] * 5 + events:
        if event == "interrupt":
            world.interrupt()
        else:
            replay.extend(world.rollout(int(event) % actors))
        wanted = {
            (a, e, row)
            for a, lives in enumerate(world.lives)
            for e, life in enumerate(lives)
            for row in usable(life, plan.rows, window, stack)
        }
        if prioritized:
            assert replay._tree is not None
            assert set(places(np.flatnonzero(replay._tree.priorities), plan, world)) == wanted
    drawn = [part for sample in replay.samples(10, random, 0.5) for part in sample.split(300)]
    assert len(drawn) == 10
    for sample in drawn[:2]:
        check(sample, plan, world, window)
    assert {place for s in drawn for place in places(s.index.numpy(), plan, world)} == wanted


def check_sequences(sample: Sample, plan: ReplayPlan, world: World, window: int) -> None:
    unroll = sample.unroll
    assert unroll is not None
    count, errors = len(sample.index), torch.arange(float(len(sample.action)))
    priorities = sample.errors(errors)
    for i, (actor, env, row) in enumerate(places(sample.index.numpy(), plan, world)):
        life, learned = world.lives[actor][env], []
        assert unroll.state[i].tolist() == [row + env / 8] * plan.layout.state
        for t, (seen, valid) in enumerate(zip(unroll.observation[:, i], unroll.valid[:, i], strict=True)):
            assert seen.flatten().tolist() == life.rows[row + t].seen
            assert bool(valid) != life.rows[row + t].reset
        for t in range(unroll.length):
            n, first = t * count + i, row + unroll.burn_in + t
            assert bool(unroll.learned[n]) != life.rows[first].reset
            assert bool(sample.weight[n]) != life.rows[first].reset
            if life.rows[first].reset:
                continue
            learned.append(float(errors[n]))
            rewards, end, terminated = expected(life, first, window)
            assert int(sample.action[n]) == life.rows[first].action
            assert sample.reward[:, n].tolist() == rewards + [0.0] * (window - len(rewards))
            assert (int(sample.steps[n]), bool(sample.terminated[n])) == (len(rewards), terminated)
            assert divmod(int(unroll.later[n]), count) == (end - row - unroll.burn_in, i)
        if learned:
            assert float(priorities[i]) == pytest.approx(0.9 * max(learned) + 0.1 * sum(learned) / len(learned))


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    stack=st.integers(1, 3),
    window=st.integers(1, 3),
    steps=st.integers(1, 5),
    burn_in=st.integers(0, 3),
    length=st.integers(1, 4),
    prioritized=st.booleans(),
    events=st.lists(st.sampled_from([0, 0, 0, 1, "interrupt"]), min_size=6, max_size=60),
)
def test_sequences_equal_the_recorded_history(
    seed: int, stack: int, window: int, steps: int, burn_in: int, length: int, prioritized: bool, events: list[int | str]
) -> None:
    """They begin where rollouts did, with the state that was stored there."""
    world, sequences = World(2, steps, stack, seed, state=2), SequenceOptions(length, burn_in)
    options = ReplayOptions(90, batch_size=40, learning_starts=50, prioritized=prioritized)
    plan = ReplayPlan(world.layout, 2, options, window, sequences)
    replay, random = ReplayBuffer(plan), torch.Generator().manual_seed(seed)
    for event in [0] * 10 + [1] * 10 + events:
        if event == "interrupt":
            world.interrupt()
        else:
            replay.extend(world.rollout(int(event)))
    wanted = {
        (a, e, row)
        for a, lives in enumerate(world.lives)
        for e, life in enumerate(lives)
        for row in world.starts[a]
        if max(0, len(life.rows) - plan.rows + (stack - 1) * (len(life.rows) > plan.rows)) <= row
        if row <= len(life.rows) - 1 - plan.span
    }
    drawn = list(replay.samples(10, random, 0.5))
    for sample in drawn[:2]:
        check_sequences(sample, plan, world, window)
    assert {place for s in drawn for place in places(s.index.numpy(), plan, world)} <= wanted
    if prioritized:
        assert replay._tree is not None
        assert set(places(np.flatnonzero(replay._tree.priorities), plan, world)) == wanted


def test_the_reset_step_between_interrupted_episodes_has_no_numbers_of_freed_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A weight of 0 would not keep a reward that is not a number out of the loss, nor an action that does not exist."""
    monkeypatch.setattr(ReplayPlan, "allocate", lambda plan: torch.full((plan.nbytes,), 255, dtype=torch.uint8))
    world, options = World(1, 3, 1, 1, state=2), ReplayOptions(90, batch_size=200, learning_starts=50)
    replay = ReplayBuffer(ReplayPlan(world.layout, 1, options, 2, SequenceOptions(4, 1)))
    for rollouts in (1, 5):
        for _ in range(rollouts):
            replay.extend(world.rollout(0))
        world.interrupt()
    sample = next(replay.samples(1, torch.Generator().manual_seed(1)))
    assert sample.reward.isfinite().all()
    assert (sample.action >= 0).all()


def test_rewards_are_scaled_then_clipped() -> None:
    world = World(1, 5, 1, 1)
    replay = ReplayBuffer(ReplayPlan(world.layout, 1, ReplayOptions(100, 50, learning_starts=10), 1))
    for _ in range(8):
        replay.extend(world.rollout(0))
    ways = (Rewards(), Rewards(2.0, 1.0))
    plain, changed = (next(replay.samples(1, torch.Generator().manual_seed(1), 0.0, way)) for way in ways)
    assert torch.equal(changed.reward, (2 * plain.reward).clamp(-1, 1))


def test_a_full_disk_is_detected_on_allocation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing write to a mapped page would end the process."""
    monkeypatch.chdir(tmp_path)
    options = ReplayOptions(10_000, 50, learning_starts=10, replay_storage=ReplayStorage.DISK)
    plan = ReplayPlan(World(1, 5, 3, 1).layout, 1, options, 2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            plan.allocate()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_all_storages_hold_the_same() -> None:
    samples = []
    for storage in ReplayStorage:
        world = World(1, 5, 3, 1)
        replay = ReplayBuffer(
            ReplayPlan(world.layout, 1, ReplayOptions(100, 50, learning_starts=10, replay_storage=storage), 2)
        )
        for _ in range(30):
            replay.extend(world.rollout(0))
        samples += replay.samples(1, torch.Generator().manual_seed(1), 0.0)
    assert len(samples) == len(ReplayStorage)
    for sample in samples[1:]:
        assert all(torch.equal(getattr(samples[0], name), getattr(sample, name)) for name in ("observation", "reward"))


def test_prioritized_sampling_is_proportional_with_importance_weights() -> None:
    world = World(1, 20, 1, 3)
    options = ReplayOptions(5_000, 4_000, learning_starts=10, prioritized=True, priority_exponent=0.5)
    replay, random = ReplayBuffer(ReplayPlan(world.layout, 1, options, 1)), torch.Generator().manual_seed(1)
    replay.extend(world.rollout(0))
    assert replay._tree is not None
    stored = np.flatnonzero(replay._tree.priorities)
    errors = torch.arange(1.0, len(stored) + 1)
    replay.prioritize(torch.from_numpy(stored), errors)
    wanted = errors.sqrt() / errors.sqrt().sum()
    sample = next(replay.samples(1, random, 0.0))
    share = torch.stack([(sample.index == int(i)).double().mean() for i in stored])
    assert share.numpy() == pytest.approx(wanted.numpy(), abs=1e-3)
    weight = {int(i): float(w) for i, w in zip(sample.index, sample.weight, strict=True)}
    by_hand = (wanted / wanted.min()) ** -0.4
    assert [weight[int(i)] for i in stored] == pytest.approx(by_hand.tolist(), rel=1e-3)


@given(size=st.integers(1, 70), seed=st.integers(0, 1_000))
def test_the_sum_tree_agrees_with_cumulative_sums(size: int, seed: int) -> None:
    random, tree, plain = np.random.default_rng(seed), SumTree(size), np.zeros(size)
    for _ in range(5):
        index = random.integers(0, size, random.integers(1, 10))
        value = random.integers(0, 5, len(index)).astype(float)
        tree.update(index, value)
        plain[index] = value
    assert np.array_equal(tree.priorities, plain)
    assert tree.total == plain.sum()
    if plain.sum():
        mass = (np.arange(200) + 0.5) / 200 * plain.sum()
        assert np.array_equal(tree.find(mass), np.searchsorted(np.cumsum(plain), mass, side="right"))


def test_a_million_atari_steps_take_less_than_7_3_gigabytes() -> None:
    layout = Layout(4, 16, 4, Field((84, 84), torch.uint8), Field((), torch.int64))
    assert ReplayPlan(layout, 2, ReplayOptions(), 3).nbytes < 7.3e9


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ReplayOptions(1_000_000),
            r"1,000,000 steps, 84×84 frames, 7.1 GB does not fit into 2.5 GB; try --capacity 300000",
        ),
        (ReplayOptions(200, 32), "--capacity must be 352 or more for 32 environments"),
        (
            ReplayOptions(20_000, learning_starts=50),
            "--learning-starts must be 128 or more for 32 environments",
        ),
    ],
)
def test_an_impossible_buffer_raises(options: ReplayOptions, sentence: str) -> None:
    layout = Layout(4, 16, 4, Field((84, 84), torch.uint8), Field((), torch.int64))
    with pytest.raises(UsageError, match=sentence):
        ReplayPlan(layout, 2, options, 3).check(free=2_500_000_000)
