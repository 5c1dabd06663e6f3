"""DQN, C51 and QR-DQN: hand-computed targets, losses against slow references, and their options."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tabular_networks import QTable
from torch import Tensor

from asyncrl.acting.actor import Actor
from asyncrl.algorithms import C51, DQN, QRDQN, ActContext, Loss, Policy
from asyncrl.algorithms.c51 import project
from asyncrl.algorithms.dqn import TDLoss
from asyncrl.algorithms.exploration import EnvSlots
from asyncrl.algorithms.qr_dqn import quantile_loss
from asyncrl.algorithms.replay_based import gather_action, q_outputs
from asyncrl.api import configure, load
from asyncrl.common.randomness import Stream, generator
from asyncrl.envs import describe
from asyncrl.errors import UsageError
from asyncrl.experience import PreparedSample, ReplayOptions, Sample
from asyncrl.experience.rollout import Ticket
from asyncrl.launch import start
from asyncrl.learner import Learner
from asyncrl.networks import Init, NetworkConfig, QNetwork, bind, copy_into, resample
from asyncrl.runs.components import actor_spec, make_learner
from asyncrl.runs.config.resolution import resolve

Q = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 4.0]])
OTHER = torch.tensor([[0.0, 5.0], [7.0, 2.0], [6.0, 1.0]])


def sample(
    states: list[int], actions: list[int], rewards: list[list[float]], later: list[int], steps: list[int], over: list[bool]
) -> Sample:
    """Rewards are given step by step of each column."""
    ones = torch.ones(len(states))
    seen, then = (torch.tensor(x, dtype=torch.float32)[:, None] for x in (states, later))
    reward = torch.tensor(rewards, dtype=torch.float32).T
    return Sample(seen, torch.tensor(actions), reward, then, torch.tensor(steps), torch.tensor(over), ones, ones.long())


def loss_of(algorithm: DQN, network: QTable, target: QTable, batch: Sample) -> Loss:
    """As a learner has it computed."""
    with torch.no_grad():
        prepared = algorithm.prepare(network, target, batch)
    return algorithm.loss(network, target, prepared)


THREE = sample([0, 1, 2], [1, 0, 0], [[1.0, 2.0], [3.0, 0.0], [4.0, 5.0]], [2, 2, 0], [2, 1, 2], [False, False, True])
"""Three two-step transitions: one that bootstraps, one truncated after the first step, one that terminated."""


@pytest.mark.parametrize(("double", "at_two"), [(False, 6.0), (True, 1.0)])
def test_the_target_is_the_n_step_return_plus_the_target_networks_value(double: bool, at_two: float) -> None:
    """Double: the network's best action in state 2 is 1, of which the target network thinks 1 and not 6."""
    algorithm = DQN(discount=0.5, n_step=2, double=double, td_loss=TDLoss.SQUARED)
    loss = loss_of(algorithm, QTable(Q), QTable(OTHER), THREE)
    y = torch.tensor([1 + 0.5 * 2 + 0.25 * at_two, 3 + 0.5 * at_two, 4 + 0.5 * 5])
    errors = (y - torch.tensor([2.0, 3.0, 0.5])).abs()
    assert torch.allclose(loss.td_errors, errors)
    assert loss.total.item() == pytest.approx(float(errors.square().mean()))


def test_importance_weights_scale_gradients() -> None:
    gradients = []
    for weight in (1.0, 0.25):
        table = QTable(Q)
        loss_of(DQN(), table, QTable(OTHER), replace(THREE, weight=torch.full((3,), weight))).total.backward()
        gradients.append(table.q.grad)
    assert torch.allclose(0.25 * gradients[0], gradients[1])


def test_the_conservative_penalty_lowers_values_of_other_actions() -> None:
    table = QTable(Q)
    with_it, without = (loss_of(DQN(cql_alpha=c), table, QTable(OTHER), THREE).total for c in (1.0, 0.0))
    (with_it - without).backward()
    pulled = Q.softmax(-1)
    pulled[torch.arange(3), torch.tensor([1, 0, 0])] -= 1
    assert torch.allclose(table.q.grad, pulled / 3, atol=1e-6)


