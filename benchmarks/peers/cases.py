"""The compared cases as data, for the script and for the workers of all virtual environments (standard library only).

A case has one method, environment, network and batch for all sides. A configuration is one way to run a side, such as
environments in processes or two torch threads; the best one of each side counts.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CASES", "Case", "Configuration", "Network"]

ACTIONS = 6
"""Actions of Pong."""


@dataclass(frozen=True)
class Network:
    """A network that all sides build: the Nature network for images, or dense layers."""

    hidden: tuple[int, ...] = ()
    """Units of the dense layers; () for the Nature network."""
    activation: str = "relu"
    """tanh or relu"""
    layer_norm: bool = False


@dataclass(frozen=True)
class Configuration:
    """One way to run a side of a case."""

    name: str
    place: str = ""
    """asyncrl: the engine. Stable-Baselines3: `dummy`, `subproc`, or `single` for one environment only."""
    actors: int = 1
    """asyncrl: actors, which divide the environments among them."""
    lag: int = 1
    """asyncrl: policy lag in updates; 0 acts and learns in turns, as the peers do."""
    threads: int | None = None
    """Torch threads of the learner; None for the side's default."""
    backend: str = "auto"
    """asyncrl: what steps the environments; `sync` steps one after another in Python, as the peers do."""


@dataclass(frozen=True)
class Case:
    """What all sides train."""

    method: str
    """a2c, ppo, dqn, pqn, sac or impala"""
    env: str
    envs: int
    t: tuple[int, ...]
    """Steps per rollout, measured one after another."""
    network: Network
    parameters: int
    """Learned numbers, which every side must have."""
    sides: dict[str, tuple[Configuration, ...]]
    """Configurations of each side; the first side is asyncrl."""
    epochs: int = 1
    minibatches: int = 1
    batch_size: int = 0
    """Replay: transitions per gradient step; 0 for methods without a replay buffer."""
    update_every: int = 1
    """Replay: environment steps per gradient step."""
    learning_starts: int = 0
    """Replay: environment steps before the first gradient step; what comes before is not measured."""
    capacity: int = 50_000
    """Replay: environment steps that the buffer holds."""
    script: str = ""
    """CleanRL: the script to run."""
    peer_env: str = ""
    """CleanRL: the environment's name in EnvPool."""
    record_every: int = 2_000
    """asyncrl: environment steps between readings of the clock, or one update if that is longer."""
    bound: bool = False
    """asyncrl: measure the bound of `asyncrl bench` as well."""


PONG, POOL_PONG, CARTPOLE = "PongNoFrameskip-v4", "Pong-v5", "CartPole-v1"
NATURE, TANH = Network(), Network((64, 64), "tanh")
CONVOLUTIONS = 4 * 32 * 8**2 + 32 + 32 * 64 * 4**2 + 64 + 64 * 64 * 3**2 + 64
NATURE_BODY = CONVOLUTIONS + 64 * 7**2 * 512 + 512
NATURE_NORMS = 2 * (32 * 20**2 + 64 * 9**2 + 64 * 7**2 + 512)
TANH_BODY = (4 + 1) * 64 + (64 + 1) * 64
POLICY_AND_VALUE = NATURE_BODY + 513 * (ACTIONS + 1)
PQN_SMALL = (4 + 3) * 120 + (120 + 3) * 84 + (84 + 1) * 2
SAC_SIZE = 3 * (256 + 1) * 256 + (3 + 1) * 256 + 2 * (4 + 1) * 256 + 2 * 257 + 2 * 257 + 1
"""A policy with mean and spread of one action, two critics and the temperature."""

