"""The verdict on a run's speed: its bottleneck, and the setting to change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from asyncrl.common.child_process import HAS_WORKERS
from asyncrl.common.hardware import usable_cores
from asyncrl.common.validation import flag
from asyncrl.envs import Backend, Contract
from asyncrl.errors import AsyncRLError
from asyncrl.experience import OffPolicy
from asyncrl.runs.config.option_checks import reject_ineffective
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import EngineKind, RunConfig, ScheduleKind
from asyncrl.runs.speed.stage_times import StageTimes
from asyncrl.runs.speed.throughput import expected_gain, own_cores, straggler

__all__ = ["Advisor", "Verdict"]

_MIN_SECONDS = 1.0
"""Shorter measurements give no verdict."""
_MIN_GAIN = 1.15
"""Smaller gains are not worth a change."""
_NEARLY = 0.7
"""Of two settings, the one that changes less of what is learned is named if its gain is at least this share."""
_MUCH_DELAYED = 0.3
"""Share of the work's time in which no core was free from which on cores are the bottleneck."""
_LEARNING = ("batch", "forward", "backward", "optimizer", "publish", "other")


@dataclass(frozen=True)
class Verdict:
    """What limits a run's speed, and what to do about it."""

    bottleneck: str
    """environments, acting, learner, evaluation, checkpoint, straggler, cores, or unknown after too short a time"""
    sentence: str
    flag: str | None = None
    """The setting to change, as on the command line; None if none is expected to help."""
    gain: float | None = None
    """The expected speed, divided by the measured one."""

    def fields(self) -> dict[str, Any]:
        """The fields of a record."""
        gain = None if self.gain is None else round(self.gain, 2)
        return {"bottleneck": self.bottleneck, "verdict": self.sentence, "flag": self.flag, "gain": gain}


