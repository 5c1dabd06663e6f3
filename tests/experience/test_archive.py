"""A replay buffer is restored from its files, whatever number of checkpoints wrote them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interrupted_runs import damage
from test_environment_faults import files_of_at_most
from test_replay import ENVS, World

from asyncrl.errors import CheckpointError
from asyncrl.experience import Archive, ReplayBuffer, ReplayOptions, ReplayPlan, SequenceOptions


def plan(world: World, *, prioritized: bool, capacity: int = 60) -> ReplayPlan:
    options = ReplayOptions(capacity=capacity, batch_size=100, learning_starts=10, prioritized=prioritized)
    return ReplayPlan(
        world.layout, len(world.lives), options, n_step=2, sequences=SequenceOptions(1, 0) if world.layout.state else None
    )


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prioritized=st.booleans(),
    state=st.sampled_from([0, 3]),
    stack=st.integers(1, 4),
    rows=st.integers(9, 18),
    events=st.lists(st.sampled_from([0, 1, "write", "write twice", "interrupt"]), max_size=40),
    seed=st.integers(0, 99),
)
def test_a_written_buffer_is_read_back(
    tmp_path: Path, prioritized: bool, state: int, stack: int, rows: int, events: list[int | str], seed: int
) -> None:
    """With a recurrent state, samples are sequences."""
    folder = tmp_path / str(hash((prioritized, state, stack, rows, *events, seed)))
    world, capacity = World(2, 3, stack, seed, state), rows * 2 * ENVS
    replay = ReplayBuffer(plan(world, prioritized=prioritized, capacity=capacity))
    archive = Archive(replay, folder)
    for number, event in enumerate([0, 1, *events, 0, 1]):
        if event in ("write", "write twice"):
            files = archive.write(str(number))
            assert event == "write" or archive.write(str(number)) == files
        elif event == "interrupt":
            world.interrupt()
        else:
            replay.extend(world.rollout(int(event)))
            for sample in replay.samples(1, torch.Generator().manual_seed(number), 0.5):
                replay.prioritize(sample.index, sample.errors(sample.reward[0].abs()))
    files = archive.write("last")
    again = ReplayBuffer(plan(world, prioritized=prioritized, capacity=capacity))
    for view in again._views.values():
        view.fill_(1)  # what memory happens to hold
    Archive(again, folder).read(files)
    again.restore(replay.state())
    for step in range(3):
        mine, its = (next(memory.samples(1, torch.Generator().manual_seed(step), 0.5)) for memory in (replay, again))
        pairs = [(getattr(mine, name), getattr(its, name)) for name in mine.__dataclass_fields__]
        assert all(torch.equal(a, b) for a, b in pairs if isinstance(a, torch.Tensor))
        if state:
            assert torch.equal(mine.unroll.state, its.unroll.state)
            assert torch.equal(mine.unroll.observation, its.unroll.observation)
        rollout = world.rollout(step % 2)
        for memory in (replay, again):
            memory.extend(rollout)


def test_files_hold_new_rows_and_outdated_ones_are_dropped(tmp_path: Path) -> None:
    world = World(2, 3, 2, 1)
    replay = ReplayBuffer(plan(world, prioritized=False))
    archive, held = Archive(replay, tmp_path), []
    for number in range(30):
        for actor in (0, 1):
            replay.extend(world.rollout(actor))
        held.append(list(archive.write(f"{number:02d}")))
    assert held[0] == ["00.safetensors"]
    assert len(held[-1]) == 5  # of each environment 15 rows and the newest one, 3 in a file
    sizes = {(tmp_path / name).stat().st_size for name in held[-1]}
    assert max(sizes) < 2 * min(sizes)


@pytest.mark.parametrize("rows", range(9, 19))
def test_every_row_that_a_frame_stack_may_reach_back_to_is_kept(tmp_path: Path, rows: int) -> None:
    world = World(1, 3, 4, 1)
    options = plan(world, prioritized=False, capacity=rows * ENVS)
    replay = ReplayBuffer(options)
    archive = Archive(replay, tmp_path)
    for number in range(2 * rows):
        replay.extend(world.rollout(0))
        files = archive.write(str(number))
        again = ReplayBuffer(options)
        for view in again._views.values():
            view.fill_(1)
        Archive(again, tmp_path).read(files)
        stored = np.arange(max(0, replay.oldest_stored[0]), replay.newest[0] + 1) % replay._shape[1]
        for name in ("frames", "reset"):
            assert torch.equal(again._views[name][0, stored], replay._views[name][0, stored])


def test_a_file_that_is_missing_between_others_is_noticed(tmp_path: Path) -> None:
    world = World(2, 3, 2, 1)
    replay = ReplayBuffer(plan(world, prioritized=False))
    archive = Archive(replay, tmp_path)
    for name in ("one", "two", "three"):
        for actor in (0, 1):
            replay.extend(world.rollout(actor))
        files = archive.write(name)
    del files["two.safetensors"]
    with pytest.raises(CheckpointError, match=r"three\.safetensors does not fit .* do not continue row 3"):
        Archive(ReplayBuffer(plan(world, prioritized=False)), tmp_path).read(files)


def test_a_file_that_does_not_fit_on_the_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    archive = Archive(ReplayBuffer(plan(World(2, 3, 2, 1), prioritized=False)), tmp_path)
    with pytest.raises(OSError, match="File too large") as full, files_of_at_most(10):
        archive.write("000000000480")
    assert full.value.filename == str(tmp_path / "000000000480.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    world = World(2, 3, 2, 1)
    replay = ReplayBuffer(plan(world, prioritized=False))
    replay.extend(world.rollout(0))
    files = Archive(replay, tmp_path).write("one")
    damage(tmp_path / "one.safetensors")
    with pytest.raises(CheckpointError, match=r"one\.safetensors is damaged"):
        Archive.verify(tmp_path, files)