def chain() -> tuple[Sample, Tensor]:
    """Five states in a row, left or right, 1 for reaching the end: all transitions, and their values by hand, γ = 0.9."""
    states, actions, rewards, later, over = [], [], [], [], []
    for s in range(5):
        for a in (0, 1):
            then = max(0, s - 1) if a == 0 else s + 1
            states, actions, rewards = [*states, s], [*actions, a], [*rewards, [1.0 if then == 5 else 0.0]]
            later, over = [*later, min(then, 4)], [*over, then == 5]
    right = 0.9 ** torch.arange(4.0, -1, -1)
    left = 0.9 * right[[0, 0, 1, 2, 3]]
    return sample(states, actions, rewards, later, [1] * 10, over), torch.stack([left, right], 1)


@pytest.mark.parametrize("switches", [{}, {"double": True}, {"td_loss": TDLoss.SQUARED}])
def test_dqn_finds_the_exact_values_of_a_chain(switches: dict[str, Any]) -> None:
    batch, exact = chain()
    table = QTable(torch.zeros(5, 2))
    optimizer = torch.optim.SGD(table.parameters(), lr=5.0)
    for _ in range(200):
        optimizer.zero_grad()
        loss_of(DQN(discount=0.9, **switches), table, table, batch).total.backward()
        optimizer.step()
    assert torch.allclose(table.q.detach(), exact, atol=1e-3)


def test_a_run_on_the_corridor_finds_the_exact_values(tmp_path: Path) -> None:
    """Six cells, 1 for the last, -0.01 for every other step: what walking right is worth from each cell."""
    small = dict(capacity=2_000, learning_starts=200, replay_ratio=0.5, learning_rate=2e-3, target_every=100, discount=0.9)
    config = configure("worlds:Corridor-v0", "dqn", **small, steps=6_000, actors=1, envs_per_actor=8, epsilon_steps=3_000,
                       final_epsilons=(0.3,), eval_episodes=0, engine="serial", seed=3)  # fmt: skip
    run, _ = start(config, tmp_path / "run")
    q = q_outputs(load(run.path).policy._network, torch.eye(6)).q[0].detach()
    exact = [0.9**k - sum(0.01 * 0.9**i for i in range(k)) for k in (4, 3, 2, 1, 0)]
    assert q[:5, 1].tolist() == pytest.approx(exact, abs=0.05)
    assert (q[:5, 1] > q[:5, 0]).all()


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), atoms=st.integers(2, 12))
def test_the_categorical_projection_agrees_with_the_papers_loop(seed: int, atoms: int) -> None:
    random = np.random.default_rng(seed)
    low, high, rows = -2.0, 3.0, 3
    support = np.linspace(low, high, atoms)
    values, probability = random.uniform(-4, 5, (rows, atoms)), random.dirichlet(np.ones(atoms), rows)
    values[0, 0] = support[-1]
    wanted = np.zeros((rows, atoms))
    for n in range(rows):
        for j in range(atoms):
            b = (np.clip(values[n, j], low, high) - low) / ((high - low) / (atoms - 1))
            lower, upper = int(np.floor(b + 1e-9)), int(np.ceil(b - 1e-9))
            if lower == upper:
                wanted[n, lower] += probability[n, j]
            else:
                wanted[n, lower] += probability[n, j] * (upper - b)
                wanted[n, upper] += probability[n, j] * (b - lower)
    found = project(*(torch.from_numpy(x) for x in (values, probability, support)))
    assert found.numpy() == pytest.approx(wanted, abs=1e-7)
    assert found.sum(1).numpy() == pytest.approx(np.ones(rows))


