"""A rollout keeps each frame once; a batch gives back exactly what the actor saw."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from asyncrl.actor import Actor, ActorSpec
from asyncrl.algorithms import A3C
from asyncrl.engines import Memory, MemoryPlan
from asyncrl.envs import EnvOptions, describe
from asyncrl.experience import Batch
from asyncrl.experience.batch import stack_frames
from asyncrl.networks import Network, NetworkConfig, bind
from asyncrl.randomness import Stream, generator
from asyncrl.rollout import Field, Layout, Rollout, Ticket

ENVS = 2


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As an actor has it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def play(env: str, options: EnvOptions, t_max: int, steps: int) -> tuple[list[Rollout], Tensor]:
    """Rollouts one after the other, each in a slot of its own, and every observation [step, B, *O] that was acted on."""
    contract = describe(env, options)
    network = NetworkConfig(Network.A3C_CNN if contract.spaces.is_image else Network.MLP)
    spec = ActorSpec(A3C(t_max=t_max), network, contract, 7, ENVS, 1, torch.float32)
    weights, _ = bind(spec.algorithm.network(network, contract.spaces, torch.float32, generator(7, Stream.NETWORK)))
    rollouts = steps // t_max
    plan = MemoryPlan(spec.layout(), rollouts, 1, len(weights))
    memory, actor, seen = Memory(plan, plan.allocate(shared=False)), Actor(spec, 0), []
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
def test_frames_are_stacked_as_they_were_seen_over_truncations(t_max: int) -> None:
    """100 steps an episode: within a rollout of 15, with the last step of a rollout of 20; 2 are fewer than the stack."""
    rollouts, seen = play("ALE/Breakout-v5", EnvOptions(episode_frames=400), t_max, 240)
    ends = torch.cat([r.over for r in rollouts]).nonzero()[:, 0].tolist()
    assert ends == [99] * ENVS + [200] * ENVS
    assert_rebuilt(rollouts, seen)


def test_frames_are_stacked_as_they_were_seen_where_games_end_at_different_times() -> None:
    rollouts, seen = play("ALE/Breakout-v5", EnvOptions(), 20, 340)
    over = torch.cat([r.over for r in rollouts])
    assert over.any(0).sum() >= 2
    assert not over.all(1).any()
    assert_rebuilt(rollouts, seen)


def test_vectors_come_back_as_they_were_seen() -> None:
    rollouts, seen = play("CartPole-v1", EnvOptions(), 8, 160)
    assert torch.cat([r.over for r in rollouts]).sum() >= 3
    assert_rebuilt(rollouts, seen)


def two_steps(rewards: list[float]) -> Rollout:
    layout = Layout(2, 1, 1, frame=Field((3,), torch.float32), action=Field((), torch.int64))
    rollout = layout.slot(torch.zeros(layout.nbytes, dtype=torch.uint8), 0)
    rollout.reward.copy_(torch.tensor(rewards)[:, None])
    return rollout


@pytest.mark.parametrize(("clip", "expected"), [(None, [-10.0, 0.5]), (1.0, [-1.0, 0.5]), (0.25, [-0.25, 0.25])])
def test_rewards_are_scaled_then_clipped(clip: float | None, expected: list[float]) -> None:
    assert Batch.of([two_steps([-5.0, 0.25])], reward_scale=2.0, reward_clip=clip).reward[:, 0].tolist() == expected


def test_rollouts_are_columns_in_the_order_given() -> None:
    assert Batch.of([two_steps([1.0, 2.0]), two_steps([3.0, 4.0])]).reward.tolist() == [[1, 3], [2, 4]]


def test_a_batch_stays_as_it_is_when_its_slot_is_filled_again() -> None:
    rollout = two_steps([1.0, 2.0])
    batch = Batch.of([rollout])
    for field in (rollout.frames, rollout.reward, rollout.action):
        field.fill_(9)
    assert not (batch.observation == 9).any()
    assert not (batch.reward == 9).any()
    assert not (batch.action == 9).any()
