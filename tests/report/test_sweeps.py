"""The report of a sweep: one data set, with intervals over seeds and figures against the weight."""

import re
from pathlib import Path
from statistics import fmean, stdev

import pandas as pd
import pytest
import torch
from scipy.stats import t

from lorae import Run

pytest_plugins = ["commands"]


@pytest.fixture
def sweep(lorae):
    frame = pd.DataFrame(torch.randn(60, 4).numpy(), columns=list("abcd"))
    frame.to_csv("wine.csv", index=False)
    status, _, err = lorae(
        *("sweep", "--data", "wine.csv", "--steps", 4, "--width", 0.1, "--latent", 3),
        *("--seeds", 0, 1, 2, "--weights", 1e-3, 1e-2, "--processes", 1, "--out", "sweep"),
    )
    assert status == 0, err
    return Path("sweep")


def test_a_sweep_is_one_data_set_with_intervals_over_seeds(lorae, sweep):
    assert lorae("report", sweep, "--out", "page.html")[0] == 0
    page = Path("page.html").read_text()
    assert "6 runs on wine</h1>" in " ".join(page.split())
    table = page.partition('aria-label="Seeds and weights"')[2].partition("</table>")[0]
    cells = re.findall(r'<th scope="row">lorae</th>(.*?)</tr>', table)
    assert len(cells) == 2
    for weight, row in zip((1e-3, 1e-2), cells, strict=True):
        runs = [Run(sweep / f"weight-{weight}-seed-{seed}") for seed in range(3)]
        errors = [run.last["test"]["reconstruction"] for run in runs]
        half = t.ppf(0.975, 2) * stdev(errors) / 3**0.5
        assert f'<td class="n">{weight:g}</td><td class="n">3</td>' in row
        assert f"{fmean(errors):.4g} ± {half:.2g}" in row
    assert page.count("against λ") == 0  # in the plots, which are encoded
    assert re.search(r'alt="lorae at 0.001: test error [\d.]+ ± [\d.]+; lorae at 0.01:', page)
    assert "below are of weight-0.001-seed-0, weight-0.01-seed-0, whose test samples" in page


def test_runs_of_one_setting_have_no_such_section(lorae, sweep):
    assert lorae("report", sweep / "weight-0.001-seed-0", "--out", "page.html")[0] == 0
    assert "Seeds and weights" not in Path("page.html").read_text()
