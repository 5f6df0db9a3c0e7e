"""Penstock: batches from the files you already have, at the speed of memory."""

from penstock import transforms
from penstock.collate import Collate, Samples, collate
from penstock.config import get_num_threads, set_num_threads, show_config
from penstock.datasets import (
    ClassStreams,
    ConcatDataset,
    Dataset,
    Field,
    FileDataset,
    ImageDataset,
    ImageFolder,
    RaggedDataset,
    Raw,
    ShardDataset,
    StreamDataset,
    Subset,
    TensorDataset,
    TokenDataset,
)
from penstock.device import Convert, DevicePrefetcher
from penstock.errors import (
    ArgumentError,
    FormatError,
    MissingFileError,
    PenstockError,
    RowError,
    SampleError,
    SchemaError,
    ShardError,
)
from penstock.loader import DataLoader, class_loaders
from penstock.pack import Packed, pack
from penstock.samplers import (
    BalancedBatchSampler,
    BatchSampler,
    BlockShuffleSampler,
    ClassIndex,
    ClassSampler,
    DistributedSampler,
    EpisodeSampler,
    LengthBatchSampler,
    SequentialSampler,
    ShuffleSampler,
    StratifiedBatchSampler,
    WeightedSampler,
)
from penstock.splits import kfold, random_split

__version__ = "0.1.0"

__all__ = [
    "ArgumentError",
    "BalancedBatchSampler",
    "BatchSampler",
    "BlockShuffleSampler",
    "ClassIndex",
    "ClassSampler",
    "ClassStreams",
    "Collate",
    "ConcatDataset",
    "Convert",
    "DataLoader",
    "Dataset",
    "DevicePrefetcher",
    "DistributedSampler",
    "EpisodeSampler",
    "Field",
    "FileDataset",
    "FormatError",
    "ImageDataset",
    "ImageFolder",
    "LengthBatchSampler",
    "MissingFileError",
    "Packed",
    "PenstockError",
    "RaggedDataset",
    "Raw",
    "RowError",
    "SampleError",
    "Samples",
    "SchemaError",
    "SequentialSampler",
    "ShardDataset",
    "ShardError",
    "ShuffleSampler",
    "StratifiedBatchSampler",
    "StreamDataset",
    "Subset",
    "TensorDataset",
    "TokenDataset",
    "WeightedSampler",
    "__version__",
    "class_loaders",
    "collate",
    "get_num_threads",
    "kfold",
    "pack",
    "random_split",
    "set_num_threads",
    "show_config",
    "transforms",
]
