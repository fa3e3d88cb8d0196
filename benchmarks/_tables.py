"""The tables of the benchmarks `estimator`, `dimension` and `anomaly`, from their measurements.

A difference between two methods is taken split by split. The splits share samples, so its variance
is that of the corrected resampled t-test (Nadeau and Bengio, Inference for the generalization
error, Machine Learning 52, 2003), for a quarter held out. A win or a loss is a difference whose 95%
interval excludes zero; with one or two splits, one of more than 3%.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from _cells import read
from _sets import SETS
from scipy.stats import t

OURS = ("ours",)
MARGIN = 0.03
LEAST = 1e-4  # losses below count as this much when methods are compared
PREFACE = """
Written by `python3 dev.py bench estimator --tables`; see `benchmarks/README.md` for the protocol. A
place is a set and a k. Wins and losses are differences over the splits that both were measured on,
beyond the 95% interval (with one or two splits, beyond 3%), where losses of less than 0.01% of the
variance count as that; ratios are ours divided by theirs. The best of the peers is the one with the
largest ratio. A figure of fewer splits than others of its row says how many in brackets.
"""
Values = dict[int, float]
"""A figure by split."""


def half_width(values: list[float], held: float = 0.25) -> float | None:
    """Return half the 95% interval of a mean over splits that share samples, None below three."""
    n = len(values)
    if n < 3:
        return None
    variance = np.var(values, ddof=1) * (1 / n + held / (1 - held))
    return float(t.ppf(0.975, n - 1) * variance**0.5)


def verdict(ours: Values, other: Values) -> str | None:
    """Return win, tie or loss of the first, or None if no split has both."""
    shared = sorted(ours.keys() & other.keys())
    if not shared:
        return None
    differences = [max(ours[split], LEAST) - max(other[split], LEAST) for split in shared]
    width = half_width(differences)
    if width is None:
        width = MARGIN * fmean(max(other[split], LEAST) for split in shared)
    mean = fmean(differences)
    return "tie" if abs(mean) <= width else "win" if mean < 0 else "loss"


def ratio(ours: Values, other: Values) -> float:
    """Return the ratio of the means over the splits that both have."""
    shared = ours.keys() & other.keys()
    means = (fmean(part[split] for split in shared) for part in (ours, other))
    first, second = (max(mean, LEAST) for mean in means)
    return first / second


def shown(values: Values, splits: int | None = None) -> str:
    """Return a mean with its interval, and the number of splits if it is not `splits`."""
    width, mean = half_width(list(values.values())), fmean(values.values())
    text = f"{mean:.3f}" if mean >= 0.001 or mean == 0 else f"{mean:.0e}"
    text += "" if width is None else f" ± {width:.3f}"
    return text if splits in (None, len(values)) else f"{text} ({len(values)})"


def markdown(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


class Measured:
    """Measurements of reconstruction, by set, k and method.

    Args:
        records: lines of peers.jsonl and ours.jsonl.
    """

    def __init__(self, records: list[dict[str, Any]]) -> None:
        self.records = [record for record in records if "lost" in record]
        self.peers = list(dict.fromkeys(r["method"] for r in self.records))
        self.peers = [name for name in self.peers if name not in OURS]

    def figure(self, name: str, half: str | None = None) -> dict[tuple, Values]:
        """Return a figure by (set, k, method) and split."""
        found: dict[tuple, Values] = defaultdict(dict)
        for r in self.records:
            if name in r and half in (None, SETS[r["set"]].half):
                found[r["set"], r["k"], r["method"]][r["split"]] = r[name]
        return found

    def places(self, half: str) -> list[tuple]:
        """Return (set, k, one of ours) wherever ours were measured."""
        return [place for place in self.figure("lost", half) if place[2] in OURS]

    def best_peer(self, half: str, place: tuple) -> tuple[str, Values] | None:
        """Return the peer whose loss is the least beside ours at a place."""
        lost = self.figure("lost", half)
        found = {peer: lost.get((*place[:2], peer), {}) for peer in self.peers}
        found = {
            peer: values for peer, values in found.items() if values.keys() & lost[place].keys()
        }
        return max(found.items(), key=lambda pair: ratio(lost[place], pair[1]), default=None)


def counts(measured: Measured, half: str) -> str:
    """Return the table of wins, ties and losses against each peer and the best one."""
    lost, seconds = measured.figure("lost", half), measured.figure("seconds", half)
    rows = []
    for peer in (*measured.peers, "the best of them"):
        verdicts, ratios, times = [], [], []
        for place in measured.places(half):
            if peer == "the best of them":
                best = measured.best_peer(half, place)
                if best is None:
                    continue
                name, other = best
            else:
                name, other = peer, lost.get((*place[:2], peer), {})
            found = verdict(lost[place], other)
            if found is None:
                continue
            verdicts.append(found)
            ratios.append(ratio(lost[place], other))
            taken = fmean(seconds[*place[:2], name].values())
            times.append(fmean(seconds[place].values()) / max(taken, 1e-3))
        if not verdicts:
            continue
        above = sum(value > 1 + MARGIN for value in ratios)
        tally = [verdicts.count(word) for word in ("win", "tie", "loss")]
        at_most = sum(value <= 1 for value in ratios)
        figures = (f"{at_most / len(ratios):.0%}", above, f"{median(ratios):.3f}",
                   f"{max(ratios):.2f}", f"{median(times):.2f}")  # fmt: skip
        rows.append([peer, len(verdicts), *tally, *figures])
    header = ("against", "places", "wins", "ties", "losses", "at or below", "over 3% above",
              "median ratio", "largest ratio", "time ratio")  # fmt: skip
    return markdown(header, rows)


def violations(measured: Measured, half: str) -> str:
    """Return where ours, or their first j codes alone, lose more than PCA or more than fewer do."""
    lost, first = measured.figure("lost", half), measured.figure("first", half)
    lines, nested, above = [], [0, 0], [0, 0]
    for place in measured.places(half):
        name, k, method = place
        pca = lost.get((name, k, "PCA"), {})
        if pca:
            found = verdict(lost[place], pca)
            above[1] += 1
            above[0] += found == "loss"
            if found == "loss":
                lines.append(f"- {name}, {method}, k = {k}: {shown(lost[place])}, PCA {shown(pca)}")
        largest = max(p[1] for p in measured.places(half) if p[0] == name and p[2] == method)
        if k != largest or place not in first:
            continue
        for split, alone in first[place].items():
            values = [(int(j), value) for j, value in alone.items()]
            values.append((k, lost[place][split]))
            last = float("inf")
            for j, value in sorted(values):
                pca_at = lost.get((name, j, "PCA"), {}).get(split)
                over = pca_at is not None and value > pca_at * (1 + 1e-3)
                nested[1] += 1
                nested[0] += over or value > last * (1 + 1e-3)
                last = value
    summary = (
        f"Above PCA beyond noise: {above[0]} of {above[1]} places. The first j codes of the "
        f"largest fit alone lose over 0.1% more than PCA with j, or than fewer codes: {nested[0]} "
        f"of {nested[1]} (set, j, split).\n"
    )
    return "\n".join([summary, *lines]) + "\n"


def losses(measured: Measured, half: str, figure: str) -> str:
    """Return a figure by set and k, of ours and every peer, the least of all splits in bold."""
    found = measured.figure(figure, half)
    rows = []
    for name, k in dict.fromkeys(place[:2] for place in found):
        methods = (*OURS, *measured.peers)
        cells = {m: found[name, k, m] for m in methods if (name, k, m) in found}
        splits = max(map(len, cells.values()))
        complete = [m for m, values in cells.items() if len(values) == splits]
        least = min(complete, key=lambda m: fmean(cells[m].values()))
        texts = {m: shown(values, splits) for m, values in cells.items()}
        texts[least] = f"**{texts[least]}**"
        rows.append([name, k, splits, *(texts.get(m, "-") for m in methods)])
    return markdown(("set", "k", "splits", *OURS, *measured.peers), rows)


def write_reconstruction(folder: Path) -> None:
    """Write reconstruction.md from peers.jsonl and ours.jsonl of a folder."""
    records = read(folder / "peers.jsonl") + read(folder / "ours.jsonl")
    measured = Measured(records)
    parts = ["# Held-out reconstruction at equal k\n", PREFACE]
    for half in ("tuning", "held"):
        parts += [f'## The half "{half}"\n', counts(measured, half)]
        parts += [violations(measured, half)]
        parts += ["Share of the held-out variance that is lost:\n", losses(measured, half, "lost")]
        parts += ["Error of 5 nearest neighbours:\n", losses(measured, half, "wrong")]
    failed = [r for r in records if "failed" in r]
    if failed:
        parts += ["## Failed\n", *(f"- {r['set']}, {r['method']}, k = {r['k']}, split "
                                   f"{r['split']}: {r['failed']}" for r in failed), ""]  # fmt: skip
    skipped: dict[str, set] = defaultdict(set)
    for r in records:
        if "skipped" in r:
            skipped[f"{r['method']}: {r['skipped']}"].add(r["set"])
    if skipped:
        parts += ["## Not run\n", *(f"- {why} ({', '.join(sorted(names))})"
                                    for why, names in skipped.items()), ""]  # fmt: skip
    (folder / "reconstruction.md").write_text("\n".join(parts))


def by(records: Iterable[dict[str, Any]], *names: str) -> dict[tuple, list[dict[str, Any]]]:
    """Return the successful records by some of their entries."""
    found: dict[tuple, list] = defaultdict(list)
    for record in records:
        if "failed" not in record:
            found[tuple(record[name] for name in names)].append(record)
    return found


def middle(values: list[int]) -> str:
    """Return the median and the middle 90%."""
    low, high = np.quantile(values, (0.05, 0.95))
    return f"{median(values):g} ({low:.3g} to {high:.3g})"


def write_dimension(folder: Path) -> None:
    """Write dimension.md from dimension.jsonl and stability.jsonl of a folder."""
    rows = []
    for (name,), found in by(read(folder / "dimension.jsonl"), "set").items():
        pairs = [record["interval"] for record in found]
        intervals = [pair for pair in pairs if pair]
        over = sum(record["lost"] >= record["lost_pca"] for record in found)
        mean = {key: fmean(r[key] for r in found) for key in
                ("lost", "lost_pca", "pca_95", "two_nn", "likelihood", "seconds")}  # fmt: skip
        said = "; ".join(sorted({text for record in found for text in record["said"]}))
        rows.append([
            name, found[0]["needs"] or "-", ", ".join(str(record["n"]) for record in found),
            ", ".join(f"{low}-{high}" for low, high in intervals) or "-",
            f"{mean['lost']:.4f}", f"{mean['lost_pca']:.4f}", f"{over} of {len(found)}",
            f"{mean['pca_95']:.1f}", f"{mean['two_nn']:.1f}", f"{mean['likelihood']:.1f}",
            f"{mean['seconds']:.0f}", said or "-",
        ])  # fmt: skip
    header = ("set", "needs", "auto, by seed", "interval", "lost", "PCA's with as many",
              "PCA as good", "PCA 95%", "TwoNN", "ML", "seconds", "warnings")  # fmt: skip
    stable = by(read(folder / "stability.jsonl"), "set", "variant")
    changed = [
        [name, variant, len(found), middle([record["n"] for record in found])]
        for (name, variant), found in stable.items()
    ]
    text = [
        '# The number of components that `"auto"` chooses\n',
        "Written by `python3 dev.py bench dimension --tables`.\n",
        markdown(header, rows),
        "## Seeds, resamples and changes of the samples\n",
        markdown(("set", "samples", "fits", "median (middle 90%)"), changed),
    ]
    (folder / "dimension.md").write_text("\n".join(text))


def write_anomaly(folder: Path) -> None:
    """Write anomaly.md from anomaly.jsonl of a folder."""
    rows = []
    for (name, method), found in by(read(folder / "anomaly.jsonl"), "set", "method").items():
        areas = [record["area"] for record in found]
        alarms = [record["alarms"] for record in found if record["alarms"] is not None]
        share = f"{fmean(alarms):.3f} ({min(alarms):.3f} to {max(alarms):.3f})" if alarms else "-"
        rows.append([name, method, len(found), shown(dict(enumerate(areas))), share])
    text = [
        "# Anomaly scores\n",
        "Written by `python3 dev.py bench anomaly --tables`.\n",
        markdown(("set", "method", "splits", "AUROC", "false alarms at 5%, mean and range"), rows),
    ]
    (folder / "anomaly.md").write_text("\n".join(text))
