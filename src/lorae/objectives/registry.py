"""The methods: what each is made of, what it is for, and its settings.

A method is an objective over a bridge. The table is plain data, and the objective's class is
imported when it is used: names and settings can be listed and checked without importing torch.
"""

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lorae.errors import InputError, unknown_name
from lorae.utils.validation import check_range

if TYPE_CHECKING:
    from lorae.nn.autoencoder import Autoencoder
    from lorae.objectives.base import Objective

Number = int | float


@dataclass(frozen=True)
class Setting:
    """A number that a method takes: its default and its range.

    Args:
        default: None if it depends on the network or the latent dimension.
        low: the smallest value.
        high: the largest value; None where there is no fixed limit.
        open_low: exclude `low` itself.
        open_high: exclude `high` itself.
        integer: whether the number is whole.
    """

    default: Number | None
    low: float = 0
    high: float | None = None
    open_low: bool = False
    open_high: bool = False
    integer: bool = False

    def read(self, name: str, value: Number) -> Number:
        """Return a value in the type of the setting."""
        check_range(
            name, value, self.low, self.high, open_low=self.open_low, open_high=self.open_high
        )
        if not self.integer:
            return float(value)
        if value != int(value):
            raise InputError(f"{name} must be an integer, got {value:g}")
        return int(value)


def _count(default: int | None) -> Setting:
    return Setting(default, low=1, integer=True)


_MOMENTUM = Setting(0.1, high=1, open_low=True)
_TRUNCATED = {"rank": _count(None), "momentum": _MOMENTUM}
_BRIDGE_SETTINGS: dict[str, dict[str, Setting]] = {
    "chain": {"depth": _count(4)},
    "factored": {"inner": _count(None)},
    "truncated": _TRUNCATED,
    "truncated-gaussian": _TRUNCATED,
    "flow": {"transforms": _count(4), "hidden": _count(64)},
}


