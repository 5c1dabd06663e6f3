"""From what a user asks for to a configuration: which preset, what fits a short run, and what counts as asked for."""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np
import pytest

import asyncrl
from asyncrl import presets
from asyncrl.algorithms import A3C, ALGORITHMS
from asyncrl.algorithms.optimizers import LearningRateSchedule
from asyncrl.envs import describe
from asyncrl.errors import UsageError
from asyncrl.networks import NetworkConfig
from asyncrl.runs.config import foreign_names, resolution
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import Precision
from asyncrl.runs.config.settings import configure, leaves, setting_places, settings_of, tailor
from asyncrl.runs.config.summary import summary_lines

ENV = "worlds:Corridor-v0"


def test_the_environment_that_is_named_goes_before_that_of_a_preset() -> None:
    assert configure("ALE/Pong-v5", preset="mnih2016/a3c-ff").env == "ALE/Pong-v5"
    assert configure("", preset="mnih2016/a3c-ff").env == "BreakoutNoFrameskip-v4"


def test_a_configuration_knows_the_preset_that_it_began_with() -> None:
    assert configure("CartPole-v1", "ppo").preset == "ppo/cartpole"
    assert configure("CartPole-v1", preset="rlk/cartpole-dqn").preset == "rlk/cartpole-dqn"
    assert configure(ENV, "ppo").preset is None


@pytest.mark.parametrize(
    ("algorithm", "settings", "expected"),
    [
        ("dqn", dict(steps=20_000), dict(learning_starts=1_000, target_every=500, epsilon_steps=20_000)),
        ("dqn", dict(steps=20_000, learning_starts=15_000), dict(learning_starts=15_000)),
        ("dqn", dict(steps=5_000), dict(learning_starts=500, target_every=500, epsilon_steps=2_500)),
        ("dqn", dict(tau=0.01), dict(target_every=0, tau=0.01)),
        ("dqn", dict(tau=0.01, target_every=50), dict(target_every=50, tau=0.01)),
        ("n-step-q", dict(steps=1_000), dict(target_every=100, epsilon_steps=500)),
        ("n-step-q", dict(final_epsilons=(0.2, 0.1)), dict(final_epsilon_probabilities=(0.5, 0.5))),
    ],
)
def test_what_is_not_asked_for_fits_what_is(algorithm: str, settings: dict[str, Any], expected: dict[str, Any]) -> None:
    config = tailor(ENV, algorithm, **settings)
    assert {name: leaves(config)[name] for name in expected} == expected


def test_a_target_network_that_moved_is_copied_instead_where_that_is_asked_for() -> None:
    """LunarLander's preset has a rate."""
    found = leaves(tailor("LunarLander-v3", "dqn", target_every=500))
    assert (found["target_every"], found["tau"]) == (500, 0.0)


@pytest.mark.parametrize(
    ("algorithm", "env", "preset", "row"),
    [
        ("ppo", "CartPole-v1", None, "ppo/cartpole, tuned for CartPole-v1"),
        ("ppo", ENV, None, "ppo/discrete, for any environment with numbers and discrete actions"),
        ("dqn", "CartPole-v1", "rlk/cartpole-dqn", "rlk/cartpole-dqn"),
        ("random", ENV, None, "none: random's defaults, which may not suit this environment"),
    ],
)
def test_the_header_says_why_a_preset_was_chosen(algorithm: str, env: str, preset: str | None, row: str) -> None:
    config = tailor(env, algorithm, preset)
    config = resolve(config, describe(env, config.environment))
    assert f"{'preset':<20}{row}" in summary_lines(config)


@pytest.mark.parametrize(
    ("actors", "row"),
    [(4, "lockstep, lag 1"), (64, "lockstep, lag 1: 4 of 64 actors busy (--rollouts-per-update)")],
)
def test_the_header_says_if_actors_have_to_wait_for_updates(actors: int, row: str) -> None:
    config = tailor(ENV, "a3c", actors=actors, rollouts_per_update=2)
    assert f"{'schedule':<20}{row}" in summary_lines(resolve(config, describe(ENV, config.environment)))


