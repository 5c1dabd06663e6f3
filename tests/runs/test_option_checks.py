"""Every option changes something, or is refused in one sentence that says why it would not.

The options are read from the dataclasses: a new one that no test here knows of fails
`test_every_option_has_another_value_to_be_tried_with`.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import random
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import asked, contract_of, options_of, refusal, serial_updates

from asyncrl import hogwild
from asyncrl.acting.actor import Actor
from asyncrl.acting.bots import Bot
from asyncrl.algorithms import ALGORITHMS
from asyncrl.common.torch_setup import set_torch_threads
from asyncrl.envs import Contract
from asyncrl.envs.family_options import family_option_names
from asyncrl.errors import UsageError
from asyncrl.experience.rollout import Ticket
from asyncrl.launch import start
from asyncrl.runs.components import actor_spec, replay_plan
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import EngineKind, RunConfig
from asyncrl.runs.config.settings import configure, leaves

OTHER: dict[str, Any] = dict(
    extra_envs=("worlds:Dawdling-v0",),
    steps=96, seed=4, actors=3, envs_per_actor=3, rollouts_per_update=1, lag=3, queue_size=6,
    publish_every=2, learning_rate=0.02, anneal_to=0.5, anneal_steps=40, target_kl=1e-6, momentum=0.5, decay=0.5,
    optimizer_epsilon=0.1, max_gradient_norm=0.01, env_kwargs='{"render_mode": "rgb_array"}', imports=("tabular_networks",),
    reward_clip=0.005, reward_scale=2.0, final_reward=3.0, episode_steps=5, standardize=100,
    network="radial", resnet_width=2, hidden=(6,), radial_gammas=(2.0,),
    radial_features=4, recurrent_size=5, noisy_sigma=0.1, initial_std=0.3, bot_share=0.5, bot_prefill=12,
    t_max=3, discount=0.5, gae_lambda=0.5,
    entropy_cost=0.5, value_cost=2.0, vtrace_lambda=0.5, rho_clip=0.3, c_clip=0.3, epochs=3, minibatches=1,
    clip_range=0.001,
    value_clip_range=0.001,
    max_kl=1e-9, longest_episode=3, target_every=16, epsilon_start=0.5, final_epsilons=(0.3, 0.2, 0.1),
    final_epsilon_probabilities=(0.0, 0.0, 1.0),
    epsilon_steps=30, epsilon_perturbation=0.5, epsilon_perturbation_every=30, n_step=3,
    tau=0.1, capacity=48, batch_size=6, replay_ratio=1.0, learning_starts=36, priority_exponent=0.2,
    importance_exponent=0.9, cql_alpha=1.0, q_lambda=0.3,
    quantile_samples=5, target_samples=6, acting_quantiles=1, cosines=3,
    munchausen_scale=0.1, munchausen_temperature=2.0, munchausen_clip=-0.01,
    sequence_length=3, burn_in=2, critics=3, temperature=0.3, target_entropy=1.0, target_entropy_scale=0.3,
    action_noise=0.5, policy_delay=3,
    target_noise=1.0, target_noise_clip=0.01, atoms=11, v_min=-2.0, v_max=2.0, quantiles=7,
)  # fmt: skip
"""Another value of each option that is not an enum."""

OF_FAMILIES: dict[str, tuple[str, Any]] = dict(
    frame_skip=("PongNoFrameskip-v4", 2), frame_stack=("ALE/Pong-v5", 2), screen_size=("ALE/Pong-v5", 50),
    gray=("ALE/Pong-v5", False), protocol=("ALE/Pong-v5", "raw"), sticky=("ALE/Pong-v5", 0.5), noop_max=("ALE/Pong-v5", 3),
    life_loss=("ALE/Pong-v5", True), full_actions=("ALE/Pong-v5", True), episode_frames=("ALE/Pong-v5", 900),
    football_rewards=("academy_empty_goal_close", "checkpoints"), action_set=("SuperMarioBros-1-1-v0", "complex"),
    stuck_steps=("SuperMarioBros-1-1-v0", 50), game_variables=("VizdoomBasic-v1", True),
    action_mask=("masked_envs:Moves-v0", False), centered=("ALE/Pong-v5", False), difference=("ALE/Pong-v5", True),
    resnet_width=("ALE/Pong-v5", 2), initial_std=("Pendulum-v1", 0.3), adaptive_std=("Pendulum-v1", False),
)  # fmt: skip
"""Options of some families of environments: where each means something, and another value."""

SPEED = {"engine", "schedule", "env_threads", "learner_threads", "device"}
"""Options that change no weights, by promise, or only with actors that compete."""

SEEN_IN_FILES: dict[str, Any] = dict(
    target_return=-100.0, eval_every=16, eval_episodes=3, eval_envs=1, eval_episode_steps=2, eval_greedy=True,
    checkpoint_every=32, keep_checkpoints=1, log_every=64,
)  # fmt: skip
"""Options that change what a run records, and the other values that are tried."""

TRIED_ELSEWHERE = {
    "preset": "runs/test_settings.py",
    "init_from": "acting/test_imitation.py",
    "offline": "acting/test_datasets.py",
    "bot": "acting/test_bots.py",
    "on_divergence": "runs/test_divergence.py",
    "learners": "engines/test_learners.py",
    "patience": "test_callbacks.py",
    "video_every": "agents/test_evaluation_videos.py",
    "track": "monitor/test_trackers.py",
    "ray_address": "engines/test_ray_engine.py",
    "storage": "runs/storage/test_storage.py",
    **dict.fromkeys(("step_timeout", "memory_limit", "restarts"), "envs/test_supervised.py"),
    "capsules": "envs/test_capsules.py",
}

CONTEXTS: list[dict[str, Any]] = [
    *({}, dict(engine="hogwild"), dict(engine="hogwild", optimizer="sgd"), dict(schedule="free"), dict(lag=0)),
    *(dict(optimizer=kind) for kind in ("rmsprop", "rmsprop-outside", "adam")),
    *(dict(optimizer=kind, learning_rate=3.0) for kind in ("radam", "sgd")),  # whose first steps are small
    *(dict(gradient_clipping=kind) for kind in ("none", "tensor")),
    *(dict(learning_rate_schedule=kind) for kind in ("constant", "linear", "kl")),
    *(
        dict(recurrent="lstm"),
        dict(recurrent="gru", sequence_length=2),
        dict(noisy=True),
        dict(dueling=True),
        dict(network="radial"),
        dict(precision="bf16"),
    ),
    *(dict(prioritized=True), dict(prioritized=True, priority_exponent=0.0), dict(target_every=0, tau=0.1)),
    *(dict(baseline="learned"), dict(baseline="none"), dict(t_max=1), dict(epochs=1, minibatches=1), dict(lag=0, epochs=1)),
    *(dict(epsilon_start=0.0, final_epsilons=(0.0,), final_epsilon_probabilities=(1.0,)), dict(epsilon_start=0.005)),
    *(
        dict(epsilon_assignment="ladder"),
        dict(epsilon_assignment="round-robin"),
        dict(epsilon_perturbation=0.3, epsilon_perturbation_every=20),
    ),
    *(
        dict(vtrace_lambda=0.0),
        dict(learn_temperature=False),
        dict(munchausen=True),
        dict(munchausen=True, munchausen_scale=0.0),
        dict(target_noise=0.0),
        dict(eval_episodes=0),
        dict(bot="test_option_checks:to_the_right", bot_share=0.3),
    ),
    *(dict(bot="test_option_checks:to_the_right", bot_explores=True), dict(hold_random_actions=True), dict(anneal_to=1.0)),
    *(dict(normalize_observation=True), dict(normalize_return=True), dict(normalize_value=True)),
]
"""What else may be asked for at the same time."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks of eight units are computed faster by one."""
    before = torch.get_num_threads()
    set_torch_threads(1)
    yield
    set_torch_threads(before)


