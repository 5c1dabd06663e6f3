"""The configuration of a run: one frozen dataclass, saved with the run and read back to resume it."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch

from asyncrl.acting.bots import BotOptions
from asyncrl.algorithms import ALGORITHMS, Algorithm, algorithm_name_of, algorithm_named, installed_algorithms
from asyncrl.algorithms.optimizers import OptimizerConfig
from asyncrl.common.search_space import Choices
from asyncrl.common.serialization import from_json, to_json
from asyncrl.envs import Contract, EnvOptions, is_batched, named_outside
from asyncrl.envs.family_options import read_options
from asyncrl.errors import UsageError
from asyncrl.monitor.trackers import Tracker
from asyncrl.networks import NetworkConfig, installed_networks, is_custom
from asyncrl.runs.config.former_names import rename_tables
from asyncrl.runs.remote.folder import is_url
from asyncrl.runs.schedule import Free, Lockstep

__all__ = [
    "EPISODE_LIMIT",
    "Device",
    "EngineKind",
    "OnDivergence",
    "Precision",
    "RunConfig",
    "ScheduleKind",
    "code_named_in",
]

EPISODE_LIMIT = 27_000
"""Step limit of episodes outside training that have no other limit: half an hour of Atari."""


class EngineKind(Enum):
    """Where actors run."""

    AUTO = "auto"
    """processes for images on two or more cores (threads on Windows), else serial"""
    SERIAL = "serial"
    THREADS = "threads"
    PROCESSES = "processes"
    HOGWILD = "hogwild"
    """processes that learn, too: lock-free updates of shared weights"""
    RAY = "ray"
    """processes on the nodes of a Ray cluster"""


class ScheduleKind(Enum):
    """Which weights version each rollout is collected with."""

    AUTO = "auto"
    """lockstep; free with --engine hogwild"""
    LOCKSTEP = "lockstep"
    """deterministic: the same seed gives the same weights on every engine"""
    FREE = "free"
    """first come, first served, as in the 2016 paper"""


class Device(Enum):
    """Where the network computes."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Precision(Enum):
    """The dtype that the network's body computes in; weights, heads and losses are always float32."""

    AUTO = "auto"
    """bf16 for convolutions if the processor has bfloat16 arithmetic, else fp32"""
    FP32 = "fp32"
    BF16 = "bf16"

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self is Precision.BF16 else torch.float32


class OnDivergence(Enum):
    """What a run does when its gradient or weights are no longer finite."""

    STOP = "stop"
    REWIND = "rewind"
    """return to the last good checkpoint and continue with half the learning rate, at most eight times"""


def code_named_in(config: Any) -> dict[str, str]:
    """The "algorithm" and "network" from outside this package in the JSON of a configuration. Nothing is imported."""
    found = {}
    match config:
        case {"algorithm": {"name": str(name)}} if name not in ALGORITHMS and _is_code(name, installed_algorithms()):
            found["algorithm"] = name
    match config:
        case {"network": {"network": str(name)}} if is_custom(name) and _is_code(name, installed_networks()):
            found["network"] = name
    return found


def _is_code(name: str, installed: Mapping[str, str]) -> bool:
    return ":" in name or name in installed


