"""Along a cliff (Sutton and Barto 2018, example 6.6) Q-learning finds the edge, SARSA the way that its ε can afford.

The losses are descended on a table until they converge, on batches that hold every transition as often as it is
probable, so that what they converge to can be computed beforehand.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import pytest
import torch
from tabular_networks import QTable, batch, side_by_side
from torch import Tensor

from asyncrl.algorithms import OneStepQ, OneStepSarsa
from asyncrl.experience import Batch

ROWS, COLUMNS, GAMMA = 3, 5, 0.95
START, GOAL = (ROWS - 1, 0), (ROWS - 1, COLUMNS - 1)
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
UP, RIGHT = 0, 1
STATES = [(r, c) for r in range(ROWS) for c in range(COLUMNS) if r < ROWS - 1 or c == 0]
NUMBER = {state: i for i, state in enumerate(STATES)}
TENTHS = (7, 1, 1, 1)
"""ε = 0.4: of ten steps seven are the best action and each other one is taken once."""


class Outcome(NamedTuple):
    reward: float
    state: int
    terminated: bool


def walk(state: tuple[int, int], action: int) -> Outcome:
    row, column = state[0] + MOVES[action][0], state[1] + MOVES[action][1]
    row, column = min(ROWS - 1, max(0, row)), min(COLUMNS - 1, max(0, column))
    if (row, column) == GOAL:
        return Outcome(-1.0, 0, True)
    if (row, column) not in NUMBER:
        return Outcome(-20.0, 0, True)  # over the cliff
    return Outcome(-1.0, NUMBER[row, column], False)


def next_actions(best: int) -> list[int]:
    """Ten actions, as often as an ε-greedy policy takes them."""
    others = [a for a in range(4) if a != best]
    return [best] * TENTHS[0] + others


def computed(*, greedy: bool) -> Tensor:
    """The fixed point by dynamic programming: Q* or the Q of the ε-greedy policy that it defines itself."""
    q = torch.zeros(len(STATES), 4, dtype=torch.float64)
    for _ in range(200):
        new = q.clone()
        for i, state in enumerate(STATES):
            for action in range(4):
                reward, then, terminated = walk(state, action)
                future = q[then].max() if greedy else q[then, next_actions(int(q[then].argmax()))].mean()
                new[i, action] = reward + GAMMA * (0.0 if terminated else float(future))
        q = new
    return q.float()


@functools.cache
def once_each() -> Batch:
    """Every state and action, one step."""
    columns = []
    for i, state in enumerate(STATES):
        for action in range(4):
            reward, then, terminated = walk(state, action)
            columns.append(batch([i, then], [action], [reward], [terminated]))
    return side_by_side(columns)


@functools.cache
def with_what_is_done_next(best: tuple[int, ...]) -> Batch:
    """Every state and action ten times, with a second step that holds the next action of a policy.

    `best` holds the action of each state that the policy prefers.
    """
    columns = []
    for i, state in enumerate(STATES):
        for action in range(4):
            reward, then, terminated = walk(state, action)
            columns += [
                batch([i, then, 0], [action, other], [reward, 0.0], [terminated, False], [True, not terminated])
                for other in next_actions(best[then])
            ]
    return side_by_side(columns)


def learned(algorithm: OneStepQ | OneStepSarsa) -> Tensor:
    table = QTable(torch.zeros(len(STATES), 4))
    for _ in range(150):
        table.q.grad = None
        best = tuple(table.q.detach().argmax(1).tolist())
        steps = once_each() if isinstance(algorithm, OneStepQ) else with_what_is_done_next(best)
        algorithm.loss(table, table, steps).total.backward()
        assert table.q.grad is not None
        with torch.no_grad():  # the loss is a mean over all entries: this moves each of them the whole way
            table.q -= 0.5 * table.q.numel() * table.q.grad
    return table.q.detach()


def first_moves(q: Tensor) -> list[int]:
    return [int(q[NUMBER[START]].argmax()), int(q[NUMBER[ROWS - 2, 0]].argmax())]


@pytest.mark.parametrize(("algorithm", "greedy"), [(OneStepQ(discount=GAMMA), True), (OneStepSarsa(discount=GAMMA), False)])
def test_each_method_finds_its_own_fixed_point(algorithm: OneStepQ | OneStepSarsa, greedy: bool) -> None:
    found = learned(algorithm)
    assert torch.allclose(found, computed(greedy=greedy), atol=1e-2)
    along_the_edge, safe = [UP, RIGHT], [UP, UP]
    assert first_moves(found) == (along_the_edge if greedy else safe)
