"""The bridges by name."""

from collections.abc import Mapping
from typing import Any

from lorae.errors import unknown_name
from lorae.nn.bridges.base import Bridge, NoBridge
from lorae.nn.bridges.data_space import DataSpace
from lorae.nn.bridges.linear_chain import LinearChain
from lorae.nn.bridges.low_rank import Factored, LowRank
from lorae.nn.bridges.posteriors import FlowPosterior, GaussianPosterior, TruncatedPosterior
from lorae.nn.bridges.truncated_svd import TruncatedSVD

BRIDGES: dict[str, type[Bridge]] = {
    "none": NoBridge,
    "low-rank": LowRank,
    "factored": Factored,
    "chain": LinearChain,
    "data-space": DataSpace,
    "truncated": TruncatedSVD,
    "gaussian": GaussianPosterior,
    "flow": FlowPosterior,
    "truncated-gaussian": TruncatedPosterior,
}
"""The bridges under the names that :class:`lorae.Architecture` takes."""


def build_bridge(name: str, latent: int, settings: Mapping[str, Any]) -> Bridge:
    """Return a bridge with fresh weights."""
    if name not in BRIDGES:
        raise unknown_name("bridge", name, BRIDGES)
    return BRIDGES[name](latent, **settings)