@settings(deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_quantile_loss_agrees_with_a_loop(seed: int) -> None:
    random = np.random.default_rng(seed)
    quantiles, samples = random.normal(size=(2, 3)), random.normal(size=(2, 4)) * 2
    wanted = []
    for n in range(2):
        total = 0.0
        for i in range(3):
            for j in range(4):
                u = samples[n, j] - quantiles[n, i]
                huber = 0.5 * u * u if abs(u) <= 1 else abs(u) - 0.5
                total += abs((i + 0.5) / 3 - (u < 0)) * huber / 4
        wanted.append(total)
    assert quantile_loss(torch.from_numpy(quantiles), torch.from_numpy(samples)).tolist() == pytest.approx(wanted)


def network(algorithm: Any, **config: Any) -> QNetwork:
    spaces = describe("CartPole-v1").spaces
    shape = NetworkConfig("mlp", hidden=(16,), **config)
    built: QNetwork = algorithm.build(shape, spaces, torch.float32, generator(1, Stream.NETWORK))
    return built


@pytest.mark.parametrize("algorithm", [DQN(), C51(atoms=7), QRDQN(quantiles=5)])
def test_dueling_advantages_have_mean_zero(algorithm: Any) -> None:
    built, seen = network(algorithm, dueling=True), torch.randn(6, 4)
    assert built.value is not None
    features, _ = built.body(seen[None], torch.zeros(6, 0))
    assert torch.allclose(q_outputs(built, seen).outputs.mean(-2), built.value(features), atol=1e-6)


def test_c51_values_stay_between_v_min_and_v_max() -> None:
    q = q_outputs(network(C51(atoms=11, v_min=-1.0, v_max=2.0)), 100 * torch.randn(50, 4)).q.detach()
    assert -1.0 <= q.min() < q.max() <= 2.0


def test_noise_is_drawn_in_training_and_zero_in_evaluation() -> None:
    contract = describe("CartPole-v1")
    config = NetworkConfig("mlp", hidden=(16,), noisy=True)
    policy = Policy(DQN(), config, contract.spaces, torch.float32)
    seen, slots, outputs = torch.randn(1, 4), EnvSlots.of(1, 0, 1), []
    training, evaluation = partial(ActContext.training, step=0, slots=slots), ActContext.evaluation
    for seed, make in ((1, training), (1, training), (2, training), (3, evaluation), (4, evaluation)):
        context = make(torch.Generator().manual_seed(seed))
        policy.act(seen, torch.zeros(1, 0), context)
        outputs.append(q_outputs(policy._network, seen).q)
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[1], outputs[2])
    assert torch.equal(outputs[3], outputs[4])


def test_every_dense_layer_but_the_first_is_noisy() -> None:
    spaces, shape = describe("CartPole-v1").spaces, NetworkConfig("mlp", hidden=(16, 25), noisy=True, noisy_sigma=0.1)
    built = DQN().build(shape, spaces, torch.float32, generator(1, Stream.NETWORK))
    spreads = {name: float(x.detach().max()) for name, x in built.named_parameters() if name.endswith("weight_spread")}
    assert spreads == pytest.approx({"body.encoder.layers.1.weight_spread": 0.1 / 4, "q.weight_spread": 0.1 / 5})


@pytest.mark.parametrize(("init", "hidden", "head"), [(Init.ORTHOGONAL, 6**0.5, 3**0.5), (Init.FAN_IN, 1, 1)])
def test_mean_weights_of_noisy_layers_follow_the_initialization(init: Init, hidden: float, head: float) -> None:
    shape = NetworkConfig("mlp", hidden=(256, 256), noisy=True, init=init)
    built = DQN().build(shape, describe("CartPole-v1").spaces, torch.float32, generator(1, Stream.NETWORK))
    width = {name: float(x.detach().std()) * (3 * 256) ** 0.5 for name, x in built.named_parameters()}
    assert width["body.encoder.layers.1.weight"] == pytest.approx(hidden, rel=0.02)
    assert width["q.weight"] == pytest.approx(head, rel=0.1)


def test_noise_vanishes_with_its_learned_spread() -> None:
    built, seen = network(DQN(), noisy=True), torch.randn(1, 4)
    resample(built, None)
    plain = q_outputs(built, seen).q
    weights, _ = bind(built)
    copy_into(built, weights)
    for name, parameter in built.named_parameters():
        if name.endswith("spread"):
            parameter.data.zero_()
    resample(built, torch.Generator().manual_seed(1))
    assert torch.equal(q_outputs(built, seen).q, plain)


def test_gradient_steps_follow_the_replay_ratio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    gradient_step = Learner.gradient_step

    def counted(self: Learner, *arguments: Any, **options: Any) -> Tensor:
        taken.append(self.step)
        return gradient_step(self, *arguments, **options)

    monkeypatch.setattr(Learner, "gradient_step", counted)
    config = configure("CartPole-v1", "dqn", steps=1_000, actors=2, envs_per_actor=3, t_max=4, capacity=500, batch_size=8,
                       learning_starts=100, replay_ratio=0.3, eval_episodes=0, engine="serial")  # fmt: skip
    _, outcome = start(config, tmp_path / "run")
    assert len(taken) == int((outcome.step - 100) * 0.3)
    assert min(taken) >= 96  # the update that crosses step 100 begins here


