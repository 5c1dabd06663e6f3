"""The learner reads rollouts in Ray's object store in place, so no algorithm may write to them."""

from __future__ import annotations

import contextlib

import pytest
import torch
from small_runs import asked, contract_of

from asyncrl.acting.playback import open_actor
from asyncrl.algorithms import ALGORITHMS
from asyncrl.engines import Memory, MemoryPlan
from asyncrl.experience.rollout import Ticket
from asyncrl.runs.components import actor_spec, make_learner
from asyncrl.runs.config.resolution import resolve


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name != "random"])
def test_an_update_does_not_write_to_its_rollouts(algorithm: str) -> None:
    config = asked(algorithm, {})
    contract = contract_of(config)
    config = resolve(config, contract)
    learner, spec = make_learner(config, contract), actor_spec(config, contract)
    plan = MemoryPlan(spec.layout(), num_slots=1, num_buffers=1, num_weights=learner.weights.numel())
    bytes_of_all = plan.allocate()
    memory = Memory(plan, bytes_of_all)
    slot = bytes_of_all[: plan.layout.nbytes]
    with contextlib.closing(open_actor(spec, 0)) as actor:
        for number in range(8):
            memory.publish(0, learner.weights)
            memory.fill(actor, Ticket(number, actor=0, version=0, slot=0, step=learner.step))
            before = slot.clone()
            learner.update(memory.slots)
            assert torch.equal(slot, before)
