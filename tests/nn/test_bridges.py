"""Every bridge is the affine map it says it is, and has the invariances of its method."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence
from zuko.distributions import NormalizingFlow

from lorae.errors import InputError
from lorae.linalg import spectral
from lorae.nn.bridges.base import NoBridge
from lorae.nn.bridges.data_space import DataSpace
from lorae.nn.bridges.linear_chain import LinearChain
from lorae.nn.bridges.low_rank import Factored, LowRank
from lorae.nn.bridges.posteriors import (
    FlowPosterior,
    GaussianPosterior,
    Posterior,
    TruncatedPosterior,
)
from lorae.nn.bridges.registry import BRIDGES
from lorae.nn.bridges.truncated_svd import TruncatedSVD

SIZES = (1, 2, 7)
MADE = {
    **BRIDGES,
    "flow": lambda latent: BRIDGES["flow"](max(latent, 2)),
    "truncated to half": lambda latent: TruncatedSVD(latent, rank=(latent + 1) // 2),
    "truncated gaussian to half": lambda latent: TruncatedPosterior(latent, rank=(latent + 1) // 2),
    "factored to half": lambda latent: Factored(latent, inner=(latent + 1) // 2),
    "chain of one": lambda latent: LinearChain(latent, depth=1),
    "chain of three": lambda latent: LinearChain(latent, depth=3),
}


def trained(name: str, latent: int):
    """Return a bridge with random weights that has seen batches of a certain mean and spread."""
    bridge = MADE[name](latent)
    with torch.no_grad():
        for parameter in bridge.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.2 if name == "flow" else 1))
    if isinstance(bridge, DataSpace):
        C, G = (A @ A.mT for A in torch.randn(2, latent, latent))
        bridge.regauge(torch.full((latent,), 2.0), C, G, torch.zeros(latent, latent))
    for _ in range(5):
        run(bridge.train(), 3 * torch.randn(20, bridge.inputs) + 2)
    return bridge


def run(bridge, e):
    """Return what a bridge makes of a batch in training."""
    return bridge.draw(e)[0] if isinstance(bridge, Posterior) else bridge(e)


@pytest.mark.parametrize("latent", SIZES)
@pytest.mark.parametrize("name", MADE)
class TestEveryBridge:
    def test_is_affine_in_evaluation(self, name, latent):
        bridge = trained(name, latent).double().eval()
        if name == "flow":
            with pytest.raises(InputError, match="must be affine to be folded, got a flow"):
                bridge.affine()
            return
        A, b = bridge.affine()
        e = torch.randn(10, bridge.inputs, dtype=torch.float64)
        assert A.shape == (latent, bridge.inputs)
        assert b.shape == (latent,)
        torch.testing.assert_close(bridge(e), e @ A.T + b)

    def test_has_a_matrix_that_is_its_map_in_the_units_of_its_statistics(self, name, latent):
        bridge = trained(name, latent).double().eval()
        M = bridge.matrix()
        if name == "flow":
            assert torch.equal(M, torch.eye(bridge.latent))
            return
        A, _ = bridge.affine()
        assert M.shape == (latent, bridge.inputs)
        if isinstance(bridge, DataSpace):
            M = bridge.scale @ M @ bridge.whiten
        torch.testing.assert_close(A, M)

    def test_has_finite_gradients(self, name, latent):
        bridge = trained(name, latent).train()
        e = torch.randn(8, bridge.inputs, requires_grad=True)
        (run(bridge, e).square().sum() + bridge.matrix().abs().sum()).backward()
        for tensor in (e, *bridge.parameters()):
            assert tensor.grad is not None
            assert tensor.grad.isfinite().all()

    def test_takes_the_type_and_an_empty_batch_in_evaluation(self, name, latent):
        bridge = trained(name, latent).eval()
        assert bridge(torch.zeros(0, bridge.inputs)).shape == (0, bridge.latent)
        if name != "flow":
            assert bridge.double().matrix().dtype == torch.float64

    def test_is_the_same_after_its_state_is_stored(self, name, latent):
        bridge, fresh = trained(name, latent).eval(), MADE[name](latent).eval()
        fresh.load_state_dict(bridge.state_dict())
        e = torch.randn(4, bridge.inputs)
        assert torch.equal(fresh(e), bridge(e))

    def test_has_orthonormal_directions_that_hold_its_codes(self, name, latent):
        bridge = trained(name, latent).eval()
        V = bridge.directions()
        torch.testing.assert_close(V.T @ V, torch.eye(V.shape[1]))
        z = bridge(torch.randn(20, bridge.inputs))
        torch.testing.assert_close(z @ V @ V.T, z)

    def test_states_the_least_batch_that_it_can_be_trained_on(self, name, latent):
        bridge = MADE[name](latent).train()
        e = torch.randn(bridge.min_batch_size, bridge.inputs)
        assert run(bridge, e).isfinite().all()
        if bridge.min_batch_size > 1:
            with pytest.raises(InputError, match="batch"):
                run(bridge, e[1:])


def test_no_bridge_has_nothing_to_store_or_train():
    bridge = NoBridge(4)
    assert not bridge.state_dict()
    assert not list(bridge.parameters())
    assert torch.equal(bridge.matrix(), torch.eye(4))


def test_a_matrix_starts_as_that_of_a_linear_layer():
    torch.manual_seed(1)
    bridge = LowRank(9)
    torch.manual_seed(1)
    assert torch.equal(bridge.weight, nn.Linear(9, 9, bias=False).weight)


@pytest.mark.parametrize("depth", [1, 2, 8])
def test_a_chain_is_the_product_of_its_layers(depth):
    bridge = LinearChain(5, depth).double()
    expected = torch.eye(5, dtype=torch.float64)
    for layer in bridge.layers:
        expected = layer.weight @ expected
    assert len(bridge.layers) == depth
    torch.testing.assert_close(bridge.matrix(), expected)
    e = torch.randn(3, 5, dtype=torch.float64)
    torch.testing.assert_close(bridge(e), e @ expected.T)


@pytest.mark.parametrize("depth", [0, -1])
def test_a_chain_without_layers_is_refused(depth):
    with pytest.raises(InputError, match=f"depth must be at least 1, got {depth}"):
        LinearChain(5, depth)


class TestFactored:
    @pytest.mark.parametrize("inner", [None, 5, 2, 1])
    def test_starts_as_the_low_rank_bridge_or_what_is_left_of_it(self, inner):
        torch.manual_seed(1)
        M = LowRank(5).weight.detach()
        torch.manual_seed(1)
        bridge = Factored(5, inner).double()
        expected = spectral.truncate(M.double(), 5 if inner is None else inner)
        torch.testing.assert_close(bridge.matrix(), expected, atol=1e-6, rtol=0)

    def test_has_the_nuclear_norm_for_a_penalty_at_balanced_factors_and_more_at_others(self):
        bridge = Factored(5, 3).double()
        norm = spectral.nuclear_norm(bridge.matrix())
        torch.testing.assert_close(bridge.penalty(), norm, atol=1e-6, rtol=0)
        for _ in range(5):
            change = torch.eye(3).double() + 0.3 * torch.randn(3, 3, dtype=torch.float64)
            with torch.no_grad():
                bridge.left.copy_(bridge.left @ change)
                bridge.right.copy_(bridge.right @ torch.linalg.inv(change).mT)
            torch.testing.assert_close(spectral.nuclear_norm(bridge.matrix()), norm)
            assert bridge.penalty() > norm

    @pytest.mark.parametrize("threshold", [0.0, 0.3, 1.5, 100.0])
    @pytest.mark.parametrize("inner", [6, 4, 1])
    @pytest.mark.parametrize("kind", ["random", "dead", "zero"])
    def test_shrinks_the_product_as_the_proximal_map_does(self, kind, inner, threshold):
        bridge = Factored(6, inner).double()
        with torch.no_grad():
            for factor in bridge.parameters():
                factor.copy_(torch.randn_like(factor) * (kind != "zero"))
                factor[:, 0] *= kind != "dead"
        before = bridge.matrix().detach()
        bridge.shrink(threshold)
        expected = spectral.soft_threshold(before, threshold)
        torch.testing.assert_close(bridge.matrix(), expected, atol=1e-12, rtol=0)

    def test_an_exact_rank_stays_where_directions_die(self):
        bridge = Factored(6, 4)
        third = spectral.singular_values(bridge.matrix().detach())[2]
        bridge.shrink(float(third) + 1e-4)
        sigma = torch.linalg.svdvals(bridge.matrix().detach().double())
        assert spectral.rank(sigma, 1e-6) == 2

    @pytest.mark.parametrize("inner", [0, 6])
    def test_refuses_a_number_of_columns_that_is_none(self, inner):
        with pytest.raises(
            InputError, match=f"inner must be .*at least 1 and at most 5, got {inner}"
        ):
            Factored(5, inner)


class TestDataSpace:
    """In float64, against matrices computed with NumPy."""

    @staticmethod
    def statistics():
        C, G = (A @ A.mT for A in torch.randn(2, 5, 5, dtype=torch.float64))
        return torch.randn(5, dtype=torch.float64), C, G

    def test_new_statistics_change_neither_the_codes_nor_the_rank(self):
        bridge = trained("data-space", 5).double()
        with torch.no_grad():
            bridge.weight.copy_(spectral.truncate(bridge.weight, 3))
        e = torch.randn(20, 5, dtype=torch.float64)
        before = bridge(e).detach()
        bridge.regauge(*self.statistics(), torch.zeros(5, 5))
        torch.testing.assert_close(bridge(e), before)
        assert torch.linalg.matrix_rank(bridge.matrix(), rtol=1e-9) == 3

    def test_a_change_of_its_inputs_changes_no_code(self):
        bridge, e = trained("data-space", 5).double(), torch.randn(20, 5, dtype=torch.float64)
        before, A = bridge(e).detach(), torch.randn(5, 5, dtype=torch.float64)
        bridge.change_inputs(A)
        torch.testing.assert_close(bridge(e @ A.mT), before)

    def test_singular_values_are_deviations_in_data_space(self):
        """The eigenvalues of Sigma A^T G A are their squares."""
        bridge = trained("data-space", 5).double()
        mean, C, G = self.statistics()
        C, G = C + torch.eye(5), G + torch.eye(5)  # no eigenvalue is raised
        bridge.regauge(mean, C, G, torch.zeros(5, 5))
        A = bridge.affine()[0].detach().numpy()
        squares = np.sort(np.linalg.eigvals(C.numpy() @ A.T @ G.numpy() @ A).real)[::-1]
        found = np.linalg.svd(bridge.matrix().detach().numpy(), compute_uv=False)
        np.testing.assert_allclose(found, np.sqrt(squares), rtol=1e-6)

    def test_a_change_of_basis_on_both_sides_changes_no_deviation(self):
        mean, C, G = self.statistics()
        R, S = torch.randn(2, 5, 5, dtype=torch.float64) + 3 * torch.eye(5)
        plain, mixed = DataSpace(5).double(), DataSpace(5).double()
        with torch.no_grad():  # the encoder gives R e, the bridge S R^-1, the decoder takes S^-1 z
            mixed.weight.copy_(S @ torch.linalg.inv(R))
        plain.regauge(mean, C, G, torch.zeros(5, 5))
        inverse = torch.linalg.inv(S)
        mixed.regauge(R @ mean, R @ C @ R.mT, inverse.mT @ G @ inverse, torch.zeros(5, 5))
        found, expected = (torch.linalg.svdvals(b.matrix().detach()) for b in (mixed, plain))
        torch.testing.assert_close(found[:3], expected[:3], rtol=1e-2, atol=0)

    def test_a_gradient_is_moved_to_the_new_units(self):
        """Of a function of A = T M W alone, it is the gradient by the new M."""
        bridge = trained("data-space", 5).double()
        target = torch.randn(5, 5, dtype=torch.float64)
        (bridge.affine()[0] * target).sum().backward()
        moved = bridge.regauge(*self.statistics(), bridge.weight.grad)
        bridge.weight.grad = None
        (bridge.affine()[0] * target).sum().backward()
        torch.testing.assert_close(moved, bridge.weight.grad)

    def test_directions_up_to_a_floor_count_in_training_only(self):
        bridge, e = trained("data-space", 5).double(), torch.randn(20, 5, dtype=torch.float64)
        U, sigma, Vh = torch.linalg.svd(bridge.weight.detach())
        whole = bridge.train()(e).detach()
        with torch.no_grad():
            bridge.set_deviations(U, sigma, Vh, floor=float(sigma[2]))
        assert torch.linalg.matrix_rank(bridge.matrix(), rtol=1e-9) == 2
        torch.testing.assert_close(bridge(e), whole)
        A, b = bridge.affine()
        torch.testing.assert_close(bridge.eval()(e), e @ A.mT + b)
        bridge.train().regauge(*self.statistics(), torch.zeros(5, 5))
        assert torch.linalg.matrix_rank(bridge.matrix(), rtol=1e-9) == 2
        assert torch.linalg.matrix_rank(bridge.training_matrix(), rtol=1e-9) == 5

    def test_computes_in_float32_under_autocast(self):
        bridge, e = trained("data-space", 3), (1000 + torch.randn(64, 3)).bfloat16()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = bridge(e)
        assert found.dtype == torch.float32
        assert torch.equal(found, bridge(e))


def varied(n: int, latent: int) -> torch.Tensor:
    """Return encoder outputs of clearly different spread in the directions of a rotation."""
    rotation = torch.linalg.qr(torch.randn(latent, latent))[0]
    return torch.randn(n, latent) * 2.0 ** -torch.arange(latent) @ rotation


class TestTruncated:
    @pytest.mark.parametrize("rank", [1, 3, 6])
    @pytest.mark.parametrize("n", [6, 40])
    def test_is_the_truncated_svd_of_the_batch(self, rank, n):
        e = varied(n, 6)
        U, sigma, Vh = np.linalg.svd(e.double().numpy(), full_matrices=False)
        expected = U[:, :rank] * sigma[:rank] @ Vh[:rank]
        found = TruncatedSVD(6, rank).train()(e)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)

    @pytest.mark.parametrize("kind", [TruncatedSVD, TruncatedPosterior])
    def test_uses_the_leading_directions_of_all_batches_at_inference(self, kind):
        e = varied(4000, 6)
        bridge = kind(6, 2, momentum=0.05)
        for batch in e.split(40):
            run(bridge.train(), batch)
        _, _, Vh = np.linalg.svd(e.double().numpy(), full_matrices=False)
        V = bridge.eval().directions().double().numpy()
        angles = np.linalg.svd(Vh[:2] @ V)[1]
        assert angles.min() > 0.99  # cosines; the average remembers 20 batches
        np.testing.assert_allclose(bridge.matrix().numpy(), V @ V.T, atol=1e-6)
        assert np.linalg.matrix_rank(bridge(e).numpy(), tol=1e-3) == 2

    @pytest.mark.parametrize("rank", [0, -1, 7])
    def test_refuses_a_rank_that_is_none(self, rank):
        with pytest.raises(
            InputError, match=f"rank must be .*at least 1 and at most 6, got {rank}"
        ):
            TruncatedSVD(6, rank)

    @pytest.mark.parametrize("momentum", [0.0, 1.1, float("nan")])
    def test_refuses_a_momentum_that_is_none(self, momentum):
        with pytest.raises(InputError, match=r"momentum must be .*greater than 0 and at most 1"):
            TruncatedSVD(6, 2, momentum)

    def test_the_posterior_has_the_coefficients_as_its_mean(self):
        bridge, e = TruncatedPosterior(6, 3).train(), varied(40, 6)
        with torch.no_grad():
            bridge.log_variance.weight.zero_()
            bridge.log_variance.bias.fill_(-60)  # no noise
        z, _ = bridge.draw(e)
        torch.testing.assert_close(z, TruncatedSVD(6, 3).train()(e), atol=1e-5, rtol=1e-4)


def posterior(bridge: FlowPosterior, e: torch.Tensor) -> NormalizingFlow:
    """Return q(z | x) by zuko's own class."""
    mean, log_variance, context = e.chunk(3, dim=1)
    base = Independent(Normal(mean, (log_variance / 2).exp()), 1)
    return NormalizingFlow(bridge.flow.transform(context), base)


