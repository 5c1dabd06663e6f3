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
from asyncrl.envs.registry import family_named
from asyncrl.envs.single import SingleFamily
from asyncrl.envs.supervision import capsule
from asyncrl.errors import UsageError

_ABOUT = (
    "Play the episode of a crash capsule again, in a worker process of its own. "
    "Exits with 0 if it fails in the same way at the same step, with 1 if it does not, with 2 if there is no such capsule."
)


@dataclass(frozen=True)
class Arguments:
    capsule: Path
    """The file: capsule-ENV-….json."""
    trust: bool = False
    """Run what the capsule names also where somebody else has made it."""
    step_timeout: float = 60.0
    """Seconds that a step or a reset may take; what takes longer hangs."""


def run(arguments: Sequence[str]) -> int:
    asked = parse(Arguments, "repro", arguments, _ABOUT)
    within(asked, 0, math.inf, "step_timeout", above=True)
    found = capsule.load(asked.capsule)
    contract = read_contract(found.contract, None if asked.trust else found.stranger, f"{asked.capsule}: contract")
    contract.check_trust()
    family = family_named(contract.family)
    if not isinstance(family, SingleFamily):
        raise UsageError(f"{asked.capsule} is of {contract.env}, which is not made one at a time")
    make = functools.partial(family.capped, contract, render=False)
    outcome = capsule.replay(found, make, step_timeout=asked.step_timeout)
    place = f"step {outcome.steps} of the episode with seed {found.seed}"
    if outcome.failure is None:
        print(f"{found.env} went through {place}; the capsule says that it {found.what} in step {found.steps}.")
    else:
        print(outcome.failure.traceback, end="")
        print(f"{found.env} {outcome.failure.what} ({place})")
        if not outcome.reproduced:
            print(f"This is another failure: the capsule says that it {found.what} in step {found.steps}.")
    if outcome.reproduced:
        return 0
    now = capsule.versions()
    for name, then in found.versions.items():
        if now.get(name) != then:
            print(f"The capsule was written with {name} {then}, this is {now.get(name)}.")
    return 1
