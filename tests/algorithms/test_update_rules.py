"""Every update rule against a reference that goes through an episode step by step, as the papers write it.

The references know nothing of time-major batches, masks or the one recursion that all rules are made of.
Random histories have terminations, truncations, reset steps and borders between rollouts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tabular_networks import PolicyTable, QTable, batch, side_by_side
from torch import Tensor

from asyncrl.algorithms import PPO, PQN, EpisodicActorCritic, Impala, NStepQ, OneStepQ, OneStepSarsa, Reinforce
from asyncrl.algorithms.reinforce import Baseline
from asyncrl.experience import Batch, PreparedBatch

STATES, ACTIONS, GAMMA = 5, 3, 0.9
numbers = st.floats(-2, 2, width=32)
tables = st.lists(numbers, min_size=STATES * ACTIONS, max_size=STATES * ACTIONS)


@dataclass(frozen=True)
class History:
    """One environment: at step t it saw states[t]. `kind[t]`: goes on, terminated, truncated, or a reset step."""

    states: list[int]
    actions: list[int]
    rewards: list[float]
    kind: list[str]

    def batch(self, **acted: list[float]) -> Batch:
        terminated = [k == "terminated" for k in self.kind]
        valid = [k != "reset" for k in self.kind]
        return batch(self.states, self.actions, self.rewards, terminated, valid, **acted)

    def bootstraps(self, t: int) -> bool:
        """Is the future after step t estimated, because step t + 1 is not played or not in this rollout?"""
        return self.kind[t] == "truncated" or (t + 1 == len(self.kind) and self.kind[t] == "on")

    @property
    def real(self) -> list[int]:
        return [t for t, k in enumerate(self.kind) if k != "reset"]


@st.composite
def histories(draw: st.DrawFn, steps: int = 7) -> History:
    kind = []
    while len(kind) < steps:
        ending = draw(st.sampled_from(["on", "on", "terminated", "truncated"]))
        kind += [ending] if ending == "on" else [ending, "reset"]
    whole = st.integers(0, STATES - 1)
    return History(
        draw(st.lists(whole, min_size=steps + 1, max_size=steps + 1)),
        draw(st.lists(st.integers(0, ACTIONS - 1), min_size=steps, max_size=steps)),
        draw(st.lists(numbers, min_size=steps, max_size=steps)),
        kind[:steps],
    )


def q_table(values: list[float]) -> Tensor:
    return torch.tensor(values).view(STATES, ACTIONS)


def gradient_towards(q: Tensor, history: History, targets: dict[int, float]) -> Tensor:
    """Of the mean of (y − Q(s, a))² by the table."""
    gradient = torch.zeros_like(q)
    for t, y in targets.items():
        s, a = history.states[t], history.actions[t]
        gradient[s, a] += 2 * (float(q[s, a]) - y) / max(1, len(targets))
    return gradient


def learned(algorithm: OneStepQ | OneStepSarsa | NStepQ, q: Tensor, target: Tensor, of: Batch) -> Tensor:
    """The gradient of the loss by the table; none may reach the target network."""
    online, frozen = QTable(q), QTable(target)
    algorithm.loss(online, frozen, of).total.backward()
    assert frozen.q.grad is None
    assert online.q.grad is not None
    return online.q.grad


@given(histories(), tables, tables)
def test_one_step_q_bootstraps_from_the_best_action_of_the_target_network(
    h: History, a: list[float], b: list[float]
) -> None:
    q, target = q_table(a), q_table(b)
    y = {}
    for t in h.real:
        future = 0.0 if h.kind[t] == "terminated" else float(target[h.states[t + 1]].max())
        y[t] = h.rewards[t] + GAMMA * future
    found = learned(OneStepQ(discount=GAMMA), q, target, h.batch())
    assert torch.allclose(found, gradient_towards(q, h, y), atol=1e-4)


@given(histories(), tables, tables)
def test_n_step_q_uses_the_longest_return_of_the_rollout(h: History, a: list[float], b: list[float]) -> None:
    q, target = q_table(a), q_table(b)
    y: dict[int, float] = {}
    for t in reversed(h.real):
        played_on = 0.0 if h.kind[t] == "terminated" else y.get(t + 1, 0.0)
        future = float(target[h.states[t + 1]].max()) if h.bootstraps(t) else played_on
        y[t] = h.rewards[t] + GAMMA * future
    found = learned(NStepQ(discount=GAMMA), q, target, h.batch())
    assert torch.allclose(found, gradient_towards(q, h, y), atol=1e-4)


@given(histories(), tables, st.floats(0, 1))
def test_pqn_mixes_the_next_return_with_the_value_of_the_best_next_action(h: History, a: list[float], mix: float) -> None:
    """The backward loop of the authors' code (purejaxql), which stops at episode ends by `done`."""
    q = q_table(a)
    y: dict[int, float] = {}
    for t in reversed(h.real):
        best = float(q[h.states[t + 1]].max())
        if h.kind[t] == "terminated":
            y[t] = h.rewards[t]
        elif h.bootstraps(t):
            y[t] = h.rewards[t] + GAMMA * best
        else:
            y[t] = h.rewards[t] + GAMMA * best + GAMMA * mix * (y[t + 1] - best)
    algorithm, online = PQN(discount=GAMMA, q_lambda=mix), QTable(q)
    with torch.no_grad():
        prepared = algorithm.prepare(online, online, h.batch())
    algorithm.loss(online, online, prepared).total.backward()
    assert online.q.grad is not None
    assert torch.allclose(online.q.grad, gradient_towards(q, h, y), atol=1e-4)


