"""Flows on codes that are not normal."""

import torch

from lorae.sampling.densities import Gaussian
from lorae.sampling.flows import Flow


def test_a_flow_is_more_likely_than_a_gaussian_where_codes_are_not_normal():
    u = torch.randn(1500, 2, generator=torch.Generator().manual_seed(0))
    banana = torch.stack([u[:, 0], u[:, 0] ** 2 + 0.2 * u[:, 1]], 1)
    flow, gaussian = Flow(epochs=15).fit(banana), Gaussian().fit(banana)
    gain = flow.log_prob(banana).mean() - gaussian.log_prob(banana).mean()
    assert gain.item() > 0.5
