"""A discrete-event model of a run on many nodes: actors, network, learner. `cluster.py` asks it.

An actor waits for its weights, which every node fetches once per version, makes the rollout and sends it. The learner's
node has one link in each direction, on which transfers follow one another; for actors on its own node they take no time.
The learner waits for the rollouts of an update, learns, publishes and requests the next ones: see `asyncrl.runs.schedule`.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count, islice
from typing import Any

import numpy as np

from asyncrl.experience.rollout import Ticket
from asyncrl.runs.schedule import Free, Lockstep


@dataclass(frozen=True)
class Workload:
    """What a run's rollouts cost."""

    name: str
    rollout_steps: int
    """Environment steps, T × B"""
    rollout_bytes: int
    weight_bytes: int
    acting: float
    """Seconds in which one core makes a rollout"""
    learning: float
    """Seconds in which the learner learns from one, as part of a batch"""
    spread: float = 0.1
    """Standard deviation of `acting`, divided by its mean"""


@dataclass(frozen=True)
class Cluster:
    """The nodes and the network: assumptions, not measurements."""

    nodes: int = 1
    cores: int = 16
    """Cores per node, each with one actor; the learner has one core of the first node."""
    network_rate: float = 1.25e9
    """Bytes per second in each direction (10 Gbit/s)"""
    latency: float = 1e-3
    """Seconds of a message between nodes, Ray's own handling included"""
    dollars: float = 0.04
    """Price of a core for an hour"""

    @property
    def actors(self) -> int:
        return self.nodes * self.cores - 1

    def node(self, actor: int) -> int:
        """The node of an actor; node 0 is the learner's."""
        return (actor + 1) // self.cores


@dataclass(frozen=True)
class Policy:
    """How the learner takes rollouts."""

    schedule: str = "lockstep"
    rollouts: int | None = None
    """Rollouts per update; None for one of every actor"""
    lag: int = 1
    """Of lockstep; `free` has two rollouts per actor under way"""


@dataclass(frozen=True)
class Outcome:
    """What the model says about a run."""

    nodes: int
    actors: int
    steps_per_second: float
    learner_busy: float
    """Share of the time in which the learner learns"""
    network_busy: float
    """Share of the time in which the busier direction of the learner's link carries data"""
    policy_lag: float
    """Updates between making a rollout and learning from it, mean"""
    policy_lag_max: int
    core_seconds: float
    """Per million environment steps"""
    dollars: float
    """Per million environment steps"""


@dataclass
class _Link:
    """One direction of the learner's link. Transfers follow one another."""

    rate: float
    latency: float
    free_at: float = 0.0
    busy: float = 0.0

    def send(self, now: float, size: int) -> float:
        """When `size` bytes have arrived."""
        self.free_at = max(now, self.free_at) + size / self.rate
        self.busy += size / self.rate
        return self.free_at + self.latency