def to_the_right() -> Bot:
    return lambda observation, info: 1


def others(option: str, default: Any) -> list[Any]:
    """Other values of an option: those of an enumeration or a switch, or the one in `OTHER`."""
    if isinstance(default, Enum):
        return [member for member in type(default) if member is not default]
    if isinstance(default, bool):
        return [not default]
    return [OTHER[option]]


Update = tuple[bytes, list[int]]
"""The weights after an update, and the versions of the weights that acted."""


def updates_of(config: RunConfig, contract: Contract) -> Iterator[Update]:
    """The updates of a resolved run on serial, or the last one of workers that take turns."""
    torch.manual_seed(0)
    if config.engine is EngineKind.HOGWILD:
        yield _of_turns(config, contract)
        return
    for learner, rollouts in serial_updates(config, contract):
        yield learner.weights.detach().numpy().tobytes(), [int(one.stamp[2]) for one in rollouts]


def _of_turns(config: RunConfig, contract: Contract) -> Update:
    everyone = hogwild.HogwildLearner.coordinator(config, contract)
    spec = actor_spec(config, contract)
    members = [hogwild.HogwildLearner(config, contract, everyone.shared, index) for index in range(config.actors)]
    actors = [Actor(spec, index) for index in range(config.actors)]
    layout = spec.layout()
    slot = layout.slot(torch.zeros(layout.nbytes, dtype=torch.uint8), 0)
    for number in itertools.count():
        member, actor = members[number % config.actors], actors[number % config.actors]
        member.pull()
        if member.step >= config.steps:
            break
        actor.policy.load(member.weights)
        actor.collect(Ticket(number, actor.index, member.updates, 0, member.step), slot)
        member.update([slot])
    everyone.pull()
    return everyone.weights.detach().numpy().tobytes(), [everyone.updates]


