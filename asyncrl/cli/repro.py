"""asyncrl repro CAPSULE"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asyncrl.cli.options import parse
from asyncrl.common.validation import within
from asyncrl.envs import read_contract
from asyncrl.envs.families.single import SingleFamily
from asyncrl.envs.registry import family_named
from asyncrl.envs.supervision import capsule
from asyncrl.errors import UsageError

_ABOUT = (
    "Replay the episode of a crash capsule in a worker process. "
    "The exit code is 0 if it fails in the same way at the same step, 1 if not, 2 if there is no such capsule."
)
BASIC = {"Options": ("step_timeout", "trust")}
"""Options of the short help, by section."""


@dataclass(frozen=True)
class Arguments:
    capsule: Path
    """Capsule file, capsule-ENV-….json."""
    trust: bool = False
    """Run code that the capsule names even if someone else made it."""
    step_timeout: float = 60.0
    """Seconds after which a step or a reset counts as hanging."""


def run(arguments: Sequence[str]) -> int:
    asked = parse(Arguments, "repro", arguments, _ABOUT, BASIC)
    within(asked, 0, math.inf, "step_timeout", above=True)
    found = capsule.load(asked.capsule)
    contract = read_contract(found.contract, None if asked.trust else found.untrusted_source, f"{asked.capsule}: contract")
    contract.check_trust()
    family = family_named(contract.family)
    if not isinstance(family, SingleFamily):
        raise UsageError(f"{asked.capsule}: {contract.env} runs in native code, which cannot be replayed one at a time")
    make = functools.partial(family.with_time_limit, contract, render=False)
    outcome = capsule.replay(found, make, step_timeout=asked.step_timeout)
    place = f"step {outcome.steps} of the episode with seed {found.seed}"
    if outcome.failure is None:
        print(f"{found.env} ran through {place} without a failure; in the capsule it {found.what} in step {found.steps}.")
    else:
        print(outcome.failure.traceback, end="")
        print(f"{found.env} {outcome.failure.what} ({place})")
        if not outcome.reproduced:
            print(f"This is a different failure: in the capsule it {found.what} in step {found.steps}.")
    if outcome.reproduced:
        return 0
    now = capsule.versions()
    for name, then in found.versions.items():
        if now.get(name) != then:
            print(f"The capsule was written with {name} {then}; {now.get(name)} is installed.")
    return 1
