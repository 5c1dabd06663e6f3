"""Rollouts → gradient → weights. It never branches on the algorithm."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from asyncrl.algorithms import Algorithm, Loss
from asyncrl.envs import Contract
from asyncrl.errors import CheckpointError, DivergenceError
from asyncrl.experience import Batch
from asyncrl.networks import NetworkConfig, bind, copy_into, named_views
from asyncrl.optimizers import OptimizerConfig, clip_
from asyncrl.randomness import Stream, generator
from asyncrl.rollout import Rollout

__all__ = ["Learner"]


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
    ) -> None:
        self._algorithm, self._optimization, self._contract = algorithm, optimizer, contract
        self._seed, self._device, self._steps = seed, device, steps
        self._experience = algorithm.experience()
        random = generator(seed, Stream.NETWORK)
        self.network = algorithm.network(network, contract.spaces, dtype, random).to(device)
        self.weights, self._gradient = bind(self.network)
        """[P] float32: the parameters, of which the network's are views."""
        self._gradients = [view for _, view in named_views(self.network, self._gradient)]
        self._target = copy.deepcopy(self.network).requires_grad_(False) if algorithm.target_every else self.network
        self._take_steps_on(self.weights, {})
        self.updates = 0
        """Updates made: the version of `weights`."""
        self.step = 0
        """Environment steps learned from."""

    def _take_steps_on(self, weights: Tensor, statistics: dict[str, Tensor]) -> None:
        """Let steps fall on `weights` [P]; `statistics` is what the optimizer keeps, {} at the beginning."""
        self._optimized = torch.nn.Parameter(weights)
        self._optimized.grad = self._gradient
        self._optimizer = self._optimization.build(self._optimized)
        if statistics:
            self._optimizer.state[self._optimized] = dict(statistics)

    def update(self, rollouts: Sequence[Rollout]) -> dict[str, Tensor]:
        """Learn from `rollouts`; metrics are scalars, left on the device, of the last minibatch.

        Raises DivergenceError, and keeps the weights, where the gradient is not finite.
        """
        rollouts = self._experience.trimmed(rollouts)
        batch = Batch.of(rollouts, self._contract.reward_scale, self._contract.reward_clip).to(self._device)
        rate = self._optimization.learning_rate_at(self.step, self._steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        metrics: dict[str, Tensor] = {}
        for part in self._parts(batch):
            loss = self._algorithm.loss(self.network, self._target, part)
            metrics = {"loss": loss.total.detach(), **loss.metrics}
            if loss.enough:
                break
            metrics["gradient_norm"] = self._descend(loss, rollouts)
        self.updates += 1
        self._count(sum(self._experience.count(rollout) for rollout in rollouts))
        return {**metrics, "learning_rate": torch.tensor(rate)}

    def _parts(self, batch: Batch) -> Sequence[Batch]:
        """What one update takes a step on each, in order."""
        epochs, count = self._experience.epochs, self._experience.minibatches
        with torch.no_grad():
            batch = self._algorithm.prepare(self.network, self._target, batch)
        if count == 1:
            return [batch] * epochs
        random = generator(self._seed, Stream.LEARNER, self.updates)
        return [part for _ in range(epochs) for part in batch.minibatches(count, random)]

    def _descend(self, loss: Loss, rollouts: Sequence[Rollout]) -> Tensor:
        """One step of the optimizer; returns the gradient's norm before it was clipped."""
        self._gradient.zero_()
        loss.total.backward()  # type: ignore[no-untyped-call]
        norm = clip_(self._optimization, self._gradient, self._gradients)
        if not torch.isfinite(norm):
            raise DivergenceError(self._diagnosis(rollouts))
        self._optimizer.step()
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
        """Weights by parameter name, the optimizer's vectors by name, and the target network's weights, if it has one."""
        optimizer = self._optimizer.state[self._optimized]
        state = {
            "weights": dict(named_views(self.network, self.weights)),
            "optimizer": {name: x for name, x in optimizer.items() if isinstance(x, Tensor)},
        }
        if self._target is not self.network:
            state["target"] = {name: x.detach() for name, x in self._target.named_parameters()}
        return {name: tensors for name, tensors in state.items() if tensors}

    def restore(self, state: dict[str, dict[str, Tensor]], updates: int, step: int) -> None:
        """Take over a saved state. Raises CheckpointError where it does not fit this network."""
        self._fill(dict(named_views(self.network, self.weights)), state["weights"])
        if self._target is not self.network:
            self._fill(dict(self._target.named_parameters()), state["target"])
        # Counters of the optimizer stay on the CPU, as torch wants them.
        optimizer = state.get("optimizer", {})
        self._optimizer.state[self._optimized] = {n: x.to(self._device) if x.dim() else x for n, x in optimizer.items()}
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
            f"{actors}; the weights before it were kept. "
            "Lower --learning-rate or --max-gradient-norm, or scale rewards down with --reward-scale."
        )
