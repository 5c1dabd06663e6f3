"""Computes losses and their gradients, as a captured graph where the operations never change."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from asyncrl.algorithms import Algorithm, Loss, check_loss
from asyncrl.algorithms.normalization import Normalization
from asyncrl.algorithms.optimizers import OptimizerConfig, clip_
from asyncrl.common.capture import Captured
from asyncrl.common.cuda_graphs import cuda_graph
from asyncrl.common.recorded import recorded
from asyncrl.common.sharding import all_reduce_mean_
from asyncrl.common.stopwatch import Stopwatch
from asyncrl.networks import is_custom, named_views

__all__ = ["Gradients", "Networks"]

_STEPS_BEFORE_RECORDING = 32
"""Gradient steps before the operations of one are recorded, which takes as long as a hundred of them."""


class Networks(NamedTuple):
    """What a loss is computed with."""

    online: nn.Module
    target: nn.Module
    """The online network itself for a method without a target network."""
    kind: str
    """Name of the network, or `module:Name` of a custom one."""
    device: torch.device


class Gradients:
    """Computes losses of batches and their gradients with respect to the weights, written to a flat vector.

    A captured loss comes with its gradient and has less Python overhead (`common/capture.py`).
    """

    def __init__(
        self,
        algorithm: Algorithm,
        optimizer: OptimizerConfig,
        networks: Networks,
        flat: Tensor,
        normalization: Normalization | None,
        stopwatch: Stopwatch,
    ) -> None:
        """`flat` [P] float32 is for the gradient; the parameters' `grad` are views of it."""
        self.flat = flat
        self._algorithm, self._optimizer, self._networks = algorithm, optimizer, networks
        self._views = [view for _, view in named_views(networks.online, flat)]
        self._normalization, self._stopwatch = normalization, stopwatch
        self._captured = self._capture()

    def loss(self, batch: Any, *, is_shared: bool) -> tuple[Loss, Tensor | None]:
        """Return the loss of a batch, and its gradient's norm before clipping if the gradient is computed, too.

        With `is_shared` it is not: it is averaged with those of other learners first, which cannot be captured.
        """
        if self._captured is None or is_shared:
            return self._uncaptured_loss(batch), None
        loss, norm = self._captured(batch)
        self._stopwatch.lap("forward")
        return loss, norm

    def backward(self, loss: Loss) -> Tensor:
        """Compute the gradient of a loss, average it over learners and clip it. Returns its norm before clipping."""
        self.flat.zero_()
        loss.total.backward()  # type: ignore[no-untyped-call]
        all_reduce_mean_(self.flat)
        self._stopwatch.lap("backward")
        return clip_(self._optimizer, self.flat, self._views)

    def _capture(self) -> Captured[Any, tuple[Loss, Tensor]] | None:
        """Return `_loss_and_gradient` as it is captured on the device; None if it cannot be captured there."""
        algorithm, networks, normalization = self._algorithm, self._networks, self._normalization
        if not algorithm.is_capturable or (normalization is not None and normalization.value is not None):
            return None
        if networks.device.type == "cuda":
            cannot = algorithm.draws_in_loss or is_custom(networks.kind) or normalization is not None
            return None if cannot else Captured(self._loss_and_gradient, partial(cuda_graph, device=networks.device))
        return Captured(self._loss_and_gradient, recorded, after=_STEPS_BEFORE_RECORDING, kind=algorithm.is_delayed)

    def _uncaptured_loss(self, batch: Any) -> Loss:
        networks = self._networks.online, self._networks.target
        loss = self._algorithm.loss(*networks, batch)
        check_loss(self._algorithm, loss)
        if self._normalization is not None and self._normalization.add_targets(loss.value_targets, *networks):
            loss = self._algorithm.loss(*networks, batch)  # in units of the first statistics
        self._stopwatch.lap("forward")
        return loss

    def _loss_and_gradient(self, batch: Any) -> tuple[Loss, Tensor]:
        """Compute loss and gradient of a batch as operations that can be captured."""
        online, target = self._networks.online, self._networks.target
        loss = self._algorithm.loss(online, target, batch)
        check_loss(self._algorithm, loss)
        self._stopwatch.lap("forward")
        learned = [(view, x) for view, x in zip(self._views, online.parameters(), strict=True) if x.requires_grad]
        gradients = torch.autograd.grad(loss.total, [x for _, x in learned], allow_unused=True, materialize_grads=True)
        for (view, _), gradient in zip(learned, gradients, strict=True):
            view.copy_(gradient)
        self._stopwatch.lap("backward")
        return loss._replace(total=loss.total.detach()), clip_(self._optimizer, self.flat, self._views)
