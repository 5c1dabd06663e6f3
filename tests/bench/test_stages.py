"""What the stages that are measured alone imply for training as a whole."""

from __future__ import annotations

import pytest

from asyncrl.bench.stages import Stage, stages_on_gpu, upper_bound
from asyncrl.envs import describe
from asyncrl.runs.config.settings import configure

RATES = {Stage.ENVIRONMENT: 600.0, Stage.ACTING: 300.0, Stage.LEARNING: 200.0}


@pytest.mark.parametrize(
    ("on_gpu", "bound"),
    [
        (frozenset[Stage](), 100.0),
        (frozenset({Stage.LEARNING}), 200.0),
        (frozenset({Stage.ACTING, Stage.LEARNING}), 120.0),
    ],
)
def test_stages_share_a_device_and_devices_work_side_by_side(on_gpu: frozenset[Stage], bound: float) -> None:
    assert upper_bound(RATES, on_gpu) == pytest.approx(bound)


@pytest.mark.parametrize(
    ("env", "device", "expected"),
    [
        ("ALE/Pong-v5", "cpu", set()),
        ("ALE/Pong-v5", "cuda", {Stage.ACTING, Stage.LEARNING}),
        ("CartPole-v1", "cuda", {Stage.LEARNING}),
    ],
)
def test_networks_without_images_act_on_the_cpu(env: str, device: str, expected: set[Stage]) -> None:
    config = configure(env, "a3c", device=device, engine="processes")
    assert stages_on_gpu(config, describe(env, config.environment)) == expected
