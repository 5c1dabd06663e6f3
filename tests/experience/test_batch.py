"""Batches restore exactly the observations that the actor acted on, from frames stored once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from asyncrl.acting.actor import Actor, ActorSpec
from asyncrl.algorithms import A3C, Algorithm, OneStepSarsa, Reinforce
from asyncrl.common.randomness import Stream, generator
from asyncrl.engines import Memory, MemoryPlan
from asyncrl.envs import EnvOptions, describe
from asyncrl.envs.families.atari import AtariOptions
from asyncrl.envs.rewards import Rewards
from asyncrl.errors import UsageError
from asyncrl.experience import Batch, OnPolicy, PreparedBatch
from asyncrl.experience.batch import stack_frames
from asyncrl.experience.rollout import Field, Layout, Rollout, Ticket
from asyncrl.networks import NetworkConfig, bind

ENVS = 2


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As an actor has it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def play(
    env: str, options: EnvOptions, t_max: int, steps: int, algorithm: Algorithm | None = None
) -> tuple[list[Rollout], Tensor]:
    """Rollouts one after the other, each in its own slot, and every observation [step, B, *O] that was acted on."""
    contract, algorithm = describe(env, options), algorithm or A3C(t_max=t_max)
    network = NetworkConfig("a3c-cnn" if contract.spaces.is_image else "mlp")
    spec = ActorSpec(algorithm, network, contract, 7, ENVS, 1, torch.float32)
    weights, _ = bind(spec.algorithm.network(network, contract.spaces, torch.float32, generator(7, Stream.NETWORK)))
    rollouts = steps // t_max
    plan = MemoryPlan(spec.layout(), rollouts, 1, len(weights))
    memory, actor, seen = Memory(plan, plan.allocate()), Actor(spec, 0), []
    memory.publish(0, weights)
    act = actor.policy.act

    def spy(observation: Tensor, *arguments: object, **more: object) -> object:
        seen.append(observation.clone())
        return act(observation, *arguments, **more)  # type: ignore[arg-type]

    actor.policy.act = spy  # type: ignore[method-assign, assignment]
    for number in range(rollouts):
        memory.fill(actor, Ticket(number, 0, 0, number, 0))
    actor.close()
    return memory.slots, torch.stack(seen)


def assert_rebuilt(rollouts: list[Rollout], seen: Tensor) -> None:
    """Row T is the first observation of the next rollout, so the last rollout is only there to be that."""
    steps = len(rollouts[0].reward)
    rebuilt = stack_frames(rollouts[:-1])
    for i, columns in enumerate(rebuilt.split(ENVS, 1)):
        assert torch.equal(columns, seen[i * steps : (i + 1) * steps + 1]), f"rollout {i}"


@pytest.mark.parametrize("t_max", [2, 15, 20], ids=lambda t: f"{t} steps")
def test_frame_stacks_are_rebuilt_across_truncations(t_max: int) -> None:
    """100 steps an episode: within a rollout of 15, with the last step of a rollout of 20; 2 are fewer than the stack."""
    rollouts, seen = play("ALE/Breakout-v5", AtariOptions(episode_frames=400), t_max, 240)
    ends = torch.cat([r.done for r in rollouts]).nonzero()[:, 0].tolist()
    assert ends == [99] * ENVS + [200] * ENVS
    assert_rebuilt(rollouts, seen)


def test_frame_stacks_are_rebuilt_where_games_end_at_different_times() -> None:
    rollouts, seen = play("ALE/Breakout-v5", EnvOptions(), 20, 340)
    over = torch.cat([r.done for r in rollouts])
    assert over.any(0).sum() >= 2
    assert not over.all(1).any()
    assert_rebuilt(rollouts, seen)


def test_vector_observations_are_rebuilt() -> None:
    rollouts, seen = play("CartPole-v1", EnvOptions(), 8, 160)
    assert torch.cat([r.done for r in rollouts]).sum() >= 3
    assert_rebuilt(rollouts, seen)


def two_steps(rewards: list[float]) -> Rollout:
    layout = Layout(2, 1, 1, frame=Field((3,), torch.float32), action=Field((), torch.int64))
    rollout = layout.slot(torch.zeros(layout.nbytes, dtype=torch.uint8), 0)
    rollout.reward.copy_(torch.tensor(rewards)[:, None])
    return rollout


@pytest.mark.parametrize(("clip", "expected"), [(None, [-10.0, 0.5]), (1.0, [-1.0, 0.5]), (0.25, [-0.25, 0.25])])
def test_rewards_are_scaled_then_clipped(clip: float | None, expected: list[float]) -> None:
    assert Batch.of([two_steps([-5.0, 0.25])], Rewards(2.0, clip)).reward[:, 0].tolist() == expected


def test_rollouts_become_columns_in_order() -> None:
    assert Batch.of([two_steps([1.0, 2.0]), two_steps([3.0, 4.0])]).reward.tolist() == [[1, 3], [2, 4]]


def test_a_batch_is_a_copy_of_its_slots() -> None:
    rollout = two_steps([1.0, 2.0])
    batch = Batch.of([rollout])
    for field in (rollout.frames, rollout.reward, rollout.action):
        field.fill_(9)
    assert not (batch.observation == 9).any()
    assert not (batch.reward == 9).any()
    assert not (batch.action == 9).any()


@pytest.mark.parametrize("env", ["worlds:Corridor-v0", "ALE/Breakout-v5"])
def test_an_overlapping_rollout_begins_with_the_end_of_the_previous_one(env: str) -> None:
    """Episodes are truncated within a rollout, with its last step, and with the step that two rollouts have in common."""
    options = AtariOptions(episode_frames=400) if "ALE" in env else EnvOptions()
    t_max = 20 if "ALE" in env else 4
    rollouts, seen = play(env, options, t_max, 240, OneStepSarsa(t_max=t_max))
    assert all(len(r.reward) == t_max + 1 for r in rollouts)
    for before, after in itertools.pairwise(rollouts):
        for name in ("action", "reward", "terminated"):
            assert torch.equal(getattr(before, name)[-1], getattr(after, name)[0]), name
        assert torch.equal(before.reset[-2:], after.reset[:2])
    for i, columns in enumerate(stack_frames(rollouts[:-1]).split(ENVS, 1)):
        assert torch.equal(columns, seen[i * t_max : (i + 1) * t_max + 2]), f"rollout {i}"
    ends = {t for r in rollouts for t in r.done.any(1).nonzero()[:, 0].tolist()}
    assert ends & {0, t_max}, "an episode ended in a step that two rollouts have"


@pytest.mark.parametrize("env", ["worlds:Corridor-v0", "ALE/Breakout-v5"])
def test_a_full_episode_rollout_holds_one_episode_per_environment(env: str) -> None:
    options = AtariOptions(episode_frames=160) if "ALE" in env else EnvOptions()
    rollouts, _ = play(env, options, 60, 180, Reinforce(longest_episode=60))
    for rollout in rollouts:
        assert (rollout.done.sum(0) == 1).all()
        assert not rollout.reset[0].any()
        last = rollout.done.int().argmax(0)
        for column, end in enumerate(last.tolist()):
            assert rollout.valid[: end + 1, column].all()
            assert not rollout.valid[end + 1 :, column].any()
        assert not rollout.frames_since_reset.any()
    (strip_padding,) = Reinforce(longest_episode=60).experience().strip_padding(rollouts[:1])
    assert len(strip_padding.reward) == int(rollouts[0].done.int().argmax(0).max()) + 1
    rebuilt = stack_frames([strip_padding])
    assert len(rebuilt) == len(strip_padding.reward) + 1


def test_an_endless_episode_is_cut_off() -> None:
    rollouts, _ = play("worlds:Corridor-v0", EnvOptions(), 3, 9, Reinforce(longest_episode=3))
    for rollout in rollouts:
        assert rollout.done.any(0).all()
        assert rollout.valid[0].all()


def numbered(steps: int, envs: int, state: int) -> PreparedBatch:
    """Every step carries its own number wherever it can."""
    number = torch.arange(steps * envs).view(steps, envs)
    memory = torch.arange(envs, dtype=torch.float32)[:, None].expand(envs, state)
    over = torch.zeros(steps, envs, dtype=torch.bool)
    whole = torch.cat([number, number[-1:]])[..., None]
    return Batch(whole, number, number.float(), over, ~over, memory, {}).with_targets(advantage=number.float())


def test_minibatches_are_disjoint_steps_with_all_their_fields() -> None:
    parts = numbered(5, 4, 0).minibatches(3, torch.Generator().manual_seed(1))
    taken = torch.cat([part.action.flatten() for part in parts])
    assert len(taken) == len(set(taken.tolist())) == 18  # 20 do not divide by 3
    for part in parts:
        assert torch.equal(part.action, part.observation[..., 0])
        assert torch.equal(part.action.float(), part.extras["advantage"])
    other = numbered(5, 4, 0).minibatches(3, torch.Generator().manual_seed(2))
    assert not torch.equal(parts[0].action, other[0].action)


def test_minibatches_of_a_recurrent_network_are_whole_sequences() -> None:
    parts = numbered(5, 4, 2).minibatches(2, torch.Generator().manual_seed(1))
    assert sorted(int(c) for part in parts for c in part.state[:, 0]) == [0, 1, 2, 3]
    for part in parts:
        assert part.action.shape == (5, 2)
        assert torch.equal(part.action[0].float(), part.state[:, 0])


def test_rollouts_overlap_by_no_more_than_their_length() -> None:
    assert OnPolicy(2, overlap=2).slot_length == 4
    with pytest.raises(UsageError, match="the overlap of 3 steps is longer than a rollout, which has 2"):
        OnPolicy(2, overlap=3)
