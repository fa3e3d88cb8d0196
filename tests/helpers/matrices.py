"""The matrices on which laws of singular values are tested, and the tolerances.

Tolerances: a float64 SVD of matrices this small errs by about 1e-15 sigma_1, and every instance
has sigma_1 of order one, so 1e-12 leaves room for sums of products. For float32 the same reasoning
gives 1e-5.
"""

import numpy as np
import torch
from torch import Tensor

ATOL, ATOL32 = 1e-12, 1e-5


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def with_spectrum(values: list[float], m: int, n: int) -> Tensor:
    left = torch.linalg.qr(gaussian(m, len(values), seed=1)).Q
    right = torch.linalg.qr(gaussian(n, len(values), seed=2)).Q
    return left * torch.tensor(values, dtype=torch.float64) @ right.mT


MATRICES = {
    "square": gaussian(4, 4),
    "tall": gaussian(5, 3),
    "wide": gaussian(3, 5),
    "scalar": gaussian(1, 1),
    "batched": gaussian(2, 2, 3, 2),
    "rank-deficient": gaussian(5, 2) @ gaussian(2, 4, seed=3),
    "repeated": with_spectrum([3.0, 3.0, 1.0, 1.0], 5, 4),
    "repeated and zero": with_spectrum([3.0, 3.0, 1.0, 0.0, 0.0], 5, 5),
    "ill-conditioned": with_spectrum([1.0, 1e-3, 1e-6, 1e-9, 1e-12], 5, 6),
    "identity": torch.eye(4, dtype=torch.float64),
    "zero": torch.zeros(3, 4, dtype=torch.float64),
}
FULL_RANK = ["square", "tall", "wide", "scalar", "batched", "repeated", "identity"]


def close(actual: Tensor, expected: Tensor | np.ndarray | float, atol: float = ATOL) -> None:
    torch.testing.assert_close(
        actual, torch.as_tensor(expected, dtype=actual.dtype), rtol=0, atol=atol
    )


def matrices(A: Tensor) -> Tensor:
    """Flatten the batch."""
    return A.reshape(-1, *A.shape[-2:])
