"""The algorithms by name."""

from typing import Any

from asyncrl.algorithms.a3c import A3C
from asyncrl.algorithms.acting_checks import check_acting
from asyncrl.algorithms.actor_critic import EpisodicActorCritic
from asyncrl.algorithms.base import ActContext, ActionOutput, Algorithm, Loss
from asyncrl.algorithms.building import build_network, network_outline
from asyncrl.algorithms.c51 import C51
from asyncrl.algorithms.custom import (
    GROUP,
    AlgorithmSource,
    check_loss,
    custom_algorithm,
    installed_algorithms,
    is_class,
    place_of,
    translate_errors,
)
from asyncrl.algorithms.dqn import DQN, TDLoss
from asyncrl.algorithms.impala import Impala
from asyncrl.algorithms.iqn import IQN
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
from asyncrl.algorithms.sac import SAC
from asyncrl.algorithms.sac_discrete import DiscreteSAC
from asyncrl.algorithms.td3 import TD3
from asyncrl.common.named_code import load
from asyncrl.common.search_space import Choices, Range
from asyncrl.errors import UsageError, suggestions

__all__ = [
    "A3C",
    "ALGORITHMS",
    "C51",
    "DQN",
    "IQN",
    "PPO",
    "PQN",
    "QRDQN",
    "SAC",
    "TD3",
    "ActContext",
    "ActionOutput",
    "Algorithm",
    "AlgorithmSource",
    "Baseline",
    "Choices",
    "DiscreteSAC",
    "EpisodicActorCritic",
    "Impala",
    "LinearQ",
    "Loss",
    "NStepQ",
    "OneStepQ",
    "OneStepSarsa",
    "Policy",
    "Random",
    "Range",
    "Reinforce",
    "TDLoss",
    "algorithm_name_of",
    "algorithm_named",
    "build_network",
    "check_acting",
    "check_loss",
    "installed_algorithms",
    "is_algorithm",
    "network_outline",
    "translate_errors",
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
        IQN,
        SAC,
        DiscreteSAC,
        TD3,
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
    "ddpg": "DDPG is td3 with --critics 1 --policy-delay 1 --target-noise 0",
    "ddqn": "double DQN is dqn with --double",
    "discrete-sac": "it is sac-discrete",
    "double-dqn": "it is dqn with --double",
    "dueling-dqn": "it is dqn with --dueling",
    "m-dqn": "Munchausen DQN is dqn with --munchausen",
    "m-iqn": "Munchausen IQN is iqn with --munchausen",
    "munchausen-dqn": "it is dqn with --munchausen",
    "r2d2": "R2D2 is dqn with --recurrent lstm",
    "rainbow": "Rainbow is c51 with --preset rainbow/atari",
    "sacd": "it is sac-discrete",
    "tqc": "sac learns continuous actions from a replay buffer as well",
    "trpo": "ppo limits the size of policy updates as well",
    "vpg": "the plain policy gradient is reinforce",
}
"""What to use instead of algorithms that other libraries have."""


def algorithm_named(name: str) -> type[Algorithm]:
    """Return the class of an algorithm: a built-in one, an entry point of an installed package, or `module:Name`.

    The module of one that is not built in is imported. Raises UsageError that suggests similar names or alternatives.
    """
    if name not in ALGORITHMS:
        installed = {} if ":" in name else installed_algorithms()
        if ":" in name or name in installed:
            return custom_algorithm(name)
        alternative = _ALTERNATIVES.get(name.casefold().replace("_", "-"))
        if alternative:
            remedy = f"; {alternative}"
        else:
            remedy = suggestions(name, [*ALGORITHMS, *installed]) or f"; there are {', '.join(ALGORITHMS)}"
        raise UsageError(f"unknown algorithm {name!r}{remedy} (asyncrl list algorithms)")
    return ALGORITHMS[name]


def algorithm_name_of(algorithm: AlgorithmSource) -> str:
    """Return the name that `algorithm_named` finds an algorithm by: that of a built-in one, or `module:Name`."""
    if isinstance(algorithm, str):
        return algorithm
    cls: Any = algorithm if isinstance(algorithm, type) else type(algorithm)
    is_built_in = ALGORITHMS.get(getattr(cls, "name", "")) is cls
    return str(cls.name) if is_built_in else place_of(cls)


def is_algorithm(word: str) -> bool:
    """Return whether a word of the command line names an algorithm; the module of a `module:Name` is imported."""
    if ":" not in word:
        return word in ALGORITHMS or word in installed_algorithms()
    try:
        return is_class(load(word, "algorithm", GROUP))
    except UsageError:
        return False
