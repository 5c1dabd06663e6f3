"""Networks by name: the built-in ones, entry points of installed packages, and `module:Name`."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import Any

from torch import nn

from asyncrl.common import import_strings, named_code
from asyncrl.envs.spaces import Spaces
from asyncrl.errors import UsageError, suggestions

__all__ = [
    "BUILT_IN",
    "GROUP",
    "NetworkFactory",
    "NetworkSource",
    "factory_named",
    "installed_networks",
    "is_custom",
    "network_name_of",
]

GROUP = "asyncrl.networks"
"""Entry-point group in which packages register networks."""

NetworkFactory = Callable[[Spaces], nn.Module]
"""A class or function that makes a network for an environment's spaces."""

NetworkSource = str | NetworkFactory
"""A network's name, its class, or a function that makes one."""

BUILT_IN = {
    "auto": "nature-cnn for images, mlp otherwise",
    "mlp": "dense layers (--hidden, --activation), separate ones for policy and value",
    "a3c-cnn": "conv 16 8×8/4, conv 32 4×4/2, dense 256 (Mnih et al. 2013, 2016)",
    "nature-cnn": "conv 32 8×8/4, conv 64 4×4/2, conv 64 3×3/1, dense 512 (Mnih et al. 2015)",
    "impala-resnet": "three sections of conv 3×3, max-pool and two residual blocks, dense 256 (--resnet-width; Espeholt "
    "et al. 2018)",
    "same-cnn": "conv 32 8×8/4, conv 64 4×4/2, conv 64 3×3/1, same padding, dense 512 (reinforcement-learning-keras)",
    "radial": "fixed random Fourier features of Gaussian kernels (--radial-gammas); only the heads learn",
    "padded-cnn": "conv 32 8×8/4, conv 64 4×4/2, both padded by 2, dense 256 (tf-a3c-gpu)",
}
"""Descriptions of the built-in networks, by name."""


def installed_networks() -> dict[str, str]:
    """Return the networks of installed packages: the place of each, by name. Nothing is imported."""
    return named_code.installed(GROUP)


def is_custom(name: str) -> bool:
    """Return whether a network of this name is not built in."""
    return name not in BUILT_IN


def network_name_of(network: Any) -> str:
    """Return the name of a network source. Raises UsageError for an object that cannot make many networks."""
    if isinstance(network, str):
        return network
    if isinstance(network, nn.Module) or not callable(network):
        given = f"an instance of {type(network).__qualname__}" if isinstance(network, nn.Module) else reprlib.repr(network)
        raise UsageError(
            f"the network was given as {given}, but a run makes several: give its class, a function "
            "(spaces) -> torch.nn.Module, or a name (asyncrl list networks)"
        )
    return import_strings.name_of(network)


def factory_named(name: str) -> NetworkFactory:
    """Return the factory of a network that is not built in, importing its module.

    Raises UsageError, with near matches, if there is none.
    """
    installed = {} if ":" in name else installed_networks()
    if ":" not in name and name not in installed:
        near = suggestions(name, [*BUILT_IN, *installed])
        remedy = near or "; your own is named module:Name"
        raise UsageError(f"--network {name}: there is no such network{remedy} (asyncrl list networks)")
    factory = named_code.load(name, "--network", GROUP)
    if not callable(factory):
        raise UsageError(
            f"--network {name} is {reprlib.repr(factory)}; expected a class or a function (spaces) -> torch.nn.Module"
        )
    found: NetworkFactory = factory
    return found
