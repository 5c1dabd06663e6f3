"""Experience: rollouts, the kinds that algorithms learn from, batches and replay."""

from asyncrl.experience.archive import Archive
from asyncrl.experience.batch import Batch, PreparedBatch, stack_frames
from asyncrl.experience.kinds import Experience, FullEpisodes, OffPolicy, OnPolicy, UpdateContext
from asyncrl.experience.options import ReplayOptions, ReplayPlan, Storage
from asyncrl.experience.replay import PreparedSample, ReplayBuffer, Sample

__all__ = [
    "Archive",
    "Batch",
    "Experience",
    "FullEpisodes",
    "OffPolicy",
    "OnPolicy",
    "PreparedBatch",
    "PreparedSample",
    "ReplayBuffer",
    "ReplayOptions",
    "ReplayPlan",
    "Sample",
    "Storage",
    "UpdateContext",
    "stack_frames",
]
