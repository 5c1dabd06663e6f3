"""Settings that decide a run's speed, candidates for them that keep its batches, and the choice among measured ones."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from asyncrl.common.child_process import HAS_WORKERS
from asyncrl.common.hardware import cores
from asyncrl.envs import Contract
from asyncrl.envs.registry import family_named
from asyncrl.runs.config.run_config import EngineKind, RunConfig, ScheduleKind

__all__ = ["Bounds", "SpeedSettings", "choose", "divisions", "finalists", "placements", "refinements"]


@dataclass(frozen=True)
class SpeedSettings:
    """The settings that are tuned for speed."""

    engine: EngineKind
    actors: int
    envs_per_actor: int
    rollouts_per_update: int | None
    """None for one from each actor."""
    t_max: int | None
    """T; None for algorithms whose rollouts are whole episodes."""
    learner_threads: int
    env_threads: int

    @classmethod
    def of(cls, config: RunConfig, resolved: RunConfig) -> SpeedSettings:
        """Those of a configuration, as it was given and resolved."""
        return cls(
            engine=resolved.engine,
            actors=config.actors,
            envs_per_actor=config.envs_per_actor,
            rollouts_per_update=config.rollouts_per_update,
            t_max=getattr(config.algorithm, "t_max", None),
            learner_threads=resolved.learner_threads or 1,
            env_threads=config.env_threads,
        )

    @property
    def rollouts(self) -> int:
        """M: rollouts per update."""
        return 1 if self.engine is EngineKind.HOGWILD else self.rollouts_per_update or self.actors

    @property
    def envs(self) -> int:
        """Environments of all actors."""
        return self.actors * self.envs_per_actor

    @property
    def batch(self) -> int:
        """Environment steps of an update, T × B × M; episodes where rollouts are whole episodes."""
        return (self.t_max or 1) * self.envs_per_actor * self.rollouts

    def changes_from(self, present: SpeedSettings) -> dict[str, Any]:
        """The settings that differ, by name."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) != getattr(present, one.name)}

    def applied(self, config: RunConfig, present: SpeedSettings) -> RunConfig:
        """A copy of `config`, not yet resolved, with these settings; `present` are its own."""
        changes = self.changes_from(present)
        algorithm: Any = config.algorithm
        if "t_max" in changes:
            algorithm = replace(algorithm, t_max=changes.pop("t_max"))
        return replace(config, algorithm=algorithm, **changes)


@dataclass(frozen=True)
class Bounds:
    """What bounds the candidates: the machine's cores, and what the run allows."""

    cores: int
    lag: int | None
    """Lockstep: lag of the run. It bounds the rollouts that are in flight; None for the schedule free."""
    envs: int = 1
    """Environments that the agent is trained in, each of which needs an actor (`extra_envs`)."""
    has_env_threads: bool = False
    """Whether the environments can be stepped by several threads."""
    has_images: bool = False
    """Whether the learner's layers are large enough to be divided among threads."""

    @classmethod
    def of(cls, config: RunConfig, contract: Contract) -> Bounds:
        """This machine, for a resolved configuration."""
        lag = config.lag if config.schedule is ScheduleKind.LOCKSTEP else None
        return cls(cores(), lag, len(config.env_ids), family_named(contract.family).has_threads, contract.spaces.has_images)


def divisions(present: SpeedSettings, bounds: Bounds, held: Collection[str]) -> list[SpeedSettings]:
    """Ways to divide the current environments among other numbers of actors, the current one first.

    A actors with B environments each and M rollouts per update become A·f, B/f and M·f: the batch stays, and so do the
    number of environments, the order of updates and the share of actors that are busy at a time. Where B or M is held,
    A changes alone.
    """
    if "actors" in held:
        return [present]
    if present.engine is EngineKind.HOGWILD or {"envs_per_actor", "rollouts_per_update"} & set(held):
        return [present, *_other_numbers(present, bounds)]
    found = [present]
    for actors in range(bounds.envs, max(2 * bounds.cores, present.actors) + 1):
        envs, rest = divmod(present.envs, actors)
        rollouts, part = divmod(present.rollouts * actors, present.actors)
        if rest == part == 0 and actors != present.actors:
            given = None if present.rollouts_per_update is None else rollouts
            found.append(replace(present, actors=actors, envs_per_actor=envs, rollouts_per_update=given))
    return found


