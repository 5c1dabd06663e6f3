"""The interface of an algorithm: a frozen dataclass of hyperparameters with six methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from asyncrl.algorithms.exploration import EnvSlots
from asyncrl.algorithms.optimizers import OptimizerConfig
from asyncrl.envs.spaces import Spaces
from asyncrl.experience import Experience
from asyncrl.networks import NetworkConfig

__all__ = ["ActContext", "ActionOutput", "Algorithm", "Loss"]


class ActContext(NamedTuple):
    """How to choose actions. Make one with `training` or `evaluation`."""

    random: torch.Generator
    """Source of all random numbers, on the CPU."""
    explore: bool
    """True in training: value methods act ε-greedily and noisy networks draw noise."""
    step: int = 0
    """Environment steps that the run scheduled before this rollout."""
    slots: EnvSlots | None = None
    """The environments acted in; set whenever `explore` is."""
    greedy: bool = False
    """Take the most probable action instead of sampling."""
    epsilon: float = 0.0
    """Probability of a uniformly random action in evaluation."""
    legal: Tensor | None = None
    """[B, Σ choices] bool: what the action mask allows, set by `Policy`; None without one."""

    @classmethod
    def training(cls, random: torch.Generator, *, step: int, slots: EnvSlots) -> ActContext:
        """Return the context of a rollout that begins at `step`, in the environments `slots`."""
        return cls(random, explore=True, step=step, slots=slots)

    @classmethod
    def evaluation(cls, random: torch.Generator, *, greedy: bool = False, epsilon: float = 0.0) -> ActContext:
        """Return the context of an evaluation, which does not explore."""
        return cls(random, explore=False, greedy=greedy, epsilon=epsilon)


class ActionOutput(NamedTuple):
    """Actions for B environments."""

    action: Tensor
    """[B, …], shape and dtype as `Actions` describes."""
    state: Tensor
    """[B, S] float32: the next recurrent state."""
    extras: dict[str, Tensor]
    """[B, …]: per-step values that the loss needs, such as log-probabilities. Stored in the rollout."""
    explored: Tensor | None = None
    """[B] bool: True where the action is random instead of the policy's; None if it never is."""


class Loss(NamedTuple):
    """A loss with its metrics."""

    total: Tensor
    """Scalar, differentiable."""
    metrics: dict[str, Tensor]
    """Scalars, detached and kept on the device."""
    early_stop: bool | Tensor = False
    """Stop the update: skip this gradient step and the remaining minibatches."""
    td_errors: Tensor | None = None
    """[N] float32 ≥ 0: the errors of a `Sample`'s steps, from which replay priorities are computed."""
    value_targets: tuple[Tensor, Tensor] | None = None
    """[T, N] float32 and [T, N] bool: the returns that the state value learns, and where they are valid."""

    @classmethod
    def of(cls, total: Tensor, **metrics: Tensor) -> Loss:
        """Return a loss with detached metrics."""
        return cls(total, {name: x.detach() for name, x in metrics.items()})


@dataclass(frozen=True)
class Algorithm:
    """The interface. An algorithm does no input or output and is independent of engine, device and environment.

    A subclass defines `check`, `experience`, `act` and `loss`, and may replace `build` and `prepare`;
    docs/add-an-algorithm.md shows how.
    """

    name: ClassVar[str]
    """Short name. Default: the class's, in lower case."""
    summary: ClassVar[str]
    """One line for `asyncrl list algorithms` and the help. Default: the first line of the class's docstring."""
    network: ClassVar[Any]
    """Class of the network: called with a network configuration, spaces, compute dtype and generator."""
    optimizer: ClassVar[OptimizerConfig] = OptimizerConfig()
    """Default optimizer settings; presets and users override single fields."""
    network_config: ClassVar[NetworkConfig] = NetworkConfig()
    """Default network settings; presets and users override single fields."""
    is_stochastic: ClassVar[bool] = True
    """Whether the policy samples actions. A deterministic one is always evaluated greedily."""
    takes_complete_network: ClassVar[bool] = True
    """Whether a user's `CompleteNetwork` may replace `network`: the loss uses nothing but the network's outputs."""
    reports_kl: ClassVar[bool] = False
    """Whether the loss has a metric `kl`, the divergence from the policy that acted, in nats."""
    is_capturable: ClassVar[bool] = False
    """Whether loss and gradient may be captured, as a CUDA graph or as recorded operations: `loss` is the same sequence
    of tensor operations in every update and reads no tensor's value in Python. A subclass that overrides `loss` must
    declare it again."""
    draws_in_loss: ClassVar[bool] = False
    """Whether the loss draws random numbers, from the sample's generator; a CUDA graph cannot."""
    delayed: ClassVar[tuple[str, ...]] = ()
    """Name prefixes of the parameters that a gradient step leaves unchanged when `is_delayed(batch)` (TD3's policy).
    These parameters come first in the network."""
    target_every = 0
    """Environment steps between copies of the network into the target network; 0 without copies."""
    learns_value = False
    """Whether `--normalize-value` applies: the loss has `value_targets`, and its terms are `standardized`."""
    tau = 0.0
    """Polyak averaging: fraction by which the target network moves towards the network after each gradient step."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" not in vars(cls):
            cls.name = cls.__name__.lower()
        if "loss" in vars(cls) and "is_capturable" not in vars(cls):
            cls.is_capturable = False
        if "summary" not in vars(cls):
            cls.summary = (cls.__doc__ or cls.__name__).partition("\n")[0].rstrip(".")

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        """Raise UsageError for hyperparameters out of range, and for unsupported spaces or networks."""
        raise NotImplementedError

    def experience(self) -> Experience:
        """Return the kind of experience that the algorithm learns from."""
        raise NotImplementedError

    def build(
        self, config: NetworkConfig, spaces: Spaces, dtype: torch.dtype, generator: torch.Generator
    ) -> torch.nn.Module:
        """Return a new network for `spaces` that computes in `dtype`, initialized from `generator`."""
        built: torch.nn.Module = self.network(config, spaces, dtype, generator)
        return built

    def act(self, network: Any, observation: Tensor, state: Tensor, context: ActContext) -> ActionOutput:
        """Choose actions for `observation` [B, *O], given the recurrent `state` [B, S]."""
        raise NotImplementedError

    def prepare(self, network: Any, target: Any, batch: Any) -> Any:
        """Compute what stays fixed during an update, such as targets; called without gradients.

        Takes a `Batch` or a `Sample` and returns what `loss` takes.
        """
        return batch

    def is_delayed(self, batch: Any) -> bool:
        """Whether the gradient step from `batch` leaves the target network and the `delayed` parameters as they are."""
        return False

    def loss(self, network: Any, target: Any, batch: Any) -> Loss:
        """Return the loss of a prepared batch.

        `target` is the target network. Without one (`target_every` and `tau` 0) it is `network` itself.
        """
        raise NotImplementedError
