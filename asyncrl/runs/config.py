"""What defines a run, as data: one frozen dataclass, saved with every run and read back to resume it."""

from __future__ import annotations

import contextlib
import json
import math
import os
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

import torch

from asyncrl.acting.bots import BotOptions
from asyncrl.algorithms import Algorithm, algorithm_named
from asyncrl.algorithms.optimizers import LearningRateSchedule, OptimizerConfig
from asyncrl.common.child_process import HAS_WORKERS
from asyncrl.common.serialization import from_json, to_json
from asyncrl.common.validation import check_numbers, within
from asyncrl.envs import Contract, EnvOptions, is_batched, named_outside
from asyncrl.envs.spaces import Spaces
from asyncrl.errors import UsageError
from asyncrl.experience import FullEpisodes, OffPolicy
from asyncrl.networks import Network, NetworkConfig, QNetwork, Recurrent
from asyncrl.networks import resolve as resolve_network
from asyncrl.runs.former_names import rename_tables
from asyncrl.runs.schedule import Free, Lockstep

__all__ = [
    "EPISODE_LIMIT",
    "Device",
    "EngineKind",
    "OnDivergence",
    "Precision",
    "RunConfig",
    "ScheduleKind",
    "cores",
    "has_bfloat16",
]

EPISODE_LIMIT = 27_000
"""Steps after which an episode that nothing else ends is cut off where nobody learns from it: half an hour of Atari."""


class EngineKind(Enum):
    """Where actors run."""

    AUTO = "auto"
    """processes for images on two or more cores (threads on Windows), else serial; threads on a GPU"""
    SERIAL = "serial"
    THREADS = "threads"
    PROCESSES = "processes"
    HOGWILD = "hogwild"
    """processes that learn themselves: gradients meet in shared weights without locks"""


class ScheduleKind(Enum):
    """Which weights make which rollout."""

    AUTO = "auto"
    """lockstep; free with the engine hogwild"""
    LOCKSTEP = "lockstep"
    """a pure function of the configuration: the same seed gives the same weights on every engine"""
    FREE = "free"
    """first come, first served, as in the 2016 paper"""


class Device(Enum):
    """Where the network computes."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Precision(Enum):
    """What the network's body computes in; weights, heads and losses are float32 always."""

    AUTO = "auto"
    """bf16 for convolutions where the processor has bfloat16 arithmetic, else fp32"""
    FP32 = "fp32"
    BF16 = "bf16"

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self is Precision.BF16 else torch.float32


class OnDivergence(Enum):
    """What a run does when its gradient or weights are not finite any more."""

    STOP = "stop"
    REWIND = "rewind"
    """go back to the last good checkpoint and on with half the learning rate, eight times at most"""


