"""Encoding, decoding and reconstruction of many samples, one batch at a time.

Everything runs in evaluation mode and in the precision of the model, or in float64 where the
samples or codes are float64, and returns tensors on the CPU.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lorae.linalg.svd import widen
from lorae.nn.autoencoder import Autoencoder
from lorae.utils.samples import Rows, as_float, has_gaps

BATCH_SIZE = 500
"""The default number of samples in a batch on a CPU."""
ACCELERATED_BATCH_SIZE = 2000
"""The default number of samples in a batch on an accelerator."""
_ROUNDS = 10


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode, without gradients, and restore its mode at the end."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def batches(
    model: Autoencoder,
    samples: Tensor | Rows,
    batch_size: int | None = None,
    *,
    first: int = 0,
    every: int = 1,
) -> Iterator[Tensor]:
    """Yield samples in order, in batches on the device and in the type of a model.

    Bytes are divided by 255. Of all batches, only number `first` and every `every`-th after it are
    yielded.
    """
    device, dtype = model.shift.device, model.shift.dtype
    batch_size = batch_size or (BATCH_SIZE if device.type == "cpu" else ACCELERATED_BATCH_SIZE)
    for start in range(first * batch_size, len(samples), every * batch_size):
        x = samples[start : start + batch_size]
        floats = x if x.is_floating_point() else as_float(x.to(device))
        yield floats.to(device, dtype)


def encode_all(
    model: Autoencoder, samples: Tensor | Rows, batch_size: int | None = None
) -> Float[Tensor, "n l"]:
    """Return the codes of all samples, at least 1, in float32 or wider on the CPU.

    Samples are in the units of the data; bytes are divided by 255.

    Example:
        >>> from lorae.nn.autoencoder import Architecture, build
        >>> model = build(Architecture("conv", (1, 8, 8), latent=4))
        >>> encode_all(model, torch.zeros(1200, 1, 8, 8, dtype=torch.uint8)).shape
        torch.Size([1200, 4])
    """
    model = match_precision(model, samples)
    with evaluation_mode(model):
        return _joined(
            model.encode(complete(model, x)) for x in batches(model, samples, batch_size)
        )


def decode_all(
    model: Autoencoder, codes: Float[Tensor, "n l"], batch_size: int | None = None
) -> Float[Tensor, "n *shape"]:
    """Return the samples that codes, at least 1, decode to, in float32 or wider on the CPU."""
    model = match_precision(model, codes)
    with evaluation_mode(model):
        z = (part.to(model.scale.dtype) for part in batches(model, codes, batch_size))
        return _joined(model.decode(part) for part in z)


def squared_errors(
    model: Autoencoder, samples: Tensor, mean: Tensor, values: int | None = None
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    r"""Return :math:`\frac1d \|\hat x - x\|^2` and :math:`\frac1d \|x - \bar x\|^2` of each sample.

    Of a sample with gaps, both are means over its observed values.

    One minus the quotient of their sums is the coefficient of determination :math:`R^2`.

    Args:
        model: its mode is restored.
        samples: n of them, at least 1, in the units of the data.
        mean: one sample, :math:`\bar x`.
        values: number of the first values of a sample that count; by default all.

    Returns:
        Errors and deviations in scaled units, as float64.
    """
    model = match_precision(model, samples)
    errors, deviations = [], []
    with evaluation_mode(model):
        centre = model.scaled(mean.to(model.shift)[None])
        for x in batches(model, samples):
            target = model.scaled(x)
            output = model.decoder(model.bridge(model.encoder(model.scaled(complete(model, x)))))
            missing = target[:, :values].isnan() if has_gaps(target) else None
            errors.append(_mean_square((output - target)[:, :values], missing))
            deviations.append(_mean_square((target - centre)[:, :values], missing))
    return torch.cat(errors), torch.cat(deviations)


def complete(model: Autoencoder, x: Float[Tensor, "n *shape"]) -> Float[Tensor, "n *shape"]:
    """Return samples in the units of the data, with gaps predicted if the model takes none."""
    if model.gaps is not None or not has_gaps(x):
        return x
    predicted = predict_by_rounds(model, model.scaled(x), x.isnan())
    return torch.where(x.isnan(), predicted * model.scale + model.shift, x)


def predict_by_rounds(model: Autoencoder, x: Tensor, mask: Tensor) -> Tensor:
    """Return samples in scaled units whose values in a mask are predicted from the others.

    These are set to 0, and then ten times to what is decoded.
    """
    filled = x.masked_fill(mask, 0)
    for _ in range(_ROUNDS):
        filled = torch.where(mask, model.decoder(model.bridge(model.encoder(filled))), x)
    return filled


def match_precision(model: Autoencoder, values: Tensor | Rows) -> Autoencoder:
    """Return the model, or a float64 copy of it for float64 values if its device has that type."""
    wide = values[:1].dtype == torch.float64 and model.shift.device.type != "mps"
    return copy.deepcopy(model).double() if wide and model.shift.dtype != torch.float64 else model


def _joined(parts: Iterator[Tensor]) -> Tensor:
    return widen(torch.cat([part.cpu() for part in parts]))


def _mean_square(values: Float[Tensor, "n *shape"], missing: Tensor | None) -> Float[Tensor, " n"]:
    squares = values.flatten(1).square()
    if missing is None:
        return squares.mean(1).cpu().double()
    observed = ~missing.flatten(1)
    return (squares.where(observed, 0).sum(1) / observed.sum(1)).cpu().double()
