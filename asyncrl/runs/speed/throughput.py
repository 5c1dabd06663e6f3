"""A model of a run's speed: the seconds per environment step that its measured stages imply, also for other settings."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, harmonic_mean, median

from asyncrl.envs import Backend, Contract
from asyncrl.runs.config.run_config import EngineKind, RunConfig, ScheduleKind
from asyncrl.runs.speed.stage_times import StageTimes

__all__ = ["expected_gain", "own_cores", "straggler"]

_REQUEST = 2.5e-4
"""Seconds of processor time that a rollout in another process costs extra: two messages and two switches."""
_WORKER_STEP = 5e-5
"""Seconds of processor time that a step costs in an environment's own worker process (--env-backend async)."""
_PARALLEL = 0.8
"""Share of the work that more threads divide among them."""
_OVERLAP = 0.1
"""Share of the shorter of acting and learning that the longer does not hide: rollouts differ in length."""
_FIXED_FOR_IMAGES, _FIXED_FOR_VECTORS = 0.1, 0.7
"""Share of a network's call, or of native code's step, that does not grow with the number of environments."""


@dataclass(frozen=True)
class _Costs:
    """Seconds per environment step."""

    acting: float
    """Of one actor that collects rollouts"""
    learning: float
    """Of the learner, without evaluations and checkpoints"""
    beside: float
    """Of evaluations and checkpoints"""
    actors_processor: float
    """Of processor time in actors"""
    processor: float
    """Of processor time in actors and learner"""


def own_cores(times: StageTimes, config: RunConfig, contract: Contract) -> float:
    """Mean number of cores that the run itself kept busy.

    Where environments have threads or processes of their own, these are not counted, and every busy core is taken for the
    run's.
    """
    own = (times.actors_processor + times.learner_processor) / times.seconds
    is_whole = contract.backend is not Backend.ASYNC and config.env_threads == 1
    return own if is_whole else max(own, times.busy_cores)


def straggler(times: StageTimes) -> tuple[int, float] | None:
    """The slowest of several actors, and how many times as long as the median actor's its rollouts take."""
    seconds = [one for one in times.rollout_seconds if one is not None]
    if len(seconds) < max(2, len(times.rollouts)):
        return None
    others = sorted(seconds)[:-1]
    return seconds.index(max(seconds)), max(seconds) / max(median(others), 1e-9)


def expected_gain(times: StageTimes, contract: Contract, old: RunConfig, new: RunConfig, cores: float) -> float:
    """The speed with the settings `new`, divided by that with `old`, under which `times` were measured.

    `cores`: those that the run may use. What the model does not explain of the measured time is taken to stay.
    """
    measured = times.seconds / times.steps
    own = own_cores(times, old, contract)
    free, others = max(0.0, cores - times.busy_cores), max(0.0, times.busy_cores - own)
    served = own / max(own + times.delayed / times.seconds, 1e-9)  # of the processor time that the run asked for
    usable = max(own, min(cores, own + free + served * others / 2), 1e-9)
    before, after = (_duration(times, one, _costs(times, contract, old, one), usable) for one in (old, new))
    return measured / max(after + max(0.0, measured - before), 1e-12)


def _duration(times: StageTimes, config: RunConfig, costs: _Costs, usable: float) -> float:
    """Seconds per step, by how acting and learning overlap; `usable`: cores that the run can keep busy."""
    if config.engine is EngineKind.SERIAL:
        return costs.acting + costs.learning + costs.beside
    making = max(costs.acting / _acting_at_once(config), costs.actors_processor / usable)
    if config.engine is EngineKind.HOGWILD:
        return making
    if seconds := [one for one in times.rollout_seconds if one]:  # all wait for the slowest, or none waits
        together = max(seconds) if config.schedule is ScheduleKind.LOCKSTEP else harmonic_mean(seconds)
        making *= together / fmean(seconds)
    if config.schedule is ScheduleKind.LOCKSTEP and config.lag == 0:
        return making + costs.learning + costs.beside
    longer, shorter = max(making, costs.learning), min(making, costs.learning)
    return max(longer + _OVERLAP * shorter, costs.processor / usable) + costs.beside


