"""The algorithms, one line each."""

from asyncrl.algorithms.a3c import A3C
from asyncrl.algorithms.base import Acted, Algorithm, Loss
from asyncrl.algorithms.policy import Policy
from asyncrl.errors import UsageError, near_matches

__all__ = ["A3C", "ALGORITHMS", "Acted", "Algorithm", "Loss", "Policy", "algorithm_named"]

ALGORITHMS: dict[str, type[Algorithm]] = {cls.name: cls for cls in (A3C,)}


def algorithm_named(name: str) -> type[Algorithm]:
    """The algorithm's class. Raises UsageError with near matches."""
    if name not in ALGORITHMS:
        raise UsageError(f"there is no algorithm {name!r}{near_matches(name, ALGORITHMS)} (asyncrl list algorithms)")
    return ALGORITHMS[name]