@given(histories(8), tables, tables)
def test_sarsa_bootstraps_from_the_action_that_was_taken_next(h: History, a: list[float], b: list[float]) -> None:
    """The last step only says what was done in the state before it; after a truncation it is what was chosen there."""
    q, target = q_table(a), q_table(b)
    y = {}
    for t in [t for t in h.real if t < len(h.kind) - 1]:
        taken = float(target[h.states[t + 1], h.actions[t + 1]])
        y[t] = h.rewards[t] + GAMMA * (0.0 if h.kind[t] == "terminated" else taken)
    found = learned(OneStepSarsa(discount=GAMMA), q, target, h.batch())
    assert torch.allclose(found, gradient_towards(q, h, y), atol=1e-4)


values = st.lists(numbers, min_size=STATES, max_size=STATES)


@dataclass(frozen=True)
class Vtrace:
    """Espeholt et al. 2018, remark 1, backwards: v_t = V_t + δ_t + γ·c_t·(v_{t+1} − V_{t+1})."""

    target: dict[int, float]
    advantage: dict[int, float]

    @classmethod
    def of(cls, h: History, value: Tensor, ratio: dict[int, float], rho: float, c: float, lambda_: float) -> Vtrace:
        target: dict[int, float] = {}
        advantage: dict[int, float] = {}
        for t in reversed(h.real):
            here, there = float(value[h.states[t]]), float(value[h.states[t + 1]])
            after = 0.0 if h.kind[t] == "terminated" else there
            weight = min(rho, ratio[t])
            target[t] = here + weight * (h.rewards[t] + GAMMA * after - here)
            following = after
            if h.kind[t] == "on" and t + 1 in target:
                target[t] += GAMMA * lambda_ * min(c, ratio[t]) * (target[t + 1] - there)
                following = target[t + 1]
            advantage[t] = weight * (h.rewards[t] + GAMMA * following - here)
        return cls(target, advantage)


