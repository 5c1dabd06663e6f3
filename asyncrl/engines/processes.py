"""A process per actor. Slots and weights are shared memory; only tickets travel, 5 integers each."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess, SpawnContext, SpawnProcess

import torch
import torch.multiprocessing  # registers how tensors in shared memory cross to another process
from torch import Tensor

from asyncrl.actor import Actor, ActorSpec
from asyncrl.engines.local import LocalEngine
from asyncrl.engines.memory import Memory, MemoryPlan
from asyncrl.errors import ActorDied, AsyncRLError
from asyncrl.rollout import Ticket

__all__ = ["Processes", "prepare"]

_FAREWELL = 5.0
"""Seconds that actors have to finish their rollouts when the engine closes; then they are killed."""


def prepare() -> None:
    """Start the server that actors are forked from; it imports what they need while the caller goes on.

    Never fork a process with live torch threads: the fork server has none.
    """
    if "forkserver" in multiprocessing.get_all_start_methods():
        from multiprocessing import forkserver

        multiprocessing.set_forkserver_preload(["asyncrl.engines.processes"])
        forkserver.ensure_running()


def _context() -> ForkServerContext | SpawnContext:
    methods = multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("forkserver") if "forkserver" in methods else multiprocessing.get_context("spawn")


class Processes(LocalEngine):
    """One duplex pipe per actor: orders go out, tickets of finished rollouts come back."""

    def __init__(self, spec: ActorSpec, actors: int, plan: MemoryPlan) -> None:
        prepare()
        context = _context()
        memory = plan.allocate(shared=True)
        super().__init__(Memory(plan, memory))
        self._pipes: list[Connection] = []
        self._processes: list[ForkServerProcess | SpawnProcess] = []
        for index in range(actors):
            here, there = context.Pipe()
            # Not a daemon: an actor may have environment workers of its own. It ends with its pipe.
            process = context.Process(target=_serve, args=(index, spec, plan, memory, there), name=f"actor-{index}")
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)

    def request(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            with contextlib.suppress(BrokenPipeError):  # it died: collect says so
                self._pipes[ticket.actor].send(ticket)

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        deadline = time.monotonic() + _FAREWELL
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()

    def _hear(self, seconds: float) -> list[Ticket]:
        heard = []
        for pipe in wait(self._pipes, timeout=seconds):
            assert isinstance(pipe, Connection)
            try:
                answer = pipe.recv()
            except (EOFError, ConnectionResetError):
                raise self._death(self._pipes.index(pipe)) from None
            if isinstance(answer, AsyncRLError):
                raise answer
            heard.append(answer)
        return heard

    def _death(self, index: int) -> ActorDied:
        process = self._processes[index]
        process.join(1.0)
        code = process.exitcode
        cause = f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        hint = "; the machine may be out of memory" if code == -signal.SIGKILL else ""
        return ActorDied(f"actor {index} died ({cause}){hint}")


def _serve(index: int, spec: ActorSpec, plan: MemoryPlan, memory: Tensor, pipe: Connection) -> None:
    """An actor's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the learner decides when to stop
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the learner has gone
        try:
            views = Memory(plan, memory)
            with contextlib.closing(Actor(spec, index)) as actor:
                while True:
                    ticket = pipe.recv()
                    views.fill(actor, ticket)
                    pipe.send(ticket)
        except AsyncRLError as fault:
            pipe.send(fault)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except BaseException:
            pipe.send(ActorDied(f"actor {index} failed:\n{traceback.format_exc()}"))
