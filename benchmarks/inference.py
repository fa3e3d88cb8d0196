"""Encoding and decoding: the full model, the folded one, and both in onnxruntime.

One run on MNIST with an exact rank is trained, or taken from --run. Then all take the same batches
of 1 and 1,000 images, or codes, in turn, in an order that changes round by round; the ratio to the
full model is taken round by round, so that a machine whose speed drifts favours none.

    python3 dev.py bench inference
    python3 dev.py bench inference --run runs/mnist-lorae-proximal
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnxruntime
import torch

import lorae
from lorae.export import exporters as export
from lorae.export import timing
from lorae.training.options import data_of
from lorae.utils.samples import as_float

CALLS = (("encode", 1), ("encode", 1000), ("decode", 1), ("decode", 1000))


def session(file: Path, threads: int) -> Callable[[torch.Tensor], object]:
    """Return a function that runs an ONNX file on as many threads as torch has."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    found = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (given,) = found.get_inputs()
    return lambda x: found.run(None, {given.name: x.numpy()})


def ways(model: lorae.Autoencoder, folder: Path) -> dict[str, dict[str, Callable]]:
    """Return how to encode and decode by each way."""
    found: dict[str, dict[str, Callable]] = {}
    for name, one in (("full", model), ("folded", model.cut())):
        found[name] = {"encode": one.encode, "decode": one.decode, "codes": one.encode}
        place = folder / name
        place.mkdir()
        export.onnx(one, place)
        threads = torch.get_num_threads()
        found[f"{name}, ONNX"] = {
            "encode": session(place / "encoder.onnx", threads),
            "decode": session(place / "decoder.onnx", threads),
            "codes": one.encode,
        }
    return found


def trained(steps: int, width: float, folder: Path) -> lorae.Run:
    """Return a run of the paper's network whose rank is exact."""
    options = lorae.Options(
        data="mnist", model="lorae-proximal", width=width, steps=steps, learning_rate=1e-3
    )
    return lorae.train(options, folder)


@torch.no_grad()
def main() -> None:
    """Print one table: medians in milliseconds a call, and the ratio to the full model's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="a finished run; by default one is trained")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--width", type=float, default=0.5, help="1 is the paper's")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each column")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run = (
            lorae.Run.open(arguments.run)
            if arguments.run
            else trained(arguments.steps, arguments.width, folder / "run")
        )
        model, images = run.model(), as_float(data_of(run).test)
        found = ways(model, folder)
        columns = {}
        for what, size in CALLS:
            x = images[torch.arange(size) % len(images)]
            inputs = {n: way["codes"](x) if what == "decode" else x for n, way in found.items()}
            calls = {name: partial(way[what], inputs[name]) for name, way in found.items()}
            columns[what, size] = timing.interleaved(calls, arguments.seconds)
    rank = model.cut().bridge.latent
    print(
        f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}, "
        f"{torch.get_num_threads()} threads; {model.bridge.latent} latent dimensions, folded {rank}"
    )
    print("| way | " + " | ".join(f"{what} {size:,}, ms (ratio)" for what, size in CALLS) + " |")
    print("|---" * (1 + len(CALLS)) + "|")
    for name in found:
        cells = [
            f"{1e3 * statistics.median(times[name]):.3g} "
            f"({timing.ratio(times[name], times['full']):.2f})"
            for times in columns.values()
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
