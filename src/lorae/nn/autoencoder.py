r"""The deterministic autoencoder, encoder -> bridge -> decoder.

With the affine map :math:`s(x) = (x - shift) / scale` from the units of the data to those of the
networks,

.. math:: z = B(E(s(x))), \qquad \hat x = s^{-1}(D(z)).

Images have shift 0 and scale 1; the columns of a table are standardised. Both are stored with the
weights, so a saved model takes and returns data in the user's units.
"""

import copy
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lorae.data.columns import Schema
from lorae.errors import InputError
from lorae.linalg import spectral
from lorae.nn import folding, networks
from lorae.nn.blocks import add_spectral_norm
from lorae.nn.bridges.base import Bridge, NoBridge
from lorae.nn.bridges.registry import build_bridge
from lorae.nn.categories import Categories
from lorae.nn.gaps import FillGaps, doubled
from lorae.nn.paper_networks import PAPER_SHAPES
from lorae.utils.tensor_files import save_tensors
from lorae.utils.validation import check_range


@dataclass(frozen=True)
class Architecture:
    """All that is needed to rebuild an autoencoder, apart from its weights.

    Args:
        network: the encoder and decoder, a name in `lorae.nn.networks.NETWORKS`, or "own" for the
            user's modules (:func:`lorae.wrap`).
        shape: the shape of a sample, such as (C, H, W) or (D,); () if unknown, for the user's
            modules.
        latent: the dimension l of the codes.
        bridge: a name in `lorae.nn.bridges.registry.BRIDGES`.
        settings: further arguments of the bridge.
        width: factor on every hidden width of the networks.
        value_range: the range of the scaled data, None if unbounded; it sets the output activation
            of general networks and the clipping of decoded images.
        padding: what lies beyond the grid of a sample, zeros or circular.
        probabilities: whether the decoder ends in a sigmoid instead of its own activation.
        lipschitz: whether every layer of the decoder has operator norm 1.
        prior: whether training makes the codes follow N(0, I), so that samples are drawn from it.
        inverts: whether the decoder is trained to invert the encoder; that of a GAN is not.
        factors: number of factors of the Gaussian model that fills gaps in samples
            (:class:`lorae.nn.gaps.FillGaps`); 0 if samples are complete.
        categories: numbers of categories of columns whose one-hot values are the last of a sample
            (:class:`lorae.nn.categories.Categories`).

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
    padding: str = "zeros"
    probabilities: bool = False
    lipschitz: bool = False
    prior: bool = False
    inverts: bool = True
    factors: int = 0
    categories: tuple[int, ...] = ()

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Return the architecture that `dataclasses.asdict` turned into `fields`."""
        value_range = fields["value_range"]
        return cls(
            **fields
            | {"shape": tuple(fields["shape"])}
            | {"value_range": None if value_range is None else tuple(value_range)}
            | {"categories": tuple(fields.get("categories", ()))}
        )


