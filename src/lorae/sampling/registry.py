"""The densities by name, and fitting one to the codes of a model.

A new density is a class in this folder and a row in `DENSITIES`.
"""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from lorae.errors import InputError, unknown
from lorae.nn.autoencoder import Autoencoder
from lorae.sampling.densities import Density, Gaussian, Prior
from lorae.sampling.flows import Flow
from lorae.sampling.mixtures import GaussianMixture

DENSITIES: dict[str, Callable[[Autoencoder], Density]] = {
    "gaussian": lambda _: Gaussian(),
    "mixture-4": lambda _: GaussianMixture(4),
    "mixture-10": lambda _: GaussianMixture(10),
    "mixture-auto": lambda _: GaussianMixture((1, 2, 4, 8, 16, 32)),
    "flow": lambda _: Flow(),
    "prior": lambda model: Prior(model.bridge.directions().to(model.shift)),
}
"""What builds a density for a model, by name."""

FITTED = 20_000
"""Training codes that a density is fitted to, at most."""


def density_for(model: Autoencoder, name: str | None = None) -> Density:
    """Return a density for new codes of a model, not fitted yet.

    Args:
        model: whose codes it is for.
        name: in `DENSITIES`; by default the prior of a model that was trained to one, else a
            Gaussian.

    Raises:
        InputError: if the name is unknown, or is "prior" and the model was not trained to one.

    Example:
        >>> from lorae.nn.autoencoder import Architecture, build
        >>> density_for(build(Architecture("mlp", (6,), 3))).__class__.__name__
        'Gaussian'
    """
    if name is None:
        name = "prior" if model.prior else "gaussian"
    if name not in DENSITIES:
        raise unknown("density", name, DENSITIES)
    if name == "prior" and not model.prior:
        raise InputError("this model was not trained to a prior: use another density")
    return DENSITIES[name](model)


def fit_density(
    model: Autoencoder, codes: Callable[[], Float[Tensor, "n l"]], name: str | None = None
) -> Density:
    """Return a density fitted to codes of a model.

    Args:
        model: whose codes they are.
        codes: called for the codes, unless the density is the prior, which needs none.
        name: as of :func:`density_for`.

    Raises:
        InputError: if the name is as :func:`density_for` refuses, or the codes cannot be fitted.

    Example:
        >>> import torch
        >>> from lorae.nn.autoencoder import Architecture, build
        >>> model = build(Architecture("mlp", (6,), 3)).eval()
        >>> density = fit_density(model, lambda: model.encode(torch.rand(50, 6)).detach())
        >>> model.decode(density.sample(4)).shape
        torch.Size([4, 6])
    """
    density = density_for(model, name)
    return density if isinstance(density, Prior) else density.fit(codes())