@given(histories(), tables, values, st.data())
def test_impala_is_v_trace(h: History, logits: list[float], value: list[float], data: st.DataObject) -> None:
    rho, c = data.draw(st.floats(0.3, 2)), data.draw(st.floats(0.3, 2))
    behaviour = data.draw(st.lists(st.floats(-2, -0.0625, width=32), min_size=len(h.kind), max_size=len(h.kind)))
    algorithm = Impala(discount=GAMMA, rho_clip=rho, c_clip=c, vtrace_lambda=0.8, entropy_cost=0.0, value_cost=0.5)
    table = PolicyTable(q_table(logits), torch.tensor(value))
    algorithm.loss(table, table, h.batch(log_prob=behaviour)).total.backward()

    log_pi = q_table(logits).log_softmax(-1)
    ratio = {t: math.exp(float(log_pi[h.states[t], h.actions[t]]) - behaviour[t]) for t in h.real}
    expected = Vtrace.of(h, torch.tensor(value), ratio, rho, c, 0.8)
    by_value, by_logits, count = torch.zeros(STATES), torch.zeros(STATES, ACTIONS), max(1, len(h.real))
    for t in h.real:
        s, a = h.states[t], h.actions[t]
        by_value[s] += 0.5 * 2 * (value[s] - expected.target[t]) / count
        by_logits[s] += expected.advantage[t] * (log_pi[s].exp() - torch.eye(ACTIONS)[a]) / count
    assert table.value.grad is not None
    assert table.logits.grad is not None
    assert torch.allclose(table.value.grad, by_value, atol=1e-3)
    assert torch.allclose(table.logits.grad, by_logits, atol=1e-3)


@given(histories(), tables, values)
def test_impala_on_policy_equals_n_step_actor_critic(h: History, logits: list[float], value: list[float]) -> None:
    log_pi = q_table(logits).log_softmax(-1)
    log_prob = [float(log_pi[s, a]) for s, a in zip(h.states, h.actions, strict=False)]
    table = PolicyTable(q_table(logits), torch.tensor(value))
    Impala(discount=GAMMA, entropy_cost=0.0).loss(table, table, h.batch(log_prob=log_prob)).total.backward()
    returns: dict[int, float] = {}
    for t in reversed(h.real):
        after = float(torch.tensor(value)[h.states[t + 1]]) if h.bootstraps(t) else returns.get(t + 1, 0.0)
        returns[t] = h.rewards[t] + GAMMA * (0.0 if h.kind[t] == "terminated" else after)
    expected = torch.zeros(STATES)
    for t in h.real:
        expected[h.states[t]] += (value[h.states[t]] - returns[t]) / max(1, len(h.real))
    assert table.value.grad is not None
    assert torch.allclose(table.value.grad, expected, atol=1e-3)


def prepared(algorithm: PPO, table: PolicyTable, of: Batch) -> PreparedBatch:
    with torch.no_grad():
        return algorithm.prepare(table, table, of)


