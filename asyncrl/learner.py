"""Rollouts → gradient → weights. It never branches on the algorithm."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from asyncrl.algorithms import Algorithm, Loss
from asyncrl.algorithms.optimizers import LearningRate, OptimizerConfig, clip_
from asyncrl.common.randomness import Stream, generator
from asyncrl.envs import Contract
from asyncrl.envs.global_generators import lent
from asyncrl.errors import CheckpointError, DivergenceError
from asyncrl.experience import ReplayBuffer, Sample, UpdateContext
from asyncrl.experience.rollout import Rollout
from asyncrl.networks import NetworkConfig, bind, copy_into, have_diverged, named_views, resample

__all__ = ["Learner"]

_REMEDY = "lower --learning-rate or --max-gradient-norm, or scale rewards down with --reward-scale."
_GROWTH = 1e5
"""How many times longer than the initial ones weights may grow, for a run that diverges later to go on from them."""


class Learner:
    """The network that is learned, its target network, its optimizer, and the count of updates and steps."""

    def __init__(
        self,
        algorithm: Algorithm,
        optimizer: OptimizerConfig,
        network: NetworkConfig,
        contract: Contract,
        seed: int,
        dtype: torch.dtype,
        device: torch.device,
        steps: int,
        replay: ReplayBuffer | None = None,
    ) -> None:
        """`replay`: what stores rollouts, for an algorithm that learns from `OffPolicy` experience."""
        self._algorithm, self._optimization, self._contract = algorithm, optimizer, contract
        self._seed, self._device, self._steps = seed, device, steps
        self._learning_rate = LearningRate(optimizer, steps)
        self._experience, self._noisy = algorithm.experience(), network.noisy
        self.replay = replay
        random = generator(seed, Stream.NETWORK)
        with lent():  # layers draw weights from torch's generator, which are overwritten
            self.network = algorithm.build(network, contract.spaces, dtype, random).to(device)
        self.weights, self._gradient = bind(self.network)
        """[P] float32: the parameters, of which the network's are views."""
        self._largest_sound_norm = _GROWTH * max(1.0, float(self.weights.norm()))
        self._gradients = [view for _, view in named_views(self.network, self._gradient)]
        has_target = algorithm.target_every or algorithm.tau
        self._target = copy.deepcopy(self.network).requires_grad_(False) if has_target else self.network
        self._take_steps_on(self.weights, {})
        self.updates = 0
        """Updates made: the version of `weights`."""
        self.step = 0
        """Environment steps learned from."""
        self.is_updating = False
        """An update has begun and not ended: the weights are no version's."""

    def _take_steps_on(self, weights: Tensor, statistics: dict[str, Tensor]) -> None:
        """Let steps fall on `weights` [P]; `statistics` is what the optimizer keeps, {} at the beginning."""
        self._optimized = torch.nn.Parameter(weights)
        self._optimized.grad = self._gradient
        self._optimizer = self._optimization.build(self._optimized)
        if statistics:
            self._optimizer.state[self._optimized] = dict(statistics)

    @torch.enable_grad()  # also where an environment in this process has forbidden it
    def update(self, rollouts: Sequence[Rollout]) -> dict[str, Tensor]:
        """Learn from `rollouts`; metrics are scalars, left on the device, of the last minibatch.

        Raises DivergenceError where a gradient is not finite (no step is taken then), or where the weights have grown
        beyond all bounds.
        """
        self.is_updating = True
        rollouts = self._experience.strip_padding(rollouts)
        rate = self._learning_rate.at(self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        metrics: dict[str, Tensor] = {}
        random = generator(self._seed, Stream.LEARNER, self.updates)
        for part in self._experience.batches(rollouts, self._context(random)):
            if self._noisy:
                for network in (self.network, self._target):
                    resample(network, random)
            loss = self._algorithm.loss(self.network, self._target, part)
            metrics = {"loss": loss.total.detach(), **loss.metrics}
            if loss.early_stop:
                break
            metrics["gradient_norm"] = self._descend(loss, rollouts)
            if isinstance(part, Sample) and self.replay is not None and loss.td_errors is not None:
                self.replay.prioritize(part.index.cpu(), loss.td_errors.cpu())
        if self._learning_rate.is_adaptive:
            self._learning_rate.adapt(float(metrics["kl"]))
        self.updates += 1
        self._count(self._steps_of(rollouts))
        self.check()
        self.is_updating = False
        return {**metrics, "learning_rate": torch.tensor(rate, dtype=torch.float32)}

    def check(self) -> None:
        """Raise DivergenceError where the weights are of no use: nobody acts with them, and they are not saved."""
        if have_diverged(self.weights):
            raise DivergenceError(
                f"the weights have a norm of {float(self.weights.norm()):.3g} after update {self.updates:,}; {_REMEDY}",
                self.updates,
                self.step,
            )

    @property
    def is_sound(self) -> bool:
        """Are the weights no longer than training makes them where it does not diverge?"""
        return bool(self.weights.norm() <= self._largest_sound_norm)

    def _context(self, random: torch.Generator) -> UpdateContext:
        return UpdateContext(
            rewards=self._contract.rewards,
            device=self._device,
            random=random,
            prepare=self._prepare,
            resample_target=lambda: resample(self._target, random) if self._noisy else None,
            target_moves=bool(self._algorithm.tau),
            buffer=self.replay,
            step=self.step,
            total_steps=self._steps,
        )

    @torch.no_grad()
    def _prepare(self, batch: Any) -> Any:
        return self._algorithm.prepare(self.network, self._target, batch)

    def _steps_of(self, rollouts: Sequence[Rollout]) -> int:
        return sum(self._experience.count(rollout) for rollout in rollouts)

    def _descend(self, loss: Loss, rollouts: Sequence[Rollout]) -> Tensor:
        """One step of the optimizer; returns the gradient's norm before it was clipped."""
        self._gradient.zero_()
        loss.total.backward()  # type: ignore[no-untyped-call]
        norm = clip_(self._optimization, self._gradient, self._gradients)
        if not torch.isfinite(norm):
            raise DivergenceError(self._diagnosis(rollouts), self.updates, self.step)
        self._optimizer.step()
        if rate := self._algorithm.tau:
            with torch.no_grad():
                for own, followed in zip(self._target.parameters(), self.network.parameters(), strict=True):
                    own.lerp_(followed, rate)
        return norm

    def _count(self, steps: int) -> None:
        """Count what was learned from, and copy the network into the target network when that is due."""
        before, self.step = self.step, self.step + steps
        if self._is_target_due(before):
            copy_into(self._target, self.weights)

    def _is_target_due(self, before: int) -> bool:
        every = self._algorithm.target_every
        return bool(every) and self.step // every > before // every

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Weights by parameter name, the optimizer's vectors by name, and those of a target network; an adaptive learning
        rate; priorities.

        What a replay memory stores is kept elsewhere (`Archive`).
        """
        optimizer = self._optimizer.state[self._optimized]
        state = {
            "weights": dict(named_views(self.network, self.weights)),
            "optimizer": {name: x for name, x in optimizer.items() if isinstance(x, Tensor)},
            "learning_rate": self._learning_rate.state(),
        }
        if self._target is not self.network:
            state["target"] = {name: x.detach() for name, x in self._target.named_parameters()}
        if self.replay is not None:
            state["replay"] = self.replay.state()
        return {name: tensors for name, tensors in state.items() if tensors}

    def load_weights(self, weights: Tensor) -> None:
        """Begin with these weights [P], in the target network too. Raises CheckpointError where there are more or fewer."""
        if weights.shape != self.weights.shape:
            raise CheckpointError(
                f"weights to begin with are of another network: {weights.numel():,} numbers, not {self.weights.numel():,}"
            )
        self.weights.detach().copy_(weights)
        if self._target is not self.network:
            copy_into(self._target, self.weights)

    def restore(self, state: dict[str, dict[str, Tensor]], updates: int, step: int) -> None:
        """Take over a saved state. Raises CheckpointError where it does not fit this network."""
        self._fill(dict(named_views(self.network, self.weights)), state["weights"])
        if self._target is not self.network:
            self._fill(dict(self._target.named_parameters()), state["target"])
        # Counters of the optimizer stay on the CPU, as torch wants them.
        optimizer = state.get("optimizer", {})
        self._optimizer.state[self._optimized] = {n: x.to(self._device) if x.dim() else x for n, x in optimizer.items()}
        self._learning_rate.restore(state.get("learning_rate", {}))
        if self.replay is not None:
            self.replay.restore(state.get("replay", {}))
        self.updates, self.step = updates, step

    @staticmethod
    @torch.no_grad()
    def _fill(views: dict[str, Tensor], saved: dict[str, Tensor]) -> None:
        for name in views.keys() | saved.keys():
            if name not in saved or name not in views or saved[name].shape != views[name].shape:
                raise CheckpointError(f"the checkpoint's parameter {name!r} does not fit this network")
            views[name].copy_(saved[name])

    def _diagnosis(self, rollouts: Sequence[Rollout]) -> str:
        # Where every entry is finite and only the norm is not, the largest entry is to blame.
        size = {name: g.abs().max().nan_to_num(torch.inf) for name, g in named_views(self.network, self._gradient)}
        worst = max(size, key=lambda name: float(size[name]))
        actors = ", ".join(str(actor) for actor in sorted({int(rollout.stamp[1]) for rollout in rollouts}))
        return (
            f"the gradient of {worst} is not finite at update {self.updates}, which learns from rollouts of actors "
            f"{actors}; {_REMEDY}"
        )
