r"""Training in the space that the samples span, which may have far fewer dimensions than values.

Samples :math:`x_i` of d values in scaled units, centred, lie in the space of the rows of an
orthonormal r x d matrix V, with r below the number of samples; neighbouring pixels are correlated,
so r is often small for images and fields, too. A default network of samples is trained as the
network of

.. math::  y_i = B x_i, \qquad B = \sqrt{r / d} \, V,

whose mean square over values is that of :math:`x_i`. Weights W that take values become
:math:`W B^+`, and weights that return them :math:`B W`; after training the way back is
:math:`W B` and :math:`B^+ W`. Reconstructions of the samples stay the same, and steps take less
time.

V is a random rotation of the principal axes. Adam depends on the axes, and treats those of little
variance like the others: with principal axes, gene expression (141 samples of 500 values, one
split) lost 0.419 and 0.332 of the variance at 2 and 10 codes, with random ones 0.400 and 0.312.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lorae.nn.autoencoder import Autoencoder, build
from lorae.objectives.nested import NestedDenoising

_REST = 1e-10
"""Share of the variance that may lie outside of the space."""
_MOST = 0.75
"""Largest share of the values that the space may have as dimensions, for a gain in time."""
_LEAST_VALUES = 64
_MAX_SIDE = 1500  # samples or values, whichever are fewer: of a matrix that is diagonalized


@dataclass(frozen=True)
class Span:
    r"""The space that samples span, in the scaled units of a model.

    Attributes:
        model: a default autoencoder of the samples, which gives units and networks.
        basis: B, or None if the space is not used.
    """

    model: Autoencoder
    basis: Float[Tensor, "r d"] | None

    @classmethod
    @torch.no_grad()
    def of(cls, model: Autoencoder, samples: Tensor) -> Self:
        """Return the space of samples; without a basis if steps would not take less time."""
        values, n = samples[0].numel(), len(samples)
        architecture = model.architecture
        if (
            architecture is None
            or architecture.network != "residual"
            or architecture.factors
            or architecture.categories
            or values < _LEAST_VALUES
            or min(values, n) > _MAX_SIDE
        ):
            return cls(model, None)
        x = model.scaled(samples.to(model.shift)).flatten(1).double()
        wide = values > n
        squares, axes = torch.linalg.eigh(x @ x.mT if wide else x.mT @ x)
        kept = squares.cumsum(0) > _REST * squares.sum()
        rank = int(kept.sum())
        if not model.bridge.latent <= rank <= _MOST * values:
            return cls(model, None)
        basis = axes[:, kept].mT
        if wide:
            basis = basis @ x / squares[kept].sqrt()[:, None]
        generator = torch.Generator().manual_seed(0)
        mix = torch.randn(rank, rank, generator=generator, dtype=torch.float64)
        return cls(model, torch.linalg.qr(mix).Q @ basis * (rank / values) ** 0.5)

    @torch.no_grad()
    def project(self, samples: Tensor) -> Tensor:
        """Return y for each of the samples, or the samples themselves."""
        if self.basis is None:
            return samples
        x = self.model.scaled(samples.to(self.model.shift)).flatten(1)
        return x @ self.basis.mT.to(x)

    @torch.no_grad()
    def narrow(self, objective: NestedDenoising) -> NestedDenoising:
        """Return the objective of the network of y, for an objective of the model's networks."""
        if self.basis is None:
            return objective
        rank, values = self.basis.shape
        assert self.model.architecture is not None
        model = build(replace(self.model.architecture, shape=(rank,)), 0.0, 1.0)
        noise = objective.noise * (rank / values) ** 0.5
        found = NestedDenoising(model, objective.prefix_weight, noise)
        _copy(objective, found, self._inverse, self.basis)
        return found.to(objective.prefix_biases.device)

    @torch.no_grad()
    def widen(self, objective: NestedDenoising) -> NestedDenoising:
        """Return the objective of the model's networks, for one from :meth:`narrow`."""
        if self.basis is None:
            return objective
        rank, values = self.basis.shape
        noise = objective.noise * (values / rank) ** 0.5
        found = NestedDenoising(copy.deepcopy(self.model), objective.prefix_weight, noise)
        _copy(objective, found, self.basis, self._inverse)
        return found.to(objective.prefix_biases.device)

    @property
    def _inverse(self) -> Tensor:
        """The inverse of the basis on the space."""
        assert self.basis is not None
        rank, values = self.basis.shape
        inverse: Tensor = self.basis.mT * (values / rank)
        return inverse


def _copy(
    source: NestedDenoising,
    target: NestedDenoising,
    to_source: Float[Tensor, "d e"],
    to_target: Float[Tensor, "e d"],
) -> None:
    """Copy the weights of networks of d values to those of e values, in place.

    The layers of a default network whose inputs or outputs are values, perhaps before features,
    are the first and last ones of encoder and decoder.
    """
    to_source, to_target = (part.to(source.prefix_biases) for part in (to_source, to_target))
    values = len(to_source)

    def inputs(weight: Tensor) -> Tensor:
        return torch.cat([weight[:, :values] @ to_source, weight[:, values:]], 1)

    def outputs(rows: Tensor) -> Tensor:
        return torch.cat([to_target @ rows[:values], rows[values:]])

    def load(
        old: nn.Module, new: nn.Module, changes: dict[str, Callable[[Tensor], Tensor]]
    ) -> None:
        state = old.state_dict()
        new.load_state_dict(state | {name: change(state[name]) for name, change in changes.items()})

    (features, last), (first, added) = _ends(source.model)
    (new_features, new_last), (new_first, new_added) = _ends(target.model)
    load(features, new_features, {"features.0.weight": inputs})
    load(last, new_last, {"weight": inputs})
    load(first, new_first, {"weight": outputs, "bias": outputs})
    load(added, new_added, dict.fromkeys(list(added.state_dict())[-2:], outputs))
    target.prefix_biases.copy_(outputs(source.prefix_biases.mT).mT)


def _ends(model: Autoencoder) -> tuple[Iterable[nn.Module], Iterable[nn.Module]]:
    """Return the last two modules of the encoder and the first two of the decoder."""
    encoder, decoder = model.encoder, model.decoder
    assert isinstance(encoder, nn.Sequential)
    assert isinstance(decoder, nn.Sequential)
    return list(encoder)[-2:], list(decoder)[:2]