class Advisor:
    """Judges the measured times of a run under a resolved configuration."""

    def __init__(self, config: RunConfig, contract: Contract, cores: float | None = None) -> None:
        """`cores`: those that the run may keep busy; None for this machine's."""
        self._config, self._contract = config, contract
        self._cores = usable_cores() if cores is None else cores
        self._allowed: dict[str, bool] = {}

    def judge(self, times: StageTimes | None) -> Verdict:
        """The verdict on what was measured."""
        if times is None or times.seconds < _MIN_SECONDS or times.steps <= 0:
            return Verdict("unknown", "The run was too short to say where its time goes.")
        bottleneck, finding = self._find(times)
        best = self._best_change(times, bottleneck)
        if best is None:
            return Verdict(bottleneck, f"{finding}; no single setting is expected to make it much faster here.")
        words, gain = best
        return Verdict(bottleneck, f"{finding}: with {words} expect about {_times(gain)} the speed.", words, gain)

    def _find(self, times: StageTimes) -> tuple[str, str]:
        """The bottleneck, and a sentence without its end that says how it shows."""
        actors, learner = times.actor_shares, times.learner_shares
        for stage, subject in (("evaluation", "Evaluations"), ("checkpoint", "Checkpoints")):
            if learner.get(stage, 0.0) > 0.4:
                return stage, f"{subject} take {learner[stage]:.0%} of the time"
        if (scarce := self._scarce_cores(times)) is not None:
            return "cores", scarce
        slowest = straggler(times)
        waits = learner.get("waiting", 0.0) > 0.25
        if slowest is not None and slowest[1] > 1.5 and waits and self._config.schedule is ScheduleKind.LOCKSTEP:
            return "straggler", (
                f"Actor {slowest[0]} takes {slowest[1]:.1f} times as long for a rollout as the others, and the learner "
                f"waits {learner['waiting']:.0%} of its time"
            )
        if self._config.engine is EngineKind.SERIAL:
            return self._in_turn(times)
        if not learner:
            learning = sum(actors.get(stage, 0.0) for stage in ("batch", "forward", "backward", "optimizer", "publish"))
            parts = {"environments": actors["environments"], "acting": actors["acting"], "learner": learning}
            return max(parts, key=lambda part: parts[part]), _parts(parts, "of the workers' time")
        learning = sum(learner[stage] for stage in _LEARNING)
        if learning > learner["waiting"]:
            forward, backward = learner["forward"], learner["backward"]
            passes = (
                f"forward {forward:.0%}, backward {backward:.0%}" if backward else f"forward and backward {forward:.0%}"
            )
            return "learner", (
                f"The learner works {learning:.0%} of its time ({passes}), and the actors wait "
                f"{actors['waiting']:.0%} of theirs"
            )
        stage = "environments" if actors["environments"] >= actors["acting"] else "acting"
        subject = "The environments take" if stage == "environments" else "Acting takes"
        return stage, (
            f"{subject} {actors[stage]:.0%} of the actors' time, and the learner waits {learner['waiting']:.0%} of its "
            "time for rollouts"
        )

    def _scarce_cores(self, times: StageTimes) -> str | None:
        """The sentence on too few cores, if actors and learner have to wait for them."""
        own, cores, parts = own_cores(times, self._config, self._contract), self._cores, _busy(times)
        work = sum(times.actors.values()) - times.actors["waiting"] + sum(times.learner.get(x, 0.0) for x in _LEARNING)
        if times.delayed < _MUCH_DELAYED * work and own < 0.92 * cores:
            return None
        if own < times.busy_cores / 2:
            others = times.busy_cores - own
            return f"Other programs keep {others:.1f} of the {cores:.3g} cores busy, and the run waits for them"
        return f"All {cores:.3g} cores are busy ({_parts(parts, 'of the work', lower=True)})"

    def _in_turn(self, times: StageTimes) -> tuple[str, str]:
        """The verdict where everything happens in one thread."""
        parts = _busy(times)
        return max(parts, key=lambda part: parts[part]), f"{_parts(parts, 'of the time')}, one after the other"

    def _best_change(self, times: StageTimes, bottleneck: str) -> tuple[str, float] | None:
        """The change that is expected to help most, on the command line, and its gain."""
        found: list[tuple[str, float]] = []
        changes = list(self._changes())
        if bottleneck == "straggler":
            changes.sort(key=lambda change: change[1] != "schedule")
        for words, name, new in changes:
            gain = expected_gain(times, self._contract, self._config, new, self._cores)
            if gain >= _MIN_GAIN and self._is_allowed(words, name, new):
                found.append((words, gain))
        most = max((gain for _, gain in found), default=0.0)
        return next(((words, gain) for words, gain in found if gain >= _NEARLY * most), None)

    def _is_allowed(self, words: str, name: str, new: RunConfig) -> bool:
        """Whether a run with these settings could start. Asked once for each change."""
        if words not in self._allowed:
            try:
                asked = replace(new, queue_size=None)
                resolve(asked, self._contract)
                reject_ineffective(asked, self._contract, () if name == "env_backend" else (name,))
                self._allowed[words] = True
            except AsyncRLError:
                self._allowed[words] = False
        return self._allowed[words]

    def _changes(self) -> Iterator[tuple[str, str, RunConfig]]:
        """Changes to consider, those first that change nothing of what is learned: flag, setting, configuration."""
        config, contract = self._config, self._contract
        cores = max(1, int(self._cores))

        def change(name: str, value: Any, base: RunConfig = config, words: str = "") -> tuple[str, str, RunConfig]:
            shown = value.value if hasattr(value, "value") else value
            return f"{words}{flag(name)} {shown}", name, _changed(base, name, value)

        beside = replace(config, engine=EngineKind.PROCESSES, queue_size=None)
        if config.engine in (EngineKind.SERIAL, EngineKind.THREADS) and cores > 1 and HAS_WORKERS:
            yield "--engine processes", "engine", beside
        for threads in (2, 4, 8, 16):
            if config.env_threads < threads <= cores:
                yield change("env_threads", threads)
        if config.eval_every:
            yield from (change("eval_every", factor * config.eval_every) for factor in (2, 4, 10))
        elif config.eval_episodes > 10:
            yield change("eval_episodes", 10)
        yield from (change("checkpoint_every", factor * config.checkpoint_every) for factor in (2, 4, 10))
        if contract.spaces.has_images and config.learner_threads and config.learner_threads < cores:
            yield change("learner_threads", cores)
        if all(one.backend is Backend.SYNC for one in contract.contracts) and HAS_WORKERS:
            asynchronous = replace(config.environment, env_backend=Backend.ASYNC)
            yield "--env-backend async", "env_backend", replace(config, environment=asynchronous)
        rollouts = config.rollouts_per_update or config.actors
        if config.lag == 0:
            yield change("lag", 1)
        elif config.schedule is ScheduleKind.LOCKSTEP and (config.lag + 1) * rollouts < config.actors:
            yield change("lag", -(-config.actors // rollouts) - 1)  # all actors collect rollouts at the same time
        yield from (change("actors", factor * config.actors) for factor in (2, 4))
        if config.engine is EngineKind.SERIAL and HAS_WORKERS:
            words = "--engine processes "
            yield from (change("actors", factor * config.actors, beside, words) for factor in (2, 4))
        if config.schedule is ScheduleKind.LOCKSTEP:
            yield change("schedule", ScheduleKind.FREE)
        if not isinstance(config.algorithm.experience(), OffPolicy):
            yield from (change("envs_per_actor", factor * config.envs_per_actor) for factor in (2, 4))
        epochs = config.algorithm.experience().epochs
        if epochs > 1 and hasattr(config.algorithm, "epochs"):
            yield change("epochs", epochs // 2)


def _changed(config: RunConfig, name: str, value: Any) -> RunConfig:
    """The configuration with one setting changed, and with what follows from it by default."""
    if name == "epochs":
        algorithm: Any = config.algorithm
        return replace(config, algorithm=replace(algorithm, epochs=value))
    changes: dict[str, Any] = {name: value, "queue_size": None}
    if name == "actors" and config.rollouts_per_update == config.actors:
        changes["rollouts_per_update"] = value
    return replace(config, **changes)


def _busy(times: StageTimes) -> dict[str, float]:
    """Environments, acting and learning as shares of the work, and what else takes more than a tenth of it."""
    actors, learner = times.actors, times.learner
    work = {
        "environments": actors["environments"],
        "acting": actors["acting"] + actors["other"],
        "learner": sum(learner.get(stage, 0.0) for stage in _LEARNING),
    }
    beside = {stage: learner.get(stage, 0.0) for stage in ("evaluation", "checkpoint")}
    total = max(sum(work.values()) + sum(beside.values()), 1e-9)
    return {part: spent / total for part, spent in (work | beside).items() if part in work or spent > 0.1 * total}


_NAMES = {"environments": "Environments", "acting": "acting", "learner": "learning", "evaluation": "evaluations"}


def _parts(shares: dict[str, float], of: str, *, lower: bool = False) -> str:
    """For example "Environments take 71 %, acting 12 %, learning 17 % of the time"."""
    texts = [f"{_NAMES.get(part, part + 's')} {share:.0%}" for part, share in shares.items()]
    first, *rest = texts
    first = first.lower() if lower else first.replace("Environments", "Environments take")
    return f"{', '.join([first, *rest])} {of}"


def _times(gain: float) -> str:
    return f"{gain:.1f} times" if gain < 10 else f"{gain:.0f} times"
