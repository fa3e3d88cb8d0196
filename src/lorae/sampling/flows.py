"""Normalizing flows, fitted to latent codes."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lorae.errors import InputError
from lorae.sampling.densities import Whitened, standard_normal
from lorae.utils.validation import check_range


class Flow(Whitened):
    """A neural spline flow, fitted by maximum likelihood with early stopping.

    Reference:
        Durkan et al., Neural Spline Flows (NeurIPS 2019). It needs the package zuko
        (`pip install 'lorae[flows]'`).

    Args:
        transforms: number of autoregressive layers, at least 1.
        hidden: width of the two hidden layers of each, at least 1.
        epochs: passes over the codes, at most; fitting stops after three without improvement on
            a held-out tenth of the codes.
        seed: of the weights and the batches.
    """

    def __init__(
        self, *, transforms: int = 3, hidden: int = 64, epochs: int = 30, seed: int = 0
    ) -> None:
        super().__init__()
        check_range("transforms", transforms, 1)
        check_range("hidden", hidden, 1)
        check_range("epochs", epochs, 1)
        self.transforms = transforms
        self.hidden = hidden
        self.epochs = epochs
        self.seed = seed

    def _fit(self, u: Float[Tensor, "n r"]) -> None:
        try:
            from zuko.flows import NSF
        except ImportError:
            raise InputError("a flow needs the package zuko: pip install 'lorae[flows]'") from None
        u = u.float().cpu()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            widths = (self.hidden, self.hidden)
            self.flow_ = NSF(u.shape[1], transforms=self.transforms, hidden_features=widths)
            self._train(u[torch.randperm(len(u))])

    def _train(self, u: Tensor) -> None:
        held_out, kept = u.tensor_split([len(u) // 10])
        optimizer = torch.optim.Adam(self.flow_.parameters(), 1e-3)
        best, weights, stale = torch.inf, self._weights(), 0
        for _ in range(self.epochs):
            for batch in torch.split(kept[torch.randperm(len(kept))], 256):
                loss = -self.flow_().log_prob(batch).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                now = float(-self.flow_().log_prob(held_out if len(held_out) else kept).mean())
            stale += 1
            if now < best:
                best, weights, stale = now, self._weights(), 0
            if stale >= 3:
                break
        self.flow_.load_state_dict(weights)

    def _weights(self) -> dict[str, Any]:
        return {name: tensor.clone() for name, tensor in self.flow_.state_dict().items()}

    @torch.no_grad()
    def _sample(self, n: int, generator: torch.Generator | None) -> Float[Tensor, "n r"]:
        g = standard_normal((n, self.rank), generator, torch.float32).cpu()
        u: Tensor = self.flow_().transform.inv(g)
        return u

    @torch.no_grad()
    def _log_prob(self, u: Float[Tensor, "n r"]) -> Float[Tensor, " n"]:
        logarithm: Tensor = self.flow_().log_prob(u.float().cpu())
        return logarithm