@dataclass(frozen=True)
class RunConfig:
    """Everything that defines a run. Steps are environment steps, summed over all actors."""

    CHANGEABLE: ClassVar[tuple[str, ...]] = (
        "engine",
        "ray_address",
        "env_threads",
        "target_return",
        "patience",
        "eval_every",
        "eval_episodes",
        "eval_greedy",
        "eval_envs",
        "eval_episode_steps",
        "video_every",
        "checkpoint_every",
        "keep_checkpoints",
        "log_every",
        "track",
        "storage",
        "on_divergence",
    )
    """Settings that may change when a run is resumed: in lockstep they do not affect the weights."""

    env: str
    """Environment id (asyncrl list envs)."""
    algorithm: Algorithm
    preset: str | None = None
    """Preset that the settings start from. Default: the one tuned for the algorithm and environment, else the algorithm's
    preset for this kind of environment."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    environment: EnvOptions = field(default_factory=EnvOptions)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    bots: BotOptions = field(default_factory=BotOptions)
    extra_envs: tuple[str, ...] = ()
    """More environments with the same spaces to train the agent in; actors take turns. Same as --env A --env B."""
    normalize_return: bool = False
    """Learn from rewards divided by the running standard deviation of the discounted return, clipped to ±10."""
    init_from: str | None = None
    """Start from the weights of this run, checkpoint or pretrained agent."""
    offline: str | None = None
    """Learn from this dataset instead of playing (algorithms with a replay buffer)."""
    steps: int = 1_000_000
    """Length of the run in environment steps, summed over all actors."""
    seed: int = 1
    """Root seed of every random number in the run."""
    actors: int = 2
    """Actors, each with its own environments and copy of the weights. `auto` (train only) picks the number expected to
    be fastest here, keeping the total number of environments."""
    envs_per_actor: Annotated[int, Choices(4, 8, 16, 32)] = 16
    """Environments that each actor steps together."""
    rollouts_per_update: int | None = None
    """Rollouts per update. Default: one from each actor."""
    engine: EngineKind = EngineKind.AUTO
    """Where actors run; in lockstep this affects nothing but speed."""
    ray_address: str | None = None
    """Ray cluster of --engine ray: HOST:PORT, or auto for the one that this machine is a node of. Default: a Ray that is
    started here."""
    schedule: ScheduleKind = ScheduleKind.AUTO
    """Which weights version each rollout is collected with."""
    lag: int = 1
    """Lockstep: policy lag in updates. 0 is synchronous (A2C)."""
    queue_size: int | None = None
    """Rollouts that may be waiting or in progress before actors wait. Default: what the schedule needs."""
    publish_every: int = 1
    """Updates between published versions of the weights."""
    device: Device = Device.AUTO
    """Where the network learns; networks that see images act there, too, except with --engine ray and hogwild."""
    precision: Precision = Precision.AUTO
    """Dtype of the network's body."""
    learners: int = 1
    """Data-parallel learners, each in a separate process (on GPUs: one per GPU), which divide every batch. Updates
    equal those of one learner, up to rounding."""
    learner_threads: int | None = None
    """Torch threads of each learner; they affect the weights. Default: half the cores, or all of them for convolutions that
    learn from a replay buffer or for several epochs, divided by --learners."""
    env_threads: int = 1
    """Threads that step one actor's environments (Atari, EnvPool)."""
    target_return: float | None = None
    """Stop once an evaluation's mean return reaches this. Without --eval-every, evaluations are a twentieth of the run
    apart."""
    patience: int | None = None
    """Stop after this many evaluations in a row without a better mean return (with --eval-every)."""
    eval_every: int = 0
    """Steps between evaluations; 0 evaluates only at the end, unless there is a --target-return."""
    eval_episodes: int = 30
    """Episodes per evaluation; 0 turns evaluations off."""
    eval_greedy: bool = False
    """Evaluate with the most probable actions instead of sampling from the policy."""
    eval_envs: int | None = None
    """Environments that an evaluation steps side by side. Does not change greedy evaluations. Default: as many as an actor
    has; 64 for Atari, EnvPool and CartPole."""
    eval_episode_steps: int | None = None
    """Step limit of an evaluation's episodes. Default, if the environment has none: the length of the run, but between
    1,000 and 27,000."""
    video_every: int = 0
    """Steps between videos of evaluations (with --eval-every); 0 records none."""
    checkpoint_every: int = 250_000
    """Steps between checkpoints; there is always one at the end."""
    keep_checkpoints: int = 3
    """Checkpoints to keep, in addition to the best."""
    on_divergence: OnDivergence = OnDivergence.STOP
    """What to do when training diverges. The last good checkpoint is kept in either case."""
    log_every: int | None = None
    """Steps between records of metrics. Default: 400 records per run."""
    track: tuple[Tracker, ...] = ()
    """Experiment trackers that metrics go to as well; may be given several times."""
    storage: str | None = None
    """Copy the run folder with every checkpoint into this folder: s3://BUCKET/FOLDER, or a path that other machines see."""

    @property
    def env_ids(self) -> tuple[str, ...]:
        """Every environment that the agent is trained in."""
        return (self.env, *self.extra_envs)

    @property
    def batch_steps(self) -> int:
        """Environment steps of one update."""
        return (self.rollouts_per_update or self.actors) * self.rollout_steps

    @property
    def rollout_steps(self) -> int:
        """Environment steps of one rollout: T × B; at most that many if it is a whole episode."""
        experience = self.algorithm.experience()
        return (experience.slot_length - experience.overlap) * self.envs_per_actor

    @property
    def batch_rows(self) -> int:
        """Rows of a batch: environments of an update's rollouts, or samples of the replay buffer."""
        replay = self.algorithm.experience().replay
        return (self.rollouts_per_update or self.actors) * self.envs_per_actor if replay is None else replay.batch_size

    @property
    def updates(self) -> int | None:
        """Updates of the whole run; None if that depends on the length of episodes."""
        return None if self.algorithm.experience().full_episodes else math.ceil(self.steps / self.batch_steps)

    @property
    def takes_single_steps(self) -> bool:
        """Whether an update is a single gradient step from the policy that acted."""
        experience = self.algorithm.experience()
        is_fresh = self.schedule is not ScheduleKind.FREE and self.lag == 0 and self.publish_every == 1
        return is_fresh and experience.epochs == experience.minibatches == 1

    def acting_device(self, contract: Contract) -> str:
        """Where the network acts: networks that see images do on the learner's GPU, if it is in this machine."""
        is_elsewhere = self.engine in (EngineKind.HOGWILD, EngineKind.RAY)
        return self.device.value if contract.spaces.has_images and not is_elsewhere else "cpu"

    def evaluation_envs(self, contract: Contract) -> int:
        """Environments that an evaluation steps side by side.

        At most as many as one process had while training, unless they are stepped by native code: a simulator may allow
        a single instance.
        """
        return self.eval_envs or (64 if is_batched(contract) else self.envs_per_actor)

    def episode_limit(self, contract: Contract) -> int | None:
        """Step limit of episodes outside training; None if the environment has a limit."""
        if self.eval_episode_steps is not None or contract.episode_cap is not None:
            return self.eval_episode_steps
        return min(max(self.steps, 1_000), EPISODE_LIMIT)

    def named_outside(self) -> list[str]:
        """Code from outside this package and Gymnasium, and folders outside its own, that the run would use."""
        environment = self.environment
        kwargs: Any = environment.env_kwargs
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            kwargs = json.loads(environment.env_kwargs or "{}")
        capsules = environment.supervision.capsules
        names = named_outside(self.env_ids, environment.imports, kwargs, capsules)
        names += [f"bot {json.dumps(self.bots.bot)}"] * (self.bots.bot is not None)
        return names + [f"{kind} {json.dumps(name)}" for kind, name in code_named_in(self.to_json()).items()]

    def make_schedule(self) -> Lockstep | Free:
        """The schedule of a resolved configuration."""
        assert self.rollouts_per_update is not None
        assert self.queue_size is not None
        common = (self.actors, self.rollouts_per_update, self.rollout_steps, self.updates)
        if self.schedule is ScheduleKind.LOCKSTEP:
            return Lockstep(*common, lag=self.lag, publish_every=self.publish_every)
        return Free(*common, slots=self.queue_size, publish_every=self.publish_every)

    def anchored(self, home: Path) -> RunConfig:
        """A copy with paths made absolute, relative to `home`: environments may change the working directory."""
        start, (file, _, name) = self.init_from, (self.bots.bot or "").rpartition(":")
        bot = f"{home / file}:{name}" if file.endswith(".py") else self.bots.bot
        folder = self.environment.supervision.capsules
        supervision = replace(self.environment.supervision, capsules=None if folder is None else str(home / folder))
        return replace(
            self,
            init_from=str(home / start) if start is not None and (home / start).exists() else start,
            storage=self.storage if self.storage is None or is_url(self.storage) else str(home / self.storage),
            bots=replace(self.bots, bot=bot),
            environment=replace(self.environment, supervision=supervision),
        )

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON, including the algorithm's name."""
        return {**to_json(self), "algorithm": {"name": algorithm_name_of(self.algorithm), **to_json(self.algorithm)}}

    @classmethod
    def from_json(cls, data: Any) -> RunConfig:
        """The inverse of `to_json`. Raises UsageError for invalid data."""
        match data:
            case {"algorithm": {"name": str(name), **hyperparameters}}:
                algorithm = from_json(algorithm_named(name), rename_tables(hyperparameters, name), "algorithm")
                environment = data.get("environment", {})
                if isinstance(environment, dict):
                    is_saved = environment.keys() >= {"env_backend", "supervision", "imports", "standardize"}
                    before = {"action_mask": False} if is_saved else {}  # earlier versions ignored action masks
                    environment = read_options(str(data.get("env", "")), {**before, **environment})
                return from_json(cls, {**rename_tables(data, name), "algorithm": algorithm, "environment": environment})
        found = data.get("algorithm") if isinstance(data, dict) else data
        raise UsageError(f"algorithm: expected a table with a name, got {found!r:.80}")