@functools.cache
def _whole_run(config: RunConfig) -> list[Update]:
    contract = contract_of(config)
    return list(updates_of(resolve(config, contract), contract))


def are_the_same(before: RunConfig, after: RunConfig) -> bool:
    """Whether two runs have the same contract, replay buffer and updates. The second one ends at the first difference."""
    contract = contract_of(before)
    if contract_of(after) != contract:
        return False
    resolved = resolve(after, contract)
    if replay_plan(resolved, contract) != replay_plan(resolve(before, contract), contract):
        return False
    expected = _whole_run(before)  # both draw from torch's generator
    return all(one == other for one, other in itertools.zip_longest(expected, updates_of(resolved, contract)))


def silent(algorithm: str, context: Mapping[str, Any], option: str) -> list[str]:
    """The values of `option` that are taken in `context` and change nothing."""
    try:
        before = asked(algorithm, context)
    except UsageError:
        return []  # the algorithm has no such option
    if refusal(before, *context) is not None:
        return []
    found = []
    resolved = {**leaves(resolve(before, contract_of(before))), "env_backend": contract_of(before).backend}
    for value in others(option, leaves(before)[option]):
        if value in (leaves(before)[option], resolved[option]):
            continue  # what it is already, or what auto stands for
        try:
            after = asked(algorithm, {**context, option: value})
            if refusal(after, option) is not None:
                continue
        except UsageError:
            continue
        if are_the_same(before, after):
            found.append(f"{algorithm} {dict(context)}: {option} = {value}")
    return found


KEPT_APART = {*SPEED, *SEEN_IN_FILES, *TRIED_ELSEWHERE}


def test_what_is_tried_elsewhere_is() -> None:
    for option, file in TRIED_ELSEWHERE.items():
        assert option in (Path(__file__).parents[1] / file).read_text(), option


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_option_has_another_value_to_be_tried_with(algorithm: str) -> None:
    for option, default in options_of(algorithm).items():
        if option not in KEPT_APART:
            assert others(option, default), option