def learner_after_24_steps(**settings: Any) -> tuple[Learner, list[Tensor]]:
    """Of DQN on two environments, with its initial weights. Of three rollouts the last one brings gradient steps."""
    contract = describe("CartPole-v1")
    small = dict(actors=1, envs_per_actor=2, learning_starts=20, capacity=100, batch_size=8, target_every=0)
    config = resolve(configure("CartPole-v1", "dqn", **small, **settings), contract)
    learner, spec = make_learner(config, contract), actor_spec(config, contract)
    slot = spec.layout().slot(torch.zeros(spec.layout().nbytes, dtype=torch.uint8), 0)
    before = [x.clone() for x in learner.network.parameters()]
    with contextlib.closing(Actor(spec, 0)) as actor:
        while learner.step < 24:
            actor.collect(Ticket(learner.updates, 0, 0, 0, learner.step), slot)
            learner.update([slot])
    return learner, before


def test_tau_moves_the_target_network_at_every_gradient_step() -> None:
    learner, before = learner_after_24_steps(tau=0.25, replay_ratio=0.25)
    for then, own, target in zip(before, learner.network.parameters(), learner.target_network.parameters(), strict=True):
        assert not torch.equal(own, then)
        assert torch.allclose(target, then + 0.25 * (own - then), atol=1e-7)


def test_without_a_target_network_targets_are_those_of_the_newest_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    loss, equal = DQN.loss, []

    def compared(self: DQN, network: QNetwork, target: QNetwork, batch: PreparedSample) -> Loss:
        equal.append(torch.equal(batch.target_q, q_outputs(network, batch.next_observation).q[0]))
        return loss(self, network, target, batch)

    monkeypatch.setattr(DQN, "loss", compared)
    learner_after_24_steps(replay_ratio=1.0)
    assert equal == [True] * 4


@pytest.mark.parametrize(
    ("env", "algorithm", "wrong", "sentence"),
    [
        (
            "CartPole-v1",
            "dqn",
            dict(recurrent="lstm"),
            "--recurrent lstm learns from sequences of steps: --sequence-length",
        ),
        ("CartPole-v1", "dqn", dict(sequence_length=4), "--sequence-length 4 is for recurrent networks"),
        ("CartPole-v1", "dqn", dict(engine="hogwild"), "hogwild: its workers learn from their own rollouts"),
        ("CartPole-v1", "dqn", dict(n_step=0), "--n-step must be 1 or more, not 0"),
        (
            "CartPole-v1",
            "dqn",
            dict(capacity=20, batch_size=64),
            "--capacity must be 65 or more for --batch-size 64 and 1-step returns, not 20",
        ),
        ("CartPole-v1", "dqn", dict(replay_ratio=0.0), "--replay-ratio must be above 0 and at most 1000, not 0"),
        ("CartPole-v1", "c51", dict(v_min=3.0, v_max=1.0), "--v-min must be below --v-max, not 3"),
        ("CartPole-v1", "a3c", dict(noisy=True), "are for methods that learn action values, not for a3c"),
        ("Pendulum-v1", "dqn", {}, "dqn needs one discrete action per step"),
    ],
)
def test_incompatible_settings_raise(env: str, algorithm: str, wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        resolve(configure(env, algorithm, **wrong), describe(env))


def test_the_number_of_updates_follows_the_replay_ratio() -> None:
    options = ReplayOptions(learning_starts=100, replay_ratio=0.25)
    assert [options.num_updates(step) for step in (0, 100, 103, 104, 108)] == [0, 0, 0, 1, 2]


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 4)])
def test_gathered_actions_are_indexed_ones_with_the_same_gradient(shape: tuple[int, ...]) -> None:
    x, action = torch.randn(shape), torch.randint(3, (6,))
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    one, other = gather_action(ours, action), theirs[torch.arange(6), action]
    assert torch.equal(one, other)
    one.square().sum().backward()
    other.square().sum().backward()
    assert torch.equal(ours.grad, theirs.grad)