@given(histories(), tables, values)
def test_ppo_starts_an_update_with_the_plain_policy_gradient(h: History, logits: list[float], value: list[float]) -> None:
    """At ratio 1 nothing is clipped: ∇ is −A·∇ log π; advantages are GAE (Schulman et al. 2016, equation 16)."""
    algorithm = PPO(discount=GAMMA, gae_lambda=0.7, normalize_advantage=False, entropy_cost=0.0, value_cost=0.0)
    log_pi = q_table(logits).log_softmax(-1)
    log_prob = [float(log_pi[s, a]) for s, a in zip(h.states, h.actions, strict=False)]
    table = PolicyTable(q_table(logits), torch.tensor(value))
    algorithm.loss(table, table, prepared(algorithm, table, h.batch(log_prob=log_prob))).total.backward()
    advantage: dict[int, float] = {}
    for t in reversed(h.real):
        after = 0.0 if h.kind[t] == "terminated" else value[h.states[t + 1]]
        advantage[t] = h.rewards[t] + GAMMA * after - value[h.states[t]]
        if h.kind[t] == "on":
            advantage[t] += GAMMA * 0.7 * advantage.get(t + 1, 0.0)
    expected = torch.zeros(STATES, ACTIONS)
    for t in h.real:
        s, a = h.states[t], h.actions[t]
        expected[s] += advantage[t] * (log_pi[s].exp() - torch.eye(ACTIONS)[a]) / max(1, len(h.real))
    assert table.logits.grad is not None
    assert torch.allclose(table.logits.grad, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("old_probability", "advantage", "moves"),
    [(0.5, 1.0, True), (0.3, 1.0, False), (0.3, -1.0, True), (0.9, -1.0, False), (0.9, 1.0, True)],
)
def test_ppo_clips_ratios_in_the_direction_of_the_advantage(old_probability: float, advantage: float, moves: bool) -> None:
    """π(a) = 1/2 now and was `old_probability` before. The clip is 0.2 on either side of a ratio of 1."""
    algorithm = PPO(clip_range=0.2, normalize_advantage=False, entropy_cost=0.0, value_cost=0.0)
    table = PolicyTable()
    once = batch([1, 1], [0], [0.0], log_prob=[math.log(old_probability)]).with_targets(
        advantage=torch.tensor([[advantage]]), value=torch.zeros(1, 1)
    )
    algorithm.loss(table, table, once).total.backward()
    assert table.logits.grad is not None
    assert bool(table.logits.grad.any()) == moves


def test_ppo_normalizes_advantages_over_valid_steps() -> None:
    once = batch([1, 1, 1, 1], [0, 0, 0], [0.0] * 3, valid=[True, True, False], log_prob=[math.log(0.5)] * 3)
    once = once.with_targets(advantage=torch.tensor([[1.0], [3.0], [1e6]]), value=torch.zeros(3, 1))
    table = PolicyTable()
    loss = PPO(entropy_cost=0.0, value_cost=0.0).loss(table, table, once)
    assert float(loss.metrics["policy_loss"]) == pytest.approx(0.0, abs=1e-6)  # −1 and +1
    plain = PPO(entropy_cost=0.0, value_cost=0.0, normalize_advantage=False).loss(table, table, once)
    assert float(plain.metrics["policy_loss"]) == pytest.approx(-2.0)


def test_ppo_stops_an_update_at_max_kl() -> None:
    far = batch([1, 1], [0], [0.0], log_prob=[math.log(0.05)])
    far = far.with_targets(advantage=torch.ones(1, 1), value=torch.zeros(1, 1))
    table = PolicyTable()
    assert [PPO(max_kl=limit).loss(table, table, far).early_stop for limit in (0.0, 1.0, 100.0)] == [False, True, False]


def test_ppo_clips_the_change_of_the_value() -> None:
    """V(1) = 2, it was 0 and its target is 3: with a clip of 0.5 the error counts from 0.5."""
    once = batch([1, 1], [0], [0.0], log_prob=[math.log(0.5)])
    once = once.with_targets(advantage=torch.full((1, 1), 3.0), value=torch.zeros(1, 1))
    table = PolicyTable()
    losses = [float(PPO(value_clip_range=clip).loss(table, table, once).metrics["value_loss"]) for clip in (0.0, 0.5)]
    assert losses == [1.0, 6.25]


