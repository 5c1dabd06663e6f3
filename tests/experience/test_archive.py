"""A replay buffer is restored from its files, whatever number of checkpoints wrote them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_replay import World

from asyncrl.errors import CheckpointError
from asyncrl.experience import Archive, ReplayBuffer, ReplayOptions, ReplayPlan, SequenceOptions


def plan(world: World, *, prioritized: bool) -> ReplayPlan:
    options = ReplayOptions(capacity=60, batch_size=100, learning_starts=10, prioritized=prioritized)
    return ReplayPlan(world.layout, 2, options, n_step=2, sequences=SequenceOptions(1, 0) if world.layout.state else None)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prioritized=st.booleans(),
    state=st.sampled_from([0, 3]),
    events=st.lists(st.sampled_from([0, 1, "write", "interrupt"]), max_size=40),
    seed=st.integers(0, 99),
)
def test_a_written_buffer_is_read_back(
    tmp_path: Path, prioritized: bool, state: int, events: list[int | str], seed: int
) -> None:
    """With a recurrent state, samples are sequences."""
    folder = tmp_path / str(hash((prioritized, state, *events, seed)))
    world = World(2, 3, 2, seed, state)
    replay = ReplayBuffer(plan(world, prioritized=prioritized))
    archive = Archive(replay, folder)
    for number, event in enumerate([0, 1, *events, 0, 1]):
        if event == "write":
            archive.write(str(number))
        elif event == "interrupt":
            world.interrupt()
        else:
            replay.extend(world.rollout(int(event)))
            for sample in replay.samples(1, torch.Generator().manual_seed(number), 0.5):
                replay.prioritize(sample.index, sample.errors(sample.reward[0].abs()))
    files = archive.write("last")
    again = ReplayBuffer(plan(world, prioritized=prioritized))
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


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    world = World(2, 3, 2, 1)
    replay = ReplayBuffer(plan(world, prioritized=False))
    replay.extend(world.rollout(0))
    files = Archive(replay, tmp_path).write("one")
    file = tmp_path / "one.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(CheckpointError, match=r"one\.safetensors is damaged"):
        Archive(ReplayBuffer(plan(world, prioritized=False)), tmp_path).read(files)
