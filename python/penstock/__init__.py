"""Penstock: batches from the files you already have, at the speed of memory."""

from penstock.collate import Collate, Samples, collate
from penstock.config import get_num_threads, set_num_threads, show_config
from penstock.datasets import ConcatDataset, Dataset, Field, Raw, ShardDataset, Subset, TensorDataset
from penstock.errors import FormatError, PenstockError, RowError, SampleError, SchemaError, ShardError

__version__ = "0.1.0"

__all__ = [
    "Collate",
    "ConcatDataset",
    "Dataset",
    "Field",
    "FormatError",
    "PenstockError",
    "Raw",
    "RowError",
    "SampleError",
    "Samples",
    "SchemaError",
    "ShardDataset",
    "ShardError",
    "Subset",
    "TensorDataset",
    "__version__",
    "collate",
    "get_num_threads",
    "set_num_threads",
    "show_config",
]
