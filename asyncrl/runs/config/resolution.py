"""Checks a configuration and decides everything that it leaves to the machine and the environment."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from asyncrl.algorithms import build_network, check_acting, translate_errors
from asyncrl.algorithms.optimizers import LearningRateSchedule
from asyncrl.common.child_process import HAS_WORKERS
from asyncrl.common.hardware import cores, has_bfloat16
from asyncrl.common.validation import check_numbers, within
from asyncrl.envs import Contract
from asyncrl.envs.spaces import Spaces
from asyncrl.errors import UsageError
from asyncrl.experience import ReplayStorage
from asyncrl.networks import QNetwork, Recurrent, check_custom_network, is_complete, is_custom
from asyncrl.networks import resolve as resolve_network
from asyncrl.runs.config.run_config import Device, EngineKind, Precision, RunConfig, ScheduleKind, code_named_in

__all__ = ["check", "resolve"]

_MAX_THREADS = 1_024


def resolve(config: RunConfig, contract: Contract) -> RunConfig:
    """A copy of `config` with every `auto` and default decided for this machine and environment.

    Raises UsageError for values out of range and for settings that contradict each other.
    """
    network = check(config, contract.spaces)
    is_recurrent = config.network.recurrent is not Recurrent.NONE
    if is_custom(network):
        is_recurrent = _check_own_network(config, contract.spaces)
    if "algorithm" in code_named_in(config.to_json()):
        check_acting(config.algorithm, config.network, contract.spaces)
    try:
        _check_bots(config)
    except UsageError as problem:
        raise UsageError(f"{config.env}: {problem}") from None
    if config.engine is EngineKind.HOGWILD:
        config = _for_hogwild(config)
    elif config.schedule is ScheduleKind.AUTO:
        config = replace(config, schedule=ScheduleKind.LOCKSTEP)
    rollouts, device = config.rollouts_per_update or config.actors, _resolve_device(config.device)
    _check_minibatches(config, rollouts, is_recurrent=is_recurrent)
    _check_learners(config, device)
    _check_replay(config, device)
    return replace(
        config,
        network=replace(config.network, network=network),
        rollouts_per_update=rollouts,
        queue_size=_resolve_queue(config, rollouts),
        engine=_resolve_engine(config, contract),
        device=device,
        precision=_resolve_precision(config.precision, network, contract.spaces),
        learner_threads=config.learner_threads
        or max(1, _default_threads(config, network, contract.spaces) // config.learners),
        eval_greedy=config.eval_greedy or not config.algorithm.is_stochastic,
        eval_every=config.eval_every or (config.steps // 20 if config.target_return is not None else 0),
        log_every=config.log_every or max(1, config.steps // 400),
    )


def check(config: RunConfig, spaces: Spaces) -> str:
    """Raise UsageError for values out of range and settings that contradict each other. Returns the network's name.

    Bots are not opened and no network is made: of the user's code, at most the network's module is imported.
    """
    _check_counts(config)
    try:
        with translate_errors(type(config.algorithm), config.algorithm.name):
            config.algorithm.check(spaces, config.network)
        config.optimizer.check()
        _check_learning_rate(config)
        _check_extra_envs(config)
        _check_offline(config)
        _check_normalization(config)
    except UsageError as problem:
        raise UsageError(f"{config.env}: {problem}") from None
    network = resolve_network(config.network, spaces)
    if (config.network.dueling or config.network.noisy) and not issubclass(config.algorithm.network, QNetwork):
        raise UsageError(f"--dueling and --noisy are for methods that learn action values, not for {config.algorithm.name}")
    return network


def _for_hogwild(config: RunConfig) -> RunConfig:
    if config.algorithm.experience().replay is not None:
        raise UsageError(
            f"--engine hogwild: its workers learn from their own rollouts, but {config.algorithm.name} uses a replay "
            "buffer that all actors fill; choose serial, threads or processes"
        )
    if config.schedule is ScheduleKind.LOCKSTEP:
        raise UsageError(
            "--engine hogwild has no order of updates, so --schedule lockstep is impossible; use --schedule free"
        )
    if config.device is Device.CUDA:
        raise UsageError("--engine hogwild learns in processes on the CPU; leave out --device cuda")
    return replace(
        config,
        schedule=ScheduleKind.FREE,
        device=Device.CPU,
        rollouts_per_update=1,
        queue_size=config.actors,
        publish_every=1,
    )


def _check_counts(config: RunConfig) -> None:
    positive = (
        "steps actors envs_per_actor rollouts_per_update queue_size learners env_threads "
        "checkpoint_every keep_checkpoints log_every publish_every eval_envs eval_episode_steps patience"
    )
    within(config, 1, math.inf, *positive.split())
    within(config, 1, _MAX_THREADS, "learner_threads")  # OpenMP ends the process if it gets no more threads
    within(config, 0, math.inf, "seed", "lag", "eval_every", "eval_episodes", "video_every")
    check_numbers(config)
    for tracker in config.track:
        if config.track.count(tracker) > 1:
            raise UsageError(f"--track {tracker.value} is given {config.track.count(tracker)} times; once is enough")
    if config.target_return is not None and not config.eval_episodes:
        raise UsageError(
            f"--target-return {config.target_return:g} needs evaluations: --eval-episodes must be 1 or more, not 0"
        )


def _check_extra_envs(config: RunConfig) -> None:
    if config.actors < len(config.env_ids):
        raise UsageError(f"--actors {config.actors}: {len(config.env_ids)} environments need an actor each")
    if config.extra_envs and config.offline is not None:
        raise UsageError("--offline takes the dataset of one environment")


def _check_learning_rate(config: RunConfig) -> None:
    if config.optimizer.learning_rate_schedule is not LearningRateSchedule.KL:
        return
    if not config.algorithm.reports_kl:
        raise UsageError(
            f"--learning-rate-schedule kl: {config.algorithm.name} does not measure how far an update moves its policy; "
            "ppo does"
        )
    if config.engine is EngineKind.HOGWILD:
        raise UsageError(
            "--learning-rate-schedule kl adapts one learner's rate, and with --engine hogwild every worker learns; "
            "choose constant or linear"
        )
    if config.takes_single_steps:
        raise UsageError(
            "--learning-rate-schedule kl: with --epochs 1 --minibatches 1 --lag 0 the KL is measured before the policy has "
            "moved, so it is always 0; raise --epochs or --minibatches, or choose constant or linear"
        )


def _check_normalization(config: RunConfig) -> None:
    algorithm, network = config.algorithm, config.network
    if network.normalize_value and not algorithm.learns_value:
        raise UsageError(
            f"--normalize-value: {algorithm.name} learns no state value that could be normalized; a3c, impala, ppo, "
            "actor-critic and reinforce with --baseline learned do"
        )
    if config.normalize_return and not hasattr(algorithm, "discount"):
        raise UsageError(f"--normalize-return: {algorithm.name} has no discount, so there is no discounted return")
    if config.engine is EngineKind.HOGWILD:
        asked = {
            "observation": network.normalize_observation,
            "value": network.normalize_value,
            "return": config.normalize_return,
        }
        if names := [name for name, is_asked in asked.items() if is_asked]:
            raise UsageError(
                f"--normalize-{names[0]} averages over rollouts in their order, and the workers of --engine hogwild have "
                "none; use serial, threads or processes"
            )


def _check_bots(config: RunConfig) -> None:
    bots, replay = config.bots, config.algorithm.experience().replay
    bots.check()
    if bots.bot is None:
        return
    if replay is None:
        raise _needs_replay(config, "--bot")
    if bots.bot_prefill >= config.steps:
        raise UsageError(f"--bot-prefill {bots.bot_prefill} leaves nothing of {config.steps} steps to learn in")
    if bots.bot_prefill > replay.learning_starts:
        raise UsageError(
            f"--bot-prefill {bots.bot_prefill} is more than --learning-starts {replay.learning_starts}; lower it, or "
            "raise --learning-starts"
        )


def _check_offline(config: RunConfig) -> None:
    if config.offline is None:
        return
    if config.algorithm.experience().replay is None:
        raise _needs_replay(config, "--offline")
    if config.bots.bot is not None:
        raise UsageError("--offline learns without playing, so a --bot cannot play; leave out one of them")


def _needs_replay(config: RunConfig, option: str) -> UsageError:
    return UsageError(f"{option} fills a replay buffer, and {config.algorithm.name} has none; dqn and sac have one")


def _check_minibatches(config: RunConfig, rollouts: int, *, is_recurrent: bool) -> None:
    count, envs = config.algorithm.experience().minibatches, rollouts * config.envs_per_actor
    most = envs if is_recurrent else config.batch_steps
    if count > most:
        raise UsageError(f"--minibatches {count}: an update has {most} {'sequences' if most == envs else 'steps'}")
    if getattr(config.algorithm, "normalize_advantage", False) and config.batch_steps < 2 * count:
        raise UsageError(
            f"--minibatches {count}: a minibatch of one step teaches the policy nothing, because its normalized advantage "
            "is 0; lower --minibatches, or add --no-normalize-advantage"
        )


def _check_learners(config: RunConfig, device: Device) -> None:
    """Raise UsageError if the batches of a run cannot be divided among its learners, or there are too few GPUs."""
    learners, rows = config.learners, config.batch_rows
    if learners == 1:
        return
    if config.engine is EngineKind.HOGWILD:
        raise UsageError(f"--learners {learners}: with --engine hogwild every worker is a learner; raise --actors instead")
    if not HAS_WORKERS:
        raise UsageError(f"--learners {learners} needs Linux or macOS; leave it out")
    if learners > rows:
        what = "environments" if config.algorithm.experience().replay is None else "samples (--batch-size)"
        raise UsageError(f"--learners {learners}: a batch of {rows} {what} cannot be divided among so many; lower it")
    if device is Device.CUDA and learners > (count := torch.cuda.device_count()):
        raise UsageError(
            f"--learners {learners}: each needs its own GPU, but torch sees {count}; lower it, or use --device cpu"
        )


def _check_replay(config: RunConfig, device: Device) -> None:
    replay = config.algorithm.experience().replay
    if replay is None or replay.replay_storage is not ReplayStorage.GPU:
        return
    if device is not Device.CUDA:
        raise UsageError("--replay-storage gpu: the learner computes on the CPU here; use ram or disk")
    if config.learners > 1:
        raise UsageError(f"--replay-storage gpu serves one learner, not {config.learners}; use ram")


def _resolve_queue(config: RunConfig, rollouts: int) -> int:
    if config.schedule is ScheduleKind.LOCKSTEP:
        needed = (config.lag + 1) * rollouts
        if config.queue_size not in (None, needed):
            raise UsageError(
                f"--queue-size {config.queue_size}: in lockstep, lag {config.lag} with {rollouts} rollouts per update "
                f"takes exactly {needed}; change --lag, or use --schedule free"
            )
        return needed
    needed = max(config.actors, rollouts)
    if config.queue_size is not None and config.queue_size < needed:
        raise UsageError(
            f"--queue-size {config.queue_size} is too small: {config.actors} actors and {rollouts} rollouts per update "
            f"need {needed} or more"
        )
    return config.queue_size or 2 * needed


def _resolve_engine(config: RunConfig, contract: Contract) -> EngineKind:
    if config.engine in (EngineKind.PROCESSES, EngineKind.HOGWILD) and not HAS_WORKERS:
        raise UsageError(f"--engine {config.engine.value} needs Linux or macOS; use --engine threads or serial")
    if config.engine is not EngineKind.AUTO:
        return config.engine
    if not contract.spaces.has_images or cores() == 1:
        return EngineKind.SERIAL
    return EngineKind.PROCESSES if HAS_WORKERS else EngineKind.THREADS


def _resolve_device(device: Device) -> Device:
    if device is Device.CUDA and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no GPU here; use --device auto or cpu (asyncrl doctor)")
    if device is Device.AUTO:
        return Device.CUDA if torch.cuda.is_available() else Device.CPU
    return device


def _check_own_network(config: RunConfig, spaces: Spaces) -> bool:
    """Return whether the user's network is recurrent.

    Raises UsageError if it cannot be trained, or does not fit the algorithm.
    """
    name, algorithm = config.network.network, config.algorithm
    check_custom_network(name, spaces)
    random = torch.Generator().manual_seed(config.seed)
    built = build_network(algorithm, config.network, spaces, torch.float32, random)
    is_recurrent = bool(getattr(built, "state_size", 0))
    if is_recurrent and config.network.recurrent is Recurrent.NONE and algorithm.experience().replay is not None:
        raise UsageError(
            f"--network {name} has its own recurrent state, but {algorithm.name} samples single steps; bring an "
            "encoder and add --recurrent lstm"
        )
    return is_recurrent


def _resolve_precision(precision: Precision, network: str, spaces: Spaces) -> Precision:
    if precision is not Precision.AUTO:
        return precision
    if is_custom(network) and is_complete(network, spaces):
        return Precision.FP32
    return Precision.BF16 if _has_convolutions(network, spaces) and has_bfloat16() else Precision.FP32


def _default_threads(config: RunConfig, network: str, spaces: Spaces) -> int:
    experience = config.algorithm.experience()
    learning_dominates = experience.replay is not None or experience.epochs > 1
    return cores() if learning_dominates and _has_convolutions(network, spaces) else max(1, cores() // 2)


def _has_convolutions(network: str, spaces: Spaces) -> bool:
    """Whether a network is worth bfloat16 and every core; a custom one counts if it sees images."""
    return spaces.has_images if is_custom(network) else network not in ("mlp", "radial")