def _acting_at_once(config: RunConfig) -> int:
    """How many actors collect rollouts at once: in lockstep, (lag + 1)·M rollouts are in flight (`Lockstep`)."""
    if config.schedule is not ScheduleKind.LOCKSTEP or config.engine is EngineKind.HOGWILD:
        return config.actors
    return min(config.actors, (config.lag + 1) * (config.rollouts_per_update or config.actors))


def _costs(times: StageTimes, contract: Contract, old: RunConfig, new: RunConfig) -> _Costs:
    """The costs with the settings `new`, from the times measured with `old`."""
    per_step = {stage: seconds / times.steps for stage, seconds in times.actors.items()}
    fixed = _FIXED_FOR_IMAGES if contract.spaces.has_images else _FIXED_FOR_VECTORS
    wider = new.envs_per_actor / old.envs_per_actor
    acting = _shared(per_step["acting"], fixed, wider) + _shared(per_step["other"], fixed, wider)
    stepping, more_processor = _stepping(per_step["environments"], contract, old, new)
    own_learning = sum(per_step.get(stage, 0.0) for stage in ("batch", "forward", "backward", "optimizer", "publish"))
    before = per_step["acting"] + per_step["other"] + per_step["environments"] + own_learning
    making = acting + stepping + own_learning
    processor = times.actors_processor / times.steps
    if contract.backend is Backend.ASYNC or old.env_threads > 1:
        processor = max(processor, times.busy_cores * times.seconds / times.steps)
    processor *= (making - stepping + per_step["environments"]) / before if before else 1.0
    if old.engine is EngineKind.SERIAL and new.engine in (EngineKind.PROCESSES, EngineKind.THREADS):
        more_processor += _REQUEST / new.rollout_steps
    learning = _learning(times, old, new)
    beside = times.learner.get("evaluation", 0.0) * _evaluations(old, new)
    beside += times.learner.get("checkpoint", 0.0) * old.checkpoint_every / new.checkpoint_every
    used = times.learner_processor / times.steps
    return _Costs(
        acting=making + more_processor,
        learning=learning,
        beside=beside / times.steps,
        actors_processor=processor + more_processor,
        processor=processor + more_processor + used,
    )


def _shared(seconds: float, fixed: float, wider: float) -> float:
    """Seconds per step of a call for `wider` times as many environments, of which the share `fixed` does not grow."""
    return seconds * (1 - fixed + fixed / wider)


def _stepping(seconds: float, contract: Contract, old: RunConfig, new: RunConfig) -> tuple[float, float]:
    """Seconds per step in an actor's environments, and the processor time that they cost in addition."""
    if new.environment.env_backend is Backend.ASYNC and contract.backend is Backend.SYNC:
        return seconds / new.envs_per_actor * (1 + _OVERLAP) + _WORKER_STEP, _WORKER_STEP
    seconds *= 1 - _PARALLEL + _PARALLEL * old.env_threads / new.env_threads
    native = contract.backend is Backend.NATIVE and not contract.spaces.has_images
    return _shared(seconds, _FIXED_FOR_VECTORS if native else 0.0, new.envs_per_actor / old.envs_per_actor), 0.0


def _learning(times: StageTimes, old: RunConfig, new: RunConfig) -> float:
    """Seconds per step of the learner.

    Fewer, larger updates of a small network cost less per step, but they learn less, too: that is not counted as a gain.
    """
    larger = new.batch_steps / old.batch_steps
    seconds = {stage: spent / times.steps for stage, spent in times.learner.items()}
    passes = new.algorithm.experience().epochs / old.algorithm.experience().epochs
    network = sum(seconds.get(stage, 0.0) for stage in ("forward", "backward"))
    threads = (new.learner_threads or 1) / (old.learner_threads or 1)
    network *= passes * (1 - _PARALLEL + _PARALLEL / threads)
    network += seconds.get("optimizer", 0.0) * passes
    rest = seconds.get("batch", 0.0) + sum(seconds.get(stage, 0.0) / larger for stage in ("publish", "other"))
    return network + rest


def _evaluations(old: RunConfig, new: RunConfig) -> float:
    """How many times as many episodes are played in evaluations."""
    often = old.eval_every / new.eval_every if old.eval_every and new.eval_every else 1.0
    return often * (new.eval_episodes / old.eval_episodes if old.eval_episodes else 1.0)
