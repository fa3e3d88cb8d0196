"""Every bridge is the affine map it says it is, and has the invariances of its method."""

import pytest
import torch
from torch import nn

from lorae.bridges import BRIDGES, LinearChain, LowRank, NoBridge, ScaleFree
from lorae.errors import InputError

SIZES = (1, 2, 7)
MADE = {
    **BRIDGES,
    "chain of one": lambda latent: LinearChain(latent, depth=1),
    "chain of three": lambda latent: LinearChain(latent, depth=3),
    "slow average": lambda latent: ScaleFree(latent, momentum=0.5, epsilon=1e-2),
}


def trained(name: str, latent: int):
    """Return a bridge with random weights that has seen batches of a certain mean and spread."""
    bridge = MADE[name](latent)
    with torch.no_grad():
        for parameter in bridge.parameters():
            parameter.copy_(torch.randn_like(parameter))
    for _ in range(5):
        bridge.train()(3 * torch.randn(20, latent) + 2)
    return bridge


@pytest.mark.parametrize("latent", SIZES)
@pytest.mark.parametrize("name", MADE)
class TestEveryBridge:
    def test_is_affine_in_evaluation(self, name, latent):
        bridge = trained(name, latent).double().eval()
        A, b = bridge.affine()
        e = torch.randn(10, latent, dtype=torch.float64)
        assert A.shape == (latent, latent)
        assert b.shape == (latent,)
        torch.testing.assert_close(bridge(e), e @ A.T + b)

    def test_has_a_matrix_that_is_its_map_but_for_the_scale_of_the_data(self, name, latent):
        bridge = trained(name, latent).double().eval()
        A, _ = bridge.affine()
        M = bridge.matrix()
        assert M.shape == (latent, latent)
        scales = (A / M)[0]  # one for each coordinate of e
        if not isinstance(bridge, ScaleFree):
            torch.testing.assert_close(A, M)
        else:
            torch.testing.assert_close(A, M * scales)
            assert (scales < 1).all()  # the data's spread is about 3

    def test_has_finite_gradients(self, name, latent):
        bridge = trained(name, latent).train()
        e = torch.randn(5, latent, requires_grad=True)
        (bridge(e).square().sum() + bridge.matrix().abs().sum()).backward()
        for tensor in (e, *bridge.parameters()):
            assert tensor.grad is not None
            assert tensor.grad.isfinite().all()

    def test_takes_the_type_and_an_empty_batch_in_evaluation(self, name, latent):
        bridge = trained(name, latent).eval()
        assert bridge(torch.zeros(0, latent)).shape == (0, latent)
        assert bridge.double().matrix().dtype == torch.float64

    def test_is_the_same_after_its_state_is_stored(self, name, latent):
        bridge, fresh = trained(name, latent).eval(), MADE[name](latent).eval()
        fresh.load_state_dict(bridge.state_dict())
        e = torch.randn(4, latent)
        assert torch.equal(fresh(e), bridge(e))


def test_no_bridge_has_nothing_to_store_or_train():
    bridge = NoBridge(4)
    assert not bridge.state_dict()
    assert not list(bridge.parameters())
    assert torch.equal(bridge.matrix(), torch.eye(4))


@pytest.mark.parametrize("kind", [LowRank, ScaleFree])
def test_a_matrix_starts_as_that_of_a_linear_layer(kind):
    torch.manual_seed(1)
    bridge = kind(9)
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


class TestScaleFree:
    """Neither the scale of the encoder nor that of the matrix reaches the code."""

    @pytest.mark.parametrize("factor", [1e-2, 0.5, 30, 1e4])
    def test_does_not_see_the_scale_of_its_matrix(self, factor):
        bridge = trained("scale-free", 6).double()
        e = torch.randn(20, 6, dtype=torch.float64)
        before, matrix = bridge(e).detach(), bridge.matrix().detach()
        with torch.no_grad():
            bridge.weight.mul_(factor)
        torch.testing.assert_close(bridge(e), before)
        torch.testing.assert_close(bridge.matrix(), matrix)
        assert torch.linalg.matrix_norm(bridge.matrix()).item() == pytest.approx(1)

    @pytest.mark.parametrize("factor", [0.5, 30, 1e4])
    def test_does_not_see_the_scale_or_origin_of_its_input(self, factor):
        bridge = ScaleFree(6, epsilon=0).double()
        e = torch.randn(20, 6, dtype=torch.float64)
        scales = factor * torch.tensor([1, 2, 3, 4, 5, 6])
        torch.testing.assert_close(bridge(scales * e + 10), bridge(e))

    def test_follows_the_statistics_as_batch_normalisation_does(self):
        bridge, norm = (
            ScaleFree(4, momentum=0.3).double(),
            nn.BatchNorm1d(4, momentum=0.3, affine=False),
        )
        norm.double()
        with torch.no_grad():
            bridge.weight.copy_(torch.eye(4))
        for count in (4, 9, 2):
            e = 5 * torch.randn(count, 4, dtype=torch.float64) - 3
            torch.testing.assert_close(bridge(e), norm(e) / 2)  # ||I||_F = 2
            torch.testing.assert_close(bridge.running_mean, norm.running_mean)
            # BatchNorm keeps the unbiased variance, this bridge the one it divides by.
            norm.running_var.sub_(0.3 * e.var(0, correction=1) - 0.3 * e.var(0, correction=0))
            torch.testing.assert_close(bridge.running_variance, norm.running_var)
        e = torch.randn(5, 4, dtype=torch.float64)
        torch.testing.assert_close(bridge.eval()(e), norm.eval()(e) / 2)

    def test_does_not_change_in_evaluation(self):
        bridge = trained("scale-free", 3).eval()
        before = {name: tensor.clone() for name, tensor in bridge.state_dict().items()}
        bridge(torch.randn(9, 3))
        assert all(
            torch.equal(tensor, before[name]) for name, tensor in bridge.state_dict().items()
        )

    def test_needs_two_samples_in_training_only(self):
        bridge = ScaleFree(3)
        with pytest.raises(InputError, match="batch of at least 2 samples, got 1"):
            bridge(torch.randn(1, 3))
        assert bridge.eval()(torch.randn(1, 3)).shape == (1, 3)

    def test_has_finite_gradients_where_a_coordinate_is_constant(self):
        bridge = ScaleFree(3)
        e = torch.randn(8, 3)
        e[:, 1] = 2.0
        e.requires_grad_()
        bridge(e).square().sum().backward()
        assert e.grad.isfinite().all()
        assert bridge.weight.grad.isfinite().all()

    def test_computes_in_float32_under_autocast(self):
        bridge = ScaleFree(3)
        e = (1000 + torch.randn(64, 3)).bfloat16()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            bridge(e)
        assert bridge.running_variance.dtype == torch.float32
        expected = 0.9 + 0.1 * e.float().var(0, correction=0)
        torch.testing.assert_close(bridge.running_variance, expected)