@dataclass
class _Simulation:
    workload: Workload
    cluster: Cluster
    schedule: Lockstep | Free
    seed: int = 1
    now: float = 0.0
    update: int = 0
    marks: list[tuple[float, float, float]] = field(default_factory=list)
    """After every update: the time, and the seconds for which each direction of the link has been busy"""
    lags: list[list[int]] = field(default_factory=list)
    """By update: policy lag of its rollouts"""

    def __post_init__(self) -> None:
        cluster = self.cluster
        self._down, self._up = (_Link(cluster.network_rate, cluster.latency) for _ in range(2))
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._random = np.random.default_rng(self.seed)
        self._queues = [deque[Ticket]() for _ in range(cluster.actors)]
        self._acting = [False] * cluster.actors
        self._weights: dict[int, tuple[int, float]] = {}  # by node: its newest version, and when it arrived
        self._arrived: dict[int, tuple[Ticket, int]] = {}
        self._missing: set[int] = set()
        self._learning = False

    def run(self) -> None:
        self._expect()
        for _, tickets in self.schedule.initial_requests(0):
            self._request(tickets)
        while self._events:
            self.now, _, happens = heapq.heappop(self._events)
            happens()

    def _at(self, time: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._order), happens))

    def _request(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            delay = self.cluster.latency if self.cluster.node(ticket.actor) else 0.0
            self._at(self.now + delay, partial(self._begin, ticket.actor, ticket))

    def _begin(self, actor: int, ticket: Ticket | None = None) -> None:
        """Let an actor begin the next rollout that was requested, if it makes none."""
        if ticket is not None:
            self._queues[actor].append(ticket)
        if self._acting[actor] or not self._queues[actor]:
            return
        self._acting[actor] = True
        following = self._queues[actor].popleft()
        version = self.update if following.takes_newest else following.version
        mean, spread = self.workload.acting, self.workload.spread
        seconds = mean if not spread else self._random.gamma(1 / spread**2, mean * spread**2)
        self._at(self._weights_arrive(self.cluster.node(actor), version) + seconds, partial(self._made, following, version))

    def _weights_arrive(self, node: int, version: int) -> float:
        """When a node has a version; the first actor that needs it fetches it."""
        if node == 0:
            return self.now
        newest, at = self._weights.get(node, (-1, 0.0))
        if version > newest:
            at = self._down.send(self.now, self.workload.weight_bytes)
            self._weights[node] = version, at
        return max(self.now, at)

    def _made(self, ticket: Ticket, version: int) -> None:
        self._acting[ticket.actor] = False
        self._begin(ticket.actor)
        is_local = self.cluster.node(ticket.actor) == 0
        at = self.now if is_local else self._up.send(self.now, self.workload.rollout_bytes)
        self._at(at, partial(self._arrive, ticket, version))

    def _arrive(self, ticket: Ticket, version: int) -> None:
        self._arrived[ticket.number] = ticket, version
        self._missing.discard(ticket.number)
        self._learn()

    def _expect(self) -> None:
        """Note which rollouts the next update waits for."""
        expected = self.schedule.expected(self.update)
        numbers = [ticket.number for ticket in expected] if isinstance(expected, list) else []
        self._missing = {number for number in numbers if number not in self._arrived}

    def _learn(self) -> None:
        """Begin an update if its rollouts are there."""
        size = self.schedule.rollouts
        if self._learning or self._missing or len(self._arrived) < size or self.update == self.schedule.updates:
            return
        self._learning = True
        numbers = sorted(self._arrived)[:size] if isinstance(self.schedule, Lockstep) else list(islice(self._arrived, size))
        consumed = [self._arrived.pop(number) for number in numbers]
        self.lags.append([self.update - version for _, version in consumed])
        self._at(self.now + self.workload.learning * size, partial(self._publish, [ticket for ticket, _ in consumed]))

    def _publish(self, consumed: list[Ticket]) -> None:
        self._learning = False
        done, self.update = self.update, self.update + 1
        self.marks.append((self.now, self._down.busy, self._up.busy))
        self._expect()
        self._request(self.schedule.next_requests(done, consumed))
        self._learn()


def simulate(workload: Workload, cluster: Cluster, policy: Policy, updates: int = 24) -> Outcome:
    """What a run does after its first quarter."""
    rollouts = policy.rollouts or cluster.actors
    updates = max(updates, 12 * cluster.actors // rollouts)
    common: dict[str, Any] = {"actors": cluster.actors, "rollouts": rollouts, "steps_per_rollout": workload.rollout_steps}
    schedule = (
        Lockstep(**common, updates=updates, lag=policy.lag)
        if policy.schedule == "lockstep"
        else Free(**common, updates=updates, slots=max(2 * cluster.actors, 2 * rollouts))
    )
    simulation = _Simulation(workload, cluster, schedule)
    simulation.run()
    first, last = updates // 4, updates - 1 - updates // 4  # the last updates have no others under way
    (began, *carried), (ended, *by_then) = simulation.marks[first], simulation.marks[last]
    seconds, learned = ended - began, (last - first) * rollouts
    lags = [lag for of_update in simulation.lags[first + 1 : last + 1] for lag in of_update]
    rate = learned * workload.rollout_steps / seconds
    core_seconds = cluster.nodes * cluster.cores * 1e6 / rate
    return Outcome(
        nodes=cluster.nodes,
        actors=cluster.actors,
        steps_per_second=rate,
        learner_busy=learned * workload.learning / seconds,
        network_busy=max(now - before for before, now in zip(carried, by_then, strict=True)) / seconds,
        policy_lag=float(np.mean(lags)),
        policy_lag_max=max(lags),
        core_seconds=core_seconds,
        dollars=core_seconds / 3600 * cluster.dollars,
    )
