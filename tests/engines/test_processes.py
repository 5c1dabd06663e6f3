"""Actors in processes: tickets that their pipes cannot hold, and memory that is pinned for GPUs."""

from __future__ import annotations

import threading
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_runs import asked, contract_of

from asyncrl.acting.actor import ActorSpec
from asyncrl.common.torch_setup import pin
from asyncrl.engines import MemoryPlan, Processes, processes
from asyncrl.errors import UsageError
from asyncrl.experience.rollout import Ticket
from asyncrl.runs.components import actor_spec, make_learner
from asyncrl.runs.config.resolution import resolve


def one_actor(**more: Any) -> tuple[ActorSpec, MemoryPlan, torch.Tensor]:
    """An actor of one environment with rollouts of one step, the memory for one of them, and weights."""
    config = asked("a3c", dict(actors=1, envs_per_actor=1, t_max=1))
    contract = contract_of(config)
    config = resolve(config, contract)
    spec, weights = actor_spec(config, contract), make_learner(config, contract).weights
    return spec, MemoryPlan(spec.layout(), num_slots=1, num_buffers=1, num_weights=weights.numel(), **more), weights


def test_more_rollouts_than_the_pipes_of_an_actor_hold_can_be_requested_at_once() -> None:
    """Neither learner nor actor waits for room in a pipe that the other one would have to read first."""
    spec, plan, weights = one_actor()
    tickets = [Ticket(number, actor=0, version=0, slot=0, step=number) for number in range(1_000)]
    with closing(Processes(spec, 1, plan)) as engine:
        engine.publish(0, weights)
        requesting = threading.Thread(target=engine.request, args=(tickets,), daemon=True)
        requesting.start()
        requesting.join(30.0)
        assert not requesting.is_alive()
        assert [*engine.collect(tickets[-1:], lambda: False)] == tickets[-1:]
        assert engine.ready == len(tickets) - 1


def test_the_steps_of_actors_in_processes_are_seen_here() -> None:
    spec, plan, weights = one_actor()
    with closing(Processes(spec, 1, plan)) as engine:
        engine.publish(0, weights)
        for number in range(3):
            ticket = Ticket(number, actor=0, version=0, slot=0, step=number)
            engine.request([ticket])
            engine.collect([ticket], lambda: False)
        assert engine.steps == 3


def test_memory_is_unpinned_on_closing_and_where_the_actors_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[int] = []

    def pin_here(memory: torch.Tensor) -> bool:
        pinned.append(memory.data_ptr())
        return True

    monkeypatch.setattr(processes, "pin", pin_here)
    monkeypatch.setattr(processes, "unpin", lambda memory: pinned.remove(memory.data_ptr()))
    spec, plan, _ = one_actor(is_pinned=True)
    engine = Processes(spec, 1, plan)
    assert pinned
    engine.close()
    assert not pinned

    def refuse(*_: Any, **__: Any) -> None:
        raise UsageError("the limit on open files is too low")

    monkeypatch.setattr(processes, "Workers", refuse)
    with pytest.raises(UsageError, match="the limit on open files"):
        Processes(spec, 1, plan)
    assert not pinned


def test_a_kernel_is_not_blamed_for_memory_that_cannot_be_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA remembers the failure of a call until the next kernel is launched."""
    failures: list[str] = []

    def register(address: int, nbytes: int, flags: int) -> int:
        failures.append("out of memory")
        return 2

    def launch(*_: Any, **__: Any) -> None:
        if failures:
            raise RuntimeError(f"CUDA error: {failures.pop()}")

    monkeypatch.setattr(torch.cuda, "cudart", lambda: SimpleNamespace(cudaHostRegister=register))
    monkeypatch.setattr(torch, "ones", launch)
    assert not pin(torch.zeros(8, dtype=torch.uint8))
    assert not failures


def test_actors_in_this_process_get_ordinary_memory_where_none_can_be_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = torch.zeros

    def refuse(*size: int, pin_memory: bool = False, **options: Any) -> torch.Tensor:
        if pin_memory:
            raise RuntimeError("CUDA error: OS call failed or operation not supported on this OS")
        return zeros(*size, **options)

    _, plan, _ = one_actor(is_pinned=True)
    monkeypatch.setattr(torch, "zeros", refuse)
    assert plan.allocate().tolist() == [0] * plan.nbytes
