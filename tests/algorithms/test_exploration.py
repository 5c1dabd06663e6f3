"""ε by step and environment: final values, decay and exploration."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asyncrl.algorithms import DQN, ActContext, Policy
from asyncrl.algorithms.exploration import Assignment, EnvSlots, Exploration, explore
from asyncrl.common.randomness import Stream, generator
from asyncrl.envs import describe
from asyncrl.errors import UsageError
from asyncrl.networks import NetworkConfig


def test_final_epsilons_are_drawn_with_their_probabilities() -> None:
    finals = Exploration().finals(EnvSlots.of(1, 0, 30_000))
    shares = [float((finals == final).double().mean()) for final in (0.1, 0.01, 0.5)]
    assert shares == pytest.approx([0.4, 0.3, 0.3], abs=0.01)


def test_final_epsilons_depend_on_seed_and_actor_alone() -> None:
    exploration = Exploration()
    finals = [
        exploration.finals(EnvSlots.of(seed, actor, 200)).tolist() for seed, actor in ((1, 0), (1, 0), (2, 0), (1, 1))
    ]
    assert finals[0] == finals[1]
    assert finals[0] not in finals[2:]


def test_round_robin_cycles_through_final_epsilons_across_actors() -> None:
    exploration = Exploration(epsilon_assignment=Assignment.ROUND_ROBIN)
    finals = torch.cat([exploration.finals(EnvSlots.of(1, actor, 2)) for actor in range(3)])
    assert finals.tolist() == [0.1, 0.01, 0.5] * 2


@given(st.integers(0, 2_000))
def test_epsilon_decays_linearly_and_then_stays(step: int) -> None:
    exploration = Exploration(epsilon_steps=1_000, final_epsilons=(0.2,), final_epsilon_probabilities=(1.0,))
    expected = 0.2 + 0.8 * max(0.0, 1 - step / 1_000)
    assert exploration.epsilon(step, EnvSlots.of(1, 0, 3)).tolist() == pytest.approx([expected] * 3)


@pytest.mark.parametrize("assignment", Assignment)
@pytest.mark.parametrize("start", [0.3, 0.4, 0.5])
@pytest.mark.parametrize("finals", [(0.4,), (0.4, 0.45), (0.45, 0.2)])
def test_epsilon_is_known_to_decay(assignment: Assignment, start: float, finals: tuple[float, ...]) -> None:
    exploration = Exploration(
        epsilon_start=start,
        final_epsilons=finals,
        final_epsilon_probabilities=(1 / len(finals),) * len(finals),
        epsilon_assignment=assignment,
    )
    slots = EnvSlots.of(1, 0, 20)
    falls = (exploration.epsilon(0, slots) > exploration.epsilon(exploration.epsilon_steps, slots)).any()
    assert exploration.decays == bool(falls)


def test_each_environment_explores_with_its_own_epsilon() -> None:
    best, epsilon = torch.full((3, 10_000), 2).flatten(), torch.tensor([0.0, 0.4, 1.0]).repeat_interleave(10_000)
    action, random = (x.view(3, 10_000) for x in explore(best, 4, epsilon, torch.Generator().manual_seed(1)))
    assert [float((row == 2).double().mean()) for row in action] == pytest.approx([1.0, 0.7, 0.25], abs=0.015)
    assert (action[~random] == 2).all()
    assert (torch.bincount(action[2], minlength=4) / 10_000).tolist() == pytest.approx([0.25] * 4, abs=0.015)


def test_random_actions_can_be_held_until_the_rollout_ends() -> None:
    spaces, envs = describe("CartPole-v1").spaces, 64
    algorithm = DQN(
        exploration=Exploration(
            epsilon_start=0.5, final_epsilons=(0.5,), final_epsilon_probabilities=(1.0,), hold_random_actions=True
        )
    )
    policy = Policy(algorithm, NetworkConfig("mlp"), spaces, torch.float32)
    done = []
    for rollout in (1, 2):
        context = ActContext.training(generator(0, Stream.ACTOR, rollout), step=0, slots=EnvSlots.of(0, 0, envs))
        acted = [policy.act(torch.randn(envs, 4), torch.zeros(envs, 0), context) for _ in range(5)]
        chance = torch.stack([each.explored for each in acted if each.explored is not None])
        assert (chance == chance[0]).all()
        assert 16 < int(chance[0].sum()) < 48
        done.append(torch.stack([each.action for each in acted])[:, chance[0]])
        assert (done[-1] == done[-1][0]).all()
        assert set(done[-1][0].tolist()) == {0, 1}
    assert done[0].shape != done[1].shape or not torch.equal(*done)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (dict(final_epsilons=(1.5,), final_epsilon_probabilities=(1.0,)), "--final-epsilons must be between 0 and 1"),
        (
            dict(final_epsilon_probabilities=(0.5, 0.5)),
            "--final-epsilons has 3 numbers but --final-epsilon-probabilities has 2",
        ),
        (dict(final_epsilon_probabilities=(0.5, 0.3, 0.3)), "--final-epsilon-probabilities must add up to 1, not 1.1"),
        (dict(epsilon_steps=0), "--epsilon-steps must be 1 or more, not 0"),
    ],
)
def test_invalid_probabilities_raise(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Exploration(**wrong).check()


def test_epsilon_is_remembered_for_one_rollout_only() -> None:
    slots, exploration = EnvSlots.of(1, 0, 4), Exploration(epsilon_steps=100)
    other = Exploration(epsilon_steps=50)
    for chosen, step in ((exploration, 0), (exploration, 0), (exploration, 30), (other, 30), (exploration, 30)):
        assert torch.equal(slots.epsilon(chosen, step), chosen.epsilon(step, slots))
    assert slots.epsilon(exploration, 30) is slots.epsilon(exploration, 30)
