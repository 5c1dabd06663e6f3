"""Networks: encoders, recurrent cores, heads, and the vector that holds their parameters."""

from asyncrl.networks.build import NetworkConfig, keep_in_compute_dtype, resolve, unconvolved
from asyncrl.networks.critics import (
    DeterministicActorCritic,
    DiscreteSoftActorCritic,
    PolicyOutput,
    SoftActorCritic,
    frozen,
)
from asyncrl.networks.custom import CompleteNetwork, check_custom_network, complete_network, is_complete, unpack
from asyncrl.networks.dense_acting import use_dense_bodies
from asyncrl.networks.encoders import ConvolutionalEncoder
from asyncrl.networks.flat import WeightLoader, bind, copy_into, have_diverged, learned_part, named_views
from asyncrl.networks.heads import ActionValues, ActorCritic, CategoricalQNetwork, PolicyValue, QNetwork
from asyncrl.networks.initialization import Init, without_initialization
from asyncrl.networks.layers import FrameConv2d, remove_noise, resample
from asyncrl.networks.masks import MaskReader, allowed, finite, mask_out
from asyncrl.networks.names import BUILT_IN, NetworkSource, factory_named, installed_networks, is_custom, network_name_of
from asyncrl.networks.normalization import (
    NormalizedEncoder,
    Normalizer,
    PopArt,
    RunningStatistics,
    standardized,
    value_std,
)
from asyncrl.networks.quantiles import ImplicitQuantileNetwork
from asyncrl.networks.recurrent import Recurrent
from asyncrl.networks.residual import ResidualEncoder
from asyncrl.networks.single_step import StepObservation, for_single_steps

__all__ = [
    "BUILT_IN",
    "ActionValues",
    "ActorCritic",
    "CategoricalQNetwork",
    "CompleteNetwork",
    "ConvolutionalEncoder",
    "DeterministicActorCritic",
    "DiscreteSoftActorCritic",
    "FrameConv2d",
    "ImplicitQuantileNetwork",
    "Init",
    "MaskReader",
    "NetworkConfig",
    "NetworkSource",
    "NormalizedEncoder",
    "Normalizer",
    "PolicyOutput",
    "PolicyValue",
    "PopArt",
    "QNetwork",
    "Recurrent",
    "ResidualEncoder",
    "RunningStatistics",
    "SoftActorCritic",
    "StepObservation",
    "WeightLoader",
    "allowed",
    "bind",
    "check_custom_network",
    "complete_network",
    "copy_into",
    "factory_named",
    "finite",
    "for_single_steps",
    "frozen",
    "have_diverged",
    "installed_networks",
    "is_complete",
    "is_custom",
    "keep_in_compute_dtype",
    "learned_part",
    "mask_out",
    "named_views",
    "network_name_of",
    "remove_noise",
    "resample",
    "resolve",
    "standardized",
    "unconvolved",
    "unpack",
    "use_dense_bodies",
    "value_std",
    "without_initialization",
]
