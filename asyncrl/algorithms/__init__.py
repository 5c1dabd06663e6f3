"""The algorithms, one line each."""

from asyncrl.algorithms.a3c import A3C
from asyncrl.algorithms.actor_critic import EpisodicActorCritic
from asyncrl.algorithms.base import Acted, Algorithm, Loss, Moment
from asyncrl.algorithms.c51 import C51
from asyncrl.algorithms.dqn import DQN, Penalty
from asyncrl.algorithms.impala import Impala
from asyncrl.algorithms.linear_q import LinearQ
from asyncrl.algorithms.n_step_q import NStepQ
from asyncrl.algorithms.one_step_q import OneStepQ
from asyncrl.algorithms.one_step_sarsa import OneStepSarsa
from asyncrl.algorithms.policy import Policy
from asyncrl.algorithms.ppo import PPO
from asyncrl.algorithms.qr_dqn import QRDQN
from asyncrl.algorithms.random import Random
from asyncrl.algorithms.reinforce import Baseline, Reinforce
from asyncrl.errors import UsageError, near_matches

__all__ = [
    "A3C",
    "ALGORITHMS",
    "C51",
    "DQN",
    "PPO",
    "QRDQN",
    "Acted",
    "Algorithm",
    "Baseline",
    "EpisodicActorCritic",
    "Impala",
    "LinearQ",
    "Loss",
    "Moment",
    "NStepQ",
    "OneStepQ",
    "OneStepSarsa",
    "Penalty",
    "Policy",
    "Random",
    "Reinforce",
    "algorithm_named",
]

ALGORITHMS: dict[str, type[Algorithm]] = {
    cls.name: cls
    for cls in (
        *(A3C, Impala, PPO, OneStepQ, OneStepSarsa, NStepQ, Reinforce, EpisodicActorCritic),
        *(DQN, C51, QRDQN, LinearQ, Random),
    )
}


def algorithm_named(name: str) -> type[Algorithm]:
    """The algorithm's class. Raises UsageError with near matches."""
    if name not in ALGORITHMS:
        raise UsageError(f"there is no algorithm {name!r}{near_matches(name, ALGORITHMS)} (asyncrl list algorithms)")
    return ALGORITHMS[name]
