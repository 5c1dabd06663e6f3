"""Recurrent cores: the state is carried between steps, cleared at resets, and the same for actor and learner."""

from __future__ import annotations

import pytest
import torch

from asyncrl.acting.actor import Actor, ActorSpec
from asyncrl.algorithms import Impala
from asyncrl.engines import Memory, MemoryPlan
from asyncrl.envs import describe
from asyncrl.envs.spaces import Actions, Spaces
from asyncrl.experience import Batch
from asyncrl.experience.rollout import Ticket
from asyncrl.networks import ActorCritic, NetworkConfig, Recurrent, bind

SPACES = Spaces((3,), "float32", Actions((2,), (0,)))
KINDS = [Recurrent.LSTM, Recurrent.GRU]


def network(kind: Recurrent) -> ActorCritic:
    config = NetworkConfig(hidden=(8,), recurrent=kind, recurrent_size=5)
    return ActorCritic(config, SPACES, torch.float32, torch.Generator().manual_seed(1))


def values(made: ActorCritic, seen: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
    return made(seen, torch.zeros(seen.shape[1], made.state_size), valid).value


@pytest.mark.parametrize("kind", KINDS)
def test_a_carried_state_joins_two_halves_of_a_sequence(kind: Recurrent) -> None:
    made, seen = network(kind), torch.randn(8, 4, 3)
    first = made(seen[:4], torch.zeros(4, made.state_size))
    second = made(seen[4:], first.state)
    assert torch.allclose(torch.cat([first.value, second.value]), values(made, seen), atol=1e-6)
    assert not torch.allclose(second.value, values(made, seen[4:]), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_reset_step_clears_the_state(kind: Recurrent) -> None:
    made, seen = network(kind), torch.randn(6, 2, 3)
    valid = torch.ones(6, 2, dtype=torch.bool)
    valid[2, 0] = False  # the first environment's second episode begins with step 3
    whole = values(made, seen, valid)
    assert torch.allclose(whole[3:, 0], values(made, seen[3:])[:, 0], atol=1e-6)
    assert torch.allclose(whole[:, 1], values(made, seen)[:, 1], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_back_to_the_first_step_of_the_rollout(kind: Recurrent) -> None:
    made, seen = network(kind), torch.randn(4, 1, 3, requires_grad=True)
    state = made(torch.randn(4, 1, 3), torch.zeros(1, made.state_size)).state.detach()
    made(seen, state).value[-1].sum().backward()
    assert seen.grad is not None
    assert seen.grad.flatten(1).any(1).all()


@pytest.mark.parametrize("kind", [*KINDS, Recurrent.NONE])
def test_the_learner_recomputes_the_actors_log_probabilities(kind: Recurrent) -> None:
    contract = describe("worlds:Corridor-v0")
    config = NetworkConfig(hidden=(8,), recurrent=kind, recurrent_size=5)
    spec = ActorSpec(Impala(t_max=7), config, contract, 3, 4, 1, torch.float32)
    learned = ActorCritic(config, contract.spaces, torch.float32, torch.Generator().manual_seed(5))
    weights, _ = bind(learned)
    plan = MemoryPlan(spec.layout(), 6, 1, len(weights))
    memory, actor = Memory(plan, plan.allocate()), Actor(spec, 0)
    memory.publish(0, weights)
    for number in range(6):
        memory.fill(actor, Ticket(number, 0, 0, number, 0))
    actor.close()
    assert sum(int(slot.done.sum()) for slot in memory.slots) >= 8
    for slot in memory.slots:
        batch = Batch.of([slot])
        said = learned(batch.observation[:-1], batch.state, batch.valid).policy.log_prob(batch.action)
        assert torch.allclose(said, batch.extras["log_prob"], atol=1e-5)