def test_the_header_says_what_a_run_learns_from_and_starts_with() -> None:
    lines = summary_lines(resolve(tailor(ENV, "dqn", offline="corridor/demo-v0", init_from="runs/one"), describe(ENV)))
    assert f"{'data':<20}corridor/demo-v0, without playing" in lines
    assert f"{'weights':<20}from runs/one" in lines
    plain = summary_lines(resolve(tailor(ENV, "dqn"), describe(ENV)))
    assert not any(line.startswith(("data ", "weights ")) for line in plain)


@pytest.mark.parametrize(
    ("settings", "row"),
    [
        (dict(steps=80), "80 steps, one update per 80 steps"),
        (dict(steps=30), "80 steps, one update (30 were asked for)"),
        (dict(steps=30, envs_per_actor=4000), "80,000 steps, one update (30 were asked for)"),
    ],
)
def test_the_header_says_how_long_a_run_will_be(settings: dict[str, Any], row: str) -> None:
    config = tailor(ENV, "a3c", **{**dict(actors=1, envs_per_actor=4, t_max=20), **settings})
    lines = summary_lines(resolve(config, describe(ENV, config.environment)))
    assert f"{'length':<20}{row}" in lines
    assert any(f"1 × {config.envs_per_actor:,} environments" in line for line in lines)


@pytest.mark.parametrize(
    ("algorithm", "env", "settings", "threads"),
    [
        ("a3c", "ALE/Pong-v5", {}, 4),
        ("ppo", "ALE/Pong-v5", dict(epochs=1), 4),
        ("ppo", "ALE/Pong-v5", dict(epochs=2), 8),
        ("dqn", "ALE/Pong-v5", {}, 8),
        ("ppo", ENV, dict(epochs=2), 4),
        ("dqn", ENV, dict(network="radial"), 4),
        ("ppo", "ALE/Pong-v5", dict(epochs=2, learner_threads=3), 3),
    ],
)
def test_convolutions_learn_on_all_cores_where_learning_takes_longer_than_acting(
    monkeypatch: pytest.MonkeyPatch, algorithm: str, env: str, settings: dict[str, Any], threads: int
) -> None:
    monkeypatch.setattr(resolution, "cores", lambda: 8)
    config = configure(env, algorithm, **settings)
    assert resolve(config, describe(env, config.environment)).learner_threads == threads


@pytest.mark.parametrize(
    ("algorithm", "env", "network", "precision"),
    [
        ("dqn", "ALE/Pong-v5", "auto", Precision.BF16),
        ("dqn", ENV, "auto", Precision.FP32),
        ("sac", "Pendulum-v1", "radial", Precision.FP32),
    ],
)
def test_networks_with_convolutions_compute_in_bfloat16_where_it_is_fast(
    monkeypatch: pytest.MonkeyPatch, algorithm: str, env: str, network: str, precision: Precision
) -> None:
    monkeypatch.setattr(resolution, "has_bfloat16", lambda: True)
    config = configure(env, algorithm, network=network)
    assert resolve(config, describe(env, config.environment)).precision is precision


def test_of_two_scalings_of_observations_the_one_that_is_asked_for_stays() -> None:
    """The preset of linear-q on CartPole standardizes."""
    asked = leaves(tailor("CartPole-v1", "linear-q", normalize_observation=True))
    assert (asked["standardize"], asked["normalize_observation"]) == (0, True)


def test_hogwild_does_without_the_averages_of_a_preset() -> None:
    """The preset of a3c normalizes returns; that of ppo on Atari adapts its learning rate to the KL."""
    assert not tailor(ENV, "a3c", engine="hogwild").normalize_return
    assert tailor(ENV, "a3c", engine="hogwild", normalize_return=True).normalize_return, "it was asked for"
    schedule = tailor("ALE/Pong-v5", "ppo", engine="hogwild").optimizer.learning_rate_schedule
    assert schedule is LearningRateSchedule.CONSTANT