class TestPosteriors:
    @pytest.mark.parametrize("latent", [1, 2, 5])
    def test_the_divergence_is_that_of_torch(self, latent):
        e = 2 * torch.randn(50, 2 * latent)
        q = Independent(Normal(e[:, :latent], (e[:, latent:] / 2).exp()), 1)
        p = Independent(Normal(torch.zeros(latent), torch.ones(latent)), 1)
        _, found = GaussianPosterior(latent).draw(e)
        torch.testing.assert_close(found, kl_divergence(q, p))

    def test_the_truncated_divergence_is_that_of_torch(self):
        bridge, e = TruncatedPosterior(5, 3).train(), varied(30, 5)
        _, found = bridge.draw(e)
        _, _, Vh = torch.linalg.svd(e, full_matrices=False)
        largest = Vh[:3].gather(1, Vh[:3].abs().argmax(1, keepdim=True))
        mean = e @ (Vh[:3] * largest.sign()).T
        q = Independent(Normal(mean, (bridge.log_variance(mean) / 2).exp()), 1)
        p = Independent(Normal(torch.zeros(3), torch.ones(3)), 1)
        torch.testing.assert_close(found, kl_divergence(q, p), rtol=1e-3, atol=1e-3)

    def test_draws_have_the_moments_of_the_posterior(self):
        e = torch.tensor([1.0, -2.0, math.log(4.0), math.log(0.25)]).expand(40_000, 4)
        z, _ = GaussianPosterior(2).draw(e)
        # five standard errors of 40,000 draws
        torch.testing.assert_close(z.mean(0), torch.tensor([1.0, -2.0]), atol=0.05, rtol=0)
        torch.testing.assert_close(z.std(0), torch.tensor([2.0, 0.5]), rtol=0.02, atol=0)

    def test_the_flows_density_integrates_to_one(self):
        bridge = BRIDGES["flow"](2, transforms=3)
        with torch.no_grad():
            for parameter in bridge.parameters():
                parameter.mul_(1.5)  # away from the identity
        e = torch.tensor([[0.3, -0.2, -1.0, -0.5, 0.7, -0.4]])
        axis = torch.linspace(-12, 12, 1001)
        grid = torch.cartesian_prod(axis, axis)
        with torch.no_grad():
            log_q = posterior(bridge, e).log_prob(grid)
            z, _ = bridge.draw(e.expand(20_000, 6))
        mass = log_q.double().exp().sum() * (axis[1] - axis[0]) ** 2
        assert mass.item() == pytest.approx(1, abs=1e-3)
        mean = (grid.double() * log_q.double().exp()[:, None]).sum(0) * (axis[1] - axis[0]) ** 2
        torch.testing.assert_close(z.double().mean(0), mean, atol=0.05, rtol=0)  # 5 errors

    def test_the_flows_cost_is_its_log_density_less_the_priors(self):
        bridge, e = BRIDGES["flow"](3), torch.randn(7, 9)
        z, cost = bridge.draw(e)
        expected = posterior(bridge, e).log_prob(z) - Normal(0, 1).log_prob(z).sum(1)
        torch.testing.assert_close(cost, expected, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((1,), "latent must be at least 2, got 1"),
            ((3, 0), "transforms must be at least 1, got 0"),
            ((3, 2, 0), "hidden must be at least 1, got 0"),
        ],
    )
    def test_a_flow_refuses_what_it_cannot_be(self, arguments, message):
        with pytest.raises(InputError, match=message):
            BRIDGES["flow"](*arguments)


@pytest.mark.parametrize("latent", SIZES)
@pytest.mark.parametrize("threshold", [0.0, 0.3, 100.0])
def test_shrinking_takes_a_threshold_from_every_singular_value(latent, threshold):
    bridge = LowRank(latent)
    U, sigma, Vh = np.linalg.svd(bridge.weight.detach().double().numpy())
    parameter = bridge.weight
    bridge.shrink(threshold)
    assert bridge.weight is parameter
    assert parameter.requires_grad
    assert parameter.grad_fn is None
    expected = U @ np.diag(np.maximum(sigma - threshold, 0)) @ Vh
    np.testing.assert_allclose(parameter.detach().numpy(), expected, atol=1e-6)
