r"""Two-parameter curves of the RRAE paper, with the error of interpolated codes.

    lorae reproduce rival-curves --scale cpu

Mounayer et al., Rank Reduction Autoencoders (arXiv 2405.13980): an encoder of one and a decoder of
six hidden layers of 64 units with softplus, a latent space of 2,800 dimensions, longer than the
samples on purpose. Training samples are curves on a grid of parameters; a test sample is decoded
from the bilinear interpolation of the four training codes around its parameters, 1,000 of them at
random inside the grid. Errors are :math:`100 \|\hat x - x\| / \|x\|` over all samples together.

The published figures are from AdaBelief on that relative error. Here all models minimise the mean
squared error, scaled by one number, by Adam in 6,000 batches of 20 with a learning rate that falls
from 1e-3 to 0 along a cosine, so weights are not comparable with theirs. Penalties begin after a
third of the steps: a direction that is removed before the networks have learnt it does not return.

The layers beside the code have 64 units, so of M only a 64 x 64 block matters. The rows "64 of
2,800" restrict M to :math:`Q M' Q^\top` with fixed orthonormal columns Q of 2,800 x 64, which has
the same singular values as M'; the codes stay 2,800 long. An RRAE's batch is decomposed after
:math:`Q^\top`.

Cost at the scale cpu: about five process hours on one core, most of them for the square matrices of
2,800 x 2,800.
"""

import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor, nn

from lorae.data.arrays import Array
from lorae.data.simulations import FAMILIES
from lorae.linalg import spectral
from lorae.nn.autoencoder import Autoencoder
from lorae.nn.blocks import dense
from lorae.nn.inference import decode_all, encode_all
from lorae.nn.wrapping import wrap
from lorae.objectives.base import AE, Objective
from lorae.objectives.registry import METHODS
from lorae.paper.queue import Cell, Result, measure
from lorae.paper.recipe import Entry, Key, Page, Plan, Recipe, Table, values
from lorae.training.loop import Stepper, optimize
from lorae.training.options import OptimizerOptions

LATENT, HIDDEN = 2800, 64
STEPS, BATCH, RATE = 6000, 20, 1e-3
_TESTS = 1000
_TOLERANCE = 1e-6  # relative, of the singular values that make the rank exact
_SQUARE = ("irmae", "lorae", "lorae-factored")  # with matrices of latent x latent
_BEST = {"sines": 12.83, "gaussians": 8.75}  # the least published test errors


class Row(NamedTuple):
    """A model of the table.

    Args:
        model: its name in the package.
        weight: lambda, if it has one.
        settings: further ones.
        inner: the number of columns of Q, None for a square M.
        published: train and test errors by family, by the authors.
        seconds: likewise.
    """

    model: str
    weight: float | None = None
    settings: Mapping[str, int] = {}
    inner: int | None = None
    published: Mapping[str, tuple[float, float]] = {}
    seconds: float | None = None


_RRAE = {"sines": (6.33, 12.83), "gaussians": (4.46, 8.75)}
_IRMAE = {"sines": (6.95, 17.35), "gaussians": (4.68, 13.93)}
_LORAE = {"sines": (5.40, 13.83), "gaussians": (3.03, 9.39)}
ROWS = {
    "AE, code of 2": Row("ae"),
    "AE": Row("ae"),
    "RRAE, rank 2, 64 of 2,800": Row("rrae", None, {"rank": 2}, HIDDEN, _RRAE, 1.61),
    "RRAE, adaptive, 64 of 2,800": Row("rrae-adaptive", None, {"rank": 8}, HIDDEN),
    "IRMAE, depth 2": Row("irmae", None, {"depth": 2}, None, _IRMAE, 3.6),
    "LoRAE, 1e-3": Row("lorae", 1e-3, published=_LORAE, seconds=420.4),
    "LoRAE, factored, 1e-3": Row("lorae-factored", 1e-3),
    "LoRAE, 1e-3, 64 of 2,800": Row("lorae", 1e-3, inner=HIDDEN),
    "LoRAE, proximal, 0.3, 64 of 2,800": Row("lorae-proximal", 0.3, inner=HIDDEN),
    "LoRAE, proximal, 0.6, 64 of 2,800": Row("lorae-proximal", 0.6, inner=HIDDEN),
    "LoRAE, proximal, 1, 64 of 2,800": Row("lorae-proximal", 1.0, inner=HIDDEN),
    "LoRAE, proximal, 1.5, 64 of 2,800": Row("lorae-proximal", 1.5, inner=HIDDEN),
    "LoRAE, data space, 3e-3, 64 of 2,800": Row("lorae-data-space", 3e-3, inner=HIDDEN),
}


