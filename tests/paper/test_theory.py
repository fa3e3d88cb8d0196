"""Algorithm 1, the constants of Theorem 1, and exponents."""

import math

import numpy as np
import pytest
import torch
from models import loss as loss_of
from models import make_objective
from scipy.stats import linregress

from lorae.errors import InputError
from lorae.paper.theory import algorithm_1, bound, curvature, fit_exponent, learning_rate


def smooth(x: torch.Tensor) -> torch.Tensor:
    """Return sum log cosh x: a gradient tanh x of entries below 1, with Lipschitz constant 1."""
    return (x.abs() + torch.log1p(torch.exp(-2 * x.abs())) - math.log(2)).sum()


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.9), (0.5, 0.0)])
@pytest.mark.parametrize("epsilon", [1e-8, 0.3])
def test_a_step_is_that_of_the_paper(betas, epsilon):
    start = np.array([1.5, -2.0, 0.25])
    x = torch.tensor(start, requires_grad=True)
    run = algorithm_1(lambda: smooth(x), [x], 20, 0.05, betas, epsilon)
    theta, m, v = start, np.zeros(3), np.zeros(3)
    for step in range(20):
        g = np.tanh(theta)
        assert run.losses[step].item() == pytest.approx(np.log(np.cosh(theta)).sum(), rel=1e-10)
        assert run.gradients[step].item() == pytest.approx(np.linalg.norm(g), rel=1e-10)
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        theta = theta - 0.05 * np.linalg.inv(np.diag(np.sqrt(v)) + epsilon * np.eye(3)) @ m
    np.testing.assert_allclose(x.detach().numpy(), theta, rtol=1e-9, atol=1e-12)
    assert run.least(1) == pytest.approx(np.linalg.norm(np.tanh(start)))
    assert run.least(20) == run.gradients.min()


def test_it_is_adam_but_for_the_bias_correction():
    x, y = (torch.tensor([1.5, -2.0], requires_grad=True) for _ in range(2))
    algorithm_1(lambda: smooth(x), [x], 1, 0.1)
    torch.optim.Adam([y], 0.1).step(lambda: smooth(y).backward())
    # The correction of the first step makes it g / |g|; without it, it is longer by this.
    factor = (1 - 0.9) / math.sqrt(1 - 0.999)
    moved, corrected = (p.detach() - torch.tensor([1.5, -2.0]) for p in (x, y))
    torch.testing.assert_close(moved, factor * corrected)


@pytest.mark.parametrize("epsilon", [0.1, 1.0])
@pytest.mark.parametrize("steps", [10, 100, 1000])
@pytest.mark.parametrize("size", [0.5, 5.0])
def test_the_bound_holds_where_its_assumptions_do(epsilon, steps, size):
    generator = torch.Generator().manual_seed(steps)
    x = torch.randn(4, generator=generator, dtype=torch.float64).mul_(size).requires_grad_()
    constants = {"gap": smooth(x).item(), "lipschitz": 1.0, "gradient": 2.0, "steps": steps}
    alpha = learning_rate(**constants, epsilon=epsilon)
    run = algorithm_1(lambda: smooth(x), [x], steps, alpha, (0.0, 0.999), epsilon)
    assert run.least(steps) <= bound(**constants, epsilon=epsilon)


def test_the_rate_is_the_best_of_the_inequality():
    gap, K, gamma, T, epsilon = 0.7, 3.0, 2.0, 50, 0.5
    delta = gamma / epsilon

    def right_side(alpha: float) -> float:
        return gap / (alpha * T) + K * alpha * delta**2 / 2

    best = learning_rate(gap, K, gamma, T, epsilon)
    assert all(right_side(best) < right_side(best * factor) for factor in (0.9, 1.1))
    squared = (gamma + epsilon) * right_side(best)
    assert bound(gap, K, gamma, T, epsilon) == pytest.approx(math.sqrt(squared))


@pytest.mark.parametrize("name", ["gap", "lipschitz", "gradient", "steps", "epsilon"])
@pytest.mark.parametrize("function", [learning_rate, bound])
def test_constants_must_be_positive(function, name):
    given = {"gap": 1.0, "lipschitz": 1.0, "gradient": 1.0, "steps": 1, "epsilon": 1.0}
    with pytest.raises(InputError, match=f"{name} must be greater than 0, got 0"):
        function(**given | {name: 0})


class TestCurvature:
    def test_is_the_norm_of_the_hessian(self):
        H = torch.randn(6, 6, dtype=torch.float64)
        H = H + H.mT
        x, y = (torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2))

        def quadratic() -> torch.Tensor:
            z = torch.cat([x, y])
            return z @ H @ z / 2

        norm = np.linalg.norm(H.numpy(), 2)
        assert curvature(quadratic, [x, y], 300) == pytest.approx(norm, rel=1e-6)
        few = [curvature(quadratic, [x, y], k, torch.Generator().manual_seed(k)) for k in (1, 2, 5)]
        assert max(few) <= norm * (1 + 1e-12)

    def test_of_lorae_is_what_differences_of_its_gradient_say(self):
        objective, x = make_objective("lorae", "vector", weight=0.1)
        objective, x = objective.double(), x.double()
        parameters = list(objective.parameters())
        found = curvature(lambda: loss_of(objective, x), parameters, 30)

        def gradient() -> torch.Tensor:
            whole = torch.autograd.grad(loss_of(objective, x), parameters)
            return torch.cat([g.flatten() for g in whole])

        quotients = []
        for _ in range(5):
            v = [torch.randn_like(p) for p in parameters]
            h = 1e-6 / math.sqrt(sum(float(d.square().sum()) for d in v))
            before = gradient()
            with torch.no_grad():
                torch._foreach_add_(parameters, v, alpha=h)
            quotients.append(float((gradient() - before).norm()) / 1e-6)
        assert 0 < max(quotients) <= found

    def test_of_a_line_is_zero(self):
        x = torch.ones(3, dtype=torch.float64, requires_grad=True)
        assert curvature((x.square() * 0.0).sum, [x]) == 0

    def test_needs_an_iteration(self):
        with pytest.raises(InputError, match="iterations must be at least 1, got 0"):
            curvature(lambda: torch.zeros(()), [], iterations=0)


@pytest.mark.parametrize("power", [-1.0, -0.25, 2.0])
@pytest.mark.parametrize("x", [[0.1, 1.0, 3.0, 40.0], [1.0, 10.0]])
def test_the_exponent_of_a_power_is_the_power(x, power):
    assert fit_exponent(x, [7 * v**power for v in x]) == pytest.approx(power)


def test_the_exponent_is_that_of_an_independent_implementation():
    rng = np.random.default_rng(0)
    x = np.exp(rng.normal(size=12))
    y = x**-0.7 * np.exp(0.3 * rng.normal(size=12))
    expected = linregress(np.log(x), np.log(y)).slope
    assert fit_exponent(x.tolist(), y.tolist()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("x", "y"),
    [([1.0], [1.0]), ([1.0, 1.0], [1.0, 2.0]), ([1.0, 2.0], [0.0, 1.0]), ([1, 2], [1])],
)
def test_an_exponent_needs_positive_numbers_that_differ(x, y):
    with pytest.raises(InputError, match="must be positive numbers"):
        fit_exponent(x, y)
