"""Features of a small classifier, trained on the labels of a data set."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from lorae.data.arrays import checksum
from lorae.data.locations import cache_folder
from lorae.errors import InputError
from lorae.metrics.features import Extractor, short_hash
from lorae.nn import networks
from lorae.utils.progress import ProgressBar
from lorae.utils.tensor_files import load_tensors, save_tensors


class Classifier(Extractor):
    """The 64 features of a small network that classifies the images of a data set.

    Distances between these features are no FID. They have names of their own, and compare models
    of one data set only.
    """

    name = "classifier"
    batch_size = 500

    def __init__(self, network: nn.Sequential, identity: str) -> None:
        self.network = network
        self.identity = identity
        self.scale = 1.0

    @torch.no_grad()
    def __call__(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        features: Tensor = self.network[0](images.float() / 255)
        return features / self.scale


def fit_or_load_classifier(
    images: UInt8[Tensor, "n c h w"], labels: Tensor, steps: int = 800
) -> Classifier:
    """Return a classifier of images, from the cache or trained in under a minute.

    On one machine training always gives the same weights. The features are divided by their
    root mean variance on the first 2,000 images.
    """
    classes = len(torch.bincount(labels).nonzero()) if labels.ndim == 1 else 0
    if len(labels) != len(images) or classes < 2:
        raise InputError(
            "labels must be one for each image, of two classes or more, got "
            f"{len(labels)} labels of {classes} classes for {len(images)} images"
        )
    data = checksum({"images": images.numpy(), "labels": labels.numpy()})
    identity = f"classifier {data} {steps} scaled"
    path = cache_folder() / f"classifier-{short_hash(identity)}.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = networks.build("conv", tuple(images.shape[1:]), 64, 0.5).encoder
        head = nn.Sequential(nn.ReLU(), nn.Linear(64, int(labels.max()) + 1))
        network = nn.Sequential(body, head)
        try:
            network.load_state_dict(load_tensors(path)[0])
        except InputError:  # there is no file of the weights, or it is damaged
            _fit(network, images, labels, steps)
            save_tensors(path, network.state_dict(), {"identity": identity})
    classifier = Classifier(network, identity)
    parts = torch.split(images[:2000], classifier.batch_size)
    features = torch.cat([classifier(part) for part in parts])
    classifier.scale = float(features.std(0).square().mean().sqrt())
    return classifier


def _fit(network: nn.Module, images: Tensor, labels: Tensor, steps: int) -> None:
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in ProgressBar(range(steps), "classifier", unit="steps", leave=False):
        batch = torch.randint(len(images), (100,))
        loss = functional.cross_entropy(network(images[batch].float() / 255), labels[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
