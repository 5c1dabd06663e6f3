"""Types of the settings of `asyncrl.train` and `asyncrl.resume`. Generated: `make settings` writes this file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Literal, TypedDict

from asyncrl.algorithms.dqn import TDLoss
from asyncrl.algorithms.exploration import Assignment, Decay
from asyncrl.algorithms.optimizers import GradientClipping, LearningRateSchedule, Optimizer, StatisticsSharing
from asyncrl.algorithms.reinforce import Baseline
from asyncrl.envs import EnvSource
from asyncrl.envs.families.atari import Protocol
from asyncrl.envs.families.football import FootballRewards
from asyncrl.envs.families.mario import ActionSet
from asyncrl.envs.options import Backend
from asyncrl.experience.options import ReplayStorage
from asyncrl.monitor.trackers import Tracker
from asyncrl.networks import NetworkSource
from asyncrl.networks.encoders import Activation
from asyncrl.networks.initialization import Init
from asyncrl.networks.recurrent import Recurrent
from asyncrl.runs.config.run_config import Device, EngineKind, OnDivergence, Precision, ScheduleKind

__all__ = ["Changes", "Settings"]


ActionSetName = (
    ActionSet
    | Literal[
        "right-only",
        "simple",
        "complex",
    ]
)

ActivationName = (
    Activation
    | Literal[
        "tanh",
        "relu",
    ]
)

AssignmentName = (
    Assignment
    | Literal[
        "sampled",
        "round-robin",
        "ladder",
    ]
)

BackendName = (
    Backend
    | Literal[
        "auto",
        "native",
        "envpool",
        "sync",
        "async",
    ]
)

BaselineName = (
    Baseline
    | Literal[
        "none",
        "mean",
        "learned",
    ]
)

DecayName = (
    Decay
    | Literal[
        "linear",
        "compound",
    ]
)

DeviceName = (
    Device
    | Literal[
        "auto",
        "cpu",
        "cuda",
    ]
)

EngineKindName = (
    EngineKind
    | Literal[
        "auto",
        "serial",
        "threads",
        "processes",
        "hogwild",
        "ray",
    ]
)

FootballRewardsName = (
    FootballRewards
    | Literal[
        "scoring",
        "checkpoints",
    ]
)

GradientClippingName = (
    GradientClipping
    | Literal[
        "global",
        "tensor",
        "average",
        "none",
    ]
)

InitName = (
    Init
    | Literal[
        "orthogonal",
        "glorot",
        "fan-in",
        "normal",
    ]
)

LearningRateScheduleName = (
    LearningRateSchedule
    | Literal[
        "constant",
        "linear",
        "kl",
    ]
)

OnDivergenceName = (
    OnDivergence
    | Literal[
        "stop",
        "rewind",
    ]
)

OptimizerName = (
    Optimizer
    | Literal[
        "rmsprop",
        "rmsprop-outside",
        "adam",
        "radam",
        "sgd",
    ]
)

PrecisionName = (
    Precision
    | Literal[
        "auto",
        "fp32",
        "bf16",
    ]
)

ProtocolName = (
    Protocol
    | Literal[
        "mnih2016",
        "machado2018",
        "raw",
    ]
)

RecurrentName = (
    Recurrent
    | Literal[
        "none",
        "lstm",
        "gru",
    ]
)

ReplayStorageName = (
    ReplayStorage
    | Literal[
        "ram",
        "disk",
        "gpu",
    ]
)

ScheduleKindName = (
    ScheduleKind
    | Literal[
        "auto",
        "lockstep",
        "free",
    ]
)

StatisticsSharingName = (
    StatisticsSharing
    | Literal[
        "shared",
        "own",
    ]
)

TDLossName = (
    TDLoss
    | Literal[
        "huber",
        "squared",
    ]
)

TrackerName = (
    Tracker
    | Literal[
        "wandb",
        "mlflow",
        "trackio",
        "csv",
    ]
)


class Settings(TypedDict, total=False):
    """Keyword arguments of `asyncrl.train`."""

    # optimizer
    optimizer: OptimizerName
    learning_rate: float
    learning_rate_schedule: LearningRateScheduleName
    anneal_to: float
    anneal_steps: int | None
    target_kl: float
    momentum: float | None
    decay: float
    optimizer_epsilon: float
    optimizer_statistics: StatisticsSharingName
    gradient_clipping: GradientClippingName
    max_gradient_norm: float
    # environment
    env_backend: BackendName
    env_kwargs: str | Mapping[str, Any] | None
    imports: Sequence[str]
    reward_clip: float | None
    reward_scale: float
    final_reward: float | None
    episode_steps: int | None
    action_mask: bool
    standardize: int
    frame_stack: int | None
    frame_skip: int | None
    screen_size: int | None
    gray: bool | None
    game_variables: bool | None
    action_set: ActionSetName | None
    stuck_steps: int | None
    protocol: ProtocolName | None
    sticky: float | None
    noop_max: int | None
    life_loss: bool | None
    full_actions: bool | None
    episode_frames: int | None
    football_rewards: FootballRewardsName | None
    # supervision
    step_timeout: float
    memory_limit: int | None
    restarts: int
    capsules: str | None
    # network
    network: NetworkSource
    hidden: Sequence[int]
    activation: ActivationName
    layer_norm: bool
    radial_gammas: Sequence[float]
    radial_features: int
    resnet_width: int
    centered: bool
    difference: bool
    recurrent: RecurrentName
    recurrent_size: int
    dueling: bool
    noisy: bool
    noisy_sigma: float
    init: InitName
    initial_std: float | None
    adaptive_std: bool
    normalize_observation: bool
    normalize_value: bool
    # bots
    bot: str | None
    bot_share: float
    bot_prefill: int
    bot_explores: bool
    # run
    extra_envs: Sequence[EnvSource]
    normalize_return: bool
    init_from: str | PathLike[str] | None
    offline: str | None
    steps: int
    seed: int
    actors: int | Literal["auto"]
    envs_per_actor: int
    rollouts_per_update: int | None
    engine: EngineKindName
    ray_address: str | None
    schedule: ScheduleKindName
    lag: int
    queue_size: int | None
    publish_every: int
    device: DeviceName
    precision: PrecisionName
    learners: int
    learner_threads: int | None
    env_threads: int
    target_return: float | None
    patience: int | None
    eval_every: int
    eval_episodes: int
    eval_greedy: bool
    eval_envs: int | None
    eval_episode_steps: int | None
    video_every: int
    checkpoint_every: int
    keep_checkpoints: int
    on_divergence: OnDivergenceName
    log_every: int | None
    track: Sequence[TrackerName]
    storage: str | PathLike[str] | None
    # algorithm
    t_max: int
    discount: float
    gae_lambda: float
    entropy_cost: float
    value_cost: float
    vtrace_lambda: float
    rho_clip: float
    c_clip: float
    epochs: int
    minibatches: int
    clip_range: float
    value_clip_range: float
    max_kl: float
    normalize_advantage: bool
    target_every: int
    q_lambda: float
    longest_episode: int
    baseline: BaselineName
    double: bool
    n_step: int
    tau: float
    td_loss: TDLossName
    cql_alpha: float
    atoms: int
    v_min: float
    v_max: float
    quantiles: int
    quantile_samples: int
    target_samples: int
    acting_quantiles: int
    cosines: int
    critics: int
    temperature: float
    learn_temperature: bool
    target_entropy: float | None
    target_entropy_scale: float
    action_noise: float
    policy_delay: int
    target_noise: float
    target_noise_clip: float
    # exploration
    epsilon_start: float
    final_epsilons: Sequence[float]
    final_epsilon_probabilities: Sequence[float]
    epsilon_steps: int
    epsilon_decay: DecayName
    hold_random_actions: bool
    epsilon_assignment: AssignmentName
    epsilon_perturbation: float
    epsilon_perturbation_every: int
    # replay
    capacity: int
    batch_size: int
    replay_ratio: float
    learning_starts: int
    prioritized: bool
    priority_exponent: float
    importance_exponent: float
    replay_storage: ReplayStorageName
    # sequences
    sequence_length: int
    burn_in: int
    # munchausen_targets
    munchausen: bool
    munchausen_scale: float
    munchausen_temperature: float
    munchausen_clip: float


class Changes(TypedDict, total=False):
    """Keyword arguments of `asyncrl.resume`."""

    steps: int
    engine: EngineKindName
    ray_address: str | None
    env_threads: int
    target_return: float | None
    patience: int | None
    eval_every: int
    eval_episodes: int
    eval_greedy: bool
    eval_envs: int | None
    eval_episode_steps: int | None
    video_every: int
    checkpoint_every: int
    keep_checkpoints: int
    log_every: int | None
    track: Sequence[TrackerName]
    storage: str | PathLike[str] | None
    on_divergence: OnDivergenceName
    learning_rate: float
