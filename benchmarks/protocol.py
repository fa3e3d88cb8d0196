"""What the choices of an evaluation are worth, with one factor changed at a time.

MNIST at the scale `cpu` of the recipes (quarter width, 4,000 steps at 1e-3), for AE, the authors'
VAE and LoRAE at 1e-4. Each difference is paired: the same training, the same draw of labels, the
same seed of the head. The command prints its mean over the seeds of the training, with half the 95%
interval.

Table 6 begins with a head trained on all of n balanced labels, drawn from the first 10,000 training
images, on standardized codes M E(x), for 1,000 steps. One thing is changed: a fifth of the labels
is held out and not used; the same, and used to choose the epoch; the best of 50 looks at the test
set; E(x) instead of M E(x), of LoRAE; raw codes; the first n images instead of a balanced draw.

The leak of Table 3 is the distance to the n images that the density was fitted to, beside that to n
others, both of the training set, in the features of a small classifier.

    python3 dev.py bench protocol --folder runs/protocol
    python3 dev.py bench protocol --folder runs/protocol --seeds 0 --labels 100 --draws 1

A stopped command resumes.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lorae.data.datasets import Data
from lorae.metrics.features import as_bytes, extract_features
from lorae.metrics.probes import LabelledCodes, accuracies, balanced_subset, encode_labelled
from lorae.metrics.scores import compare_features
from lorae.metrics.subject import build_extractor
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.inference import decode_all, encode_all
from lorae.paper.common import MODELS
from lorae.paper.queue import Queue, load_data
from lorae.paper.recipe import Plan
from lorae.paper.scales import SCALES
from lorae.sampling.registry import fit_density
from lorae.utils.intervals import Interval

ROWS = ("AE", "VAE", "LoRAE")
SIZES = (2_000, 10_000, 30_000)
LOOKS, POOL = 50, 10_000
Figures = dict[str, float]


def head_figures(codes: dict[str, LabelledCodes], n: int, draw: int) -> Figures:
    """Return the accuracies, in percent, with each factor changed, for one draw of labels."""
    steps = 100 * max(10, n // 100)

    def along(drawn: LabelledCodes) -> list[float]:
        looks = accuracies(drawn, seed=draw, steps=steps, every=steps // LOOKS)
        return [100 * one for one in looks]

    drawn = codes["codes"].draw(n, draw)
    found = along(drawn)
    figures = {"all labels, last epoch": found[-1], "best epoch on the test set": max(found)}
    figures["raw codes"] = along(replace(codes["codes"], standardize=False).draw(n, draw))[-1]
    if "encoder" in codes:
        figures["E(x)"] = along(codes["encoder"].draw(n, draw))[-1]
    figures["first n images"] = along(codes["codes"].first(n))[-1]
    if n >= 2 * drawn.classes:
        held_out = torch.zeros(n, dtype=torch.bool)
        held_out[balanced_subset(drawn.train_labels, max(drawn.classes, n // 5), 0)] = True
        part = replace(
            drawn, train=drawn.train[~held_out], train_labels=drawn.train_labels[~held_out]
        )
        validation = replace(
            part, test=drawn.train[held_out], test_labels=drawn.train_labels[held_out]
        )
        tested, validated = along(part), along(validation)  # the same training twice
        figures["four fifths, last epoch"] = tested[-1]
        figures["four fifths, epoch chosen on the fifth"] = tested[validated.index(max(validated))]
    return figures


def leak_figures(model: Autoencoder, data: Data, n: int, seed: int) -> Figures:
    """Return the distances to the n images of the density's fit, and to n others."""
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
    fitted, others = (data.train[part] for part in (order[:n], order[n : 2 * n]))
    features = build_extractor("classifier", data)
    real = {
        name: extract_features(features, as_bytes(data.unit(images)), name)
        for name, images in (("fitted", fitted), ("others", others))
    }
    codes, figures = encode_all(model, fitted), {}
    for density in ("gaussian", "mixture-4"):
        new = fit_density(model, lambda: codes, density)
        sample = new.sample(n, torch.Generator().manual_seed(seed))
        made = extract_features(features, as_bytes(data.unit(decode_all(model, sample))), density)
        for name, part in real.items():
            scores = compare_features(part, made, features)
            figures[f"{density}, {name}"] = scores["classifier distance"]
    return figures


def measurements(
    arguments: argparse.Namespace,
) -> Iterator[tuple[str, str, int, int, int, Callable[[], Figures]]]:
    """Yield table, row, seed, draw and n of each measurement, and the function that makes it."""
    plan, queue = Plan(SCALES["cpu"], tuple(arguments.seeds)), Queue(Path(arguments.folder))
    for seed in plan.seeds:
        for row in ROWS:
            options = plan.options("MNIST", MODELS[row], seed)
            data = load_data(options)
            model = queue.train(options, data).model()
            assert data.train_labels is not None
            part = {"train": data.train[:POOL], "train_labels": data.train_labels[:POOL]}
            pool = replace(data, **part)
            inputs = ("codes", "encoder") if row == "LoRAE" else ("codes",)  # others have no M
            codes = {name: encode_labelled(model, pool, name) for name in inputs}
            for n in arguments.labels:
                for draw in range(seed * arguments.draws, (seed + 1) * arguments.draws):
                    yield "labels", row, seed, draw, n, partial(head_figures, codes, n, draw)
            for n in arguments.sizes:
                yield "leak", row, seed, 0, n, partial(leak_figures, model, data, n, seed)


def report(lines: list[dict[str, Any]]) -> None:
    """Print each figure of the first column, and the paired differences of the others."""
    tables: dict[tuple[str, str, int], dict[str, dict[int, list[float]]]] = {}
    for line in lines:
        place = tables.setdefault((line["table"], line["row"], line["n"]), {})
        for name, value in line["figures"].items():
            place.setdefault(name, defaultdict(list))[line["seed"]].append(value)
    for (table, row, n), figures in tables.items():
        print(f"{table}, {row}, n = {n:,}")
        for name, by_seed in figures.items():
            reference = _reference(table, name)
            values = {seed: sum(v) / len(v) for seed, v in by_seed.items()}
            text = f"  {name:42} {Interval(tuple(values.values()))}"
            if reference is not None:
                base = {s: sum(v) / len(v) for s, v in figures[reference].items()}
                change = Interval(tuple(values[s] - base[s] for s in values))
                half = "" if change.half_width is None else f" ± {change.half_width:.2f}"
                text += f"   {change.mean:+.2f}{half} to {reference}"
            print(text)


def _reference(table: str, name: str) -> str | None:
    """Return the figure that differs from a figure in one factor."""
    if table == "leak":
        return name.replace("others", "fitted") if "others" in name else None
    if name == "four fifths, epoch chosen on the fifth":
        return "four fifths, last epoch"
    return None if name == "all labels, last epoch" else "all labels, last epoch"


def main() -> None:
    """Measure what is missing, and print the differences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", default="runs/protocol")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--labels", type=int, nargs="*", default=[10, 100, 1000])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = Path(arguments.folder, "figures.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []
    done = {(one["table"], one["row"], one["seed"], one["draw"], one["n"]) for one in lines}
    for table, row, seed, draw, n, figures in measurements(arguments):
        if (table, row, seed, draw, n) not in done:
            place = {"table": table, "row": row, "seed": seed, "draw": draw, "n": n}
            lines.append(place | {"figures": figures()})
            with path.open("a") as file:
                print(json.dumps(lines[-1]), file=file)
    report(lines)


if __name__ == "__main__":
    main()