WHOLE = ["a3c", "ppo", "n-step-q", "dqn", "reinforce"]
"""One method of each kind of experience: with these, options that all methods share are tried too."""


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_option_changes_the_run_or_is_refused(algorithm: str) -> None:
    own = leaves(ALGORITHMS[algorithm]())
    options = (options_of(algorithm) if algorithm in WHOLE else own).keys() - KEPT_APART
    assert [line for option in sorted(options) for line in silent(algorithm, {}, option)] == []


@pytest.mark.parametrize("algorithm", WHOLE)
def test_it_does_beside_other_options_too(algorithm: str) -> None:
    """A fixed sample of all pairs."""
    options = sorted(options_of(algorithm).keys() - KEPT_APART)
    pairs = [(context, option) for context in CONTEXTS[1:] for option in options]
    for context, option in random.Random(algorithm).sample(pairs, 30):
        assert silent(algorithm, context, option) == []


def test_every_option_of_a_family_is_tried_in_one_of_its_environments() -> None:
    assert family_option_names() <= OF_FAMILIES.keys()


EVERY_OPTION = {option for name in ALGORITHMS for option in options_of(name)} | OF_FAMILIES.keys()


@pytest.mark.parametrize("option", sorted(EVERY_OPTION - KEPT_APART))
def test_no_option_is_refused_always(option: str) -> None:
    """A refusal everywhere would make the tests above pass."""
    if option in OF_FAMILIES:
        env, value = OF_FAMILIES[option]
        small: dict[str, Any] = dict(steps=32, actors=1, envs_per_actor=2, t_max=4, rollouts_per_update=2)
        small |= dict(network="impala-resnet", screen_size=42) if option == "resnet_width" else {}
        before, after = (configure(env, "a3c", **small, **settings) for settings in ({}, {option: value}))
        assert refusal(after, option) is None
        assert not are_the_same(before, after)
        return
    for name, context in itertools.product(ALGORITHMS, CONTEXTS):
        if option in options_of(name):
            with contextlib.suppress(UsageError):
                default = leaves(asked(name, context))[option]
                if any(refusal(asked(name, {**context, option: x}), option) is None for x in others(option, default)):
                    return
    pytest.fail(f"{option} is refused by every algorithm in every context")


@pytest.mark.parametrize(
    ("algorithm", "context", "option", "value"),
    [
        ("a3c", dict(normalize_return=True, reward_clip=0.015), "reward_scale", OTHER["reward_scale"]),
        ("ppo", dict(lag=0, epochs=1, minibatches=1, publish_every=2), "clip_range", OTHER["clip_range"]),
        ("ppo", dict(lag=0, epochs=1, minibatches=1, publish_every=2), "max_kl", OTHER["max_kl"]),
        ("sac", dict(network="radial"), "layer_norm", True),
        ("td3", dict(network="radial"), "precision", "bf16"),
    ],
)
def test_an_option_is_taken_where_another_one_gives_it_an_effect(
    algorithm: str, context: dict[str, Any], option: str, value: Any
) -> None:
    before, after = asked(algorithm, context), asked(algorithm, {**context, option: value})
    assert refusal(after, option) is None
    assert _whole_run(after) != _whole_run(before)


@pytest.mark.parametrize("option", SEEN_IN_FILES)
def test_what_changes_no_weights_changes_what_is_recorded(tmp_path: Path, option: str) -> None:
    seen = []
    for folder, settings in (("one", {}), ("two", {option: SEEN_IN_FILES[option]})):
        common: dict[str, Any] = dict(eval_episodes=6, eval_every=32, checkpoint_every=16, log_every=16, keep_checkpoints=3)
        run, outcome = start(asked("a3c", {**common, **settings}), tmp_path / folder)
        kinds = [(record["kind"], record["step"], record.get("mode"), record.get("returns")) for record in run.records()]
        seen.append((outcome.step, sorted(path.name for path in run.checkpoints()), kinds))
    assert seen[0] != seen[1]
