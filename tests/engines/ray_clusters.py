"""Ray clusters of several nodes on this machine."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

from asyncrl.engines.ray_cluster import import_ray


@contextlib.contextmanager
def cluster(*cpus: int) -> Iterator[Any]:
    """A cluster whose first node, with `cpus[0]` places, is the one that programs here connect to."""
    ray = import_ray()
    with warnings.catch_warnings(action="ignore"):
        from ray.cluster_utils import Cluster

        found = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus[0], "include_dashboard": False})
    try:
        for count in cpus[1:]:
            found.add_node(num_cpus=count)
        yield found
    finally:
        ray.shutdown()
        found.shutdown()
