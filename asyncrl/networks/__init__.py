"""Networks: encoders, heads, and the one vector that their parameters are kept in."""

from asyncrl.networks.actor_critic import ActorCritic
from asyncrl.networks.build import DESCRIPTIONS, Network, NetworkConfig, resolve
from asyncrl.networks.encoders import keep_in_compute_dtype
from asyncrl.networks.flat import bind, copy_into, named_views

__all__ = [
    "DESCRIPTIONS",
    "ActorCritic",
    "Network",
    "NetworkConfig",
    "bind",
    "copy_into",
    "keep_in_compute_dtype",
    "named_views",
    "resolve",
]
