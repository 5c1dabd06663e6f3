"""Ray clusters of several nodes on this machine."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from asyncrl.cluster.connection import import_ray

HEALTH_CHECKS = dict(health_check_initial_delay_ms=1_000, health_check_period_ms=100, health_check_failure_threshold=10)
"""A node that is killed is known to be lost after a second; one that is only busy has ten times ten seconds to answer."""


@contextlib.contextmanager
def cluster(*cpus: int) -> Iterator[Any]:
    """A cluster whose first node, with `cpus[0]` places, is the one that programs here connect to."""
    ray = import_ray()
    with warnings.catch_warnings(action="ignore"):
        from ray._private.node import Node
        from ray.cluster_utils import Cluster
    head = {"num_cpus": cpus[0], "_system_config": HEALTH_CHECKS}
    head |= {"include_log_monitor": False, "no_monitor": True}  # programs that no test uses
    with (
        tempfile.TemporaryDirectory(prefix="asyncrl-nodes-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("TMPDIR", folder)  # what a lost node leaves there goes with the cluster
        patch.setattr(Node, "start_api_server", lambda *_, **options: None)  # nor this, which has no switch
        with warnings.catch_warnings(action="ignore"):
            found = Cluster(initialize_head=True, head_node_args=head)
        try:
            for count in cpus[1:]:
                found.add_node(num_cpus=count)
            yield found
        finally:
            ray.shutdown()
            found.shutdown()
