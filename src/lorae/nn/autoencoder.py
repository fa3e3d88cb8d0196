r"""The deterministic autoencoder, encoder -> bridge -> decoder.

With the affine map :math:`s(x) = (x - shift) / scale` between the units of the data and those in
which the networks work,

.. math:: z = B(E(s(x))), \qquad \hat x = s^{-1}(D(z)).

Images have shift 0 and scale 1; the columns of a table are standardised. Both are stored with the
weights, so a saved model takes and gives data as the user has them.
"""

import copy
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lorae.errors import InputError
from lorae.linalg import spectral
from lorae.nn import layers, networks
from lorae.nn.bridges.base import Bridge, NoBridge
from lorae.nn.bridges.registry import build_bridge
from lorae.utils.files import save_tensors


@dataclass(frozen=True)
class Architecture:
    """All that is needed to build an autoencoder again, apart from its weights.

    Args:
        network: the encoder and decoder, a name in `lorae.nn.networks.NETWORKS`, or "own" for modules
            of the user's own (:func:`lorae.wrap`).
        shape: the shape of one sample, (C, H, W) or (D,); () if that of own modules is not known.
        latent: the dimension l of the codes.
        bridge: a name in `lorae.nn.bridges.registry.BRIDGES`.
        settings: further arguments of the bridge, by their names.
        width: factor on every hidden width of the networks.
        value_range: range of the scaled data, None where unbounded; it sets the output activation
            of general networks and the clipping of decoded images.
        probabilities: whether the decoder ends in a sigmoid, whatever its network ends in.
        lipschitz: whether every layer of the decoder has spectral norm 1.
        prior: whether training makes codes follow N(0, I), from which new ones are then drawn.
        inverts: whether the decoder is trained to undo the encoder; that of a GAN is not.

    Example:
        >>> architecture = Architecture("conv", (3, 32, 32), latent=16, bridge="low-rank")
        >>> build(architecture).bridge
        LowRank()
    """

    network: str
    shape: tuple[int, ...]
    latent: int
    bridge: str = "none"
    settings: dict[str, Any] = field(default_factory=dict)
    width: float = 1.0
    value_range: tuple[float, float] | None = (0.0, 1.0)
    probabilities: bool = False
    lipschitz: bool = False
    prior: bool = False
    inverts: bool = True

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Return the architecture that `dataclasses.asdict` turned into `fields`."""
        value_range = fields["value_range"]
        return cls(
            **fields
            | {"shape": tuple(fields["shape"])}
            | {"value_range": None if value_range is None else tuple(value_range)}
        )


class Autoencoder(nn.Module):
    """Encoder, bridge and decoder, with the units of the data.

    Args:
        encoder: maps scaled samples to n x k.
        bridge: maps n x k to n x l, affine at inference.
        decoder: maps n x l to scaled samples.
        shift: subtracted from a sample, broadcast over it.
        scale: divides a sample, broadcast over it; never 0.
        prior: whether codes follow N(0, I), so that new ones can be drawn from it.
        inverts: whether the decoder undoes the encoder; that of a GAN does not.
        architecture: how encoder, bridge and decoder were built, by :func:`build` or
            :func:`lorae.wrap`; a model without one can do everything but be saved.

    Example:
        >>> model = build(Architecture("conv", (1, 8, 8), latent=4, bridge="low-rank"))
        >>> x = torch.rand(5, 1, 8, 8)
        >>> model.encode(x).shape, model(x).shape
        (torch.Size([5, 4]), torch.Size([5, 1, 8, 8]))
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        bridge: Bridge,
        decoder: nn.Module,
        *,
        shift: Tensor | float = 0.0,
        scale: Tensor | float = 1.0,
        prior: bool = False,
        inverts: bool = True,
        architecture: Architecture | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.bridge = bridge
        self.decoder = decoder
        self.prior = prior
        self.inverts = inverts
        self.architecture = architecture
        self.register_buffer("shift", torch.as_tensor(shift, dtype=torch.float32).clone())
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32).clone())

    def scaled(self, x: Float[Tensor, "n *shape"]) -> Float[Tensor, "n *shape"]:
        """Return s(x), the samples in the units of the networks."""
        return (x.to(self.scale.dtype) - self.shift) / self.scale

    def encode(self, x: Float[Tensor, "n *shape"]) -> Float[Tensor, "n l"]:
        """Return the latent codes z of samples in their own units."""
        codes: Tensor = self.bridge(self.encoder(self.scaled(x)))
        return codes

    def decode(self, z: Float[Tensor, "n l"]) -> Float[Tensor, "n *shape"]:
        """Return the samples, in their own units, that codes stand for."""
        samples: Tensor = self.decoder(z)
        return samples * self.scale + self.shift

    def forward(self, x: Float[Tensor, "n *shape"]) -> Float[Tensor, "n *shape"]:
        """Return the reconstruction, decode(encode(x))."""
        return self.decode(self.encode(x))

    def fold(self) -> "Autoencoder":
        """Return a copy whose encoder has absorbed the bridge, as the paper does for inference.

        The bridge's affine map becomes part of the encoder's last layer, computed in float64
        (:func:`lorae.nn.layers.absorb`), and the new bridge is none. The outputs equal those of this
        model in evaluation mode to float32 rounding; all tensors are copies.

        Raises:
            InputError: if the encoder does not end in a linear or convolutional layer, that cannot
                be made sure of, or the bridge is not affine.

        Example:
            >>> model = build(Architecture("mlp", (6,), latent=3, bridge="low-rank")).eval()
            >>> x = torch.rand(2, 6)
            >>> torch.allclose(model.fold().encode(x), model.encode(x), atol=1e-6)
            True
        """
        folded = clone(self).eval()
        matrix, offset = (part.detach() for part in folded.bridge.affine())
        folded.encoder = layers.absorb(folded.encoder, matrix, offset, self._noise())
        # Without its bridge a model no longer knows in which directions its prior lies.
        folded.prior = self.prior and self.bridge.directions().shape[1] == self.bridge.latent
        folded.bridge = NoBridge(self.bridge.latent).to(matrix)
        if self.architecture is not None:
            folded.architecture = dataclasses.replace(
                self.architecture, bridge="none", settings={}, prior=folded.prior
            )
        return folded

    def cut(self, threshold: float = 1e-3) -> "Autoencoder":
        r"""Return a copy whose codes have only the dimensions that the bridge's matrix leaves.

        With the left singular vectors U of M whose singular values exceed the threshold times the
        largest, the codes become :math:`y = U^\top z` and the decoder that of U y: an encoder that
        ends in r outputs, and a decoder that starts from r inputs. Where the rank of M is exact,
        reconstructions equal those of this model to float32 rounding; else what lay in the
        directions cut is lost.

        Args:
            threshold: relative, 0 or more and below 1; 1e-3 of M is 1e-6 of the covariance.

        Raises:
            InputError: if the bridge learns no matrix, or encoder or decoder cannot be cut.

        Example:
            >>> model = build(Architecture("mlp", (6,), 3, "truncated", {"rank": 2})).eval()
            >>> x = torch.rand(4, 6)
            >>> model.cut().encode(x).shape, torch.allclose(model.cut()(x), model(x), atol=1e-6)
            (torch.Size([4, 2]), True)
        """
        if not self.bridge.learns_matrix:
            raise InputError("the model learns no matrix, so there is nothing to be cut")
        if not 0 <= threshold < 1:
            raise InputError(f"threshold must be at least 0 and below 1, got {threshold:g}")
        small = self.fold()
        U, sigma, _ = torch.linalg.svd(self.bridge.matrix().detach().double().cpu())
        rank = max(1, int(spectral.rank(sigma, threshold)))
        U = U[:, :rank].to(self.shift.device)
        small.encoder = layers.absorb(small.encoder, U.mT, U.new_zeros(rank), self._noise())
        small.decoder = layers.absorb_input(small.decoder, U)
        small.bridge = NoBridge(rank).to(self.shift)
        small.prior = self.prior and rank == self.bridge.directions().shape[1]
        if small.architecture is not None:
            small.architecture = dataclasses.replace(
                small.architecture, latent=rank, prior=small.prior
            )
        return small

    def save(self, path: str | Path) -> None:
        """Write weights and architecture to one safetensors file, atomically.

        Of modules of the user's own, the file holds the weights alone: :func:`lorae.load` needs
        them.

        Args:
            path: of the file; one that is there is replaced.

        Raises:
            InputError: if the model was made without an architecture.
        """
        if self.architecture is None:
            raise InputError(
                "this model has no architecture to be saved: make it with lorae.build or lorae.wrap"
            )
        save_tensors(Path(path), self.state_dict(), dataclasses.asdict(self.architecture))

    def _noise(self) -> Tensor | None:
        """Return a few random samples in the units of the networks, if their shape is known."""
        if self.architecture is None or not self.architecture.shape:
            return None
        generator = torch.Generator().manual_seed(0)
        return torch.randn(4, *self.architecture.shape, generator=generator).to(self.shift)


