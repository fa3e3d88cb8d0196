"""Encoding and decoding: the whole model, the folded one, and both in onnxruntime.

One run on MNIST with an exact rank is trained, or taken from --run. All ways process the same
batches of 1 and 1,000 images or codes in turn, in an order that rotates from round to round, and
ratios to the whole model are taken round by round, so that a drift of the machine favours none.

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
from lorae.export.folding import median_ratio, time_interleaved
from lorae.export.programs import export_onnx
from lorae.training.options import data_of
from lorae.utils.samples import as_float

CALLS = (("encode", 1), ("encode", 1000), ("decode", 1), ("decode", 1000))


def load_session(file: Path, threads: int) -> Callable[[torch.Tensor], object]:
    """Return a function that runs an ONNX file on the given number of threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return lambda x: session.run(None, {given.name: x.numpy()})


def build_ways(model: lorae.Autoencoder, folder: Path) -> dict[str, dict[str, Callable]]:
    """Return the functions that encode and decode, and one that gives codes, of each way."""
    ways: dict[str, dict[str, Callable]] = {}
    for name, one in (("whole", model), ("folded", model.cut())):
        ways[name] = {"encode": one.encode, "decode": one.decode, "codes": one.encode}
        (folder / name).mkdir()
        export_onnx(one, folder / name)
        halves = {"encode": "encoder.onnx", "decode": "decoder.onnx"}
        ways[f"{name}, ONNX"] = {
            method: load_session(folder / name / file, torch.get_num_threads())
            for method, file in halves.items()
        } | {"codes": one.encode}
    return ways


@torch.no_grad()
def main() -> None:
    """Print one table: medians in milliseconds a call, and the ratio to the whole model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="a finished run; by default one is trained")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--width", type=float, default=0.5, help="1 is the paper's")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each column")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if arguments.run:
            run = lorae.Run.open(arguments.run)
        else:
            options = {"width": arguments.width, "steps": arguments.steps, "learning_rate": 1e-3}
            options = lorae.Options(data="mnist", model="lorae-proximal", **options)
            run = lorae.train(options, folder / "run")
        model, images = run.model(), as_float(data_of(run).test)
        ways = build_ways(model, folder)
        columns = {}
        for method, size in CALLS:
            x = images[torch.arange(size) % len(images)]
            calls = {
                name: partial(way[method], way["codes"](x) if method == "decode" else x)
                for name, way in ways.items()
            }
            columns[method, size] = time_interleaved(calls, arguments.seconds)
    print(
        f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}, "
        f"{torch.get_num_threads()} threads; {model.bridge.latent} latent dimensions, folded "
        f"{model.cut().bridge.latent}"
    )
    print("| way | " + " | ".join(f"{name} {size:,}, ms (ratio)" for name, size in CALLS) + " |")
    print("|---" * (1 + len(CALLS)) + "|")
    for name in ways:
        cells = [
            f"{1e3 * statistics.median(times[name]):.3g} "
            f"({median_ratio(times[name], times['whole']):.2f})"
            for times in columns.values()
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
