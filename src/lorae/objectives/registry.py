"""The table of models: what each is made of, what it is for, and its settings."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lorae.errors import InputError, unknown
from lorae.nn.autoencoder import BRIDGES, Autoencoder
from lorae.objectives.base import AE, DecayedAE, FactoredLoRAE, LoRAE, Objective, ProximalLoRAE
from lorae.objectives.gan import GAN, LSGAN, NSGAN
from lorae.objectives.regularized import RAEGP, RAEL2, RAESN, WAE, LeastVolume, NestedDropout
from lorae.objectives.rrae import AdaptiveRRAE
from lorae.objectives.vae import VAE, BernoulliVAE


@dataclass(frozen=True)
class Method:
    """A row of the table of models.

    Args:
        objective: what is minimised.
        bridge: what it is meant to stand over, a name in `lorae.nn.autoencoder.BRIDGES`.
        summary: what the model is, in a line.
        purpose: what it is for.
        reference: where it comes from.
        traits: fields of :class:`lorae.Architecture` that the method asks for.
    """

    objective: type[Objective]
    bridge: str
    summary: str
    purpose: str = ""
    reference: str = ""
    traits: dict[str, bool] = field(default_factory=dict)

    @property
    def weight(self) -> float | None:
        """The default weight of the method's penalty, None where it has none."""
        return _defaults(self.objective).get("weight")

    @property
    def settings(self) -> dict[str, int | float | None]:
        """The further settings of objective and bridge, with their defaults.

        None stands for a default that depends on network or latent dimension.
        """
        return self._bridge_settings | self._objective_settings

    def told_settings(self) -> str:
        """Return the weight and the settings with their defaults, as a person reads them.

        Example:
            >>> METHODS["rae-l2"].told_settings()
            'weight 0.0001, smoothness 1e-07'
        """
        weight = {} if self.weight is None else {"weight": self.weight}
        told = {n: "auto" if v is None else f"{v:g}" for n, v in (weight | self.settings).items()}
        return ", ".join(f"{name} {value}" for name, value in told.items())

    def about(self) -> dict[str, Any]:
        """Return what is to be said of the method, as values that JSON can hold."""
        return {
            "summary": self.summary,
            "purpose": self.purpose,
            "reference": self.reference,
            "weight": self.weight,
            "settings": self.settings,
            "bridge": self.bridge,
        }

    def resolved(self, given: Mapping[str, int | float]) -> dict[str, int | float]:
        """Return all settings that have a number, those given in the type of their default.

        Raises:
            InputError: if there is no such setting, or it is not of that type.
        """
        defaults = {name: value for name, value in self.settings.items() if value is not None}
        return defaults | {name: self._read(name, value) for name, value in given.items()}

    def bridge_settings(self, settings: Mapping[str, int | float]) -> dict[str, int | float]:
        """Return those of the settings that are the bridge's."""
        return {name: settings[name] for name in self._bridge_settings if name in settings}

    def objective_for(
        self, model: Autoencoder, weight: float | None = None, **settings: float
    ) -> Objective:
        """Return the objective over a model, with its defaults where nothing is given.

        Raises:
            InputError: if a weight is given to a method that has none, or a value is out of range.
        """
        own: dict[str, Any] = {n: v for n, v in settings.items() if n in self._objective_settings}
        if weight is not None:
            if self.weight is None:
                raise InputError(
                    f"weight is not an option of {self.objective.__name__}, got {weight:g}"
                )
            own["weight"] = weight
        return self.objective(model, **own)

    @property
    def _bridge_settings(self) -> dict[str, int | float | None]:
        return _defaults(BRIDGES[self.bridge])

    @property
    def _objective_settings(self) -> dict[str, int | float | None]:
        return {n: v for n, v in _defaults(self.objective).items() if n != "weight"}

    def _read(self, name: str, value: float) -> int | float:
        if not self.settings:
            raise InputError(f"this model takes no settings, got {name!r}")
        if name not in self.settings:
            raise unknown("setting of the model", name, self.settings)
        if isinstance(self.settings[name], float):
            return float(value)
        if value != int(value):
            raise InputError(f"{name} must be an integer, got {value:g}")
        return int(value)


def _defaults(kind: type) -> dict[str, Any]:
    """Return the arguments of a constructor that have a default."""
    parameters = inspect.signature(kind).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


_PRIOR = {"prior": True}
_GAN = {"prior": True, "inverts": False}