def test_without_a_kl_to_measure_the_rate_of_a_preset_is_constant() -> None:
    single = tailor("ALE/Pong-v5", "ppo", epochs=1, minibatches=1)
    assert single.optimizer.learning_rate_schedule is LearningRateSchedule.CONSTANT
    assert (
        tailor("ALE/Pong-v5", "ppo", epochs=1, minibatches=1, lag=1).optimizer.learning_rate_schedule
        is LearningRateSchedule.KL
    )


def test_what_differs_from_the_preset_or_is_named_was_asked_for() -> None:
    config = configure("CartPole-v1", "a3c", lag=3, t_max=16)
    assert settings_of(config) == {"lag"}  # t_max is the preset's
    assert settings_of(config, ["t_max"]) == {"lag", "t_max"}


@pytest.mark.parametrize(
    ("env", "given", "minibatches"),
    [
        ("worlds:Corridor-v0", {}, 16),
        ("worlds:Corridor-v0", {"recurrent": "lstm"}, 8),
        ("CartPole-v1", {"recurrent": "gru", "envs_per_actor": 1}, 1),
        ("CartPole-v1", {"envs_per_actor": 1, "t_max": 4}, 2),
        ("ALE/Pong-v5", {"engine": "hogwild", "envs_per_actor": 3, "recurrent": "lstm"}, 3),
        ("CartPole-v1", {"recurrent": "gru", "envs_per_actor": 2, "minibatches": 3}, 3),
    ],
)
def test_minibatches_fit_into_the_update_unless_given(env: str, given: dict[str, Any], minibatches: int) -> None:
    assert tailor(env, "ppo", **given).algorithm.experience().minibatches == minibatches


@pytest.mark.parametrize("algorithm", ["a3c", "impala", "ppo", "pqn", "dqn", "n-step-q", "reinforce"])
def test_a_memory_may_be_added_to_the_presets_of_every_kind(algorithm: str) -> None:
    for env in ("worlds:Corridor-v0", "CartPole-v1", "ALE/Pong-v5"):
        resolve(tailor(env, algorithm, recurrent="lstm"), describe(env))


@pytest.mark.parametrize(
    ("env", "algorithm", "given"),
    [
        ("CartPole-v1", "dqn", {"steps": 2_000, "cql_alpha": 1.0}),
        ("CartPole-v1", "n-step-q", {"final_epsilons": (0.4,), "epsilon_assignment": "ladder"}),
        ("CartPole-v1", "dqn", {"recurrent": "lstm"}),
        ("ALE/Pong-v5", "ppo", {"normalize_observation": True}),
        ("ALE/Pong-v5", "ppo", {"engine": "hogwild"}),
    ],
)
def test_what_is_adapted_to_other_settings_was_not_asked_for(env: str, algorithm: str, given: dict[str, Any]) -> None:
    assert settings_of(tailor(env, algorithm, **given), given) == given.keys()


def test_keywords_of_an_environment_are_a_mapping_or_json() -> None:
    mapping = configure(ENV, "a3c", env_kwargs={"size": 7})
    assert mapping == configure(ENV, "a3c", env_kwargs='{"size": 7}')
    with pytest.raises(UsageError, match=r"env_kwargs .* is not JSON: .*; give a function that makes the environment"):
        configure(ENV, "a3c", env_kwargs={"size": object()})


def test_numbers_may_be_those_of_numpy() -> None:
    config = configure(ENV, seed=np.int64(3), learning_rate=np.float32(0.5), normalize_return=np.bool_(True))
    assert config == configure(ENV, seed=3, learning_rate=0.5, normalize_return=True)


def test_a_setting_that_is_none_is_named() -> None:
    with pytest.raises(UsageError, match="unknown setting 'lags'; did you mean 'lag'"):
        tailor(ENV, "a3c", lags=3)