class RivalCurves(Recipe):
    """The RRAE paper's table of two-parameter curves."""

    name = "rival-curves"
    title = "Rivals. Two-parameter curves (Mounayer et al., RRAE)"
    claim = (
        "The rivals': an RRAE has the least test error, 8.75 % on Gaussians; LoRAE has 9.39 % at "
        "no definite rank, and takes 420.4 s for 100 batches at 2,800 latent dimensions."
    )

    def cells(self, plan: Plan) -> dict[Key, Cell]:
        small = plan.scale.name == "smoke"
        size = {"latent": 40, "steps": 12} if small else {"latent": LATENT, "steps": STEPS}
        return {
            (family, name, seed): Cell(fit_curves, _settings(family, name, size) | {"seed": seed})
            for square in (False, True)
            for seed in plan.seeds
            for family in FAMILIES
            for name, row in ROWS.items()
            if square == (row.inner is None and row.model in _SQUARE)
        }

    def page(self, plan: Plan, found: Mapping[Key, Result]) -> Page:
        tables = []
        for family in FAMILIES:
            rows = {name: _entries(found, family, name, plan) for name in ROWS}
            verdicts = {name: _verdict(family, entries) for name, entries in rows.items()}
            columns = ("train %", "test %", "rank", "s per 100 batches")
            tables.append(Table(family, columns, rows, verdicts, _CAPTION))
        return Page(tables)


_CAPTION = (
    "Relative errors of the training curves and of test curves decoded from interpolated codes, "
    "the number of singular values of the centred training codes above 1e-6 of the largest, and "
    "processor seconds of one core; means over the seeds and half the 95% interval, in brackets "
    "the published figure. The last column says whether the test error is below the least "
    "published one, the rank is 2 for every seed, and 100 batches take less than 10 s."
)


def _settings(family: str, name: str, size: Mapping[str, int]) -> dict[str, Any]:
    row = ROWS[name]
    latent = 2 if name == "AE, code of 2" else size["latent"]
    inner = None if row.inner is None else min(row.inner, latent)
    return {
        "family": family,
        "model": row.model,
        "weight": row.weight,
        "settings": dict(row.settings),
        "latent": latent,
        "inner": inner,
        "steps": size["steps"],
    }


def _entries(found: Mapping[Key, Result], family: str, name: str, plan: Plan) -> dict[str, Entry]:
    row, place = ROWS[name], (family, name)
    train, test = row.published.get(family, (None, None))
    published = {"train %": train, "test %": test, "s per 100 batches": row.seconds}
    paths = {"train %": "train", "test %": "test", "rank": "rank", "s per 100 batches": "seconds"}
    return {
        column: Entry(values(found, place, plan.seeds, path), published.get(column))
        for column, path in paths.items()
    }


def _verdict(family: str, entries: Mapping[str, Entry]) -> str:
    error, rank, seconds = (entries[column] for column in ("test %", "rank", "s per 100 batches"))
    if error.interval is None or seconds.interval is None:
        return "not run"
    answers = {
        f"below {_BEST[family]} %": error.interval.mean < _BEST[family],
        "rank 2": set(rank.measured) == {2.0},
        "under 10 s": seconds.interval.mean < 10,
    }
    return ", ".join(f"{name}: {'yes' if holds else 'no'}" for name, holds in answers.items())


