"""Actors on the nodes of a Ray cluster.

A rollout travels as one array of bytes through Ray's object store, which the learner reads in place. Weights are put
there once per version, and a node fetches them once for all of its actors.

Actors hold no state that must survive. If one is lost, with or without its node, a replacement starts on any node that
has a free processor, from the state that a resumed run would use, and repeats the rollouts that were not learned from,
with the same weights.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from torch import Tensor

from asyncrl.acting.actor import ActorSpec
from asyncrl.cluster.connection import WorkerSetup, check_nodes, connect, first_line, import_ray, nodes
from asyncrl.engines.completed import TIMEOUT, CompletedRollouts
from asyncrl.engines.memory import MemoryPlan
from asyncrl.engines.ray_actor import RemoteActor, view
from asyncrl.envs import sources
from asyncrl.errors import ActorDied, AsyncRLError, UsageError
from asyncrl.experience.rollout import Rollout, Ticket

__all__ = ["LostActor", "RayEngine", "RayOptions", "connected"]

_MAX_RESTARTS = 3
"""An actor that dies this often at the same rollout ends the run."""
_QUEUED = 2
"""With schedule `free`: rollouts that an actor collects or has yet to collect, with the weights at their queuing."""
_SLOW_START = 10.0
"""Actors that have not started after so many seconds are reported."""
_GET_TIMEOUT = 60.0
_CLOSE_TIMEOUT = 5.0
"""Seconds that actors have to end on `close` before they are killed."""


@dataclass(frozen=True)
class LostActor:
    """An actor whose process or node has ended."""

    actor: int
    rollout: int | None
    """The first rollout that is repeated; None if none was requested."""
    reason: str


@dataclass(frozen=True)
class RayOptions:
    """What the Ray engine needs in addition to other engines."""

    address: str | None = None
    """As for `cluster.connection.connect`."""
    current_spec: Callable[[], ActorSpec] | None = None
    """The spec of actors that continue after the last rollouts learned from; None if lost actors end the run."""
    on_actor_lost: Callable[[LostActor], None] = lambda lost: None
    say: Callable[[str], None] = lambda sentence: None
    deadline: float = TIMEOUT
    """Seconds without a completed rollout after which the run fails, without those in which actors are restored."""


def _store_bytes(plan: MemoryPlan) -> int:
    """Bytes of the object store that rollouts and weights can take at the same time on the learner's node.

    Requested rollouts take `num_slots` places; those being learned from are freed after the next were requested.
    """
    versions = plan.num_buffers + plan.num_slots
    return 2 * plan.num_slots * plan.layout.nbytes + versions * plan.num_weights * 4


class _Start(Enum):
    """What an actor that starts has reached."""

    PLACED = "placed"
    OPEN = "open"


@dataclass
class _Request:
    """A rollout that was requested and not yet learned from."""

    ticket: Ticket
    version: int | None = None
    """Of the weights; None until it is sent to the actor."""
    weights: Any = None
    """Reference to them, which keeps them in the object store."""
    rollout: Rollout | None = None


@dataclass
class _Actor:
    """An actor as the learner sees it."""

    handle: Any = None
    has_place: bool = False
    """Whether its process runs on a node."""
    is_open: bool = False
    restores: bool = False
    """Whether it replays steps before it is open."""
    started: float = 0.0
    requests: dict[int, _Request] = field(default_factory=dict)
    """By number, in order."""
    sent: set[int] = field(default_factory=set)
    """Numbers of the rollouts that it is asked for and that have not arrived."""
    deaths: int = 0
    died_at: int | None = None
    """The rollout at which it last died."""


class RayEngine:
    """Sends tickets to Ray actors and receives rollouts back."""

    def __init__(self, spec: ActorSpec, actors: int, plan: MemoryPlan, options: RayOptions) -> None:
        self._plan, self._options = plan, options
        self._spec = spec
        self._completed = CompletedRollouts(self._receive, self._time_of_restoring, options.deadline)
        self._weights: dict[int, Any] = {}
        self._collected: list[Ticket] = []
        self._answers: dict[Any, tuple[int, int | _Start]] = {}
        """By reference: the actor, and the number of the rollout or what its start has reached."""
        self._actors = [_Actor() for _ in range(actors)]
        self._told: str = ""
        self._progress = time.monotonic()
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            stack.enter_context(connected(options.address, actors, plan))
            self._ray = import_ray()
            self._setup = WorkerSetup.here(sources.dump(spec.contract, *spec.code))
            stack.callback(self._end_actors)
            remote = self._ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD")
            self._remote_actor = remote(RemoteActor)
            for index in range(actors):
                self._start(index, spec)
            self._stack = stack.pop_all()

    @property
    def ready(self) -> int:
        return len(self._completed)

    def publish(self, version: int, weights: Tensor) -> None:
        self._weights[version] = self._ray.put(weights.detach().cpu().numpy())
        while len(self._weights) > self._plan.num_buffers:  # requests keep theirs
            del self._weights[next(iter(self._weights))]

    def request(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            self._actors[ticket.actor].requests[ticket.number] = _Request(ticket)
            self._send(ticket.actor)

    def collect(self, expected: Sequence[Ticket] | int, should_stop: Callable[[], bool]) -> dict[Ticket, Rollout]:
        for ticket in self._collected:  # they were learned from: a lost actor continues after them
            self._actors[ticket.actor].requests.pop(ticket.number)
        self._collected = []
        self._collected = self._completed.wait_for(expected, should_stop)
        rollouts = {}
        for ticket in self._collected:
            rollout = self._actors[ticket.actor].requests[ticket.number].rollout
            assert rollout is not None
            rollout.check(ticket)
            rollouts[ticket] = rollout
        return rollouts

    def close(self) -> None:
        self._stack.close()

    def _end_actors(self) -> None:
        """Close the environments; kill actors that take too long."""
        closing = [actor.handle.close.remote() for actor in self._actors if actor.is_open]
        if closing:
            self._ray.wait(closing, num_returns=len(closing), timeout=_CLOSE_TIMEOUT)
        for actor in self._actors:
            if actor.handle is not None:
                self._ray.kill(actor.handle)
        self._answers.clear()

    def _start(self, index: int, spec: ActorSpec) -> None:
        """Make an actor on a node that has a free processor, as soon as there is one."""
        import cloudpickle

        actor = self._actors[index]
        own = {index: spec.states[index]} if index in spec.states else {}
        task = cloudpickle.dumps((replace(spec, states=own), self._plan.layout))
        actor.handle, actor.has_place, actor.is_open = self._remote_actor.remote(index), False, False
        actor.restores, actor.started = bool(own), time.monotonic()
        env_id = spec.contract.for_actor(index).env
        self._answers[actor.handle.ping.remote()] = index, _Start.PLACED
        self._answers[actor.handle.open.remote(self._setup, task, env_id)] = index, _Start.OPEN

    def _send(self, index: int) -> None:
        """Send the actor the requests that it has not got."""
        actor = self._actors[index]
        for number, request in actor.requests.items():
            if number in actor.sent or request.rollout is not None:
                continue
            if request.ticket.takes_newest and len(actor.sent) >= _QUEUED:
                break
            if request.version is None:
                request.version = max(self._weights) if request.ticket.takes_newest else request.ticket.version
                request.weights = self._weights[request.version]
            answer = actor.handle.collect.remote(request.ticket, request.version, request.weights)
            self._answers[answer] = index, number
            actor.sent.add(number)

    def _receive(self, seconds: float) -> list[Ticket]:
        """Return the tickets of newly completed rollouts; wait up to `seconds` for the first."""
        arrived: dict[int, Ticket] = {}
        if self._answers:
            ready, _ = self._ray.wait(list(self._answers), num_returns=1, timeout=seconds)
            if ready and len(self._answers) > 1:
                ready, _ = self._ray.wait(list(self._answers), num_returns=len(self._answers), timeout=0)
            for answer in ready:
                if answer not in self._answers:  # of an actor that was found to be lost
                    continue
                index, number = self._answers[answer]
                try:
                    value = self._ray.get(answer, timeout=_GET_TIMEOUT)
                except self._ray.exceptions.RayError as error:
                    again = self._replace(index, _reason(error))
                    arrived = {number: ticket for number, ticket in arrived.items() if number not in again}
                    continue
                del self._answers[answer]
                if isinstance(value, AsyncRLError):
                    raise value
                if number is _Start.PLACED:
                    self._actors[index].has_place = True
                elif number is _Start.OPEN:
                    self._actors[index].is_open = True
                else:
                    arrived[number] = self._arrive(index, number, view(value))
        self._report_waiting(bool(arrived))
        return list(arrived.values())

    def _time_of_restoring(self) -> float:
        """The time while an actor replays steps, which are not counted here; 0 otherwise."""
        return time.monotonic() if any(x.restores and x.has_place and not x.is_open for x in self._actors) else 0.0

    def _arrive(self, index: int, number: int, memory: Tensor) -> Ticket:
        actor = self._actors[index]
        request = actor.requests[number]
        rollout = self._plan.layout.slot(memory, 0)
        timing = rollout.timing.clone()
        timing[-1] = time.perf_counter()  # the clock of another machine is not this one's
        request.rollout = replace(rollout, timing=timing)
        actor.sent.remove(number)
        self._send(index)
        return request.ticket

    def _replace(self, index: int, reason: str) -> dict[int, _Request]:
        """Replace a lost actor by one that repeats all rollouts that were not learned from. Returns these."""
        actor = self._actors[index]
        first = next(iter(actor.requests), None)
        actor.deaths = actor.deaths + 1 if first == actor.died_at or not actor.deaths else 1
        actor.died_at = first
        if actor.deaths >= _MAX_RESTARTS or self._options.current_spec is None:
            env = self._spec.contract.for_actor(index).env
            times = f" {actor.deaths} times" if actor.deaths > 1 else ""
            where = "before its first rollout" if first is None else f"at rollout {first}"
            raise ActorDied(f"actor {index} died{times} {where} in {env}: {reason}")
        self._ray.kill(actor.handle)  # it may be alive, and only out of reach
        self._answers = {answer: who for answer, who in self._answers.items() if who[0] != index}
        self._completed.forget(actor.requests)
        actor.sent.clear()
        for request in actor.requests.values():
            request.rollout = None
        self._options.on_actor_lost(LostActor(index, first, reason))
        self._start(index, self._options.current_spec())
        self._send(index)
        return actor.requests

    def _report_waiting(self, has_progress: bool) -> None:
        """Report actors that have no place on the cluster. Raises ActorDied if no rollout was completed for too long."""
        now = time.monotonic()
        if has_progress:
            self._progress = now
        late = [i for i, x in enumerate(self._actors) if not x.has_place and now - x.started > _SLOW_START]
        if not late:
            return
        which = f"actor{'s' * (len(late) > 1)} {', '.join(map(str, late))}"
        has = f"the cluster has {sum(node.cpus for node in nodes()):.0f} processors for {len(self._actors)} actors"
        remedy = "add nodes, or lower --actors"
        if now - max(self._progress, *(self._actors[i].started for i in late)) > self._options.deadline:
            raise ActorDied(f"{which} found no free processor within {self._options.deadline:.0f} s: {has}; {remedy}")
        if which != self._told:
            self._told = which
            self._options.say(f"Waiting for a free processor for {which}: {has}; {remedy}.")


def _reason(error: BaseException) -> str:
    """Why an actor was lost, in a few words."""
    text = " ".join(str(error).split())
    if "running low on memory" in text:
        return "its node ran low on memory"
    found = re.search(r"The actor (?:is dead|died) because (.+?)[.:] ", text)
    return first_line(error) if found is None else found[1].replace("worker process", "process")


@contextlib.contextmanager
def connected(address: str | None, actors: int, plan: MemoryPlan) -> Iterator[None]:
    """Use a cluster during the block, as `cluster.connection.connect` does.

    Raises UsageError for nodes with another version of this package, and for an object store that is too small.
    """
    with connect(address, cpus=actors, store_bytes=_store_bytes(plan)):
        check_nodes()
        _check_store(plan)
        yield


def _check_store(plan: MemoryPlan) -> None:
    """Raise UsageError if the object store of this node is too small for the rollouts of a run."""
    needed, here = _store_bytes(plan), nodes()[0]
    if here.store_bytes < needed:
        raise UsageError(
            f"{plan.num_slots} rollouts of {plan.layout.nbytes / 1e6:,.1f} MB and their weights take "
            f"{needed / 1e6:,.0f} MB of Ray's object store, but that of {here.host} has {here.store_bytes / 1e6:,.0f} MB: "
            "start Ray with a larger --object-store-memory, or lower --actors, --envs-per-actor or --lag"
        )