@dataclass(frozen=True)
class RunConfig:
    """A run. Counts of steps are environment steps over all actors (one action in one environment)."""

    CHANGEABLE: ClassVar[tuple[str, ...]] = (
        "engine",
        "env_threads",
        "target_return",
        "eval_every",
        "eval_episodes",
        "eval_greedy",
        "eval_envs",
        "eval_episode_steps",
        "checkpoint_every",
        "keep_checkpoints",
        "log_every",
        "on_divergence",
    )
    """What may differ in the continuation of a run: it changes no weights (in lockstep)."""

    env: str
    """Environment id (asyncrl list envs)."""
    algorithm: Algorithm
    preset: str | None = None
    """The preset that these settings began with. Default: the one tuned for the algorithm and the environment, else
    the algorithm's for this kind of environment."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    environment: EnvOptions = field(default_factory=EnvOptions)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    bots: BotOptions = field(default_factory=BotOptions)
    extra_envs: tuple[str, ...] = ()
    """More environments with the same spaces, in which the same agent is trained: actors take turns. As --env A --env B."""
    init_from: str | None = None
    """Begin with the weights of this run, checkpoint or pretrained agent."""
    offline: str | None = None
    """Learn from this dataset instead of playing (methods with a replay memory)."""
    steps: int = 1_000_000
    """Length of the run, in environment steps over all actors."""
    seed: int = 1
    """Root of every random number of the run."""
    actors: int = 2
    """Actors, each with environments and a copy of the weights of its own."""
    envs_per_actor: int = 16
    """Environments that one actor steps together."""
    rollouts_per_update: int | None = None
    """Rollouts that one update learns from. Default: one of every actor."""
    engine: EngineKind = EngineKind.AUTO
    """Where actors run; in lockstep it changes the speed and nothing else."""
    schedule: ScheduleKind = ScheduleKind.AUTO
    """Which weights make which rollout."""
    lag: int = 1
    """Lockstep: updates between the weights that act and the weights that learn. 0 is synchronous (A2C)."""
    queue_size: int | None = None
    """Rollouts that may wait or be in the making; actors wait when it is full. Default: what the schedule needs."""
    publish_every: int = 1
    """Updates between versions of the weights that actors get."""
    device: Device = Device.AUTO
    """Where the network computes: on a GPU, actors in threads act there too."""
    precision: Precision = Precision.AUTO
    """What the network's body computes in."""
    learner_threads: int | None = None
    """Threads of the learner's arithmetic; part of what makes a run reproducible. Default: half the cores, or all of
    them where convolutions learn from a replay memory: acting is the smaller part there."""
    env_threads: int = 1
    """Threads that step one actor's environments (Atari)."""
    target_return: float | None = None
    """Stop once an evaluation's mean return reaches this."""
    eval_every: int = 0
    """Steps between evaluations in environments of their own; 0: only at the end."""
    eval_episodes: int = 30
    """Episodes of an evaluation; 0: none."""
    eval_greedy: bool = False
    """Evaluate the most probable action instead of sampling from the policy."""
    eval_envs: int | None = None
    """Environments that an evaluation steps side by side: another number plays the same episodes, but draws other actions
    unless it is greedy. Default: as many as an actor has; 64 of Atari's, EnvPool's and CartPole's."""
    eval_episode_steps: int | None = None
    """Steps after which an evaluation's episode is cut off. Default: where an environment has no episode cap, as many as
    the run has, at least 1 000 and at most 27 000 (half an hour of Atari)."""
    checkpoint_every: int = 250_000
    """Steps between checkpoints; there is always one at the end."""
    keep_checkpoints: int = 3
    """Checkpoints that are kept, besides the best."""
    on_divergence: OnDivergence = OnDivergence.STOP
    """What to do when training diverges. The last good checkpoint is kept in either case."""
    log_every: int | None = None
    """Steps between records of metrics. Default: 400 records a run."""

    @property
    def batch_steps(self) -> int:
        """Environment steps of one update."""
        return (self.rollouts_per_update or self.actors) * self.rollout_steps

    @property
    def rollout_steps(self) -> int:
        """Environment steps of one rollout: T × B, at most; whole episodes may be shorter."""
        experience = self.algorithm.experience()
        return (experience.slot_length - experience.overlap) * self.envs_per_actor

    @property
    def updates(self) -> int | None:
        """Updates of the whole run; None where that depends on how long episodes are."""
        whole = isinstance(self.algorithm.experience(), FullEpisodes)
        return None if whole else math.ceil(self.steps / self.batch_steps)

    @property
    def acting_device(self) -> str:
        """Where the network acts: beside the learner where both are in one process, else on the CPU."""
        return "cpu" if self.engine in (EngineKind.PROCESSES, EngineKind.HOGWILD) else self.device.value

    def evaluation_envs(self, contract: Contract) -> int:
        """How many environments an evaluation steps side by side: no more than there were in one process while training,
        where each is an object of its own. A simulator may allow one instance only.
        """
        return self.eval_envs or (64 if is_batched(contract) else self.envs_per_actor)

    def episode_limit(self, contract: Contract) -> int | None:
        """Steps after which an episode outside of training is cut off; None where the environment's cap does it."""
        if self.eval_episode_steps is not None or contract.episode_cap is not None:
            return self.eval_episode_steps
        return min(max(self.steps, 1_000), EPISODE_LIMIT)

    def named_outside(self) -> list[str]:
        """What a run would execute or write that is not this package's, Gymnasium's or in its own folder."""
        environment = self.environment
        kwargs: Any = environment.env_kwargs
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            kwargs = json.loads(environment.env_kwargs or "{}")
        capsules = environment.supervision.capsules
        names = named_outside(self.env_ids, environment.imports, kwargs, capsules)
        return names + [f"bot {json.dumps(self.bots.bot)}"] * (self.bots.bot is not None)

    def make_schedule(self) -> Lockstep | Free:
        """The schedule of a resolved configuration."""
        assert self.rollouts_per_update is not None
        assert self.queue_size is not None
        common = (self.actors, self.rollouts_per_update, self.rollout_steps, self.updates)
        if self.schedule is ScheduleKind.LOCKSTEP:
            return Lockstep(*common, lag=self.lag, publish_every=self.publish_every)
        return Free(*common, slots=self.queue_size, publish_every=self.publish_every)

    def anchored(self, home: Path) -> RunConfig:
        """The same with absolute paths, from the folder `home`: an environment may change the working directory."""
        start, (file, _, name) = self.init_from, (self.bots.bot or "").rpartition(":")
        bot = f"{home / file}:{name}" if file.endswith(".py") else self.bots.bot
        folder = self.environment.supervision.capsules
        supervision = replace(self.environment.supervision, capsules=None if folder is None else str(home / folder))
        return replace(
            self,
            init_from=str(home / start) if start is not None and (home / start).exists() else start,
            bots=replace(self.bots, bot=bot),
            environment=replace(self.environment, supervision=supervision),
        )

    def resolved(self, contract: Contract) -> RunConfig:
        """The same with every `auto` and default decided for this machine. Raises UsageError for what cannot be."""
        network = self.check(contract.spaces)
        try:
            self._check_bots()
        except UsageError as problem:
            raise UsageError(f"{self.env}: {problem}") from None
        if self.engine is EngineKind.HOGWILD:
            return self._without_locks()._resolved(contract, network)
        schedule = ScheduleKind.LOCKSTEP if self.schedule is ScheduleKind.AUTO else self.schedule
        return replace(self, schedule=schedule)._resolved(contract, network)

    def check(self, spaces: Spaces) -> Network:
        """Raise UsageError for what is out of range or does not go together; returns the network. No bot is opened."""
        self._check_counts()
        try:
            self.algorithm.check(spaces, self.network)
            self.optimizer.check()
            self._check_learning_rate()
            self._check_extra_envs()
            self._check_offline()
        except UsageError as problem:
            raise UsageError(f"{self.env}: {problem}") from None
        network = resolve_network(self.network, spaces)
        if (self.network.dueling or self.network.noisy) and not issubclass(self.algorithm.network, QNetwork):
            raise UsageError(
                f"--dueling and --noisy are for methods that learn action values, not for {self.algorithm.name}"
            )
        return network

    def _without_locks(self) -> RunConfig:
        """What hogwild makes of the settings that it has in common with the others."""
        if isinstance(self.algorithm.experience(), OffPolicy):
            raise UsageError(
                f"--engine hogwild: its workers learn from what they just did, and {self.algorithm.name} from a memory "
                "that all actors fill; choose serial, threads or processes"
            )
        if self.schedule is ScheduleKind.LOCKSTEP:
            raise UsageError(
                "--engine hogwild: steps that meet without locks have no order that could be kept, so --schedule lockstep "
                "cannot hold; leave it out or ask for --schedule free"
            )
        if self.device is Device.CUDA:
            raise UsageError("--engine hogwild learns in processes on the CPU; leave out --device cuda")
        return replace(
            self,
            schedule=ScheduleKind.FREE,
            device=Device.CPU,
            rollouts_per_update=1,
            queue_size=self.actors,
            publish_every=1,
        )

    def _resolved(self, contract: Contract, network: Network) -> RunConfig:
        rollouts, device = self.rollouts_per_update or self.actors, _resolve_device(self.device)
        self._check_minibatches(rollouts)
        return replace(
            self,
            network=replace(self.network, network=network),
            rollouts_per_update=rollouts,
            queue_size=self._resolve_queue(rollouts),
            engine=self._resolve_engine(contract, device),
            device=device,
            precision=_resolve_precision(self.precision, network),
            learner_threads=self.learner_threads or self._default_threads(network),
            eval_greedy=self.eval_greedy or not self.algorithm.is_stochastic,
            eval_every=self.eval_every or (self.steps // 20 if self.target_return is not None else 0),
            log_every=self.log_every or max(1, self.steps // 400),
        )

    @property
    def env_ids(self) -> tuple[str, ...]:
        """Every environment that it is trained in."""
        return (self.env, *self.extra_envs)

    def _check_extra_envs(self) -> None:
        if self.actors < len(self.env_ids):
            raise UsageError(f"--actors {self.actors}: {len(self.env_ids)} environments need an actor each")
        if self.extra_envs and self.offline is not None:
            raise UsageError("--offline takes the dataset of one environment")

    def _check_bots(self) -> None:
        bots, experience = self.bots, self.algorithm.experience()
        bots.check()
        if bots.bot is None:
            return
        if experience.replay is None:
            raise self._without_memory("--bot")
        if bots.bot_prefill >= self.steps:
            raise UsageError(f"--bot-prefill {bots.bot_prefill} leaves nothing of {self.steps} steps to learn in")
        if bots.bot_prefill > experience.replay.learning_starts:
            raise UsageError(
                f"--bot-prefill {bots.bot_prefill} comes before learning: --learning-starts must be as much or more"
            )

    def _check_learning_rate(self) -> None:
        if self.optimizer.learning_rate_schedule is not LearningRateSchedule.KL:
            return
        if not self.algorithm.reports_kl:
            raise UsageError(
                f"--learning-rate-schedule kl: {self.algorithm.name} does not measure how far an update moves its policy; "
                "ppo does"
            )
        if self.engine is EngineKind.HOGWILD:
            raise UsageError(
                "--learning-rate-schedule kl adapts one learner's rate, and with --engine hogwild every worker learns; "
                "choose constant or linear"
            )

    def _check_offline(self) -> None:
        if self.offline is None:
            return
        if not isinstance(self.algorithm.experience(), OffPolicy):
            raise self._without_memory("--offline")
        if self.bots.bot is not None:
            raise UsageError("--offline plays nothing, and so does a --bot then; leave out one of them")

    def _without_memory(self, option: str) -> UsageError:
        return UsageError(f"{option} fills a replay memory, and {self.algorithm.name} has none; dqn, c51 and qr-dqn have")

    def _default_threads(self, network: Network) -> int:
        acting_is_little = isinstance(self.algorithm.experience(), OffPolicy) and network is not Network.MLP
        return cores() if acting_is_little else max(1, cores() // 2)

    def _check_counts(self) -> None:
        positive = (
            "steps actors envs_per_actor rollouts_per_update queue_size learner_threads env_threads "
            "checkpoint_every keep_checkpoints log_every publish_every eval_envs eval_episode_steps"
        )
        within(self, 1, math.inf, *positive.split())
        within(self, 0, math.inf, "seed", "lag", "eval_every", "eval_episodes")
        check_numbers(self)
        if self.target_return is not None and not self.eval_episodes:
            raise UsageError(
                f"--target-return {self.target_return:g} needs evaluations: --eval-episodes must be 1 or more, not 0"
            )

    def _resolve_queue(self, rollouts: int) -> int:
        if self.schedule is ScheduleKind.LOCKSTEP:
            needed = (self.lag + 1) * rollouts
            if self.queue_size not in (None, needed):
                raise UsageError(
                    f"--queue-size {self.queue_size}: in lockstep, lag {self.lag} with {rollouts} rollouts per update "
                    f"takes exactly {needed}; change --lag, or use --schedule free"
                )
            return needed
        needed = max(self.actors, rollouts)
        if self.queue_size is not None and self.queue_size < needed:
            raise UsageError(
                f"--queue-size {self.queue_size} is too small: {self.actors} actors and {rollouts} rollouts per update "
                f"need {needed} or more"
            )
        return self.queue_size or 2 * needed

    def _check_minibatches(self, rollouts: int) -> None:
        count, envs = self.algorithm.experience().minibatches, rollouts * self.envs_per_actor
        most = envs if self.network.recurrent is not Recurrent.NONE else self.batch_steps
        if count > most:
            raise UsageError(f"--minibatches {count}: an update has {most} {'sequences' if most == envs else 'steps'}")

    def _resolve_engine(self, contract: Contract, device: Device) -> EngineKind:
        if self.engine in (EngineKind.PROCESSES, EngineKind.HOGWILD) and not HAS_WORKERS:
            raise UsageError(f"--engine {self.engine.value} needs Linux or macOS; use --engine threads or serial")
        if self.engine is not EngineKind.AUTO:
            return self.engine
        if device is Device.CUDA:
            return EngineKind.THREADS
        if not contract.spaces.has_images or cores() == 1:
            return EngineKind.SERIAL
        return EngineKind.PROCESSES if HAS_WORKERS else EngineKind.THREADS

    def lines(self) -> list[str]:
        """The (resolved) configuration as a person reads it."""
        rows = {
            "preset": self.preset or f"none, so {self.algorithm.name}'s defaults, which may not suit this environment",
            "algorithm": f"{self.algorithm.name}, network {self.network.network.value}, "
            f"{self.precision.value} on {self.device.value}" + self._why_no_gpu(),
            "actors": f"{self.actors} × {self.envs_per_actor} environments, engine {self.engine.value}",
            "schedule": self._order(),
            "length": self._lengths(),
            "evaluation": self._evaluations(),
            "seed": f"{self.seed}",
        }
        return [f"{name:<20}{value}" for name, value in rows.items()]

    def _why_no_gpu(self) -> str:
        return "" if self.device is Device.CUDA or torch.cuda.is_available() else " (torch sees no GPU here)"

    def _order(self) -> str:
        if self.engine is EngineKind.HOGWILD:
            return "free: every worker learns from its own rollouts, without lag or queue"
        return f"lockstep, lag {self.lag}" if self.schedule is ScheduleKind.LOCKSTEP else "free"

    def _lengths(self) -> str:
        if self.updates is None:
            episodes = (self.rollouts_per_update or self.actors) * self.envs_per_actor
            return f"{self.steps:,} steps, an update after every {episodes:,} whole episode{'s' * (episodes > 1)}"
        return f"{self.steps:,} steps, an update after every {self.batch_steps:,}"

    def _evaluations(self) -> str:
        if not self.eval_episodes:
            return "none"
        when = f"every {self.eval_every:,} steps and at the end" if self.eval_every else "at the end"
        return f"{self.eval_episodes:,} episodes {when}, {'greedy' if self.eval_greedy else 'sampled'}"

    def to_json(self) -> dict[str, Any]:
        """Everything, with the algorithm's name."""
        return {**to_json(self), "algorithm": {"name": self.algorithm.name, **to_json(self.algorithm)}}

    @classmethod
    def from_json(cls, data: Any) -> RunConfig:
        """The inverse of `to_json`. Raises UsageError that names what is wrong."""
        match data:
            case {"algorithm": {"name": str(name), **hyperparameters}}:
                algorithm = from_json(algorithm_named(name), rename_tables(hyperparameters, name), "algorithm")
                return from_json(cls, {**rename_tables(data, name), "algorithm": algorithm})
        found = data.get("algorithm") if isinstance(data, dict) else data
        raise UsageError(f"algorithm: expected a table with a name, got {found!r:.80}")


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _resolve_device(device: Device) -> Device:
    if device is Device.CUDA and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no GPU here; use --device auto or cpu (asyncrl doctor)")
    if device is Device.AUTO:
        return Device.CUDA if torch.cuda.is_available() else Device.CPU
    return device


def _resolve_precision(precision: Precision, network: Network) -> Precision:
    if precision is not Precision.AUTO:
        return precision
    return Precision.BF16 if network is not Network.MLP and has_bfloat16() else Precision.FP32


def has_bfloat16() -> bool:
    """Has this machine's processor (or GPU) fast bfloat16 arithmetic?"""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
