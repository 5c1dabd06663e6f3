"""Networks: encoders, recurrent cores, heads, and the vector that holds their parameters."""

from asyncrl.networks.build import DESCRIPTIONS, Network, NetworkConfig, resolve, unconvolved
from asyncrl.networks.encoders import ConvolutionalEncoder, keep_in_compute_dtype
from asyncrl.networks.flat import bind, copy_into, have_diverged, named_views
from asyncrl.networks.heads import ActionValues, ActorCritic, CategoricalQNetwork, PolicyValue, QNetwork
from asyncrl.networks.initialization import Init
from asyncrl.networks.layers import resample
from asyncrl.networks.masks import MaskReader, mask_out
from asyncrl.networks.recurrent import Recurrent

__all__ = [
    "DESCRIPTIONS",
    "ActionValues",
    "ActorCritic",
    "CategoricalQNetwork",
    "ConvolutionalEncoder",
    "Init",
    "MaskReader",
    "Network",
    "NetworkConfig",
    "PolicyValue",
    "QNetwork",
    "Recurrent",
    "bind",
    "copy_into",
    "have_diverged",
    "keep_in_compute_dtype",
    "mask_out",
    "named_views",
    "resample",
    "resolve",
    "unconvolved",
]
