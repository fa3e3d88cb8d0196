"""Data: named sets, folders and zips of images, arrays and tables."""

from lorae.data.cache import Unreachable
from lorae.data.datasets import DATASETS, Data, cached, fetch, load

__all__ = ["DATASETS", "Data", "Unreachable", "cached", "fetch", "load"]
