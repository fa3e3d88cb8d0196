r"""Features of images, in which sets of images are compared.

An extractor is a map from images, as bytes, to vectors,

.. math:: \{0, \dots, 255\}^{C \times H \times W} \to R^d.

Images are always passed as bytes: what a model generates is first clipped and rounded as in a
saved PNG, so that scores are those of the images a person gets. Features of a set can be cached
under the checksum of set and extractor, because a network as large as Inception is slow.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lorae.data.arrays import write_npy
from lorae.data.cache import load_or_create
from lorae.data.locations import cache_folder
from lorae.utils.distributed import gather, shard, world_size
from lorae.utils.progress import ProgressBar
from lorae.utils.samples import Rows
from lorae.utils.validation import check_finite


def as_bytes(images: Float[Tensor, "n c h w"]) -> UInt8[Tensor, "n c h w"]:
    """Return images with values in [0, 1] as bytes, clipped and rounded as in a PNG."""
    check_finite("images", images)
    return images.clamp(0, 1).mul(255).round().to(torch.uint8)


class Extractor(ABC):
    """A map from images to features.

    Attributes:
        name: of the network, as scores name it.
        identity: everything the features depend on besides the images.
        batch_size: number of images in a batch.

    Example:
        >>> class Means(Extractor):
        ...     name = identity = "mean of each channel"
        ...
        ...     def __call__(self, images):
        ...         return images.float().mean((2, 3))
        >>> extract_features(Means(), torch.full((120, 3, 8, 8), 7, dtype=torch.uint8)).shape
        torch.Size([120, 3])
    """

    name: str
    identity: str
    batch_size = 50

    @abstractmethod
    def __call__(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return the features of a batch, on the CPU."""


def extract_features(
    extractor: Extractor, images: UInt8[Tensor, "n c h w"], label: str = "features"
) -> Float[Tensor, "n d"]:
    """Return the features of images, batch by batch, and show progress.

    In a process group whose backend supports CPU tensors (gloo), each process computes its share
    of every batch, and all return the same.
    """
    return torch.cat(list(_extract_batches(extractor, images, label)))


def cached_features(
    extractor: Extractor, images: UInt8[Tensor, "n c h w"] | Rows, label: str = "features"
) -> Float[Tensor, "n d"]:
    """Return the features of images from the cache, after computing them if they are not there.

    The cache knows a set by its content. Features are written batch by batch and returned
    memory-mapped, so the set may be of any size.
    """
    entry = cache_folder() / "features" / short_hash(f"{_checksum(images)} {extractor.identity}")
    batches = _extract_batches(extractor, images, label)

    def write(folder: Path) -> None:
        first = next(batches)
        arrays = (batch.numpy() for batch in chain([first], batches))
        write_npy(folder / "features.npy", (len(images), first.shape[1]), "float32", arrays)

    return torch.from_numpy(load_or_create(entry, write)["features"])


def short_hash(text: str) -> str:
    """Return 32 hexadecimal digits that identify a text, for names of cached files."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _extract_batches(extractor: Extractor, images: Tensor | Rows, label: str) -> Iterator[Tensor]:
    """Yield the features of one batch after the other."""
    size = extractor.batch_size
    starts = range(0, len(images), size)
    for start in ProgressBar(starts, label, unit_scale=size, unit="images", leave=False):
        batch = images[start : start + size]
        if (count := world_size()) > 1:  # repeat the first images so that all shares are equal
            filled = torch.arange(-(-len(batch) // count) * count) % len(batch)
            yield gather(extractor(shard(batch[filled])))[: len(batch)]
        else:
            yield extractor(batch)


def _checksum(images: Tensor | Rows) -> str:
    """Return a checksum of images, read a thousand at a time."""
    digest = hashlib.sha256(f"{tuple(images[:1].shape[1:])}".encode())
    for start in range(0, len(images), 1000):
        digest.update(np.ascontiguousarray(images[start : start + 1000].numpy()).data)
    return digest.hexdigest()
