"""Refuses options that would have no effect, with the reason, before a run starts.

Of runs that are resumed, only the changed settings are checked: the others were accepted when they started.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from asyncrl.algorithms import TD3, Impala, Random, Reinforce
from asyncrl.algorithms.exploration import Assignment, Exploration
from asyncrl.algorithms.maximum_entropy import MaximumEntropy
from asyncrl.algorithms.munchausen import Munchausen
from asyncrl.algorithms.optimizers import GradientClipping, LearningRateSchedule, Optimizer, OptimizerConfig
from asyncrl.algorithms.reinforce import Baseline
from asyncrl.common.validation import flag
from asyncrl.envs import Backend, Contract, Supervision
from asyncrl.envs.family_options import option_names
from asyncrl.envs.registry import family_named
from asyncrl.errors import UsageError
from asyncrl.experience import ReplayOptions
from asyncrl.networks import ActorCritic, DeterministicActorCritic, NetworkConfig, Recurrent, is_complete, is_custom
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import EngineKind, Precision, RunConfig, ScheduleKind

__all__ = [
    "IMITATION_SETTINGS",
    "ineffective",
    "reject_ineffective",
    "reject_ineffective_changes",
    "reject_unused_by_imitation",
]

_DENSE, _RADIAL = ("hidden", "activation"), ("radial_gammas", "radial_features")
_CONVOLUTIONAL = ("centered", "difference")
_NORMAL = ("initial_std", "adaptive_std")
_OPTIMIZATION = tuple(f.name for f in dataclasses.fields(OptimizerConfig))
_NETWORK = tuple(f.name for f in dataclasses.fields(NetworkConfig))
_EXPLORATION = tuple(f.name for f in dataclasses.fields(Exploration))
_ENVIRONMENT = tuple(sorted(option_names()))
_WORKERS = tuple(f.name for f in dataclasses.fields(Supervision))


class IneffectiveOptions(NamedTuple):
    """Options that have no effect in a configuration, and the reason."""

    options: tuple[str, ...]
    reason: str
    """The end of the sentence "--option has no effect …"."""


def reject_ineffective(config: RunConfig, contract: Contract, asked: Collection[str]) -> None:
    """Raise UsageError for the first of the settings `asked` for that has no effect in a run of `config`."""
    resolved = resolve(config, contract)
    _reject(config.env, _all_cases(config, resolved, contract), asked)
    _check_contradictions(resolved, contract, asked)


def reject_ineffective_changes(config: RunConfig, contract: Contract, changed: Collection[str]) -> None:
    """Raise UsageError for the first of the settings `changed` in a resumed run, already resolved, that has no effect."""
    _reject(config.env, _cases(config, contract), changed)


def _reject(env: str, cases: Iterable[IneffectiveOptions], asked: Collection[str]) -> None:
    for case in cases:
        for name in case.options:
            if name in asked:
                raise UsageError(f"{env}: {flag(name)} has no effect {case.reason}")


def ineffective(config: RunConfig, resolved: RunConfig, contract: Contract) -> frozenset[str]:
    """Names of the settings without effect in a run of `config`."""
    return frozenset(name for case in _all_cases(config, resolved, contract) for name in case.options)


def _all_cases(config: RunConfig, resolved: RunConfig, contract: Contract) -> list[IneffectiveOptions]:
    return [*_overridden(config, resolved), *_cases(resolved, contract)]


IMITATION_SETTINGS = frozenset(
    {
        *_NETWORK,
        *_ENVIRONMENT,
        "seed",
        "eval_episodes",
        "eval_greedy",
        "eval_envs",
        "eval_episode_steps",
        "device",
        "precision",
        "learner_threads",
    }
    | {"atoms", "quantiles", "v_min", "v_max", "critics", "cosines", "acting_quantiles"}
)
"""Settings of a run that imitation depends on."""


def reject_unused_by_imitation(asked: Collection[str]) -> None:
    """Raise UsageError for the first of the settings `asked` for that has no effect on imitation."""
    for name in sorted(set(asked) - IMITATION_SETTINGS):
        instead = "; --imitation-rate is its learning rate" if name == "learning_rate" else ""
        raise UsageError(f"{flag(name)} has no effect on imitation: give it to `asyncrl train --init-from RUN`{instead}")


def _overridden(config: RunConfig, resolved: RunConfig) -> Iterator[IneffectiveOptions]:
    """Settings of `config` that its resolution overrides."""
    if config.eval_greedy != resolved.eval_greedy:
        yield IneffectiveOptions(
            ("eval_greedy",), f"when switched off: the policy of {config.algorithm.name} is deterministic"
        )
    for name in ("rollouts_per_update", "queue_size", "publish_every"):
        if getattr(config, name) not in (None, getattr(resolved, name)):
            yield IneffectiveOptions(
                (name,), f"with --engine {config.engine.value}: every worker learns from its own rollout at once"
            )


def _cases(config: RunConfig, contract: Contract) -> Iterator[IneffectiveOptions]:
    """The cases that apply, the most general first."""
    if isinstance(config.algorithm, Random):
        learning = (
            *_OPTIMIZATION,
            *_NETWORK,
            "reward_clip",
            "reward_scale",
            "final_reward",
            "init_from",
            "eval_greedy",
            "learners",
        )
        yield IneffectiveOptions((*learning, "precision", "life_loss", "standardize"), "on random, which learns nothing")
    yield from _of_engine(config, contract)
    yield from _of_optimizer(config.optimizer, config)
    yield from _of_network(config.network, config, contract)
    yield from _of_algorithm(config, contract)
    exploration: Exploration | None = getattr(config.algorithm, "exploration", None)
    if exploration is not None:
        yield from _of_exploration(exploration, config)
    if not config.eval_episodes and config.eval_every:
        yield IneffectiveOptions(("eval_every",), "without evaluations (--eval-episodes 0)")
    if not (config.eval_episodes and config.eval_every):
        yield IneffectiveOptions(("patience", "video_every"), "without evaluations during the run; add --eval-every N")


def _of_engine(config: RunConfig, contract: Contract) -> Iterator[IneffectiveOptions]:
    if config.engine is EngineKind.HOGWILD:
        yield IneffectiveOptions(("lag",), "with --engine hogwild: every worker learns from its own rollout at once")
        yield IneffectiveOptions(("learner_threads",), "with --engine hogwild: every worker computes in one thread")
    elif config.schedule is ScheduleKind.FREE:
        yield IneffectiveOptions(
            ("lag",), "with --schedule free, where actors use the newest weights; leave it out or use lockstep"
        )
    if config.engine is not EngineKind.RAY:
        yield IneffectiveOptions(("ray_address",), "without --engine ray")
    if not family_named(contract.family).has_threads:
        yield IneffectiveOptions(
            ("env_threads",),
            f"on {contract.family} environments, which are stepped without threads; raise --actors instead",
        )
    elif config.env_threads > config.envs_per_actor:
        yield IneffectiveOptions(
            ("env_threads",), f"above the {config.envs_per_actor} environments of an actor (--envs-per-actor)"
        )
    if not contract.has_action_mask:
        yield IneffectiveOptions(("action_mask",), "where the environment gives no action mask")
    if contract.backend is not Backend.ASYNC:
        yield IneffectiveOptions(_WORKERS, "without worker processes: add --env-backend async")
    if config.offline is not None:
        playing = ("lag", "publish_every", "env_threads", "action_noise", *_EXPLORATION)
        yield IneffectiveOptions(playing, "with --offline, which learns from a dataset without playing")


def _of_optimizer(optimizer: OptimizerConfig, config: RunConfig) -> Iterator[IneffectiveOptions]:
    if optimizer.optimizer is Optimizer.RMSPROP:
        yield IneffectiveOptions(("momentum",), "with --optimizer rmsprop; rmsprop-outside, sgd and adam have momentum")
    if optimizer.optimizer is Optimizer.SGD:
        squares = ("decay", "optimizer_epsilon")
        yield IneffectiveOptions(squares, "with --optimizer sgd, which does not average squared gradients")
        if not optimizer.momentum:
            yield IneffectiveOptions(
                ("optimizer_statistics",), "with --optimizer sgd without --momentum, which keeps no statistics"
            )
    if config.engine is not EngineKind.HOGWILD:
        yield IneffectiveOptions(("optimizer_statistics",), "without --engine hogwild: there is only one learner")
    elif config.actors == 1:
        yield IneffectiveOptions(("optimizer_statistics",), "with a single worker; raise --actors")
    if optimizer.gradient_clipping is GradientClipping.NONE:
        yield IneffectiveOptions(("max_gradient_norm",), "with --gradient-clipping none; choose global, tensor or average")
    if optimizer.learning_rate_schedule is not LearningRateSchedule.LINEAR:
        yield IneffectiveOptions(("anneal_to", "anneal_steps"), "without --learning-rate-schedule linear")
    elif optimizer.anneal_to == 1:
        yield IneffectiveOptions(("anneal_steps",), "with --anneal-to 1, which keeps the learning rate constant")
    if optimizer.learning_rate_schedule is not LearningRateSchedule.KL:
        yield IneffectiveOptions(("target_kl",), "without --learning-rate-schedule kl")


def _of_network(network: NetworkConfig, config: RunConfig, contract: Contract) -> Iterator[IneffectiveOptions]:
    kind, parts = network.network, contract.spaces.features.entries
    if is_complete(kind, contract.spaces):
        precision = ("precision",) if config.precision is Precision.BF16 else ()
        options = (*(name for name in _NETWORK if name != "network"), *precision)
        yield IneffectiveOptions(options, f"on --network {kind}, which has its own heads and recurrent state")
    has_critics = issubclass(config.algorithm.network, DeterministicActorCritic)  # which add dense layers
    if is_custom(kind):
        yield IneffectiveOptions(
            (*(() if has_critics else (*_DENSE, "layer_norm")), *_CONVOLUTIONAL),
            f"on --network {kind}, which is your own; they are for built-in networks",
        )
    elif kind != "mlp" and all(part.is_image for part in parts) and not has_critics:
        yield IneffectiveOptions(_DENSE, f"on --network {kind}, whose layers are fixed")
    if kind != "impala-resnet":
        yield IneffectiveOptions(("resnet_width",), f"on --network {kind}; use --network impala-resnet")
    if kind != "radial":
        yield IneffectiveOptions(_RADIAL, f"on --network {kind}; use --network radial")
    elif not has_critics:
        yield IneffectiveOptions(
            ("precision",) if config.precision is Precision.BF16 else (), "on --network radial, which computes in float32"
        )
        yield IneffectiveOptions(("layer_norm",), "on --network radial, which has no hidden layers")
    if kind in ("mlp", "radial"):
        yield IneffectiveOptions(_CONVOLUTIONAL, f"on --network {kind}, which has no convolutions")
    elif contract.frame_stack < 2:
        yield IneffectiveOptions(("difference",), "on single frames; raise --frame-stack to 2 or more")
    if all(part.choices for part in contract.spaces.features.parts):
        yield IneffectiveOptions(("normalize_observation",), "on discrete observations, which have no scale")
    if not contract.spaces.actions.is_continuous:
        yield IneffectiveOptions(_NORMAL, "on discrete actions")
    elif not issubclass(config.algorithm.network, ActorCritic):
        yield IneffectiveOptions(_NORMAL, f"on {config.algorithm.name}, whose policy is not a normal distribution")
    if network.recurrent is Recurrent.NONE:
        yield IneffectiveOptions(("recurrent_size",), "without --recurrent lstm or gru")
    if not network.noisy:
        yield IneffectiveOptions(("noisy_sigma",), "without --noisy")


def _of_algorithm(config: RunConfig, contract: Contract) -> Iterator[IneffectiveOptions]:
    algorithm, experience = config.algorithm, config.algorithm.experience()
    if experience.slot_length == 1:
        yield IneffectiveOptions(
            ("gae_lambda", "vtrace_lambda", "c_clip", "hold_random_actions"), "on rollouts of one step; raise --t-max"
        )
    if isinstance(algorithm, Impala) and algorithm.vtrace_lambda == 0:
        yield IneffectiveOptions(("c_clip",), "with --vtrace-lambda 0, which uses one-step errors")
    if isinstance(algorithm, Reinforce) and algorithm.baseline is not Baseline.LEARNED:
        yield IneffectiveOptions(
            ("value_cost",), f"with --baseline {algorithm.baseline.value}, which learns no value; use --baseline learned"
        )
    if config.normalize_return:
        if contract.reward_clip is None:
            yield IneffectiveOptions(("reward_scale",), "with --normalize-return, which divides rewards by their scale")
        if isinstance(algorithm, Reinforce) and algorithm.baseline is Baseline.MEAN:
            yield IneffectiveOptions(("normalize_return",), "with --baseline mean, which normalizes returns itself")
    munchausen: Munchausen | None = getattr(algorithm, "munchausen_targets", None)
    if munchausen is not None and not munchausen.munchausen:
        yield IneffectiveOptions(("munchausen_scale", "munchausen_temperature", "munchausen_clip"), "without --munchausen")
    elif munchausen is not None and munchausen.munchausen_scale == 0:
        yield IneffectiveOptions(("munchausen_clip",), "with --munchausen-scale 0")
    if isinstance(algorithm, MaximumEntropy) and not algorithm.learn_temperature:
        yield IneffectiveOptions(("target_entropy", "target_entropy_scale"), "with --no-learn-temperature")
    if isinstance(algorithm, TD3) and not algorithm.target_noise:
        yield IneffectiveOptions(("target_noise_clip",), "with --target-noise 0")
    if experience.epochs == experience.minibatches == 1:
        one = "with --epochs 1 --minibatches 1, where an update is a single step from the old policy"
        yield IneffectiveOptions(("value_clip_range",), one)
        if config.takes_single_steps:
            yield IneffectiveOptions(("clip_range", "max_kl"), f"{one}, and --lag 0, where that policy acted")
    if experience.replay is not None:
        yield from _of_replay(experience.replay)
    if experience.sequences is None:
        yield IneffectiveOptions(("burn_in",), "without --recurrent lstm or gru, whose state it brings up to date")


def _of_replay(options: ReplayOptions) -> Iterator[IneffectiveOptions]:
    if not options.prioritized:
        yield IneffectiveOptions(("priority_exponent", "importance_exponent"), "without --prioritized")
    elif options.priority_exponent == 0:
        yield IneffectiveOptions(("importance_exponent",), "with --priority-exponent 0, which samples uniformly")


def _of_exploration(exploration: Exploration, config: RunConfig) -> Iterator[IneffectiveOptions]:
    final = " ".join(f"{epsilon:g}" for epsilon in exploration.final_epsilons)
    if not exploration.decays:
        constant = f"if ε does not decay: --epsilon-start {exploration.epsilon_start:g}, --final-epsilons {final}"
        yield IneffectiveOptions(("epsilon_steps", "epsilon_decay"), constant)
    if exploration.epsilon_assignment is not Assignment.SAMPLED:
        yield IneffectiveOptions(
            ("final_epsilon_probabilities",), f"with --epsilon-assignment {exploration.epsilon_assignment.value}"
        )
    if len(set(exploration.final_epsilons)) == 1 and exploration.epsilon_assignment is not Assignment.LADDER:
        yield IneffectiveOptions(("epsilon_assignment",), f"with a single final ε: --final-epsilons {final}")
    if not exploration.epsilon_perturbation:
        yield IneffectiveOptions(("epsilon_perturbation_every",), "without --epsilon-perturbation")
    elif exploration.epsilon_perturbation_every >= config.steps:
        yield IneffectiveOptions(
            ("epsilon_perturbation", "epsilon_perturbation_every"),
            f"before step {exploration.epsilon_perturbation_every:,} (--epsilon-perturbation-every), and --steps is "
            f"{config.steps:,}",
        )
    if not max(exploration.epsilon_start, *exploration.final_epsilons, exploration.epsilon_perturbation):
        yield IneffectiveOptions(
            ("bot_explores", "hold_random_actions"), "without random actions: --epsilon-start and --final-epsilons are 0"
        )


def _check_contradictions(config: RunConfig, contract: Contract, asked: Collection[str]) -> None:
    """Raise UsageError for settings that exclude each other, or that prevent what was asked for."""
    algorithm, steps, experience = config.algorithm, config.steps, config.algorithm.experience()
    if algorithm.target_every and algorithm.tau and {"target_every", "tau"} & set(asked):
        raise UsageError(
            f"{config.env}: --target-every {algorithm.target_every} and --tau {algorithm.tau:g} exclude each other: the "
            "target network is either copied or moves with every step; leave out one of them"
        )
    if "target_every" in asked and algorithm.target_every > steps:
        raise UsageError(
            f"{config.env}: --target-every {algorithm.target_every}: a run of {steps:,} steps never updates the target"
        )
    if "publish_every" in asked and config.updates is not None and config.publish_every >= config.updates > 1:
        raise UsageError(
            f"{config.env}: --publish-every {config.publish_every}: a run of {config.updates:,} updates never publishes "
            "weights to the actors; lower it"
        )
    if experience.replay is not None:
        starts, updates = experience.replay.learning_starts, config.updates or 0
        if experience.replay.num_updates(updates * config.batch_steps) < 1:
            raise UsageError(
                f"{config.env}: --learning-starts {starts}: a run of {steps:,} steps ends before its first update; "
                "lower it, or raise --steps"
            )
    if config.network.normalize_observation and contract.observation_mean:
        raise UsageError(
            f"{config.env}: --standardize and --normalize-observation both scale observations; leave out one of them"
        )
    if contract.reward_scale == 0:
        raise UsageError(f"{config.env}: --reward-scale 0 makes all rewards 0")
