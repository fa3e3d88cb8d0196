"""Samples to codes and back, a part at a time, in the precision of what is given."""

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.nn.autoencoder import Autoencoder, clone
from lorae.utils.samples import as_float

_PART = 500  # samples at a time


def like(model: Autoencoder, values: Tensor) -> Autoencoder:
    """Return a model, or a copy, in float64 for values of that type where its device has it."""
    wide = values.dtype == torch.float64 and model.shift.device.type != "mps"
    return clone(model).double() if wide else model


@torch.no_grad()
def encoded(model: Autoencoder, samples: Tensor) -> Float[Tensor, "n l"]:
    """Return the codes of samples on the CPU: float64 for float64, else float32."""
    kind = torch.float64 if samples.dtype == torch.float64 else torch.float32
    model = like(model, samples)
    return torch.cat([model.encode(x).cpu() for x in _parts(samples, model)]).to(kind)


@torch.no_grad()
def decoded(model: Autoencoder, codes: Float[Tensor, "n l"]) -> Tensor:
    """Return what codes decode to, on the CPU and of their type."""
    model = like(model, codes)
    return torch.cat([model.decode(z).cpu() for z in _parts(codes, model)]).to(codes.dtype)


@torch.no_grad()
def squares(
    model: Autoencoder, samples: Tensor, mean: Tensor
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Return each sample's mean square over its values: of its error, and of it less the mean.

    Args:
        model: in evaluation mode.
        samples: as the user has them.
        mean: one sample.

    Returns:
        Both in scaled units, float64, on the CPU.
    """
    model = like(model, samples)
    centre = model.scaled(mean.to(model.shift)[None])
    found = []
    for x in _parts(samples, model):
        target = model.scaled(x)
        wrong = model.decoder(model.bridge(model.encoder(target))) - target
        found.append(
            [v.flatten(1).square().mean(1).cpu().double() for v in (wrong, target - centre)]
        )
    errors, apart = (torch.cat(part) for part in zip(*found, strict=True))
    return errors, apart


def _parts(values: Tensor, model: Autoencoder) -> list[Tensor]:
    floats = (as_float(x) if x.dtype == torch.uint8 else x for x in torch.split(values, _PART))
    return [x.to(model.shift.device, model.shift.dtype) for x in floats]
