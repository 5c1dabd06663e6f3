"""Experience: rollouts, the kinds that algorithms learn from, batches and replay."""

from asyncrl.experience.archive import Archive
from asyncrl.experience.batch import Batch, PreparedBatch, stack_frames
from asyncrl.experience.kinds import Experience, FullEpisodes, OffPolicy, OnPolicy, SampleSource, UpdateContext
from asyncrl.experience.options import ReplayOptions, ReplayPlan, ReplayStorage, SequenceOptions
from asyncrl.experience.replay import ReplayBuffer
from asyncrl.experience.samples import PreparedSample, Sample, Unroll

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
    "ReplayStorage",
    "Sample",
    "SampleSource",
    "SequenceOptions",
    "Unroll",
    "UpdateContext",
    "stack_frames",
]
