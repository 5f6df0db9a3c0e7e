"""Which samples, in which order."""

from penstock.samplers.classes import (
    BalancedBatchSampler,
    ClassIndex,
    ClassSampler,
    EpisodeSampler,
    StratifiedBatchSampler,
)
from penstock.samplers.lengths import LengthBatchSampler
from penstock.samplers.shuffles import (
    BatchSampler,
    BlockShuffleSampler,
    DistributedSampler,
    SequentialSampler,
    ShuffleSampler,
)
from penstock.samplers.weighted import WeightedSampler

__all__ = [
    "BalancedBatchSampler",
    "BatchSampler",
    "BlockShuffleSampler",
    "ClassIndex",
    "ClassSampler",
    "DistributedSampler",
    "EpisodeSampler",
    "LengthBatchSampler",
    "SequentialSampler",
    "ShuffleSampler",
    "StratifiedBatchSampler",
    "WeightedSampler",
]
