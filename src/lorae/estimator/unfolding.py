r"""A start of training for manifolds that are rolled up: the coordinates of Isomap.

From principal components, gradient descent cannot unroll a swiss roll: two sheets that the
projection lays on one another stay there. Isomap's coordinates keep the distances along the
neighbourhood graph. The networks learn them first, as a regression, and are trained on from there.

Whether l coordinates :math:`c_i` determine samples :math:`x_i` is measured by their neighbours,

.. math::  q(c) = \sum_i \Big\| x_i - \tfrac1m \sum_{j \in N_m(c_i)} x_j \Big\|^2
           \Big/ \sum_i \| x_i \|^2,

where :math:`N_m(c_i)` are the m samples with the nearest coordinates. It is compared with
:math:`q(x)`, for neighbours among the samples themselves. Two coordinates of a swiss roll have a q
near q(x), two principal components do not; for a sphere no two coordinates do.

Reference:
    Tenenbaum, de Silva, Langford, A global geometric framework for nonlinear dimensionality
    reduction (Science 2000). The measure is related to trustworthiness (Venna and Kaski 2001).
"""

import warnings

import torch
from jaxtyping import Float
from sklearn.manifold import Isomap
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn import functional

from lorae.nn.autoencoder import Autoencoder
from lorae.utils.samples import has_gaps

LATENT = (2, 3)
"""Numbers of codes for which this start is tried. One code can cut a closed curve at a gap."""
_GRAPHS = (5, 8, 12)  # neighbours in Isomap's graph, all of which are tried
_NEIGHBOURS = 7
_AS_GOOD = 4  # times q(x)
_DETERMINED = 0.1
_MAX_SAMPLES = 1000
_RATE = 3e-3
_BATCH = 100


def neighbour_error(coordinates: Float[Tensor, "n l"], samples: Float[Tensor, "n d"]) -> float:
    """Return q, the share of variance that the mean of the nearest samples loses.

    Args:
        coordinates: whose distances define which samples are near.
        samples: centred.

    Example:
        >>> x = torch.linspace(-1, 1, 100)[:, None]
        >>> neighbour_error(x, x) < 0.01 < neighbour_error(x.abs(), x)
        True
    """
    count = min(_NEIGHBOURS, len(samples) - 1)
    search = NearestNeighbors(n_neighbors=count).fit(coordinates.numpy())
    nearest = torch.from_numpy(search.kneighbors(return_distance=False))
    errors = (samples[nearest].mean(1) - samples).square().sum()
    return float(errors / samples.square().sum().clamp(min=1e-30))


def unfold(model: Autoencoder, samples: Tensor) -> Tensor | None:
    """Return coordinates of samples that their neighbours determine, if the model's codes are not.

    Args:
        model: untrained.
        samples: n of them, in the units of the data.

    Returns:
        n x l coordinates with the standard deviation of the model's codes; or None if these already
        determine the samples, or no coordinates of Isomap do.
    """
    latent = model.bridge.latent
    if latent not in LATENT or len(samples) < 5 * _GRAPHS[-1]:
        return None
    with torch.no_grad():
        scaled = model.scaled(samples.to(model.shift))
        codes = model.encoder(scaled).double().cpu()
    flat = scaled.flatten(1).double().cpu()
    enough = min(_DETERMINED, _AS_GOOD * neighbour_error(flat, flat))
    if neighbour_error(codes, flat) <= enough:
        return None
    found = [_isomap(flat, latent, count) for count in _GRAPHS]
    best = min(found, key=lambda coordinates: neighbour_error(coordinates, flat))
    if neighbour_error(best, flat) > enough:
        return None
    unit: Tensor = codes.std() / best.std()
    return best * unit


def _isomap(samples: Float[Tensor, "n d"], latent: int, neighbours: int) -> Float[Tensor, "n l"]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about graphs of several components, which it connects
        isomap = Isomap(n_neighbors=neighbours, n_components=latent)
        return torch.from_numpy(isomap.fit_transform(samples.numpy()))


def start_unfolded(model: Autoencoder, samples: Tensor, steps: int) -> bool:
    """Train a model, in place, to encode to Isomap's coordinates and to decode from them.

    Args:
        model: untrained.
        samples: n of them, in the units of the data, of which the first 1,000 are used.
        steps: of Adam.

    Returns:
        Whether there are such coordinates, and no gaps in the samples; if not, the model is
        unchanged.
    """
    samples = samples[:_MAX_SAMPLES]
    if has_gaps(samples):
        return False
    coordinates = unfold(model, samples)
    if coordinates is None:
        return False
    codes = coordinates.to(model.shift)
    with torch.no_grad():
        target = model.scaled(samples.to(model.shift))
    optimizer = torch.optim.Adam(model.parameters(), _RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, max(2, steps))
    model.train()
    for _ in range(steps):
        rows = torch.randint(len(samples), (min(_BATCH, len(samples)),))
        z, x = codes[rows], target[rows]
        loss = _relative(model.encoder(x), z) + _relative(model.decoder(z), x)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return True


def _relative(found: Tensor, wanted: Tensor) -> Tensor:
    return functional.mse_loss(found, wanted) / wanted.var().clamp(min=1e-30)
