"""The algorithms by name."""

from asyncrl.algorithms.a3c import A3C
from asyncrl.algorithms.actor_critic import EpisodicActorCritic
from asyncrl.algorithms.base import ActContext, ActionOutput, Algorithm, Loss
from asyncrl.algorithms.building import build_network
from asyncrl.algorithms.c51 import C51
from asyncrl.algorithms.dqn import DQN, TDLoss
from asyncrl.algorithms.impala import Impala
from asyncrl.algorithms.linear_q import LinearQ
from asyncrl.algorithms.n_step_q import NStepQ
from asyncrl.algorithms.one_step_q import OneStepQ
from asyncrl.algorithms.one_step_sarsa import OneStepSarsa
from asyncrl.algorithms.policy import Policy
from asyncrl.algorithms.ppo import PPO
from asyncrl.algorithms.pqn import PQN
from asyncrl.algorithms.qr_dqn import QRDQN
from asyncrl.algorithms.random import Random
from asyncrl.algorithms.reinforce import Baseline, Reinforce
from asyncrl.errors import UsageError, suggestions

__all__ = [
    "A3C",
    "ALGORITHMS",
    "C51",
    "DQN",
    "PPO",
    "PQN",
    "QRDQN",
    "ActContext",
    "ActionOutput",
    "Algorithm",
    "Baseline",
    "EpisodicActorCritic",
    "Impala",
    "LinearQ",
    "Loss",
    "NStepQ",
    "OneStepQ",
    "OneStepSarsa",
    "Policy",
    "Random",
    "Reinforce",
    "TDLoss",
    "algorithm_named",
    "build_network",
]

ALGORITHMS: dict[str, type[Algorithm]] = {
    cls.name: cls
    for cls in (
        A3C,
        Impala,
        PPO,
        OneStepQ,
        OneStepSarsa,
        NStepQ,
        PQN,
        Reinforce,
        EpisodicActorCritic,
        DQN,
        C51,
        QRDQN,
        LinearQ,
        Random,
    )
}

_ALTERNATIVES = {
    "a2c": "A2C is a3c with --lag 0",
    "a3c-lstm": "it is a3c with --recurrent lstm",
    "acer": "impala also corrects for off-policy experience",
    "ape-x": "Ape-X is dqn with --prioritized and --epsilon-assignment ladder",
    "apex": "Ape-X is dqn with --prioritized and --epsilon-assignment ladder",
    "appo": "ppo runs with asynchronous actors",
    "ddpg": "ppo, a3c and impala support continuous actions",
    "ddqn": "double DQN is dqn with --double",
    "double-dqn": "it is dqn with --double",
    "dueling-dqn": "it is dqn with --dueling",
    "iqn": "qr-dqn learns quantiles of the return",
    "rainbow": "Rainbow is c51 with --preset rainbow/atari",
    "sac": "ppo, a3c and impala support continuous actions",
    "td3": "ppo, a3c and impala support continuous actions",
    "tqc": "ppo, a3c and impala support continuous actions",
    "trpo": "ppo limits the size of policy updates as well",
    "vpg": "the plain policy gradient is reinforce",
}
"""What to use instead of algorithms that other libraries have."""


def algorithm_named(name: str) -> type[Algorithm]:
    """Return the algorithm's class. Raises UsageError that suggests similar names or alternatives."""
    if name not in ALGORITHMS:
        alternative = _ALTERNATIVES.get(name.casefold().replace("_", "-"))
        if alternative:
            remedy = f"; {alternative}"
        else:
            remedy = suggestions(name, ALGORITHMS) or f"; there are {', '.join(ALGORITHMS)}"
        raise UsageError(f"there is no algorithm {name!r}{remedy} (asyncrl list algorithms)")
    return ALGORITHMS[name]