@measure("two-parameter-curves")
def fit_curves(*, family: str, steps: int, seed: int, **fields: Any) -> Result:
    """Train a model on a grid of curves, and return errors, rank and seconds."""
    of = FAMILIES[family]
    axes = [np.linspace(*limits, of.side) for limits in of.ranges]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    lows, highs = zip(*of.ranges, strict=True)
    tests = np.random.default_rng(0).uniform(lows, highs, (_TESTS, 2))
    x, unseen = (
        torch.tensor(of.curves(*places.T), dtype=torch.float32) for places in (grid, tests)
    )
    torch.manual_seed(seed)
    start = time.process_time()
    trained = _train(x, steps, seed, **fields)
    seconds = time.process_time() - start
    codes = encode_all(trained, x)
    between = interpolate_grid(codes.double(), axes, tests)
    sigma = torch.linalg.svdvals((codes - codes.mean(0)).double())
    return {
        "train": relative_error(decode_all(trained, codes), x),
        "test": relative_error(decode_all(trained, between.to(codes)), unseen),
        "encoded": relative_error(decode_all(trained, encode_all(trained, unseen)), unseen),
        "rank": int(spectral.rank(sigma, _TOLERANCE)),
        "sigma": (sigma / sigma[0].clamp(min=1e-30))[:20].tolist(),
        "seconds": 100 * seconds / steps,
    }


def _train(
    x: Tensor,
    steps: int,
    seed: int,
    *,
    model: str,
    weight: float | None,
    settings: Mapping[str, int],
    latent: int,
    inner: int | None,
) -> Autoencoder:
    row = METHODS[model]
    resolved = row.resolve_settings(settings)
    mean = x.mean(0)
    wrapped = wrap(
        *networks(x.shape[1], latent, inner),
        bridge=row.bridge,
        settings=row.bridge_settings(resolved),
        sample=x[:2],
        shift=mean,
        scale=float((x - mean).square().mean().sqrt()),
    )
    objective = row.build_objective(wrapped, row.weight if weight is None else weight, **resolved)
    generator = torch.Generator().manual_seed(seed)

    def train(objective: Objective, first: int, end: int) -> None:
        stepper = Stepper(
            objective, OptimizerOptions(learning_rate=RATE), Fabric(accelerator="cpu")
        )
        for _ in optimize(
            stepper,
            lambda _: x[torch.randint(len(x), (BATCH,), generator=generator)],
            end - first,
            lambda step: (1 + math.cos(math.pi * (step + first) / steps)) / 2,
        ):
            pass

    alone = steps // 3 if weight else 0
    if alone:
        train(AE(wrapped), 0, alone)
    train(objective, alone, steps)
    return wrapped.eval()


def networks(
    values: int, latent: int, inner: int | None = None
) -> tuple[nn.Sequential, nn.Sequential]:
    """Return the authors' networks, with a projection to `inner` dimensions and back at the code.

    The projection has fixed orthonormal columns Q: e -> Q^T e, and z -> Q z.
    """
    sizes = (values, HIDDEN, latent), (latent, *[HIDDEN] * 6, values)
    encoder, decoder = (nn.Sequential(*dense(*s, activation=nn.Softplus)) for s in sizes)
    if inner is not None:
        Q = torch.linalg.qr(torch.randn(latent, inner)).Q
        encoder.append(_fixed(Q.mT))
        decoder.insert(0, _fixed(Q))
    return encoder, decoder


def _fixed(matrix: Tensor) -> nn.Linear:
    layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False)
    layer.weight = nn.Parameter(matrix.contiguous(), requires_grad=False)
    return layer


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return 100 ||found - expected|| / ||expected||."""
    return 100 * float((found - expected).norm() / expected.norm())


def interpolate_grid(
    codes: Float[Tensor, "n l"], axes: list[Array], places: Array
) -> Float[Tensor, "m l"]:
    """Return codes on a grid of two parameters, bilinearly interpolated at other parameters."""
    grid = codes.reshape(len(axes[0]), len(axes[1]), -1)
    corners = []
    for axis, at in zip(axes, places.T, strict=True):
        k = np.clip(np.searchsorted(axis, at) - 1, 0, len(axis) - 2)
        share = torch.from_numpy((at - axis[k]) / (axis[k + 1] - axis[k])).to(codes)[:, None]
        corners.append(((k, 1 - share), (k + 1, share)))
    parts = [grid[i, j] * u * v for i, u in corners[0] for j, v in corners[1]]
    return torch.stack(parts).sum(0)