@given(st.lists(st.lists(numbers, min_size=1, max_size=6), min_size=1, max_size=4), tables)
def test_reinforce_weights_every_action_by_its_return(episodes: list[list[float]], logits: list[float]) -> None:
    """Episodes of different lengths side by side, padded with a reward that may not count."""
    longest = max(map(len, episodes))
    columns, expected, count = [], torch.zeros(STATES, ACTIONS), sum(map(len, episodes))
    pi = q_table(logits).softmax(-1)
    for number, rewards in enumerate(episodes):
        missing = longest - len(rewards)
        states = [(number + t) % STATES for t in range(longest + 1)]
        actions = [(number + 2 * t) % ACTIONS for t in range(longest)]
        valid = [True] * len(rewards) + [False] * missing
        columns.append(batch(states, actions, rewards + [1000.0] * missing, valid=valid))
        for t in range(len(rewards)):
            total = sum(GAMMA**k * r for k, r in enumerate(rewards[t:]))
            expected[states[t]] += total * (pi[states[t]] - torch.eye(ACTIONS)[actions[t]]) / count
    table = PolicyTable(q_table(logits), torch.full((STATES,), 7.0))
    algorithm = Reinforce(discount=GAMMA, baseline=Baseline.NONE)
    algorithm.loss(table, table, side_by_side(columns)).total.backward()
    assert table.logits.grad is not None
    assert torch.allclose(table.logits.grad, expected, atol=1e-3)
    assert table.value.grad is None or not table.value.grad.any()


def test_reinforce_returns_end_at_a_lost_life() -> None:
    """Two lives of one game, which goes on after the first: returns 1 + 0.5·2, 2, 4 + 0.5·8 and 8."""
    game = batch([0, 1, 2, 3, 0], [0, 1, 0, 1], [1.0, 2.0, 4.0, 8.0], [False, True, False, True])
    table = PolicyTable()
    loss = Reinforce(discount=0.5).loss(table, table, game)
    assert float(loss.metrics["discounted_return"]) == (2 + 2 + 8 + 8) / 4


ONE_EPISODE = batch([0, 1, 2, 3], [0, 1, 0], [1.0, 2.0, 4.0], valid=[True, True, False])  # returns 1 + 0.5·2 and 2


def test_the_mean_baseline_normalizes_returns() -> None:
    table = PolicyTable(torch.zeros(4, 2))
    Reinforce(discount=0.5).loss(table, table, batch([0, 1, 2], [0, 1], [1.0, 4.0])).total.backward()
    # returns 3 and 4: −1 and +1 after standardising
    assert table.logits.grad is not None
    assert torch.allclose(table.logits.grad[:2], torch.tensor([[0.25, -0.25], [0.25, -0.25]]), atol=1e-5)


def test_the_learned_baseline_learns_the_return() -> None:
    table = PolicyTable()
    loss = Reinforce(discount=0.5, baseline=Baseline.LEARNED, value_cost=0.5).loss(table, table, ONE_EPISODE)
    loss.total.backward()
    assert table.value.grad is not None
    assert table.value.grad.tolist() == [(1 - 2) / 2, (2 - 2) / 2, 0, 0]
    assert float(loss.metrics["value_loss"]) == (1 - 2) ** 2 / 2


@pytest.mark.parametrize("baseline", [Baseline.NONE, Baseline.MEAN])
def test_a_baseline_that_is_not_learned_has_no_loss(baseline: Baseline) -> None:
    assert "value_loss" not in Reinforce(baseline=baseline).loss(PolicyTable(), PolicyTable(), ONE_EPISODE).metrics


@pytest.mark.parametrize(("ended", "future"), [("terminated", 0.0), ("truncated", 4.0)])
def test_actor_critic_bootstraps_where_an_episode_was_cut_off(ended: str, future: float) -> None:
    """Returns of two steps and a padded one; V = 1, 2, and 4 of what was seen last."""
    cut = batch([0, 1, 2, 3], [0, 1, 0], [1.0, 2.0, 99.0], [False, ended == "terminated", False], [True, True, False])
    table = PolicyTable()
    algorithm = EpisodicActorCritic(discount=0.5, normalize_advantage=False, value_cost=1.0)
    algorithm.loss(table, table, cut).total.backward()
    second = 2 + 0.5 * future
    first = 1 + 0.5 * second
    errors = [min(1.0, max(-1.0, v - g)) / 2 for v, g in ((1.0, first), (2.0, second))]
    assert table.value.grad is not None
    assert table.value.grad.tolist() == pytest.approx([*errors, 0, 0])
