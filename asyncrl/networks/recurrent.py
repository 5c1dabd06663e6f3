"""Recurrent cores: sequences of features in, sequences of features out, with a state between steps."""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor, nn

from asyncrl.networks.layers import Linear

__all__ = ["Core", "Recurrent", "core"]


class Recurrent(Enum):
    """The recurrent cores by name."""

    NONE = "none"
    LSTM = "lstm"
    GRU = "gru"


class Core(nn.Module):
    """The interface, and the identity core of feed-forward networks.

    ``(features [T, N, F], state [N, S], valid [T, N]) → (features [T, N, F'], state [N, S])``. The state is zeroed
    after each reset step (`valid` False), where an episode begins. `valid` may cover fewer than T steps, or be None;
    missing steps do not reset.
    """

    state_size = 0

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def forward(self, features: Tensor, state: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        return features, state


class _Unrolled(Core):
    """A recurrent cell unrolled over time, in float32."""

    gates: int

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__(size)
        self.input = Linear(inputs, self.gates * size)
        self.hidden = Linear(size, self.gates * size)

    def forward(self, features: Tensor, state: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        inputs = self.input(features.float())
        outputs = []
        for t, step in enumerate(inputs):
            output, state = self._cell(step, state)
            outputs.append(output)
            if valid is not None and t < len(valid):
                state = torch.where(valid[t][:, None], state, 0.0)
        return torch.stack(outputs), state

    def _cell(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class Lstm(_Unrolled):
    """Long short-term memory (Hochreiter and Schmidhuber 1997, with forget gates). The state is (h, c)."""

    gates = 4

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__(inputs, size)
        self.state_size = 2 * size

    def _cell(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h, c = state.chunk(2, -1)
        i, f, g, o = (inputs + self.hidden(h)).chunk(4, -1)
        c = (f + 1).sigmoid() * c + i.sigmoid() * g.tanh()  # forget-gate bias of 1 (Jozefowicz et al. 2015)
        h = o.sigmoid() * c.tanh()
        return h, torch.cat([h, c], -1)


class Gru(_Unrolled):
    """Gated recurrent unit (Cho et al. 2014). The state is h."""

    gates = 3

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__(inputs, size)
        self.state_size = size

    def _cell(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        reset_in, update_in, new_in = inputs.chunk(3, -1)
        reset_h, update_h, new_h = self.hidden(state).chunk(3, -1)
        update = (update_in + update_h).sigmoid()
        new = (new_in + (reset_in + reset_h).sigmoid() * new_h).tanh()
        h = torch.lerp(new, state, update)
        return h, h


def core(kind: Recurrent, inputs: int, size: int) -> Core:
    """Return a new core of `kind` with `inputs` input features and `size` units."""
    match kind:
        case Recurrent.NONE:
            return Core(inputs)
        case Recurrent.LSTM:
            return Lstm(inputs, size)
        case Recurrent.GRU:
            return Gru(inputs, size)
