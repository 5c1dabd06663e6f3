"""The learner: rollouts → batches → loss → gradient → weights.

It never branches on the algorithm: `Algorithm.experience` makes the batches, `Algorithm.loss` the loss.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from asyncrl.algorithms import Algorithm, Loss, build_network
from asyncrl.algorithms.normalization import Normalization
from asyncrl.algorithms.optimizers import LearningRate, OptimizerConfig
from asyncrl.algorithms.weight_optimizer import WeightOptimizer
from asyncrl.common.randomness import Stream, generator
from asyncrl.common.sharding import BatchShard, sharded
from asyncrl.common.stopwatch import Stopwatch
from asyncrl.common.torch_setup import configure_gpu
from asyncrl.envs import Contract
from asyncrl.envs.rewards import Rewards
from asyncrl.errors import CheckpointError, DivergenceError, LearnerDied
from asyncrl.experience import ReplayBuffer, Sample, SampleSource, UpdateContext
from asyncrl.experience.rollout import Rollout
from asyncrl.gradients import Gradients, Networks
from asyncrl.networks import NetworkConfig, bind, copy_into, have_diverged, learned_part, named_views, resample

__all__ = ["Learner", "Peers", "check_parameters", "copied"]

_REMEDY = "lower --learning-rate or --max-gradient-norm, or scale rewards down with --reward-scale."
_GROWTH = 1e5
"""Weights whose norm has grown by more than this factor are not sound: a run that diverges is not continued from them."""


class Peers(Protocol):
    """The other learners of a run, as one of them sees them (`engines/learners.py`)."""

    shard: BatchShard
    """This learner's rows of every batch."""
    source: SampleSource | None
    """Where samples come from, for an algorithm with a replay buffer."""

    def start_update(self, rollouts: Sequence[Rollout], rewards: Rewards, steps: int) -> Sequence[Rollout]:
        """Let the others begin an update, as in `Learner.learn`, and return this learner's shard of `rollouts`.

        Raises LearnerDied if one of them has died.
        """