METHODS: dict[str, Method] = {
    "ae": Method(
        AE,
        "none",
        "plain autoencoder",
        "the baseline: the least error, and a rank that fades out with no edge",
        "Rumelhart, Hinton and Williams 1986",
    ),
    "irmae": Method(
        AE,
        "chain",
        "implicit rank minimisation by a chain of linear layers",
        "a low rank with nothing to choose but the chain's depth, which is hard to choose",
        "Jing, Zbontar and LeCun, NeurIPS 2020, arXiv 2010.00679",
    ),
    "irmae-wd": Method(
        DecayedAE,
        "chain",
        "IRMAE with weight decay",
        "the dimension of data from dynamical systems; long training, a sharper edge than IRMAE's",
        "Zeng et al. 2023, arXiv 2305.01090",
    ),
    "lorae": Method(
        LoRAE,
        "low-rank",
        "the paper's low-rank autoencoder: nuclear norm of M",
        "the paper's results; the rank depends on threshold, weight and length of training",
        "Mazumder et al., WACV 2024, arXiv 2310.16194",
    ),
    "lorae-proximal": Method(
        ProximalLoRAE,
        "low-rank",
        "LoRAE by proximal steps: an exact rank",
        "a rank that is the same at every threshold, for the singular values become zeros",
        "this package; Combettes and Wajs 2005",
    ),
    "lorae-scale-free": Method(
        LoRAE,
        "scale-free",
        "LoRAE on M / ‖M‖_F, which no scaling of the networks evades",
        "a count of dimensions with a sharp edge, at little cost in error",
        "this package",
    ),
    "lorae-factored": Method(
        FactoredLoRAE,
        "factored",
        "LoRAE by the sum of squares of two factors of M",
        "the paper's penalty with no decomposition, for very large codes; another path to it",
        "Srebro, Rennie and Jaakkola, NeurIPS 2004",
    ),
    "rrae": Method(
        AE,
        "truncated",
        "truncated singular value decomposition of every batch's codes",
        "the best codes of a rank that you name",
        "Mounayer et al. 2024, arXiv 2405.13980",
    ),
    "rrae-adaptive": Method(
        AdaptiveRRAE,
        "truncated",
        "RRAE whose rank goes down while the error holds",
        "a rank found by the error it costs; needs long training",
        "Mounayer et al. 2024, arXiv 2405.13980",
    ),
    "vrrae": Method(
        VAE,
        "truncated-gaussian",
        "variational RRAE: noise on the leading coefficients",
        "sampling from a prior, in a space of a rank that you name",
        "Mounayer et al. 2025, arXiv 2505.09458",
        _PRIOR,
    ),
    "least-volume": Method(
        LeastVolume,
        "none",
        "small box of codes under a Lipschitz decoder",
        "codes whose coordinates are ordered by their deviation, the needless ones near 0",
        "Chen and Fuge, ICLR 2024, arXiv 2404.17773",
        {"lipschitz": True},
    ),
    "nested-dropout": Method(
        NestedDropout,
        "none",
        "codes cut at random lengths",
        "codes that may be cut at any length, as those of PCA",
        "Rippel, Gelbart and Adams, ICML 2014, arXiv 1402.0915",
    ),
    "vae": Method(
        VAE,
        "gaussian",
        "variational autoencoder, normal likelihood; weight is beta",
        "sampling from a prior, uncertainty of codes; blurred images",
        "Kingma and Welling, ICLR 2014, arXiv 1312.6114; Higgins et al., ICLR 2017",
        _PRIOR,
    ),
    "vae-bernoulli": Method(
        BernoulliVAE,
        "gaussian",
        "variational autoencoder, Bernoulli likelihood, as in the paper",
        "the paper's VAE; data from 0 to 1, such as pen strokes",
        "Kingma and Welling, ICLR 2014, arXiv 1312.6114",
        _PRIOR | {"probabilities": True},
    ),
    "vae-flow": Method(
        VAE,
        "flow",
        "variational autoencoder with a normalizing-flow posterior",
        "a posterior that need not be a box; slower, and not to be folded",
        "Rezende and Mohamed, ICML 2015, arXiv 1505.05770",
        _PRIOR,
    ),
    "wae": Method(
        WAE,
        "none",
        "Wasserstein autoencoder with the maximum mean discrepancy",
        "sampling from a prior with a deterministic encoder",
        "Tolstikhin et al., ICLR 2018, arXiv 1711.01558",
        _PRIOR,
    ),
    "rae-l2": Method(
        RAEL2,
        "none",
        "regularized autoencoder: small codes, small decoder weights",
        "sampling from a density fitted to the codes",
        "Ghosh et al., ICLR 2020, arXiv 1903.12436",
    ),
    "rae-gp": Method(
        RAEGP,
        "none",
        "regularized autoencoder: small codes, small slope of the decoder",
        "the same, with smoothness asked for directly; three times as slow",
        "Ghosh et al., ICLR 2020, arXiv 1903.12436",
    ),
    "rae-sn": Method(
        RAESN,
        "none",
        "regularized autoencoder: small codes, spectrally normal decoder",
        "the same, with smoothness built in",
        "Ghosh et al., ICLR 2020, arXiv 1903.12436",
        {"lipschitz": True},
    ),
    "gan": Method(
        GAN,
        "none",
        "generative adversarial network, the original game",
        "sampling only: it has no encoder, its codes are the critic's features",
        "Goodfellow et al., NeurIPS 2014, arXiv 1406.2661",
        _GAN,
    ),
    "ls-gan": Method(
        LSGAN,
        "none",
        "GAN with least squares",
        "sampling only; steadier than the original game",
        "Mao et al., ICCV 2017, arXiv 1611.04076",
        _GAN,
    ),
    "ns-gan": Method(
        NSGAN,
        "none",
        "GAN with the non-saturating loss",
        "sampling only; learns where the original game stalls",
        "Goodfellow et al., NeurIPS 2014, arXiv 1406.2661",
        _GAN,
    ),
}
"""Every model by the name that the command line takes."""


def method(name: str) -> Method:
    """Return the method of that name.

    Raises:
        InputError: if there is none, with the closest name.
    """
    if name not in METHODS:
        raise unknown("model", name, METHODS)
    return METHODS[name]
