r"""Encoder and decoder as programs that run without this package.

A program is one half of a model as a graph of tensor operations,

.. math:: z = A\, E((x - \text{shift}) / \text{scale}) + b, \qquad
    \hat x = \text{scale} \cdot D(z) + \text{shift},

in the units of the data and for batches of any size. What a bridge computes from its own state (a
decomposition, running averages) becomes the constants A and b. Each program is compared with the
model on random batches, and refused if it differs.
"""

import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lorae.errors import InputError
from lorae.nn.autoencoder import Autoencoder, clone
from lorae.nn.bridges.base import Bridge, NoBridge

TOLERANCE = 1e-3
"""Largest difference of a program from its model, as a share of the largest output."""

_BATCHES = (3, 1, 7)  # programs are traced with the first, and compared at all of them


class Encode(nn.Module):
    """The first half of a model, x to z."""

    shift: Tensor
    scale: Tensor

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.encoder = model.encoder
        self.bridge = _affine(model.bridge)
        self.register_buffer("shift", model.shift)
        self.register_buffer("scale", model.scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return the codes of samples."""
        scaled = (x.to(self.shift.dtype) - self.shift).to(self.scale.dtype) / self.scale
        codes: Tensor = self.bridge(self.encoder(scaled))
        return codes


class Decode(nn.Module):
    """The second half of a model, z to x."""

    shift: Tensor
    scale: Tensor

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.decoder = model.decoder
        self.register_buffer("shift", model.shift)
        self.register_buffer("scale", model.scale)

    def forward(self, z: Tensor) -> Tensor:
        """Return the samples of codes."""
        samples: Tensor = self.decoder(z) * self.scale + self.shift
        return samples


@dataclass(frozen=True)
class Half:
    """One half of a model, for export."""

    name: str  # encoder or decoder
    names: tuple[str, str]  # of its input and its output, "samples" and "codes" or vice versa
    module: nn.Module
    inputs: list[Tensor]  # random batches
    outputs: list[Tensor]  # the model's outputs for them


def export_onnx(model: Autoencoder, folder: Path) -> dict[str, float]:
    """Write encoder.onnx and decoder.onnx, and return the largest difference of each.

    The encoder maps "samples" to "codes", the decoder "codes" to "samples", in float32 and for
    batches of any size. The differences are those of onnxruntime from the model.

    Args:
        model: a model that knows the shape of a sample. Without an encoder (a GAN), only the
            decoder is written.
        folder: an existing folder.

    Raises:
        InputError: if the packages are missing, or the model cannot be exported.
    """
    if model.gaps is not None:
        raise InputError(
            "model must take complete samples to be exported to ONNX, which has no operator that "
            "solves linear systems, got one that fills gaps; use the target torch"
        )
    runtime = _import_onnxruntime()
    return {half.name: _export_onnx(half, folder, runtime) for half in _halves(model)}


def export_torch(model: Autoencoder, folder: Path) -> dict[str, float]:
    """Write encoder.pt2 and decoder.pt2, and return the largest difference of each.

    These are programs of `torch.export`, read by `torch.export.load(file).module()`. Unlike a
    TorchScript file, such a file holds a graph as JSON and raw weights, and no pickle.

    Args:
        model: as for :func:`export_onnx`.
        folder: an existing folder.

    Raises:
        InputError: if the model cannot be exported, or this version of PyTorch would pickle.
    """
    return {half.name: _export_torch(half, folder) for half in _halves(model)}


def _halves(model: Autoencoder) -> list[Half]:
    """Return the halves of a model in evaluation mode, on the CPU in float32."""
    if model.architecture is None or not model.architecture.shape:
        raise InputError(
            "model must know the shape of a sample to be exported, got one that does not: pass "
            "lorae.wrap a sample"
        )
    shape, model = model.architecture.shape, clone(model).cpu().float().eval()
    generator = torch.Generator().manual_seed(0)
    samples = [
        torch.rand(n, *shape, generator=generator) * model.scale + model.shift for n in _BATCHES
    ]
    with torch.no_grad():
        codes = [model.encode(x).contiguous() for x in samples]
        decoded = [model.decode(z) for z in codes]
    encoder = Half("encoder", ("samples", "codes"), Encode(model), samples, codes)
    decoder = Half("decoder", ("codes", "samples"), Decode(model), codes, decoded)
    return [encoder, decoder] if model.inverts else [decoder]


def _export_onnx(half: Half, folder: Path, runtime: Any) -> float:
    file = folder / f"{half.name}.onnx"
    with _one_error(half):
        program = torch.onnx.export(
            half.module.eval(),
            (half.inputs[0],),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=[half.names[0]],
            output_names=[half.names[1]],
            verbose=False,
        )
        assert program is not None
        program.save(file)
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def run(x: Tensor) -> Tensor:
        (output,) = session.run(None, {half.names[0]: x.numpy()})
        return torch.from_numpy(output)

    return _largest_difference(half, run)


def _export_torch(half: Half, folder: Path) -> float:
    file = folder / f"{half.name}.pt2"
    with _one_error(half):
        program = torch.export.export(
            half.module.eval(),
            (half.inputs[0],),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
        program.example_inputs = None  # which would be pickled
        torch.export.save(program, file)
        _check_no_pickle(file)
        module = torch.export.load(file).module()
    return _largest_difference(half, module)


def _check_no_pickle(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        settings = [archive.read(name) for name in archive.namelist() if name.endswith(".json")]
        pickles = [info for info in archive.infolist() if info.filename.endswith(".pt")]
    if any(info.file_size for info in pickles) or any(b'"use_pickle": true' in s for s in settings):
        raise InputError(
            f"PyTorch {torch.__version__} would write a pickle into {file.name!r}: use a newer one"
        )


def _import_onnxruntime() -> Any:
    try:
        import onnx  # noqa: F401 - the exporter needs it
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"export to ONNX needs the package {error.name}: pip install 'lorae[onnx]'"
        ) from None
    return onnxruntime


@torch.no_grad()
def _largest_difference(half: Half, program: Callable[[Tensor], Tensor]) -> float:
    """Return the largest difference of a program from its model, or refuse a large one."""
    largest = 0.0
    for x, expected in zip(half.inputs, half.outputs, strict=True):
        difference = float((program(x) - expected).abs().max())
        if not difference <= TOLERANCE * float(expected.abs().max()) + 1e-6:
            raise InputError(
                f"the exported {half.name} differs from the model's by {difference:.2g}, so it was "
                "not kept"
            )
        largest = max(largest, difference)
    return largest


def _affine(bridge: Bridge) -> nn.Module:
    """Return a bridge as its affine map at inference, or itself if it has none."""
    if isinstance(bridge, NoBridge):
        return nn.Identity()
    try:
        matrix, offset = bridge.affine()
    except InputError:
        return bridge
    layer = nn.Linear(matrix.shape[1], matrix.shape[0])
    layer.weight = nn.Parameter(matrix.detach().clone())
    layer.bias = nn.Parameter(offset.detach().clone())
    return layer


@contextmanager
def _one_error(half: Half) -> Iterator[None]:
    """Silence PyTorch's exporters, and raise their failures as an `InputError` of one sentence."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"the {half.name} cannot be exported ({type(error).__name__}: {reason})"
        ) from error
    finally:
        logging.disable(before)
