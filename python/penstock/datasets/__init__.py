"""What there is to load from."""

from penstock.datasets.base import ConcatDataset, Dataset, Field, Subset
from penstock.datasets.files import FileDataset
from penstock.datasets.images import ImageDataset, ImageFolder
from penstock.datasets.ragged import RaggedDataset
from penstock.datasets.shards import Raw, ShardDataset
from penstock.datasets.tensors import TensorDataset
from penstock.datasets.tokens import TokenDataset

__all__ = [
    "ConcatDataset",
    "Dataset",
    "Field",
    "FileDataset",
    "ImageDataset",
    "ImageFolder",
    "RaggedDataset",
    "Raw",
    "ShardDataset",
    "Subset",
    "TensorDataset",
    "TokenDataset",
]
