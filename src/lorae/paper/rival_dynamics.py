r"""The dimension of the Kuramoto-Sivashinsky attractor at L = 22, which is 8.

    lorae reproduce rival-dynamics --scale cpu

Zeng et al. (arXiv 2305.01090) find it by IRMAE with weight decay, in float64, from 39,900 snapshots
and up to 1,000 epochs: the singular values of the codes drop by many orders after the eighth. Here
every low-rank method has 10,000 snapshots, the fully connected network and 20 latent dimensions.
The rank is that of the covariance of the test codes; the last two columns are the share of the
variance that is lost on test snapshots, with all codes and with the 8 principal directions of the
training codes.

Cost at the scale cpu: 12 trainings of 12,000 steps for each seed, about two process hours in all.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from lorae.nn.inference import decode_all, encode_all
from lorae.paper.common import rank_entries
from lorae.paper.queue import Cell, Result, load_data, measure
from lorae.paper.recipe import Entry, Image, Key, Page, Plan, Recipe, Table, values
from lorae.training.options import Options
from lorae.training.run_folder import Run
from lorae.utils.plots import Curve, plot_curves

DIMENSION, LATENT = 8, 20
_DATA = "kuramoto-sivashinsky"
_STEPS = {"smoke": 20, "cpu": 12_000, "paper": 100_000}
_THRESHOLDS = (1e-2, 1e-4, 1e-6)
_SHOWN = "LoRAE, proximal"  # the model whose snapshot is shown


class Row(NamedTuple):
    """A model of the table, with its settings and its weight if they are not the defaults."""

    model: str
    settings: Mapping[str, int] = {}
    weight: float | None = None


ROWS = {
    "AE": Row("ae"),
    "IRMAE": Row("irmae", {"depth": 4}),
    "IRMAE, weight decay": Row("irmae-wd", {"depth": 4}),
    "LoRAE": Row("lorae"),
    "LoRAE, 1e-4": Row("lorae", weight=1e-4),
    _SHOWN: Row("lorae-proximal"),
    "LoRAE, factored": Row("lorae-factored"),
    "LoRAE, data space": Row("lorae-data-space"),
    "RRAE, rank 8": Row("rrae", {"rank": DIMENSION}),
    "RRAE, adaptive": Row("rrae-adaptive", {"rank": LATENT}),
    "Least Volume": Row("least-volume"),
    "nested dropout": Row("nested-dropout"),
}


class RivalDynamics(Recipe):
    """Ranks of codes of a system whose dimension is known."""

    name = "rival-dynamics"
    title = "Rivals. The dimension of Kuramoto-Sivashinsky dynamics (Zeng et al., IRMAE-WD)"
    claim = "The rivals': IRMAE with weight decay finds the dimension 8 at L = 22."

    def cells(self, plan: Plan) -> dict[Key, Cell]:
        return {
            (name, seed): Cell(
                dimensions,
                {"kept": DIMENSION},
                Options(
                    data=_DATA,
                    model=row.model,
                    settings=dict(row.settings),
                    weight=row.weight,
                    network="mlp",
                    latent=LATENT,
                    steps=_STEPS[plan.scale.name],
                    seed=seed,
                ),
            )
            for seed in plan.seeds
            for name, row in ROWS.items()
        }

    def page(self, plan: Plan, found: Mapping[Key, Result]) -> Page:
        rows = {}
        for name in ROWS:
            place = (name,)
            rows[name] = rank_entries(found, place, plan.seeds, _THRESHOLDS) | {
                "lost %": Entry(values(found, place, plan.seeds, "lost")),
                "lost % at 8": Entry(values(found, place, plan.seeds, "lost_at_kept")),
            }
        verdicts = {name: _verdict(entries) for name, entries in rows.items()}
        columns = tuple(next(iter(rows.values())))
        table = Table("model", columns, rows, verdicts, _CAPTION)
        return Page([table], _pictures(plan, found))


_CAPTION = (
    "Rank: singular values of the covariance of 2,000 test codes above a share of the largest. "
    "Lost: percent of the variance of test snapshots. Means over the seeds and half the 95% "
    "interval."
)


def _verdict(entries: Mapping[str, Entry]) -> str:
    """Return at which thresholds every seed has the dimension."""
    ranks = {f"{t:.0e}": entries[f"rank at {t:.0e}"].measured for t in _THRESHOLDS}
    if not any(ranks.values()):
        return "not run"
    right = [t for t, found in ranks.items() if set(found) == {float(DIMENSION)}]
    return f"8 at {', '.join(right)}" if right else "no"


def _pictures(plan: Plan, found: Mapping[Key, Result]) -> Sequence[Sequence[Image]]:
    """Return the spectra of the first seed, and a snapshot with its reconstruction."""
    seed, curves = plan.seeds[0], []
    for style, name in enumerate(ROWS):
        sigma = found.get((name, seed), {}).get("covariance")
        if sigma:
            shares = [max(one / max(sigma), 1e-16) for one in sigma]
            curves.append(Curve(name, range(1, len(sigma) + 1), shares, style))
    images = []
    if curves:
        axes = ("index", "singular value / largest")
        plot = plot_curves(curves, axes, title="Covariance of the codes", log="y", integer="x")
        images.append(Image("rival-dynamics-spectrum.svg", plot, f"Spectra, seed {seed}"))
    if snapshot := found.get((_SHOWN, seed), {}).get("snapshot"):
        x = [22 * k / len(snapshot) for k in range(len(snapshot))]
        decoded = found[_SHOWN, seed]["reconstruction_at_kept"]
        pair = [Curve("snapshot", x, snapshot), Curve("from 8 codes", x, decoded, 1)]
        plot = plot_curves(pair, ("x", "u"), title=f"{_SHOWN}: a test snapshot")
        images.append(Image("rival-dynamics-snapshot.svg", plot, "A snapshot and its 8 codes"))
    return [images] if images else []


@measure("dimensions")
def dimensions(run: Run, *, kept: int) -> Result:
    """Return the spectrum of the codes and what is lost, with all codes and with some directions.

    The directions are the first principal ones of the training codes.
    """
    data, model = load_data(Options.from_dict(run.options)), run.model().double()
    fitted, codes = (encode_all(model, part.double()) for part in (data.train, data.test))
    mean = fitted.mean(0)
    _, _, Vh = torch.linalg.svd(fitted - mean, full_matrices=False)
    projected = mean + (codes - mean) @ Vh[:kept].mT @ Vh[:kept]
    x = data.test.double()
    spread = (x - data.train.double().mean(0)).square().sum()

    def lost(z: torch.Tensor) -> float:
        return 100 * float((decode_all(model, z) - x).square().sum() / spread)

    test: Result = run.last["test"]
    return {
        "covariance": test["covariance"],
        "lost": lost(codes),
        "lost_at_kept": lost(projected),
        "snapshot": x[0].flatten().tolist(),
        "reconstruction_at_kept": decode_all(model, projected[:1]).flatten().tolist(),
    }
