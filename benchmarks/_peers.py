"""The methods that the estimator is compared with, each behind `fit`, `encode` and `decode`.

All see the same training samples. Those that train networks see them centred and divided by one
number, so that their error is PCA's error. Nothing here uses the package.
"""

import itertools
import logging
import math
import sys
import tempfile
import types
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import numpy as np
import torch
from sklearn.decomposition import PCA, KernelPCA
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPRegressor
from torch import Tensor, nn

Array = np.ndarray


class Principal:
    """scikit-learn's PCA."""

    def __init__(self, k: int, seed: int) -> None:
        self.model = PCA(k, random_state=seed)

    def fit(self, X: Array) -> None:
        self.model.fit(X)

    def encode(self, X: Array) -> Array:
        return self.model.transform(X)

    def decode(self, codes: Array) -> Array:
        return self.model.inverse_transform(codes)


class KernelPrincipal(Principal):
    """scikit-learn's kernel PCA with an RBF kernel and its learnt inverse.

    On at most 2,000 samples; of five widths and two penalties of the inverse, those with the least
    error on a fifth of them.
    """

    WIDTHS = (0.03, 0.1, 0.3, 1.0, 3.0)
    PENALTIES = (1e-3, 1e-1)

    def __init__(self, k: int, seed: int) -> None:
        self.k, self.seed = k, seed

    def fit(self, X: Array) -> None:
        X = X[np.random.default_rng(self.seed).permutation(len(X))[:2000]]
        self.mean = X.mean(0)
        inner, held = train_test_split(X - self.mean, test_size=0.2, random_state=self.seed)
        settings = [(width, penalty) for width in self.WIDTHS for penalty in self.PENALTIES]
        best = min(settings, key=lambda pair: self.error(inner, held, *pair))
        self.model = self.fitted(X - self.mean, *best)

    def fitted(self, X: Array, width: float, penalty: float) -> KernelPCA:
        gamma = width / X.var(0).sum()
        return KernelPCA(
            self.k, kernel="rbf", gamma=gamma, fit_inverse_transform=True, alpha=penalty,
            random_state=self.seed,
        ).fit(X)  # fmt: skip

    def error(self, X: Array, held: Array, width: float, penalty: float) -> float:
        model = self.fitted(X, width, penalty)
        return float(((model.inverse_transform(model.transform(held)) - held) ** 2).sum())

    def encode(self, X: Array) -> Array:
        return self.model.transform(X - self.mean)

    def decode(self, codes: Array) -> Array:
        return self.model.inverse_transform(codes) + self.mean


class Networks:
    """Centring and one scale around networks that a subclass trains."""

    def __init__(self, k: int, seed: int) -> None:
        self.k, self.seed = k, seed

    def fit(self, X: Array) -> None:
        self.mean = X.mean(0)
        self.unit = float(np.sqrt(((X - self.mean) ** 2).mean()))
        torch.manual_seed(self.seed)
        self.train(self.scaled(X))

    def scaled(self, X: Array) -> Tensor:
        return torch.tensor((X - self.mean) / self.unit, dtype=torch.float32)

    @torch.no_grad()
    def encode(self, X: Array) -> Array:
        return self.encoder(self.scaled(X)).double().numpy()

    @torch.no_grad()
    def decode(self, codes: Array) -> Array:
        decoded = self.decoder(torch.tensor(codes, dtype=torch.float32))
        return decoded.double().numpy() * self.unit + self.mean

    def train(self, x: Tensor) -> None:
        """Train `self.encoder` and `self.decoder`."""
        raise NotImplementedError


class Beside(nn.Module):
    """A linear map plus a network that starts at zero.

    Args:
        linear: in x out.
        network: whose last layer is set to zero.
        before: what its input is divided by.
        after: what its output is multiplied by.
    """

    def __init__(
        self, linear: Tensor, network: nn.Sequential, *, before: float = 1, after: float = 1
    ) -> None:
        super().__init__()
        self.linear, self.network = nn.Parameter(linear.clone()), network
        self.before, self.after = before, after
        nn.init.zeros_(network[-1].weight)
        nn.init.zeros_(network[-1].bias)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.linear + self.after * self.network(x / self.before)


def layers(inputs: int, outputs: int, width: int = 256) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.GELU(),
        nn.Linear(width, width), nn.GELU(),
        nn.Linear(width, outputs),
    )  # fmt: skip


