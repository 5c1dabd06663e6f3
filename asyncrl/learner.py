"""Rollouts → gradient → weights. It never branches on the algorithm."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asyncrl.algorithms import Algorithm
from asyncrl.envs import Contract
from asyncrl.errors import CheckpointError, DivergenceError
from asyncrl.experience import Batch
from asyncrl.networks import NetworkConfig, bind, named_views
from asyncrl.randomness import Stream, generator
from asyncrl.rollout import Rollout

__all__ = ["Learner"]


class Learner:
    """The network that is learned, its optimizer, and the count of updates."""

    def __init__(
        self,
        algorithm: Algorithm,
        network: NetworkConfig,
        contract: Contract,
        seed: int,
        dtype: torch.dtype,
        device: torch.device,
        updates: int,
    ) -> None:
        self._algorithm, self._contract, self._device = algorithm, contract, device
        random = generator(seed, Stream.NETWORK)
        self.network = algorithm.network(network, contract.spaces, dtype, random).to(device)
        self.weights, self._gradient = bind(self.network)
        """[P] float32: the parameters, of which the network's are views."""
        self._optimized = torch.nn.Parameter(self.weights)
        self._optimized.grad = self._gradient
        self._optimizer = algorithm.optimizer(self._optimized)
        self.updates = 0
        """Updates made: the version of `weights`."""
        self._total = updates

    def update(self, rollouts: Sequence[Rollout]) -> dict[str, Tensor]:
        """One step of the optimizer; metrics are scalars, left on the device.

        Raises DivergenceError, and keeps the weights, where the gradient is not finite.
        """
        batch = Batch.of(rollouts, self._contract.reward_scale, self._contract.reward_clip).to(self._device)
        rate = self._algorithm.learning_rate_at(self.updates / self._total)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._gradient.zero_()
        loss = self._algorithm.loss(self.network, batch)
        loss.total.backward()  # type: ignore[no-untyped-call]
        norm = self._gradient.norm()
        if not torch.isfinite(norm):
            raise DivergenceError(self._diagnosis())
        self._gradient.mul_((self._algorithm.gradient_clip / (norm + 1e-6)).clamp(max=1.0))
        self._optimizer.step()
        self.updates += 1
        return {"loss": loss.total.detach(), **loss.metrics, "gradient_norm": norm, "learning_rate": torch.tensor(rate)}

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Weights by parameter name, and the optimizer's vectors by name."""
        optimizer = self._optimizer.state[self._optimized]
        return {
            "weights": dict(named_views(self.network, self.weights)),
            "optimizer": {name: x for name, x in optimizer.items() if isinstance(x, Tensor)},
        }

    def restore(self, state: dict[str, dict[str, Tensor]], updates: int) -> None:
        """Take over a saved state. Raises CheckpointError where it does not fit this network."""
        views = dict(named_views(self.network, self.weights))
        saved = state["weights"]
        for name in views.keys() | saved.keys():
            if name not in saved or name not in views or saved[name].shape != views[name].shape:
                raise CheckpointError(f"the checkpoint's parameter {name!r} does not fit this network")
            views[name].copy_(saved[name])
        self._optimizer.state[self._optimized] = {name: x.to(self._device) for name, x in state["optimizer"].items()}
        self.updates = updates

    def _diagnosis(self) -> str:
        # Where every entry is finite and only the norm is not, the largest entry is to blame.
        size = {name: g.abs().max().nan_to_num(torch.inf) for name, g in named_views(self.network, self._gradient)}
        worst = max(size, key=lambda name: float(size[name]))
        return (
            f"the gradient of {worst} is not finite at update {self.updates}; the weights before it were kept. "
            "Lower --learning-rate or --max-gradient-norm, or scale rewards down with --reward-scale."
        )
