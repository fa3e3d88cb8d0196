"""From a number, a share or "auto" to a trained model."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from lorae.estimator.fitting import fit_components
from lorae.estimator.networks import build_model
from lorae.estimator.training import Setting
from lorae.training.devices import single_process
from lorae.utils.seeding import temporary_seed


def fit(samples, n_components, largest=8, steps=100):
    setting = Setting(steps, 50, 3e-3, 0.2, 0, single_process("cpu"))
    with temporary_seed(0):
        return fit_components(
            n_components,
            largest,
            build=lambda part, latent: build_model(part, latent, width=0.25),
            samples=samples,
            setting=setting,
        )


def planes(n: int = 300) -> torch.Tensor:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 2)) @ rng.normal(size=(2, 9)) + 0.05 * rng.normal(size=(n, 9))
    return torch.from_numpy(X).float()


def test_a_number_is_taken_as_it_is():
    trained, interval, path = fit(planes(), 3)
    assert trained.model.bridge.latent == 3
    assert (interval, path) == ((3, 3), [])


def test_auto_finds_the_plane_and_reports_its_path():
    trained, interval, path = fit(planes(), "auto")
    assert trained.model.bridge.latent == 2
    assert interval[0] <= 2 <= interval[1]
    assert [point.rank for point in path] == list(range(1, 9))
    assert all(point.error <= 1.05 * point.pca_error for point in path)


def test_the_path_is_that_of_a_trained_model_even_up_to_all_values():
    t = 4 * torch.rand(300, 2, generator=torch.Generator().manual_seed(0)) - 2
    X = torch.cat([t, t.square(), t.sin()], 1)
    path = fit(X, 0.9, largest=6, steps=400)[2]
    assert path[-1].pca_error < 1e-4, "PCA loses nothing with as many components as values"
    assert path[1].error < 0.5 * path[1].pca_error


def test_a_share_is_kept_by_the_smallest_number():
    trained, _, path = fit(planes(), 0.9)
    count = trained.model.bridge.latent
    explained = {point.rank: 1 - point.error for point in path}
    assert explained[count] >= 0.9 * max(explained.values())
    assert all(explained[k] < 0.9 * max(explained.values()) for k in range(1, count))


def test_the_largest_number_is_warned_about():
    with pytest.warns(ConvergenceWarning, match="largest that is considered, 1"):
        fit(planes(), "auto", largest=1)
