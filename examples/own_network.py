"""Train an agent with a network of your own.

    python examples/own_network.py

The network maps a batch of observations to features; the policy, the value, memory (`recurrent="lstm"`) and target
networks are added to it. The same from the command line, in this folder:

    asyncrl train ppo CartPole-v1 --network own_network:SineFeatures --steps 100000
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import asyncrl
from asyncrl.envs.spaces import Spaces


class SineFeatures(nn.Module):
    """Sines of learned frequencies, then a dense layer."""

    def __init__(self, spaces: Spaces, frequencies: int = 32, features: int = 64) -> None:
        super().__init__()
        self.frequencies = nn.Linear(spaces.observation_size, frequencies)
        self.dense = nn.Linear(frequencies, features)

    def forward(self, observation: Tensor) -> Tensor:
        """Map observations [N, O] to features [N, F]."""
        return torch.tanh(self.dense(torch.sin(self.frequencies(observation))))


def main(steps: int = 100_000) -> float:
    """Return the mean return of the trained agent; at best 500."""
    run = asyncrl.train("CartPole-v1", "ppo", network=SineFeatures, steps=steps, progress=True)
    score = asyncrl.evaluate(run, episodes=30).mean
    print(f"{score:.1f} of 500")
    return score


if __name__ == "__main__":
    main()
