"""Which experience an algorithm asks for, and the batches made of it."""

from asyncrl.experience.archive import Archive
from asyncrl.experience.batch import Batch, stack_frames
from asyncrl.experience.kinds import Experience, FullEpisodes, OffPolicy, OnPolicy, UpdateContext
from asyncrl.experience.options import ReplayOptions, ReplayPlan, Storage
from asyncrl.experience.replay import ReplayBuffer, Sample

__all__ = [
    "Archive",
    "Batch",
    "Experience",
    "FullEpisodes",
    "OffPolicy",
    "OnPolicy",
    "ReplayBuffer",
    "ReplayOptions",
    "ReplayPlan",
    "Sample",
    "Storage",
    "UpdateContext",
    "stack_frames",
]