@dataclass(frozen=True, kw_only=True)
class Method:
    """A row of the table of methods.

    Args:
        objective: the class of what is minimised, as "module:name".
        bridge: the bridge that it is meant for, a name in `lorae.nn.bridges.registry.BRIDGES`.
        summary: what the method is, in a line.
        purpose: what it is for.
        reference: where it comes from.
        weight: the default weight of its penalty; None if it has none.
        objective_settings: the further arguments of the objective.
        traits: fields of :class:`lorae.Architecture` that the method needs.
        precision: the default arithmetic of its training.
        bfloat16: whether `benchmarks/precision.py` found that training in bfloat16 changes rank and
            error less than the seed does.
    """

    objective: str
    bridge: str
    summary: str
    purpose: str = ""
    reference: str = ""
    weight: float | None = None
    objective_settings: Mapping[str, Setting] = field(default_factory=dict)
    traits: Mapping[str, bool] = field(default_factory=dict)
    precision: str = "32-true"
    bfloat16: bool = False

    @property
    def settings(self) -> dict[str, Setting]:
        """The settings of the bridge and of the objective, by name."""
        return {**_BRIDGE_SETTINGS.get(self.bridge, {}), **self.objective_settings}

    def format_settings(self) -> str:
        """Return the weight and the settings with their defaults as one line.

        Example:
            >>> METHODS["rae-l2"].format_settings()
            'weight 0.0001, smoothness 1e-07'
        """
        weight = {} if self.weight is None else {"weight": self.weight}
        defaults = weight | {name: one.default for name, one in self.settings.items()}
        return ", ".join(f"{n} {'auto' if v is None else f'{v:g}'}" for n, v in defaults.items())

    def about(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        return {
            "summary": self.summary,
            "purpose": self.purpose,
            "reference": self.reference,
            "weight": self.weight,
            "settings": {name: setting.default for name, setting in self.settings.items()},
            "bridge": self.bridge,
        }

    def resolve_settings(self, given: Mapping[str, Number]) -> dict[str, Number]:
        """Return the settings that were given, and the defaults of the others.

        Settings whose default depends on the network or the latent dimension are left out.
        """
        settings = self.settings
        for name in given:
            if not settings:
                raise InputError(f"settings must be empty for this model, got {name!r}")
            if name not in settings:
                raise unknown_name("setting of the model", name, settings)
        defaults = {n: one.default for n, one in settings.items() if one.default is not None}
        return defaults | {name: settings[name].read(name, value) for name, value in given.items()}

    def bridge_settings(self, settings: Mapping[str, Number]) -> dict[str, Number]:
        """Return those of the settings that are arguments of the bridge."""
        own = _BRIDGE_SETTINGS.get(self.bridge, {})
        return {name: value for name, value in settings.items() if name in own}

    def build_objective(
        self, model: "Autoencoder", weight: float | None = None, **settings: float
    ) -> "Objective":
        """Return the objective over a model, with the defaults for what is not given."""
        own: dict[str, Any] = {n: v for n, v in settings.items() if n in self.objective_settings}
        if weight is not None and self.weight is None:
            raise InputError(f"weight must be None for a model without a penalty, got {weight:g}")
        weights = {} if weight is None else {"weight": weight}
        return self.load_objective()(model, **own, **weights)

    def load_objective(self) -> "type[Objective]":
        """Import and return the class of the objective."""
        kind: type[Objective] = pkgutil.resolve_name(self.objective)
        return kind


_PRIOR = {"prior": True}
_GAN = {"prior": True, "inverts": False}
_EVERY = {"every": _count(None)}
_GAME = {
    "momentum": Setting(0.5, high=1, open_high=True),
    "critic_rate": Setting(0.1, open_low=True),
}

METHODS: dict[str, Method] = {
    "ae": Method(
        objective="lorae.objectives.base:AE",
        bridge="none",
        summary="plain autoencoder",
        purpose="the baseline: the lowest error; its spectrum decays without a gap",
        reference="Rumelhart, Hinton and Williams 1986",
        bfloat16=True,
    ),
    "irmae": Method(
        objective="lorae.objectives.base:AE",
        bridge="chain",
        summary="implicit rank minimisation by a chain of linear layers",
        purpose="a low rank whose only setting, the depth of the chain, is hard to choose",
        reference="Jing, Zbontar and LeCun, NeurIPS 2020, arXiv 2010.00679",
        bfloat16=True,
    ),
    "irmae-wd": Method(
        objective="lorae.objectives.base:DecayedAE",
        bridge="chain",
        summary="IRMAE with decoupled weight decay, in float64",
        purpose="the dimension of data from dynamical systems; needs long training",
        reference="Zeng et al. 2023, arXiv 2305.01090",
        weight=1e-6,
        precision="64-true",
    ),
    "irmae-l2": Method(
        objective="lorae.objectives.base:SquaredNormAE",
        bridge="chain",
        summary="IRMAE with the squared norm of all parameters as a penalty",
        purpose="a variant of irmae-wd in which Adam rescales the decay",
        reference="this package",
        weight=1e-6,
    ),
    "lorae": Method(
        objective="lorae.objectives.lorae:LoRAE",
        bridge="low-rank",
        summary="the paper's low-rank autoencoder: nuclear norm of M",
        purpose="the paper's results; its rank depends on threshold, weight and training length",
        reference="Mazumder et al., WACV 2024, arXiv 2310.16194",
        weight=1e-3,
        objective_settings=_EVERY,
        bfloat16=True,
    ),
    "lorae-proximal": Method(
        objective="lorae.objectives.lorae:ProximalLoRAE",
        bridge="low-rank",
        summary="LoRAE by proximal steps: an exact rank",
        purpose="a rank of M that is the same at every threshold: singular values become zero",
        reference="this package; Combettes and Wajs 2005",
        weight=1e-3,
        objective_settings=_EVERY,
    ),
    "lorae-data-space": Method(
        objective="lorae.objectives.data_space:DataSpaceLoRAE",
        bridge="data-space",
        summary="LoRAE on the standard deviations that directions carry in data space",
        purpose="the number of dimensions that carry more than the share weight of the variance",
        reference="this package",
        weight=1e-3,
        objective_settings=_EVERY | {"ramp": Setting(1000, integer=True), "gamma": Setting(1.0, 1)},
    ),
    "lorae-factored": Method(
        objective="lorae.objectives.lorae:FactoredLoRAE",
        bridge="factored",
        summary="LoRAE by the sum of squares of two factors of M",
        purpose="the paper's penalty without a decomposition, for very large codes",
        reference="Srebro, Rennie and Jaakkola, NeurIPS 2004",
        weight=1e-3,
    ),
    "rrae": Method(
        objective="lorae.objectives.base:AE",
        bridge="truncated",
        summary="truncated singular value decomposition of the codes of each batch",
        purpose="the best codes of a given rank",
        reference="Mounayer et al. 2024, arXiv 2405.13980",
    ),
    "rrae-adaptive": Method(
        objective="lorae.objectives.rrae:AdaptiveRRAE",
        bridge="truncated",
        summary="RRAE whose rank is lowered as long as the error does not increase",
        purpose="a rank determined by the error; needs long training",
        reference="Mounayer et al. 2024, arXiv 2405.13980",
        objective_settings={
            "patience": _count(500),
            "tolerance": Setting(0.05, high=1, open_high=True),
        },
    ),
    "vrrae": Method(
        objective="lorae.objectives.vae:VAE",
        bridge="truncated-gaussian",
        summary="variational RRAE: noise on the leading coefficients",
        purpose="sampling from a prior in a space of a given rank",
        reference="Mounayer et al. 2025, arXiv 2505.09458",
        weight=1.0,
        traits=_PRIOR,
    ),
    "least-volume": Method(
        objective="lorae.objectives.regularized:LeastVolume",
        bridge="none",
        summary="codes in a box of small volume, under a Lipschitz decoder",
        purpose="codes ordered by standard deviation, those not needed near 0",
        reference="Chen and Fuge, ICLR 2024, arXiv 2404.17773",
        weight=1e-4,
        objective_settings={"eta": Setting(1.0)},
        traits={"lipschitz": True},
    ),
    "nested-dropout": Method(
        objective="lorae.objectives.regularized:NestedDropout",
        bridge="none",
        summary="codes truncated at random lengths",
        purpose="codes that can be truncated at any length, like those of PCA",
        reference="Rippel, Gelbart and Adams, ICML 2014, arXiv 1402.0915",
        objective_settings={"rho": Setting(0.95, high=1, open_low=True, open_high=True)},
    ),
    "vae": Method(
        objective="lorae.objectives.vae:VAE",
        bridge="gaussian",
        summary="variational autoencoder, normal likelihood; weight is beta",
        purpose="sampling from a prior, uncertainty of codes; images are blurred",
        reference="Kingma and Welling, ICLR 2014, arXiv 1312.6114; Higgins et al., ICLR 2017",
        weight=1.0,
        traits=_PRIOR,
    ),
    "vae-bernoulli": Method(
        objective="lorae.objectives.vae:BernoulliVAE",
        bridge="gaussian",
        summary="variational autoencoder, Bernoulli likelihood; weight is beta",
        purpose="data from 0 to 1, such as handwriting; at a weight of 0.2 d / l the paper's VAE",
        reference="Kingma and Welling, ICLR 2014, arXiv 1312.6114",
        weight=1.0,
        traits=_PRIOR | {"probabilities": True},
        bfloat16=True,
    ),
    "vae-flow": Method(
        objective="lorae.objectives.vae:VAE",
        bridge="flow",
        summary="variational autoencoder with a normalizing-flow posterior",
        purpose="a posterior with correlated codes; slower, and cannot be folded",
        reference="Rezende and Mohamed, ICML 2015, arXiv 1505.05770",
        weight=1.0,
        traits=_PRIOR,
    ),
    "wae": Method(
        objective="lorae.objectives.regularized:WAE",
        bridge="none",
        summary="Wasserstein autoencoder with the maximum mean discrepancy",
        purpose="sampling from a prior with a deterministic encoder",
        reference="Tolstikhin et al., ICLR 2018, arXiv 1711.01558",
        weight=200.0,
        traits=_PRIOR,
        bfloat16=True,
    ),
    "rae-l2": Method(
        objective="lorae.objectives.regularized:RAEL2",
        bridge="none",
        summary="regularized autoencoder: small codes, small decoder weights",
        purpose="sampling from a density fitted to the codes",
        reference="Ghosh et al., ICLR 2020, arXiv 1903.12436",
        weight=1e-4,
        objective_settings={"smoothness": Setting(1e-7)},
    ),
    "rae-gp": Method(
        objective="lorae.objectives.regularized:RAEGP",
        bridge="none",
        summary="regularized autoencoder: small codes, small gradient of the decoder",
        purpose="the same, with smoothness as a penalty; three times as slow",
        reference="Ghosh et al., ICLR 2020, arXiv 1903.12436",
        weight=1e-4,
        objective_settings={"smoothness": Setting(0.5e-7)},
    ),
    "rae-sn": Method(
        objective="lorae.objectives.regularized:RAESN",
        bridge="none",
        summary="regularized autoencoder: small codes, spectrally normalized decoder",
        purpose="the same, with smoothness built into the decoder",
        reference="Ghosh et al., ICLR 2020, arXiv 1903.12436",
        weight=0.009,
        traits={"lipschitz": True},
    ),
    "gan": Method(
        objective="lorae.objectives.gan:GAN",
        bridge="none",
        summary="generative adversarial network, the original game",
        purpose="sampling only: there is no encoder, codes are the critic's features",
        reference="Goodfellow et al., NeurIPS 2014, arXiv 1406.2661",
        objective_settings=_GAME,
        traits=_GAN,
    ),
    "ls-gan": Method(
        objective="lorae.objectives.gan:LSGAN",
        bridge="none",
        summary="GAN with least squares",
        purpose="sampling only; more stable than the original game",
        reference="Mao et al., ICCV 2017, arXiv 1611.04076",
        objective_settings=_GAME,
        traits=_GAN,
    ),
    "ns-gan": Method(
        objective="lorae.objectives.gan:NSGAN",
        bridge="none",
        summary="GAN with the non-saturating loss",
        purpose="sampling only; learns where the gradient of the original game vanishes",
        reference="Goodfellow et al., NeurIPS 2014, arXiv 1406.2661",
        objective_settings=_GAME,
        traits=_GAN,
    ),
}
"""Every model by the name that the command line takes."""


def method(name: str) -> Method:
    """Return the method of that name."""
    if name not in METHODS:
        raise unknown_name("model", name, METHODS)
    return METHODS[name]
