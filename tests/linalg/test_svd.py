"""Decompositions of matrices that LAPACK refuses."""

import pytest
import torch

from lorae.linalg.svd import nan_if_refused


def test_a_failure_on_finite_matrices_is_raised():
    def fails(_: torch.Tensor) -> tuple[torch.Tensor, ...]:
        raise torch.linalg.LinAlgError("did not converge")

    with pytest.raises(torch.linalg.LinAlgError, match="did not converge"):
        nan_if_refused(fails, torch.eye(3))
