r"""Encoder and decoder as programs that run without this package.

A program is a half of a model as a graph of tensor operations,

.. math:: z = A\, E((x - \text{shift}) / \text{scale}) + b, \qquad
    \hat x = \text{scale} \cdot D(z) + \text{shift},

in the units of the data and for a batch of any size. What a bridge computes from its own state (a
decomposition, running averages) becomes the constants A and b. Each program is run against the
model before it is left behind.
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
from lorae.nn.bridges.matrix import Bridge, NoBridge

TOLERANCE = 1e-3
"""Largest difference, as a share of the largest value, at which a program equals its model."""
_BATCHES = (1, 7)  # on which programs are compared; they were traced with another number


class Encode(nn.Module):
    """The first half of a model, x to z."""

    shift: Tensor
    scale: Tensor

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.encoder = model.encoder
        self.between = _constant(model.bridge)
        self.register_buffer("shift", model.shift)
        self.register_buffer("scale", model.scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return the codes of samples."""
        codes: Tensor = self.between(self.encoder((x - self.shift) / self.scale))
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
        """Return the samples that codes stand for."""
        samples: Tensor = self.decoder(z) * self.scale + self.shift
        return samples


@dataclass(frozen=True)
class Half:
    """A half of a model, to become a program.

    Args:
        name: "encoder" or "decoder".
        takes: what goes in, "samples" or "codes".
        gives: what comes out.
        module: the half.
        model: the function of the model that it must equal.
        inputs: returns that many random inputs.
    """

    name: str
    takes: str
    gives: str
    module: nn.Module
    model: Callable[[Tensor], Tensor]
    inputs: Callable[[int], Tensor]


def onnx(model: Autoencoder, folder: Path) -> dict[str, float]:
    """Write encoder.onnx and decoder.onnx, and return how far each is from the model at most.

    The graphs take a batch of any size; the encoder takes "samples" and gives "codes", the decoder
    the other way round, all float32. They are run in onnxruntime for comparison.

    Args:
        model: any model whose shape of a sample is known; of one without an encoder (a GAN), the
            decoder alone is written.
        folder: an existing one.

    Raises:
        InputError: if the packages are missing, or the model cannot be exported.
    """
    runtime = _onnx_packages()
    return {half.name: _onnx(half, folder, runtime) for half in halves(model)}


def torch_program(model: Autoencoder, folder: Path) -> dict[str, float]:
    """Write encoder.pt2 and decoder.pt2, and return how far each is from the model at most.

    They are programs of `torch.export`, to be read with `torch.export.load(file).module()`. Such
    a file holds a graph as JSON and raw weights, and no pickle, unlike one of TorchScript.

    Args:
        model: as for :func:`onnx`.
        folder: an existing one.

    Raises:
        InputError: if the model cannot be exported, or this version of PyTorch would pickle.
    """
    return {half.name: _torch_program(half, folder) for half in halves(model)}


def halves(model: Autoencoder) -> list[Half]:
    """Return the halves of a model in evaluation mode, on the CPU in float32.

    Raises:
        InputError: if the shape of a sample is not known.
    """
    if model.architecture is None or not model.architecture.shape:
        raise InputError(
            "to be exported, a model must know the shape of a sample: give lorae.wrap a sample"
        )
    shape, model = model.architecture.shape, clone(model).cpu().float().eval()
    generator = torch.Generator().manual_seed(0)

    def samples(count: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator) * model.scale + model.shift

    def codes(count: int) -> Tensor:
        with torch.no_grad():
            return model.encode(samples(count)).contiguous()

    encoder = Half("encoder", "samples", "codes", Encode(model), model.encode, samples)
    decoder = Half("decoder", "codes", "samples", Decode(model), model.decode, codes)
    return [encoder, decoder] if model.inverts else [decoder]


def _onnx(half: Half, folder: Path, runtime: Any) -> float:
    file = folder / f"{half.name}.onnx"
    with _quiet(half):
        program = torch.onnx.export(
            half.module.eval(),
            (half.inputs(3),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=[half.takes],
            output_names=[half.gives],
            verbose=False,
        )
        assert program is not None
        program.save(file)
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def run(x: Tensor) -> Tensor:
        (found,) = session.run(None, {half.takes: x.numpy()})
        return torch.from_numpy(found)

    return _compared(half, run)


def _torch_program(half: Half, folder: Path) -> float:
    file = folder / f"{half.name}.pt2"
    with _quiet(half):
        program = torch.export.export(
            half.module.eval(),
            (half.inputs(3),),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
        program.example_inputs = None  # which would be pickled
        torch.export.save(program, file)
        _check_no_pickle(file)
        module = torch.export.load(file).module()
    return _compared(half, module)


def _check_no_pickle(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        settings = [archive.read(name) for name in archive.namelist() if name.endswith(".json")]
        pickled = [one for one in archive.infolist() if one.filename.endswith(".pt")]
    if any(one.file_size for one in pickled) or any(b'"use_pickle": true' in s for s in settings):
        raise InputError(
            f"PyTorch {torch.__version__} would write a pickle into {file.name!r}: use a newer one"
        )


def _onnx_packages() -> Any:
    try:
        import onnx  # noqa: F401 - the exporter needs it
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"export to ONNX takes the package {error.name}: pip install lorae[onnx]"
        ) from None
    return onnxruntime


@torch.no_grad()
def _compared(half: Half, program: Callable[[Tensor], Tensor]) -> float:
    """Return the largest difference of a program from its model.

    Raises:
        InputError: if they are not the same function.
    """
    largest = 0.0
    for count in _BATCHES:
        x = half.inputs(count)
        expected, found = half.model(x), program(x)
        apart = float((found - expected).abs().max())
        if not apart <= TOLERANCE * float(expected.abs().max()) + 1e-6:
            raise InputError(
                f"the exported {half.name} differs from the model's by {apart:.2g}, so it was "
                "not kept"
            )
        largest = max(largest, apart)
    return largest


def _constant(bridge: Bridge) -> nn.Module:
    """Return a bridge as the affine map it is at inference, itself if it is none."""
    if isinstance(bridge, NoBridge):
        return nn.Identity()
    try:
        matrix, offset = bridge.affine()
    except InputError:
        return bridge
    layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=bool(offset.any()))
    layer.weight = nn.Parameter(matrix.detach().clone())
    if layer.bias is not None:
        layer.bias = nn.Parameter(offset.detach().clone())
    return layer


@contextmanager
def _quiet(half: Half) -> Iterator[None]:
    """Keep PyTorch's exporters from talking of themselves, and tell their failures in a sentence.

    They warn of their own internals and of torchvision, which is not needed here.
    """
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
