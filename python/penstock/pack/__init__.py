"""Many small files packed into large standard ones, and the folder that comes of it."""

from penstock.pack.packed import Packed
from penstock.pack.work import pack

__all__ = ["Packed", "pack"]