@pytest.mark.parametrize(
    ("algorithm", "name", "hint"),
    [
        ("a3c", "lr", "use learning_rate"),
        ("a3c", "gamma", "use discount"),
        ("ppo", "double", "it is a setting of dqn, c51, qr-dqn, iqn"),
        ("ppo", "callback", "callbacks is an argument of train"),
        ("ppo", "verbose", "progress is an argument of train"),
        ("ppo", "log_dir", "run_dir is an argument of train"),
        ("ppo", "tensorboard_log", "every run writes TensorBoard events, to RUN/tensorboard"),
        ("ppo", "env_id", r"the environment is named by its place: train\(ENV, ALGO\)"),
    ],
)
def test_a_setting_of_another_library_is_answered_with_the_one_here(algorithm: str, name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"^unknown setting '{name}'; {hint}$"):
        configure("CartPole-v1", algorithm, **{name: 1})


def test_every_foreign_name_stands_for_a_setting_that_exists() -> None:
    own = {name for cls in ALGORITHMS.values() for name in setting_places(cls)} | set(signature(asyncrl.train).parameters)
    assert {here for names in foreign_names._NAMES.values() for here in names} <= own


def test_network_settings_of_an_algorithm_stand_below_presets_and_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(A3C, "network_config", NetworkConfig("mlp", hidden=(7,), layer_norm=True))
    assert configure("worlds:Corridor-v0", "a3c").network == NetworkConfig("mlp", hidden=(7,), layer_norm=True)
    assert configure("worlds:Corridor-v0", "a3c", hidden=(9,)).network == NetworkConfig("mlp", hidden=(9,), layer_norm=True)
    preset = configure("ALE/Pong-v5", "a3c", preset="a3c/atari")
    assert preset.network == NetworkConfig("a3c-cnn", hidden=(7,), layer_norm=True)


def test_an_option_of_the_environment_does_not_switch_masks_off() -> None:
    assert configure("CartPole-v1", "a3c").environment.action_mask  # its preset scales rewards
    assert configure("worlds:Corridor-v0", "a3c", reward_scale=0.5).environment.action_mask


@pytest.mark.parametrize(
    ("env", "engine", "expected"),
    [
        ("ALE/Pong-v5", "processes", "cuda"),
        ("ALE/Pong-v5", "threads", "cuda"),
        ("ALE/Pong-v5", "ray", "cpu"),
        ("CartPole-v1", "threads", "cpu"),
    ],
)
def test_networks_that_see_images_act_on_the_gpu_of_their_machine(env: str, engine: str, expected: str) -> None:
    config = configure(env, "a3c", engine=engine, device="cuda")
    assert config.acting_device(describe(env, config.environment)) == expected


def test_replay_on_the_gpu_needs_a_learner_there() -> None:
    config = configure(ENV, "dqn", replay_storage="gpu", device="cpu")
    with pytest.raises(UsageError, match="--replay-storage gpu: the learner computes on the CPU here; use ram or disk"):
        resolve(config, describe(ENV, config.environment))


def test_more_threads_than_a_process_may_have_are_refused() -> None:
    config = configure(ENV, "a3c", learner_threads=100_000)
    with pytest.raises(UsageError, match="--learner-threads must be between 1 and 1024, not 100000"):
        resolve(config, describe(ENV, config.environment))


def test_choosing_a_preset_parses_the_files_that_mention_its_algorithm() -> None:
    """All of them take 40 ms, and a run waits for that."""
    algorithms = {name: presets.read_preset(name)["algorithm"]["name"] for name in presets.preset_names()}
    for algorithm in algorithms.values():
        presets._tables.cache_clear()
        own = [name for name, _ in presets._presets_of(algorithm)]
        assert own == [name for name, its in algorithms.items() if its == algorithm]
        assert presets._tables.cache_info().currsize < len(algorithms) / 2