def build(
    architecture: Architecture, shift: Tensor | float = 0.0, scale: Tensor | float = 1.0
) -> Autoencoder:
    """Build an autoencoder with fresh weights from PyTorch's global generator.

    Args:
        architecture: what it is to be.
        shift: subtracted from a sample, broadcast over it.
        scale: divides a sample, broadcast over it; never 0.

    Raises:
        InputError: if a name is unknown or a size is out of range.

    Example:
        >>> model = build(Architecture("mlp", (13,), 4, "low-rank", value_range=None), scale=10.0)
        >>> model.encode(torch.rand(5, 13)).shape
        torch.Size([5, 4])
    """
    a = architecture
    encoder, decoder = networks.build(a.network, a.shape, a.latent, a.width, a.value_range)
    bridge = build_bridge(a.bridge, a.latent, a.settings)
    return Autoencoder(
        encoder if bridge.inputs == a.latent else layers.with_outputs(encoder, bridge.inputs),
        bridge,
        _ended(decoder, a),
        shift=shift,
        scale=scale,
        prior=a.prior,
        inverts=a.inverts,
        architecture=a,
    )


def _ended(decoder: nn.Sequential, architecture: Architecture) -> nn.Sequential:
    """Give a decoder the activation and the norms that its architecture asks for."""
    if architecture.probabilities:
        decoder[-1] = nn.Sigmoid()
    if architecture.lipschitz:
        layers.spectrally_normal(decoder)
    return decoder


def clone(model: Autoencoder) -> Autoencoder:
    """Return a copy of a model that shares no tensor with it."""
    return copy.deepcopy(model)