class Plain(Networks):
    """The autoencoder of an afternoon: two layers of 256 GELU units each way.

    AdamW with weight decay 0.01, one cycle up to a learning rate of 3e-3, batches of 100.

    Args:
        k: number of codes.
        seed: of weights and batches.
        linear: whether principal components stand beside the networks.
        steps: of the cycle.
        early: whether a tenth of the training samples is held out, and the weights of the step with
            their least error are kept, of every 50th.
    """

    def __init__(
        self, k: int, seed: int, *, linear: bool, steps: int = 1000, early: bool = False
    ) -> None:
        super().__init__(k, seed)
        self.linear, self.steps, self.early = linear, steps, early

    def build(self, x: Tensor) -> None:
        d = x.shape[1]
        self.encoder, self.decoder = layers(d, self.k), layers(self.k, d)
        if self.linear:
            _, values, Vh = torch.linalg.svd(x, full_matrices=False)
            V = Vh[: self.k].T
            spread = float(values[: self.k].mean() / len(x) ** 0.5)
            self.encoder = Beside(V, self.encoder, after=spread)
            self.decoder = Beside(V.T, self.decoder, before=spread)

    def train(self, x: Tensor) -> None:
        held = x[:0]
        if self.early:
            order = torch.randperm(len(x))
            held, x = x[order[: len(x) // 10]], x[order[len(x) // 10 :]]
        self.build(x)
        both = nn.ModuleList([self.encoder, self.decoder])
        optimizer = torch.optim.AdamW(both.parameters(), 3e-3, weight_decay=0.01)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=self.steps)
        best, kept = math.inf, None
        for step in range(1, self.steps + 1):
            batch = x[torch.randint(len(x), (min(100, len(x)),))]
            optimizer.zero_grad()
            self.error(batch).backward()
            optimizer.step()
            cycle.step()
            if self.early and step % 50 == 0:
                with torch.no_grad():
                    error = float(self.error(held))
                if error < best:
                    best, kept = error, {n: w.clone() for n, w in both.state_dict().items()}
        if kept is not None:
            both.load_state_dict(kept)

    def error(self, x: Tensor) -> Tensor:
        return (self.decoder(self.encoder(x)) - x).square().mean()


class Regressor(Networks):
    """scikit-learn's MLPRegressor from samples to themselves, through hidden layers of 256, k, 256.

    Early stopping on a tenth of the training samples; of the activations relu and tanh the one with
    the better score on them.
    """

    def train(self, x: Tensor) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the limit of iterations
            models = [self.fitted(x, activation) for activation in ("relu", "tanh")]
        best = max(models, key=lambda model: model.best_validation_score_)
        activation = {"relu": nn.ReLU, "tanh": nn.Tanh}[best.activation]
        parts = []
        for weight, bias in zip(best.coefs_, best.intercepts_, strict=True):
            layer = nn.Linear(*weight.shape)
            layer.weight.data = torch.tensor(weight.T, dtype=torch.float32)
            layer.bias.data = torch.tensor(bias, dtype=torch.float32)
            parts += [layer, activation()]
        self.encoder, self.decoder = nn.Sequential(*parts[:4]), nn.Sequential(*parts[4:-1])

    def fitted(self, x: Tensor, activation: str) -> MLPRegressor:
        return MLPRegressor(
            hidden_layer_sizes=(256, self.k, 256), activation=activation, early_stopping=True,
            batch_size=min(100, len(x)), max_iter=min(400, 800_000 // len(x)),
            n_iter_no_change=20, tol=1e-5,
            random_state=self.seed,
        ).fit(x.numpy(), x.numpy())  # fmt: skip


class Pythae(Networks):
    """pythae's AE or beta-VAE with its default layers of 512, less the decoder's sigmoid.

    pythae's trainer with Adam at 1e-3, batches of 100 and 2,000 steps. beta is 0.1, because the
    likelihood otherwise has a variance of half a column's.

    Args:
        k: number of codes.
        seed: of weights and batches.
        variational: whether it is the beta-VAE.
    """

    def __init__(self, k: int, seed: int, *, variational: bool) -> None:
        super().__init__(k, seed)
        self.variational = variational

    def train(self, x: Tensor) -> None:
        from pythae.data.datasets import DatasetOutput
        from pythae.models import AE, AEConfig, BetaVAE, BetaVAEConfig
        from pythae.models.base.base_utils import ModelOutput
        from pythae.models.nn import BaseDecoder
        from pythae.trainers import BaseTrainer, BaseTrainerConfig

        k, d = self.k, x.shape[1]

        class Decoder(BaseDecoder):
            def __init__(self) -> None:
                super().__init__()
                self.layers = nn.Sequential(nn.Linear(k, 512), nn.ReLU(), nn.Linear(512, d))

            def forward(self, z: Tensor) -> ModelOutput:
                return ModelOutput(reconstruction=self.layers(z))

        class Rows(torch.utils.data.Dataset):
            def __len__(self) -> int:
                return len(x)

            def __getitem__(self, row: int) -> DatasetOutput:
                return DatasetOutput(data=x[row])

        if self.variational:
            model = BetaVAE(BetaVAEConfig((d,), k, beta=0.1), decoder=Decoder())
        else:
            model = AE(AEConfig((d,), k), decoder=Decoder())
        logging.disable()
        with tempfile.TemporaryDirectory() as folder, redirect_stderr(StringIO()):
            config = BaseTrainerConfig(
                output_dir=folder, learning_rate=1e-3, per_device_train_batch_size=100,
                num_epochs=math.ceil(2000 / math.ceil(len(x) / 100)), no_cuda=True,
            )  # fmt: skip
            BaseTrainer(model, Rows(), training_config=config).train()
        logging.disable(logging.NOTSET)
        model.eval()
        self.encoder = lambda part: model.encoder(part).embedding
        self.decoder = lambda codes: model.decoder(codes).reconstruction


class RankReduction(Networks):
    """RRAEsTorch's strong RRAE with its default layers, latent size 200.

    2,000 steps, then its 500 steps over a fixed basis, batches of 64 at 1e-3.
    """

    def train(self, x: Tensor) -> None:
        stand_in_for_torchvision()
        import RRAEsTorch.config  # noqa: F401 - sets the base class of its models
        from RRAEsTorch.AE_classes import RRAE_MLP
        from RRAEsTorch.training_classes import RRAE_Trainor_class

        with redirect_stdout(StringIO()):
            trainer = RRAE_Trainor_class(
                x, RRAE_MLP, in_size=x.shape[1], latent_size=200, k_max=self.k,
                kwargs_enc={}, kwargs_dec={},
            )  # fmt: skip
            size = min(64, len(x))
            trainer.fit(
                x, x, verbose=False,
                training_kwargs={"step_st": [2000], "batch_size_st": [size], "loss_type": "RRAE"},
                ft_kwargs={"step_st": [500], "batch_size_st": [size], "basis_batch_size": len(x)},
            )  # fmt: skip
        model = trainer.model
        self.encoder = lambda part: model.encode(part) @ model.basis
        self.decoder = lambda codes: model.decode(codes @ model.basis.T)


def stand_in_for_torchvision() -> None:
    """Let RRAEsTorch import `torchvision.ops.MLP`, all that it uses of a package we cannot have."""

    class MLP(nn.Sequential):
        def __init__(self, in_channels: int, hidden_channels: list[int]) -> None:
            sizes = [in_channels, *hidden_channels]
            parts = [
                part for pair in itertools.pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())
            ]
            super().__init__(*parts[:-1])

    if "torchvision" not in sys.modules:
        ops = types.ModuleType("torchvision.ops")
        ops.MLP = MLP
        package = types.ModuleType("torchvision")
        package.ops = ops
        sys.modules.update({"torchvision": package, "torchvision.ops": ops})


class Umap:
    """umap-learn with its inverse, which needs a triangulation and so few codes."""

    def __init__(self, k: int, seed: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from umap import UMAP
        self.model = UMAP(n_components=k, random_state=seed, n_jobs=1)

    def fit(self, X: Array) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model.fit(X)

    def encode(self, X: Array) -> Array:
        return self.model.transform(X)

    def decode(self, codes: Array) -> Array:
        return self.model.inverse_transform(codes)


PEERS: dict[str, Callable] = {
    "PCA": Principal,
    "plain": lambda k, seed: Plain(k, seed, linear=True),
    "plain, no path": lambda k, seed: Plain(k, seed, linear=False),
    "plain, early": lambda k, seed: Plain(k, seed, linear=True, steps=3000, early=True),
    "plain, 3,000": lambda k, seed: Plain(k, seed, linear=True, steps=3000),
    "kernel PCA": KernelPrincipal,
    "plain, no path, 3,000": lambda k, seed: Plain(k, seed, linear=False, steps=3000),
    "plain, no path, early": lambda k, seed: Plain(k, seed, linear=False, steps=3000, early=True),
    "MLPRegressor": Regressor,
    "pythae AE": lambda k, seed: Pythae(k, seed, variational=False),
    "pythae VAE": lambda k, seed: Pythae(k, seed, variational=True),
    "RRAEsTorch": RankReduction,
    "UMAP": Umap,
}
"""Peers by name, in the order in which they are run."""
