"""Finds settings that train faster on this machine, by short real trainings: successive halving.

First the engines and the divisions of the environments among actors, then T and threads around the best of them, then
the best few again, longer. Every candidate keeps the batch of an update.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from asyncrl.bench.candidates import Bounds, SpeedSettings, choose, finalists, placements, refinements
from asyncrl.bench.trials import Trial, train_briefly
from asyncrl.common.fork_pool import prepare
from asyncrl.common.hardware import usable_cores
from asyncrl.common.serialization import to_json
from asyncrl.envs import Contract, describe_all
from asyncrl.errors import AsyncRLError
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import EngineKind, RunConfig
from asyncrl.runs.provenance import machine
from asyncrl.runs.speed.throughput import expected_gain

__all__ = ["NOISE", "Measured", "Tuning", "expected_gains", "tune"]

NOISE = 0.03
"""Settings must be faster by more than this to be chosen."""
_TRIALS = 40
"""Short trials that the budget would hold without starting and stopping."""
_PLACED, _REFINED = 0.45, 0.65
"""Shares of the budget after which the first and the second round end."""
_FINALISTS, _PASSES = 2, 2
"""Settings measured again in addition to the current ones, and how often."""


@dataclass
class Measured:
    """What is known of one candidate."""

    short: float
    """Steps per second of its short trial."""
    long: list[float] = field(default_factory=list)
    """Steps per second of its longer trials, if it was among the best."""

    @property
    def rates(self) -> list[float]:
        """The measurements that count."""
        return self.long or [self.short]


@dataclass(frozen=True)
class Tuning:
    """The result of `tune`."""

    config: RunConfig
    """The current configuration, resolved."""
    present: SpeedSettings
    best: SpeedSettings
    """The chosen settings; `present` if nothing was faster by more than the noise."""
    measured: dict[SpeedSettings, Measured]
    """In the order in which they were tried."""
    skipped: dict[SpeedSettings, str]
    """Candidates that could not be measured, with the reason."""
    untried: int
    """Candidates that the time did not suffice for."""
    seconds: float

    @property
    def changes(self) -> dict[str, Any]:
        """The settings to give, by name."""
        return self.best.changes_from(self.present)

    @property
    def gain(self) -> float:
        """The speed with the chosen settings, divided by that with the current ones."""
        best, present = (
            sum(one.rates) / len(one.rates) for one in map(self.measured.__getitem__, (self.best, self.present))
        )
        return best / present

    def to_json(self) -> dict[str, Any]:
        def rates(found: Measured) -> dict[str, Any]:
            again = [round(rate, 1) for rate in found.long]
            return {"steps_per_second": round(found.short, 1), "again": again}

        return {
            "tried": [{**to_json(asdict(one)), **rates(found)} for one, found in self.measured.items()],
            "skipped": [{**to_json(asdict(one)), "reason": reason} for one, reason in self.skipped.items()],
            "untried": self.untried,
            "present": to_json(asdict(self.present)),
            "best": to_json(asdict(self.best)),
            "changes": to_json(self.changes),
            "gain": round(self.gain, 3),
            "batch": self.present.batch,
            "seconds": round(self.seconds, 1),
            "machine": machine(),
            "config": self.config.to_json(),
        }


def tune(
    config: RunConfig, seconds: float, held: Collection[str] = (), say: Callable[[str], None] = lambda line: None
) -> Tuning:
    """Find settings that train faster than those of `config`.

    Args:
        config: The current configuration, not yet resolved.
        seconds: Duration of all of it. An update that has begun is finished; without two updates nothing is measured.
        held: Names of settings that must not change.
        say: Called with a line about each round.

    Raises:
        AsyncRLError: If the current configuration cannot be trained.
        KeyboardInterrupt: After a signal.
    """
    return _Search(config, seconds, frozenset(held), say).run()


def expected_gains(
    trial: Trial, contract: Contract, config: RunConfig, candidates: Iterable[SpeedSettings]
) -> dict[SpeedSettings, float]:
    """The speed expected of each candidate, divided by that of `config`, not yet resolved, which was measured in `trial`.

    Candidates that cannot be trained are left out.
    """
    resolved = resolve(config, contract)
    present, found = SpeedSettings.of(config, resolved), dict[SpeedSettings, float]()
    for one in candidates:
        with contextlib.suppress(AsyncRLError):
            new = resolve(one.applied(config, present), contract)
            gain = None if trial.times is None else expected_gain(trial.times, contract, resolved, new, usable_cores())
            found[one] = gain or 1.0
    return found


class _Search:
    """The rounds of `tune`, within its time."""

    def __init__(self, config: RunConfig, seconds: float, held: frozenset[str], say: Callable[[str], None]) -> None:
        self._began, self._seconds = time.monotonic(), seconds
        self._config, self._held, self._say = config, held, say
        self._contract = describe_all(config.env_ids, config.environment)
        self._resolved = resolve(config, self._contract)
        self._present = SpeedSettings.of(config, self._resolved)
        self._bounds = Bounds.of(self._resolved, self._contract)
        self._short = seconds / _TRIALS
        self._measured: dict[SpeedSettings, Measured] = {}
        self._skipped: dict[SpeedSettings, str] = {}
        self._untried: set[SpeedSettings] = set()
        self._starting: list[float] = []
        """By trial: seconds in addition to those that were asked for."""

    def run(self) -> Tuning:
        first = train_briefly(self._config, self._short / 2)  # it also imports what trainings need
        self._rate = first.rate
        self._measure(self._present)
        if self._present not in self._measured:
            raise AsyncRLError(f"the current settings cannot be measured: {self._skipped[self._present]}")
        candidates = placements(self._present, self._bounds, self._held)
        if any(one.engine is EngineKind.PROCESSES for one in candidates):
            prepare()
        self._round("engines and actors", self._ordered(first, candidates), _PLACED)
        rates = self._rates()
        around = sorted(rates, key=lambda one: -rates[one])[:2]
        nearby = [near for one in around for near in refinements(one, self._bounds, self._held)]
        self._round("threads and T", nearby, _REFINED)
        self._finals()
        known = {one: found.rates for one, found in self._measured.items() if found.long}
        if self._present not in known:
            known = {one: found.rates for one, found in self._measured.items()}
        return Tuning(
            config=self._resolved,
            present=self._present,
            best=choose(known, self._present, NOISE),
            measured=self._measured,
            skipped=self._skipped,
            untried=len(self._untried),
            seconds=self._elapsed,
        )

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _rates(self) -> dict[SpeedSettings, float]:
        return {one: found.short for one, found in self._measured.items()}

    @property
    def _cost(self) -> float:
        """Seconds that a short trial is expected to take."""
        return self._short + (median(self._starting) if self._starting else 0.0)

    def _ordered(self, first: Trial, candidates: Sequence[SpeedSettings]) -> list[SpeedSettings]:
        """The most promising candidates first."""
        gains = expected_gains(first, self._contract, self._config, candidates)
        return sorted(candidates, key=lambda one: -gains.get(one, math.inf))  # those that are refused cost no time

    def _round(self, what: str, candidates: Sequence[SpeedSettings], until: float) -> None:
        """Measure candidates until the share `until` of the time is over."""
        new = [one for one in dict.fromkeys(candidates) if one not in self._measured and one not in self._skipped]
        before = len(self._measured)
        for one in new:
            if self._elapsed + self._cost > until * self._seconds:
                self._untried.add(one)
            else:
                self._measure(one)
        self._say(f"{what}: {len(self._measured) - before} of {len(new)} candidates tried")

    def _measure(self, one: SpeedSettings) -> None:
        """Add a short trial, or the reason why there is none."""
        self._untried.discard(one)
        try:
            self._measured[one] = Measured(self._trial(one, self._short).rate)
        except AsyncRLError as problem:
            self._skipped[one] = str(problem)

    def _trial(self, one: SpeedSettings, seconds: float) -> Trial:
        trial = train_briefly(one.applied(self._config, self._present), seconds, self._rate)
        self._starting.append(max(0.0, trial.seconds - seconds))
        return trial

    def _finals(self) -> None:
        """Measure the best again, one after the other, as often and as long as the time allows."""
        left, rates = self._seconds - self._elapsed, self._rates()
        if len(rates) == 1:
            return
        for count in range(_FINALISTS, 0, -1):
            best = finalists(rates, self._present, count)
            passes = min(_PASSES, int(left / (len(best) * self._cost)))
            if passes:
                break
        else:
            self._say("no time is left to measure the best again: --seconds gives more")
            return
        each = left / (passes * len(best)) - (self._cost - self._short)
        for _ in range(passes):
            for one in best:
                try:
                    self._measured[one].long.append(self._trial(one, each).rate)
                except AsyncRLError as problem:
                    self._skipped[one] = str(problem)
        self._say(f"the best {len(best)} again, {each:.1f} s each")