class Learner:
    """Owns the network, its target network and its optimizer, and counts updates and environment steps.

    `gradient_step` and `count_update` may be overridden where weights are shared with other learners (`hogwild.py`).
    """

    def __init__(
        self,
        *,
        algorithm: Algorithm,
        optimizer: OptimizerConfig,
        network: NetworkConfig,
        contract: Contract,
        seed: int,
        dtype: torch.dtype,
        device: torch.device,
        steps: int,
        replay: ReplayBuffer | None = None,
        normalization: Normalization | None = None,
    ) -> None:
        """`seed` is the run's root seed, `dtype` what the network's body computes in, `steps` the run's environment steps.

        `replay` stores the rollouts of an algorithm that learns from `OffPolicy` experience. `normalization` holds the
        running statistics of a run that normalizes observations, returns or values.
        """
        self._algorithm = algorithm
        self._optimizer_config = optimizer
        self._contract = contract
        self._seed = seed
        self._device = device
        self._steps = steps
        self.stopwatch = Stopwatch()
        """Times of `LEARNER_STAGES`; on a GPU those of the calls, while what they started may still be running."""
        self._learning_rate = LearningRate(optimizer, steps)
        self._experience, self._noisy = algorithm.experience(), network.noisy
        self.replay, self._normalization = replay, normalization
        random = generator(seed, Stream.NETWORK)
        configure_gpu(device)
        self.network = build_network(algorithm, network, contract.spaces, dtype, random).to(device)
        if normalization is not None:
            normalization.check(self.network)
        self.weights, gradient = bind(self.network)
        """[P] float32: the network's parameters are views of it."""
        self._has_statistics = not all(parameter.requires_grad for parameter in self.network.parameters())
        self._largest_sound_norm = _GROWTH * max(1.0, float(self._learned.norm()))
        has_target = algorithm.target_every or algorithm.tau
        self.target_network = copy.deepcopy(self.network).requires_grad_(False) if has_target else self.network
        self._pairs = list(zip(self.target_network.parameters(), self.network.parameters(), strict=True))
        networks = Networks(self.network, self.target_network, network.network, device)
        self._gradients = Gradients(algorithm, optimizer, networks, gradient, normalization, self.stopwatch)
        self._rate = optimizer.learning_rate
        self.create_optimizer(self.weights)
        self.updates = 0
        """Updates made: the version of `weights`."""
        self.step = 0
        """Environment steps learned from."""
        self.is_updating = False
        """An update is under way: the weights belong to no version yet."""
        self.peers: Peers | None = None
        """The other learners of the run; None if this is the only one."""

    def create_optimizer(self, weights: Tensor, statistics: Mapping[str, Tensor] | None = None) -> None:
        """Let the optimizer step on `weights` [P], which need not be the learner's own.

        `statistics` are the optimizer's moving averages by name; they begin at zero where none are given.
        """
        delayed = self._algorithm.delayed
        count = sum(x.numel() for name, x in self.network.named_parameters() if name.startswith(delayed)) if delayed else 0
        self._optimizer = WeightOptimizer(
            self._optimizer_config, weights, self._gradients.flat, delayed=count, statistics=statistics
        )

    def update(self, rollouts: Sequence[Rollout]) -> dict[str, Tensor]:
        """Make one update from `rollouts`. Returns the metrics of its last minibatch: scalars, left on the device.

        Raises DivergenceError if a loss or gradient is not finite (before its step is taken) or the weights have exploded,
        and LearnerDied if another learner of the run has died; without a replay buffer, the update is then undone.
        """
        before = None if self.peers is None or self.replay is not None else copied(self.state())
        self.is_updating = True
        rollouts = self._experience.strip_padding(rollouts)
        rewards = self._contract.rewards
        if self._normalization is not None:
            rewards = self._normalization.begin_update(self._own_steps(rollouts), rewards)
        try:
            metrics = self.learn(rollouts, rewards, self._steps_of(rollouts))
        except LearnerDied:
            if before is not None:
                self.restore(before, self.updates, self.step)
                self.is_updating = False
            raise
        self.complete(rollouts, self._steps_of(rollouts))
        if self._normalization is not None:
            metrics |= self._normalization.metrics()
        self.is_updating = False
        self.stopwatch.lap("optimizer")
        return {**metrics, "learning_rate": torch.tensor(self._rate, dtype=torch.float32)}

    @torch.enable_grad()  # an environment in this process may have disabled it
    def learn(self, rollouts: Sequence[Rollout], rewards: Rewards, steps: int) -> dict[str, Tensor]:
        """Take the gradient steps of an update from `rollouts`, or this learner's share of them. Returns the metrics.

        `rewards` transforms the environment's rewards; `steps` are the environment steps that all rollouts count as.
        """
        self._rate = self._learning_rate.at(self.step)
        metrics: dict[str, Tensor] = {}
        random = generator(self._seed, Stream.LEARNER, self.updates)
        peers = self.peers
        share = rollouts if peers is None else peers.start_update(rollouts, rewards, steps)
        context = self._context(random, rewards, steps)
        with sharded(None if peers is None else peers.shard):
            for batch in self._experience.batches(share, context):
                self.stopwatch.lap("batch")
                if self._noisy:
                    for network in (self.network, self.target_network):
                        resample(network, random)
                loss, norm = self._gradients.loss(batch, is_shared=peers is not None)
                metrics = {"loss": loss.total.detach(), **loss.metrics}
                if loss.early_stop:
                    break
                is_delayed = self._algorithm.is_delayed(batch)
                metrics["gradient_norm"] = self.gradient_step(loss, rollouts, norm, is_delayed=is_delayed)
                self.stopwatch.lap("optimizer")
                if isinstance(batch, Sample) and context.source is not None and loss.td_errors is not None:
                    context.source.prioritize(batch.index.cpu(), batch.errors(loss.td_errors).cpu())
        self.stopwatch.lap("batch")
        if self._learning_rate.is_adaptive:
            self._learning_rate.adapt(float(metrics["kl"]))
        if self._device.type == "cuda":  # the next update overwrites those of a captured loss
            metrics = {name: x.clone() for name, x in metrics.items()}
        return metrics

    def complete(self, rollouts: Sequence[Rollout], steps: int) -> None:
        """Count an update that was learned, from `steps` environment steps, and add its `rollouts` to the statistics."""
        if self._normalization is not None:
            self._normalization.end_update(self._own_steps(rollouts), self.network, self.target_network)
        self.updates += 1
        self.count_update(steps)
        self.check()

    def check(self) -> None:
        """Raise DivergenceError if the weights are not finite or have exploded; such weights are never saved."""
        if have_diverged(self._learned):
            raise DivergenceError(
                f"the weights have a norm of {float(self._learned.norm()):.3g} after update {self.updates:,}; {_REMEDY}",
                self.updates,
                self.step,
            )

    @property
    def is_sound(self) -> bool:
        """Whether the weights' norm is in the range that a run which does not diverge stays in."""
        return bool(self._learned.norm() <= self._largest_sound_norm)

    @property
    def _learned(self) -> Tensor:
        """The weights without running statistics."""
        return learned_part(self.network, self.weights) if self._has_statistics else self.weights

    def observe(self, observation: np.ndarray) -> None:
        """Add observations [N, *O] to the statistics of a network that normalizes them."""
        if self._normalization is not None:
            self._normalization.add_observations(observation, self.network)

    def _context(self, random: torch.Generator, rewards: Rewards, steps: int) -> UpdateContext:
        return UpdateContext(
            rewards=rewards,
            device=self._device,
            random=random,
            prepare=partial(self._prepare, random=random),
            target_moves=bool(self._algorithm.tau) or self.target_network is self.network,
            source=self.replay if self.peers is None else self.peers.source,
            step=self.step,
            steps=steps,
            total_steps=self._steps,
        )

    @torch.no_grad()
    def _prepare(self, batch: Any, random: torch.Generator) -> Any:
        self.stopwatch.lap("batch")
        if self._noisy:  # the noise of the last gradient step is not part of a checkpoint
            resample(self.network, None)
            resample(self.target_network, random)
        prepared = self._algorithm.prepare(self.network, self.target_network, batch)
        self.stopwatch.lap("forward")
        return prepared

    def _own_steps(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        return [self._experience.without_overlap(rollout) for rollout in rollouts]

    def _steps_of(self, rollouts: Sequence[Rollout]) -> int:
        return sum(self._experience.count(rollout) for rollout in rollouts)

    def gradient_step(
        self, loss: Loss, rollouts: Sequence[Rollout], norm: Tensor | None = None, *, is_delayed: bool = False
    ) -> Tensor:
        """Take one step of the optimizer; backpropagate before unless the gradient's `norm` says that it is computed.

        Returns the gradient's norm before clipping.
        """
        if norm is None:
            norm = self._gradients.backward(loss)
        if not math.isfinite(norm + loss.total.detach()):  # an infinite Huber loss has a finite gradient
            raise DivergenceError(self._diagnosis(rollouts, norm), self.updates, self.step)
        self._optimizer.step(self._rate, delay=is_delayed)
        if self._algorithm.tau and not is_delayed:
            with torch.no_grad():
                for target, online in self._pairs:
                    if online.requires_grad:
                        target.lerp_(online, self._algorithm.tau)
                    else:
                        target.copy_(online)
        return norm

    def count_update(self, steps: int) -> None:
        """Count the environment steps of an update; copy the network into the target network when that is due."""
        before, self.step = self.step, self.step + steps
        if self.is_target_due(before):
            copy_into(self.target_network, self.weights)

    def is_target_due(self, before: int) -> bool:
        """Whether the run has passed a multiple of `target_every` since environment step `before`."""
        every = self._algorithm.target_every
        return bool(every) and self.step // every > before // every

    def state(self) -> dict[str, dict[str, Tensor]]:
        """The learner's tensors by name, grouped by the file of a checkpoint that holds them; `restore` is the inverse.

        Groups are weights, optimizer, learning_rate (adaptive ones), target, replay (priorities) and normalization; empty
        groups are left out. The contents of the replay buffer are kept elsewhere (`Archive`).
        """
        state = {
            "weights": dict(named_views(self.network, self.weights)),
            "optimizer": self._optimizer.state(),
            "learning_rate": self._learning_rate.state(),
        }
        if self.target_network is not self.network:
            state["target"] = {name: x.detach() for name, x in self.target_network.named_parameters()}
        if self.replay is not None:
            state["replay"] = self.replay.state()
        if self._normalization is not None:
            state["normalization"] = self._normalization.state()
        return {name: tensors for name, tensors in state.items() if tensors}

    def load_weights(self, weights: Tensor) -> None:
        """Start from `weights` [P], in the target network too. Raises CheckpointError if their number differs."""
        check_parameters(weights, self.weights.numel())
        self.weights.detach().copy_(weights)
        if self.target_network is not self.network:
            copy_into(self.target_network, self.weights)
        if self._normalization is not None:
            self._normalization.start_from(self.network)

    def statistics(self) -> dict[str, Tensor]:
        """The running statistics in the network and the target network: parameters that no optimizer changes, by name."""
        networks = dict.fromkeys((self.network, self.target_network))
        learned = {name for name, x in self.network.named_parameters() if x.requires_grad}
        return {
            f"{number}.{name}": x.detach()
            for number, network in enumerate(networks)
            for name, x in network.named_parameters()
            if name not in learned
        }

    def assign_statistics(self, statistics: Mapping[str, Tensor]) -> None:
        """Set the running statistics in the networks to those of another learner."""
        for name, x in self.statistics().items():
            x.copy_(statistics[name])

    def restore(self, state: dict[str, dict[str, Tensor]], updates: int, step: int) -> None:
        """Continue from a saved `state`. Raises CheckpointError if it does not fit this learner."""
        if unknown := state.keys() - {"weights", "target", "optimizer", "learning_rate", "replay", "normalization"}:
            raise CheckpointError(f"the learner cannot restore {', '.join(sorted(unknown))}")
        self._fill(dict(named_views(self.network, self.weights)), state["weights"])
        if self.target_network is not self.network:
            self._fill(dict(self.target_network.named_parameters()), state["target"])
        self._optimizer.restore(state.get("optimizer", {}))
        self._learning_rate.restore(state.get("learning_rate", {}))
        if self.replay is not None:
            self.replay.restore(state.get("replay", {}))
        if self._normalization is not None:
            self._normalization.restore(state["normalization"])
        self.updates, self.step = updates, step

    @staticmethod
    @torch.no_grad()
    def _fill(views: dict[str, Tensor], saved: dict[str, Tensor]) -> None:
        for name in views.keys() | saved.keys():
            if name not in saved or name not in views or saved[name].shape != views[name].shape:
                raise CheckpointError(f"the checkpoint's parameter {name!r} does not fit this network")
            views[name].copy_(saved[name])

    def _diagnosis(self, rollouts: Sequence[Rollout], norm: Tensor) -> str:
        # The largest entry is to blame if all entries are finite and only their norm is not.
        size = {name: g.abs().max().nan_to_num(torch.inf) for name, g in named_views(self.network, self._gradients.flat)}
        worst = "loss" if math.isfinite(norm) else f"gradient of {max(size, key=lambda name: float(size[name]))}"
        actors = ", ".join(str(actor) for actor in sorted({int(rollout.stamp[1]) for rollout in rollouts}))
        return (
            f"the {worst} is not finite at update {self.updates}, which learns from rollouts of actors {actors}; {_REMEDY}"
        )


def copied(state: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """Return a copy of a learner's state."""
    return {group: {name: x.detach().clone() for name, x in tensors.items()} for group, tensors in state.items()}


def check_parameters(weights: Tensor, count: int) -> None:
    """Raise CheckpointError unless the initial `weights` [P] are those of a network with `count` parameters."""
    if weights.shape != (count,):
        raise CheckpointError(
            f"initial weights of a different network: {weights.numel():,} parameters, not {count:,}; give the network "
            "settings and normalization of the run that they are from"
        )
