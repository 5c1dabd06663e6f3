"""The algorithms, one line each."""

from asyncrl.algorithms.a3c import A3C
from asyncrl.algorithms.actor_critic import EpisodicActorCritic
from asyncrl.algorithms.base import Acted, Algorithm, Loss, Moment
from asyncrl.algorithms.impala import Impala
from asyncrl.algorithms.n_step_q import NStepQ
from asyncrl.algorithms.one_step_q import OneStepQ
from asyncrl.algorithms.one_step_sarsa import OneStepSarsa
from asyncrl.algorithms.policy import Policy
from asyncrl.algorithms.ppo import PPO
from asyncrl.algorithms.reinforce import Baseline, Reinforce
from asyncrl.errors import UsageError, near_matches

__all__ = [
    "A3C",
    "ALGORITHMS",
    "PPO",
    "Acted",
    "Algorithm",
    "Baseline",
    "EpisodicActorCritic",
    "Impala",
    "Loss",
    "Moment",
    "NStepQ",
    "OneStepQ",
    "OneStepSarsa",
    "Policy",
    "Reinforce",
    "algorithm_named",
]

ALGORITHMS: dict[str, type[Algorithm]] = {
    cls.name: cls for cls in (A3C, Impala, PPO, OneStepQ, OneStepSarsa, NStepQ, Reinforce, EpisodicActorCritic)
}


def algorithm_named(name: str) -> type[Algorithm]:
    """The algorithm's class. Raises UsageError with near matches."""
    if name not in ALGORITHMS:
        raise UsageError(f"there is no algorithm {name!r}{near_matches(name, ALGORITHMS)} (asyncrl list algorithms)")
    return ALGORITHMS[name]
