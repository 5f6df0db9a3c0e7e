"""What there is to load from."""

from penstock.datasets.base import ConcatDataset, Dataset, Field, Subset
from penstock.datasets.class_streams import ClassStream, ClassStreams
from penstock.datasets.files import FileDataset
from penstock.datasets.images import ImageDataset, ImageFolder
from penstock.datasets.ragged import RaggedDataset
from penstock.datasets.shards import Raw, ShardDataset
from penstock.datasets.stream import StreamDataset
from penstock.datasets.tensors import TensorDataset
from penstock.datasets.tokens import TokenDataset

__all__ = [
    "ClassStream",
    "ClassStreams",
    "ConcatDataset",
    "Dataset",
    "Field",
    "FileDataset",
    "ImageDataset",
    "ImageFolder",
    "RaggedDataset",
    "Raw",
    "ShardDataset",
    "StreamDataset",
    "Subset",
    "TensorDataset",
    "TokenDataset",
]
