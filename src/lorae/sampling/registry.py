"""The densities by name, and fitting one to the codes of a model.

A new density is a class in this folder, a name in `DENSITIES` and a line in :func:`density_for`.
Classes are imported when they are used: importing this module imports no torch.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from lorae.errors import InputError, unknown_name

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from lorae.nn.autoencoder import Autoencoder
    from lorae.sampling.densities import Density

KINDS = ("linear", "spherical")
"""Kinds of interpolation."""


MIXTURES = {"mixture-4": (4,), "mixture-10": (10,), "mixture-auto": (1, 2, 4, 8, 16, 32)}
"""The mixtures of normal distributions, with the numbers of components to choose from."""

DENSITIES = ("gaussian", *MIXTURES, "flow", "prior")
"""The names of the densities."""

FITTED = 20_000
"""Training codes that a density is fitted to, at most."""


def check_density(name: str | None) -> None:
    """Check the name of a density; None is the default one."""
    if name is not None and name not in DENSITIES:
        raise unknown_name("density", name, DENSITIES)


def density_for(model: "Autoencoder", name: str | None = None) -> "Density":
    """Return a density for new codes of a model, not fitted yet.

    Args:
        model: whose codes it is for.
        name: in `DENSITIES`; by default the prior of a model that was trained to one, else a
            Gaussian.

    Example:
        >>> from lorae.nn.autoencoder import Architecture, build
        >>> density_for(build(Architecture("mlp", (6,), 3))).__class__.__name__
        'Gaussian'
    """
    check_density(name)
    if name is None:
        name = "prior" if model.prior else "gaussian"
    if name == "prior" and not model.prior:
        others = ", ".join(other for other in DENSITIES if other != name)
        raise InputError(
            f"density must be one of {others} for a model not trained to a prior, got 'prior'"
        )
    from lorae.sampling.densities import Gaussian, Prior
    from lorae.sampling.flows import Flow
    from lorae.sampling.mixtures import GaussianMixture

    if name in MIXTURES:
        return GaussianMixture(MIXTURES[name])
    if name == "prior":
        return Prior(model.bridge.directions().to(model.shift))
    return Flow() if name == "flow" else Gaussian()


def fit_density(
    model: "Autoencoder", codes: "Callable[[], Float[Tensor, 'n l']]", name: str | None = None
) -> "Density":
    """Return a density fitted to codes of a model.

    Args:
        model: whose codes they are.
        codes: called for the codes, unless the density is the prior, which needs none.
        name: as of :func:`density_for`.

    Example:
        >>> import torch
        >>> from lorae.nn.autoencoder import Architecture, build
        >>> model = build(Architecture("mlp", (6,), 3)).eval()
        >>> density = fit_density(model, lambda: model.encode(torch.rand(50, 6)).detach())
        >>> model.decode(density.sample(4)).shape
        torch.Size([4, 6])
    """
    from lorae.sampling.densities import Prior

    density = density_for(model, name)
    return density if isinstance(density, Prior) else density.fit(codes())