OURS = (Configuration("processes", "processes", actors=2), Configuration("threads", "threads", actors=2))
OURS_IN_TURNS = Configuration("processes, lag 0", "processes", actors=2, lag=0)
OURS_REPLAY = (Configuration("processes", "processes"), Configuration("threads", "threads"))
OURS_LAGGED = tuple(Configuration(own.name, own.place, own.actors, lag=2) for own in OURS)
OURS_SMALL = (
    Configuration("serial", "serial"),
    Configuration("processes", "processes", actors=2),
    Configuration("serial, one by one", "serial", backend="sync"),
)
OURS_ONE_EACH = (Configuration("processes, 16 actors", "processes", actors=16),)
OURS_SAC = (
    Configuration("serial, 1 thread", "serial", threads=1),
    Configuration("serial, 2 threads", "serial", threads=2),
    Configuration("processes, 1 thread", "processes", threads=1),
)
SB3_IMAGES = (Configuration("DummyVecEnv", "dummy"), Configuration("SubprocVecEnv", "subproc"))
SB3_REPLAY = (Configuration("one environment", "single"), Configuration("all environments", "dummy"))
SB3_SMALL = (Configuration("1 thread", "dummy", threads=1), Configuration("2 threads", "dummy", threads=2))
SB3_SMALL_REPLAY = (
    Configuration("one environment, 1 thread", "single", threads=1),
    Configuration("all environments, 1 thread", "dummy", threads=1),
    Configuration("all environments, 2 threads", "dummy", threads=2),
)
CLEANRL_IMAGES = (Configuration("EnvPool"),)
CLEANRL = (Configuration("1 thread", threads=1), Configuration("2 threads", threads=2))

CASES = {
    "a2c": Case(
        "a2c", PONG, 16, (5, 20), NATURE, POLICY_AND_VALUE, {"asyncrl": OURS, "sb3": SB3_IMAGES}, record_every=800
    ),
    "a2c-16-processes": Case(
        "a2c", PONG, 16, (20,), NATURE, POLICY_AND_VALUE, {"asyncrl": OURS_ONE_EACH, "sb3": SB3_IMAGES[1:]},
        record_every=800,
    ),
    "dqn": Case(
        "dqn", PONG, 16, (4,), NATURE, NATURE_BODY + 513 * ACTIONS, {"asyncrl": OURS_REPLAY, "sb3": SB3_REPLAY},
        batch_size=32, update_every=4, learning_starts=1_000, record_every=256,
    ),
    "dqn-256": Case(
        "dqn", PONG, 16, (4,), NATURE, NATURE_BODY + 513 * ACTIONS, {"asyncrl": OURS_REPLAY, "sb3": SB3_REPLAY},
        batch_size=256, update_every=32, learning_starts=1_000, record_every=256,
    ),
    "ppo": Case(
        "ppo", PONG, 16, (128,), NATURE, POLICY_AND_VALUE,
        {"asyncrl": (*OURS, OURS_IN_TURNS), "sb3": SB3_IMAGES, "cleanrl": CLEANRL_IMAGES},
        epochs=4, minibatches=4, script="ppo_atari_envpool.py", peer_env=POOL_PONG,
    ),
    "pqn": Case(
        "pqn", PONG, 8, (128,), Network(layer_norm=True), NATURE_BODY + NATURE_NORMS + 513 * ACTIONS,
        {"asyncrl": (*OURS, OURS_IN_TURNS), "cleanrl": CLEANRL_IMAGES},
        epochs=4, minibatches=4, script="pqn_atari_envpool.py", peer_env=POOL_PONG,
    ),
    "sac": Case(
        "sac", "Pendulum-v1", 1, (1,), Network((256, 256)), SAC_SIZE, {"asyncrl": OURS_SAC, "sb3": SB3_SMALL},
        batch_size=256, learning_starts=1_000, record_every=100,
    ),
    "impala": Case("impala", PONG, 16, (20,), NATURE, POLICY_AND_VALUE, {"asyncrl": OURS_LAGGED}, bound=True),
    "cartpole-a2c": Case(
        "a2c", CARTPOLE, 8, (5,), TANH, 2 * TANH_BODY + 65 * 3, {"asyncrl": OURS_SMALL, "sb3": SB3_SMALL}
    ),
    "cartpole-ppo": Case(
        "ppo", CARTPOLE, 8, (128,), TANH, 2 * TANH_BODY + 65 * 3,
        {"asyncrl": OURS_SMALL, "sb3": SB3_SMALL, "cleanrl": CLEANRL},
        epochs=4, minibatches=4, script="ppo.py",
    ),
    "cartpole-dqn": Case(
        "dqn", CARTPOLE, 8, (4,), TANH, TANH_BODY + 65 * 2, {"asyncrl": OURS_SMALL, "sb3": SB3_SMALL_REPLAY},
        batch_size=32, update_every=4, learning_starts=1_000,
    ),
    "cartpole-pqn": Case(
        "pqn", CARTPOLE, 4, (128,), Network((120, 84), layer_norm=True), PQN_SMALL,
        {"asyncrl": OURS_SMALL, "cleanrl": CLEANRL}, epochs=4, minibatches=4, script="pqn.py",
    ),
}  # fmt: skip
"""The cases by name."""
