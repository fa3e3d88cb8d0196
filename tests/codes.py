"""Codes of known distribution, for tests of densities."""

import torch
from torch import Tensor


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clusters(n: int, latent: int, rank: int, k: int = 3) -> torch.Tensor:
    """Return codes in k clusters on an affine subspace, float64."""
    draw = generator(1)
    centres = 6 * torch.randn(k, rank, generator=draw, dtype=torch.float64)
    chosen = torch.randint(k, (n,), generator=draw)
    u = centres[chosen] + torch.randn(n, rank, generator=draw, dtype=torch.float64)
    mixing = torch.randn(rank, latent, generator=draw, dtype=torch.float64)
    return u @ mixing + torch.arange(latent)


def codes_of_rank(
    rank: int, dimension: int, n: int = 300, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Codes in a random affine subspace, whose deviations span two orders of magnitude."""
    mixing = torch.randn(rank, dimension, generator=generator(1), dtype=torch.float64)
    spread = torch.logspace(0, -2, rank, dtype=torch.float64)
    plane = torch.randn(n, rank, generator=generator(2), dtype=torch.float64) * spread
    return (plane @ mixing + torch.arange(dimension)).to(dtype)