class Autoencoder(nn.Module):
    """Encoder, bridge and decoder, with the units of the data.

    Args:
        encoder: maps scaled samples to n x k.
        bridge: maps n x k to n x l, affine at inference.
        decoder: maps n x l to scaled samples.
        shift: subtracted from a sample, broadcast over it.
        scale: divides a sample, broadcast over it; never 0.
        prior: as in :class:`Architecture`.
        inverts: likewise.
        architecture: how encoder, bridge and decoder were built, by :func:`build` or
            :func:`lorae.wrap`; a model without one cannot be saved.

    Attributes:
        schema: the columns of a table; :func:`lorae.load` sets those of a run.

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
        self.schema: Schema | None = None
        # A float64 shift keeps its digits, so that columns far from 0 are centred before they are
        # rounded to the type of the networks, which is that of the scale.
        wide = isinstance(shift, Tensor) and shift.dtype == torch.float64
        dtype = torch.float64 if wide else torch.float32
        self.register_buffer("shift", torch.as_tensor(shift, dtype=dtype).clone())
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32).clone())

    @property
    def gaps(self) -> FillGaps | None:
        """What fills the gaps in samples; None if the model takes only complete samples."""
        first = self.encoder[0] if isinstance(self.encoder, nn.Sequential) else None
        return first if isinstance(first, FillGaps) else None

    @property
    def categories(self) -> Categories | None:
        """What outputs probabilities of categories; None if all values are numbers."""
        last = self.decoder[-1] if isinstance(self.decoder, nn.Sequential) else None
        return last if isinstance(last, Categories) else None

    def scaled(self, x: Float[Tensor, "n *shape"]) -> Float[Tensor, "n *shape"]:
        """Return s(x), the samples in the units of the networks."""
        return (x.to(self.shift.dtype) - self.shift).to(self.scale.dtype) / self.scale

    def encode(self, x: Any) -> Any:
        """Return the codes z of samples in the units of the data.

        Args:
            x: a tensor of floats n x shape, through which gradients flow. Arrays, data frames and
                tensors of bytes are read as the training data were, in batches and in evaluation
                mode: columns are found by name, images may be n x h x w or have their channels
                last, bytes are divided by 255.

        Returns:
            n x l: a tensor for a tensor, else an array.

        Example:
            >>> import numpy as np
            >>> model = build(Architecture("conv", (1, 8, 8), latent=4))
            >>> model.encode(np.zeros((5, 8, 8), np.uint8)).shape
            (5, 4)
        """
        if not (isinstance(x, Tensor) and x.is_floating_point()):
            from lorae.nn import containers

            return containers.encode(self, x)
        return self.bridge(self.encoder(self.scaled(x)))

    def decode(self, z: Any) -> Any:
        """Return the samples, in the units of the data, that codes decode to.

        Args:
            z: n x l, a tensor, through which gradients flow, or an array.

        Returns:
            n x shape: a tensor for a tensor, else an array.
        """
        if not isinstance(z, Tensor):
            from lorae.nn import containers

            return containers.decode(self, z)
        samples: Tensor = self.decoder(z)
        return samples * self.scale + self.shift

    def reconstruct(self, x: Any) -> Any:
        """Return what is left of samples in their codes, as `decode(encode(x))`.

        Returns:
            The same container, layout and units as those of `x`; of a frame, the columns that the
            model was trained on.

        Example:
            >>> import pandas as pd
            >>> model = build(Architecture("mlp", (2,), latent=1, value_range=None))
            >>> frame = pd.DataFrame({"b": [1.0, 2.0], "a": [3.0, 4.0]})
            >>> list(model.reconstruct(frame).columns)
            ['b', 'a']
        """
        from lorae.nn import containers

        return containers.reconstruct(self, x)

    def forward(self, x: Float[Tensor, "n *shape"]) -> Float[Tensor, "n *shape"]:
        """Return the reconstruction, decode(encode(x))."""
        reconstruction: Tensor = self.decode(self.encode(x))
        return reconstruction

    def fold(self) -> "Autoencoder":
        """Return a copy whose encoder has absorbed the bridge, as the paper does for inference.

        The bridge's affine map is folded into the last layer of the encoder, computed in float64
        (:func:`lorae.nn.folding.fold_output`), and the new bridge is none. The outputs equal those
        of this model in evaluation mode up to float32 rounding. No tensor is shared.

        Raises:
            InputError: if the encoder does not end in a linear or convolutional layer, or this is
                uncertain, or the bridge is not affine.

        Example:
            >>> model = build(Architecture("mlp", (6,), latent=3, bridge="low-rank")).eval()
            >>> x = torch.rand(2, 6)
            >>> torch.allclose(model.fold().encode(x), model.encode(x), atol=1e-6)
            True
        """
        return self.change_codes(*(part.detach() for part in self.bridge.affine()))

    def cut(self, threshold: float = 1e-3) -> "Autoencoder":
        r"""Return a copy whose codes have as many dimensions as the rank of the bridge's matrix.

        With the left singular vectors U of M whose singular values exceed the threshold times the
        largest, the codes become :math:`y = U^\top z`, and the decoder takes U y: the encoder ends
        in r outputs, and the decoder begins with r inputs. Where the rank of M is exact, the
        reconstructions equal those of this model up to float32 rounding. The codes of a data-space
        bridge become those whose standard deviations are the singular values of M.

        Args:
            threshold: relative, in [0, 1); 1e-3 of M is 1e-6 of the covariance of the codes.

        Raises:
            InputError: if the bridge learns no matrix, or encoder or decoder cannot absorb a map.

        Example:
            >>> model = build(Architecture("mlp", (6,), 3, "truncated", {"rank": 2})).eval()
            >>> x = torch.rand(4, 6)
            >>> model.cut().encode(x).shape, torch.allclose(model.cut()(x), model(x), atol=1e-6)
            (torch.Size([4, 2]), True)
        """
        if not self.bridge.learns_matrix:
            kind = type(self.bridge).__name__
            raise InputError(f"model must have a bridge that learns a matrix to be cut, got {kind}")
        check_range("threshold", threshold, 0, 1, open_high=True)
        U, sigma, _ = torch.linalg.svd(_to_float64(self.bridge.matrix()))
        U = U[:, : max(1, int(spectral.rank(sigma, threshold)))]
        A, b = (_to_float64(part) for part in self.bridge.affine())
        basis = self.bridge.code_basis()
        if basis is None:
            return self.change_codes(U.mT @ A, U.mT @ b, U)
        T, c = (_to_float64(part) for part in basis)
        inverse = U.mT @ torch.linalg.inv(T)
        offset = c if bool(c.any()) else None
        return self.change_codes(inverse @ A, inverse @ (b - c), T @ U, offset)

    def change_codes(
        self,
        A: Float[Tensor, "r k"],
        b: Float[Tensor, " r"],
        U: Float[Tensor, "l r"] | None = None,
        d: Float[Tensor, " l"] | None = None,
    ) -> "Autoencoder":
        """Return a copy without a bridge, of other codes y: it encodes to A e + b, decodes U y + d.

        Here e is the output of this model's encoder, and U y + d the input of its decoder.
        """
        model, device = clone(self).eval(), self.shift.device
        if device.type == "mps":  # which has no float64
            model = model.cpu()
        at, samples = model.shift.device, None
        if self.architecture is not None and self.architecture.shape:  # to check the result on
            generator = torch.Generator().manual_seed(0)
            samples = torch.randn(4, *self.architecture.shape, generator=generator).to(model.scale)
        model.encoder = folding.fold_output(model.encoder, A.to(at), b.to(at), samples)
        if U is not None:
            offset = None if d is None else d.to(at)
            model.decoder = folding.fold_input(model.decoder, U.to(at), offset)
        model.bridge = NoBridge(len(A)).to(model.scale)
        # Without the bridge, the directions of a prior of lower rank are unknown.
        model.prior = self.prior and len(A) == self.bridge.directions().shape[1]
        if self.architecture is not None:
            model.architecture = dataclasses.replace(
                self.architecture, latent=len(A), bridge="none", settings={}, prior=model.prior
            )
        return model.to(device)

    def save(self, path: str | Path) -> None:
        """Write weights and architecture to a safetensors file, atomically, over an existing one.

        Of the user's own modules (:func:`lorae.wrap`) the file holds only the weights, and
        :func:`lorae.load` needs such modules again.
        """
        if self.architecture is None:
            raise InputError(
                "model must have an architecture to be saved: use lorae.build or lorae.wrap"
            )
        save_tensors(Path(path), self.state_dict(), dataclasses.asdict(self.architecture))


def build(
    architecture: Architecture, shift: Tensor | float = 0.0, scale: Tensor | float = 1.0
) -> Autoencoder:
    """Build an autoencoder with fresh weights, drawn from PyTorch's global generator.

    Example:
        >>> model = build(Architecture("mlp", (13,), 4, "low-rank", value_range=None), scale=10.0)
        >>> model.encode(torch.rand(5, 13)).shape
        torch.Size([5, 4])
    """
    a = architecture
    encoder, decoder = networks.build(
        a.network, a.shape, a.latent, a.width, a.value_range, padding=a.padding
    )
    if a.factors:
        if a.network in PAPER_SHAPES:
            raise InputError(
                f"network must be conv, mlp or residual for samples with gaps, got {a.network!r}"
            )
        wide = networks.build(
            a.network, doubled(a.shape), a.latent, a.width, a.value_range, padding=a.padding
        )
        encoder = nn.Sequential(FillGaps(a.shape, a.factors), *wide.encoder)
    if a.categories:
        units = (torch.as_tensor(part).expand(a.shape) for part in (shift, scale))
        values = (part[-sum(a.categories) :] for part in units)
        decoder.append(Categories(a.categories, *values))
    bridge = build_bridge(a.bridge, a.latent, a.settings)
    if bridge.inputs != a.latent:
        folding.replace_output_layer(encoder, bridge.inputs)
    if a.probabilities:
        decoder[-1] = nn.Sigmoid()
    if a.lipschitz:
        add_spectral_norm(decoder, torch.zeros(1, a.latent))
    return Autoencoder(
        encoder,
        bridge,
        decoder,
        shift=shift,
        scale=scale,
        prior=a.prior,
        inverts=a.inverts,
        architecture=a,
    )


def clone(model: Autoencoder) -> Autoencoder:
    """Return a copy of a model that shares no tensor with it."""
    return copy.deepcopy(model)


def _to_float64(matrix: Tensor) -> Tensor:
    return matrix.detach().double().cpu()