def _other_numbers(present: SpeedSettings, bounds: Bounds) -> Iterator[SpeedSettings]:
    """Other numbers of actors with the same environments each and the same rollouts per update."""
    most, rollouts = max(2 * bounds.cores, present.actors), present.rollouts_per_update
    if present.engine is not EngineKind.HOGWILD:  # where every worker learns from its own rollouts
        rollouts = present.rollouts
        if bounds.lag is not None:  # more would idle
            most = min(most, (bounds.lag + 1) * rollouts)
    for actors in sorted({bounds.cores, *(2**power for power in range(most.bit_length()))} - {present.actors}):
        if bounds.envs <= actors <= most:
            yield replace(present, actors=actors, rollouts_per_update=rollouts)


def placements(present: SpeedSettings, bounds: Bounds, held: Collection[str]) -> list[SpeedSettings]:
    """Engines, each with the divisions that suit it; the current settings are the first."""
    engines = [present.engine]
    if "engine" not in held and present.engine not in (EngineKind.HOGWILD, EngineKind.RAY):
        engines += [EngineKind.SERIAL, EngineKind.THREADS, *([EngineKind.PROCESSES] if HAS_WORKERS else [])]
    found = []
    for engine in dict.fromkeys(engines):
        for one in divisions(replace(present, engine=engine), bounds, held):
            if engine is not EngineKind.SERIAL or one.actors <= present.actors:  # more would only take turns
                found.append(one)
    return found


def refinements(settings: SpeedSettings, bounds: Bounds, held: Collection[str]) -> list[SpeedSettings]:
    """Settings with one more change: another T with the same batch, or other numbers of threads."""
    found = [*_lengths(settings, held)]
    if "learner_threads" not in held and settings.engine is not EngineKind.HOGWILD:
        counts = dict.fromkeys((1, max(1, bounds.cores // 2), bounds.cores))
        most = bounds.cores if bounds.has_images else settings.learner_threads
        found += [replace(settings, learner_threads=count) for count in counts if count <= most]
    if "env_threads" not in held and bounds.has_env_threads:
        counts = dict.fromkeys((1, 2, bounds.cores))
        found += [replace(settings, env_threads=count) for count in counts if count <= settings.envs_per_actor]
    return [one for one in dict.fromkeys(found) if one != settings]


def _lengths(settings: SpeedSettings, held: Collection[str]) -> Iterator[SpeedSettings]:
    """Rollouts of half and of twice the steps, in twice and half as many environments."""
    length, envs = settings.t_max, settings.envs_per_actor
    if length is None or {"t_max", "envs_per_actor"} & set(held):
        return
    if length % 2 == 0:
        yield replace(settings, t_max=length // 2, envs_per_actor=2 * envs)
    if envs % 2 == 0:
        yield replace(settings, t_max=2 * length, envs_per_actor=envs // 2)


def finalists(rates: Mapping[SpeedSettings, float], present: SpeedSettings, count: int) -> list[SpeedSettings]:
    """The current settings and the `count` fastest others, the fastest first. `rates`: steps per second."""
    others = sorted((one for one in rates if one != present), key=lambda one: -rates[one])
    return [present, *others[:count]]


def choose(rates: Mapping[SpeedSettings, Sequence[float]], present: SpeedSettings, noise: float) -> SpeedSettings:
    """The fastest settings, or the current ones if none is faster by more than the noise.

    Args:
        rates: Steps per second, one or more measurements of each.
        present: Settings that are kept unless others are faster.
        noise: Relative difference that is not significant. If the measurements of the current settings differ by more,
            that is the noise.
    """
    mean = {one: sum(found) / len(found) for one, found in rates.items()}
    spread = (max(rates[present]) - min(rates[present])) / mean[present]
    best = max(mean, key=lambda one: mean[one])
    return best if mean[best] > (1 + max(noise, spread)) * mean[present] else present
