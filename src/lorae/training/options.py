"""The options of a run, in parts: data, model, optimizer, evaluation and launch.

Every function takes the part that it needs. :class:`Options` has the fields of all parts, which
are the flags of `lorae train`. Importing this module imports no torch.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_type_hints

from lorae.data.options import READ_OPTIONS, ReadOptions
from lorae.errors import InputError
from lorae.objectives.registry import Method, method
from lorae.utils.records import check_json
from lorae.utils.validation import check_choice, check_range

if TYPE_CHECKING:
    from lorae.data.datasets import Data
    from lorae.nn.autoencoder import Architecture
    from lorae.training.run_folder import Run

PAPER: dict[str, dict[str, int]] = {
    "mnist": {"epochs": 50, "latent": 128, "depth": 8},
    "celeba": {"epochs": 100, "latent": 128, "depth": 4},
    "shapes": {"epochs": 100, "latent": 32, "depth": 2},
}
"""The paper's recipe for each of its networks; the depth is that of IRMAE's chain."""
STRATEGIES = ("auto", "ddp")
PADDINGS = ("zeros", "circular")
PRECISIONS = ("32-true", "64-true", "bf16-mixed", "auto")


@dataclass(frozen=True)
class DataOptions(ReadOptions):
    """The data set, and how it is read and split."""

    data: str = "mnist"
    """Data set: a name (see `lorae data list`), a folder or zip of images, or a .npy, .npz, .nc,
    .h5, .csv or .parquet file."""
    test_fraction: float = 0.1
    """Share of the samples held out for testing, if the data have no split of their own."""
    seed: int = 0
    """Seed of the weights, the order of the samples and the split."""

    def load(self) -> "Data":
        """Return the data set."""
        from lorae.data.datasets import load

        return load(
            self.data,
            test_fraction=self.test_fraction,
            seed=self.seed,
            **{name: getattr(self, name) for name in READ_OPTIONS},
        )


@dataclass(frozen=True)
class ModelOptions:
    """The model, its penalty and its networks."""

    model: str = "lorae"
    """Model, such as ae, lorae or vae; `lorae models` lists all."""
    weight: float | None = None
    """Weight lambda of the model's penalty; by default that of the model."""
    settings: dict[str, int | float] = field(default_factory=dict, hash=False)
    """Further settings of the model as names and values, such as rank 16; see `lorae models`."""
    network: str | None = None
    """Encoder and decoder: mnist, celeba, shapes (the paper's), conv or mlp; by default one that
    suits the data."""
    latent: int | None = None
    """Dimension of the latent codes; by default the paper's, or 128 or the number of values of a
    sample, whichever is less."""
    width: float = 1.0
    """Factor on the hidden widths of the networks; 1 is the paper's."""
    padding: str = "zeros"
    """Padding of convolutions: zeros, or circular for grids that are periodic along every axis."""
    sigmoid: bool = False
    """End the decoder in a sigmoid, for data from 0 to 1; the paper's networks end in tanh."""

    def architecture(self, data: "Data") -> "Architecture":
        """Return the architecture for a data set; the options must be resolved."""
        from lorae.nn.autoencoder import Architecture

        assert self.network is not None
        assert self.latent is not None
        chosen = method(self.model)
        return Architecture(
            network=self.network,
            shape=data.shape,
            latent=self.latent,
            bridge=chosen.bridge,
            settings=chosen.bridge_settings(self.settings),
            width=self.width,
            value_range=data.value_range,
            padding=self.padding,
            factors=0 if data.factors is None else data.factors.loadings.shape[1],
            categories=data.categories,
            **dict(chosen.traits) | ({"probabilities": True} if self.sigmoid else {}),
        )


@dataclass(frozen=True)
class OptimizerOptions:
    """Adam, the length of training, and what goes with a step."""

    epochs: float | None = None
    """Passes over the training samples."""
    steps: int | None = None
    """Optimizer steps, instead of epochs."""
    batch_size: int = 100
    """Samples in a step, over all processes; all training samples if there are fewer."""
    learning_rate: float | None = None
    """Step size of Adam; by default 1e-4 for the paper's networks, 1e-3 for others."""
    weight_decay: float = 0.0
    """Weight decay of Adam (added to the gradient, as L2)."""
    clip_norm: float | None = None
    """Clip the norm of the gradient to this; off by default."""
    ema: float | None = None
    """Decay of a moving average of the weights, such as 0.999; the average is the model that is
    evaluated and saved. Off by default."""
    warmup: int = 0
    """Steps over which the weight rises from 0 to lambda, while the networks begin to learn."""


@dataclass(frozen=True)
class EvaluationOptions:
    """Evaluation during training, and early stopping."""

    validation: float = 0.0
    """Share of the training samples held out for early stopping, 0 to 0.5."""
    patience: int | None = None
    """Stop after this many evaluations without a better validation error, and keep the best
    model. Off by default; needs --validation."""
    evaluate_every: int | None = None
    """Steps between evaluations, each followed by a checkpoint; by default an epoch, but at least
    a hundredth and at most a twentieth of training."""
    probe: int = 2000
    """Test samples used by the evaluations during training; the last one uses all."""

    def held_out(self, count: int) -> int:
        """Return how many of `count` training samples are held out for validation."""
        return round(self.validation * count)


@dataclass(frozen=True)
class LaunchOptions:
    """Devices, processes and arithmetic."""

    device: str = "auto"
    """Device: auto, cpu, cuda or mps."""
    devices: int = 1
    """Number of devices (processes) on each machine; torchrun and srun override it."""
    nodes: int = 1
    """Number of machines; the command is started on each. torchrun and srun override it."""
    strategy: str = "auto"
    """How processes share the work: auto or ddp (distributed data parallel, which auto uses for
    several processes). A model is never sharded, because the penalty needs its whole matrix."""
    precision: str | None = None
    """Arithmetic: 32-true, 64-true, bf16-mixed, or auto for bfloat16 where the device has it and no
    difference was measured for the model; by default 64-true for irmae-wd, else 32-true."""
    capture: bool = True
    """On a GPU, training steps are recorded as a CUDA graph where the model allows it; --no-capture
    turns this off."""


@dataclass(frozen=True)
class Options(LaunchOptions, EvaluationOptions, OptimizerOptions, ModelOptions, DataOptions):
    """The options of a run: what to train, on what data, and how. Every option has a default.

    The defaults are the paper's recipe: Adam at 1e-4 in batches of 100, for the paper's number of
    epochs on its data sets. Other data train at 1e-3 for 100 epochs, but at least 3,000 steps.

    Example:
        >>> options = Options(data="digits", model="lorae-proximal")
        >>> resolved = options.resolve(options.load())
        >>> resolved.network, resolved.latent, resolved.learning_rate, resolved.weight
        ('conv', 64, 0.001, 0.001)
    """

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Return the options that `dataclasses.asdict` turned into `fields`."""
        unknown = set(fields) - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            raise InputError(
                f"the run was made by another version: it has the options "
                f"{', '.join(sorted(unknown))}"
            )
        hints = get_type_hints(cls)
        for name, value in fields.items():
            check_json({name: value}, dict[str, hints[name]], "the options")  # type: ignore[valid-type]
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        options = cls(**fields | lists)
        options.check()
        return options

    def check(self) -> None:
        """Check everything that can be checked without the data."""
        chosen = method(self.model)
        chosen.resolve_settings(self.settings)
        if self.validation and not chosen.traits.get("inverts", True):
            raise InputError(
                f"validation must be 0 for {self.model}, which does not reconstruct, got "
                f"{self.validation:g}"
            )
        self.check_reading()
        self._check_ranges()
        check_choice("precision", self.precision or chosen.precision, PRECISIONS)
        check_choice("strategy", self.strategy, STRATEGIES)
        check_choice("padding", self.padding, PADDINGS)
        if self.steps is not None and self.epochs is not None:
            raise InputError(f"give steps or epochs, not both (got {self.steps} and {self.epochs})")
        if self.patience is not None and self.validation == 0:
            raise InputError("validation must be above 0 for patience, such as 0.1, got 0")

    def _check_ranges(self) -> None:
        counts = ("latent", "steps", "batch_size", "patience", "evaluate_every", "devices", "nodes")
        for name in counts:
            check_range(name, getattr(self, name), 1)
        for name in ("weight", "warmup", "weight_decay"):
            check_range(name, getattr(self, name), 0)
        for name in ("epochs", "clip_norm"):
            check_range(name, getattr(self, name), 0, open_low=True)
        check_range("width", self.width, 0, 64, open_low=True)
        check_range("learning_rate", self.learning_rate, 0, 1, open_low=True)
        check_range("ema", self.ema, 0, 1, open_low=True, open_high=True)
        check_range("validation", self.validation, 0, 0.5)
        check_range("probe", self.probe, 2)
        check_range("seed", self.seed, 0, 2**31 - 1)

    def resolve(self, data: "Data") -> Self:
        """Return the options with every default filled in that depends on the data."""
        from lorae.data.registry import DATASETS

        self.check()
        train = len(data.train) - self.held_out(len(data.train))
        self._check_counts(train, len(data.test), self.held_out(len(data.train)))
        batch_size = min(self.batch_size, train)
        chosen, per_epoch = method(self.model), train // batch_size
        if (data.categories or data.factors) and not chosen.traits.get("inverts", True):
            raise InputError(
                f"model must reconstruct samples for data with gaps or categories, got "
                f"{self.model!r}"
            )
        if self.sigmoid and data.value_range != (0.0, 1.0):
            raise InputError(
                "data must be scaled to values from 0 to 1 for sigmoid, as images are, got "
                f"{self.data!r}, scaled to {data.value_range or 'no range'}"
            )
        network = self.network or data.network
        paper = PAPER.get(network)
        steps = self.steps or self._default_steps(paper, per_epoch)
        latent = self.latent or (paper["latent"] if paper else min(128, data.train[0].numel()))
        named = self.data in DATASETS
        return dataclasses.replace(
            self,
            data=self.data if named else str(Path(self.data).expanduser().resolve()),
            weight=chosen.weight if self.weight is None else self.weight,
            settings=chosen.resolve_settings(_settings(chosen, paper, latent) | self.settings),
            network=network,
            latent=latent,
            steps=steps,
            batch_size=batch_size,
            epochs=None,
            learning_rate=self.learning_rate or (1e-4 if paper else 1e-3),
            precision=self._resolve_precision(chosen),
            evaluate_every=self.evaluate_every
            or max(1, min(max(per_epoch, steps // 100), steps // 20)),
        )

    def _resolve_precision(self, chosen: Method) -> str:
        if self.precision != "auto":
            return self.precision or chosen.precision
        from lorae.training.devices import choose_precision

        return choose_precision(self.model, self.device)[0]

    def _check_counts(self, train: int, test: int, held_out: int) -> None:
        """Check that there are two samples for every purpose, which a covariance needs."""
        lower = f"lower test_fraction ({self.test_fraction:g}) or validation ({self.validation:g})"
        raised = f"raise test_fraction, such as from {self.test_fraction:g} to 0.3"
        for name, count, advice in (("training", train, lower), ("test", test, raised)):
            if count < 2:
                raise InputError(
                    f"data must have at least 2 {name} samples, got {count} of {self.data!r}; "
                    f"{advice}"
                )
        if self.validation and held_out < 2:
            raise InputError(
                f"validation must hold out at least 2 samples of {self.data!r}, got "
                f"{self.validation:g}, which are {held_out}"
            )

    def _default_steps(self, paper: dict[str, int] | None, per_epoch: int) -> int:
        if self.epochs is not None:
            return max(1, round(self.epochs * per_epoch))
        return paper["epochs"] * per_epoch if paper else max(3000, 100 * per_epoch)


def _settings(chosen: Method, paper: dict[str, int] | None, latent: int) -> dict[str, int | float]:
    """Return the settings of a method whose defaults depend on network or latent dimension."""
    from lorae.nn.bridges.truncated_svd import RANK

    defaults = {"rank": min(RANK, latent)}
    if paper:
        defaults["depth"] = paper["depth"]
    return {name: value for name, value in defaults.items() if name in chosen.settings}


def options_of(run: "Run") -> Options:
    """Return the options that a run was started with, wherever its folder is now."""
    options = Options.from_dict(run.options)
    file = run.data_file
    return options if file is None else dataclasses.replace(options, data=str(file.resolve()))


def data_of(run: "Run") -> "Data":
    """Return the data that a run was trained on, unless they are gone or have changed."""
    data = options_of(run).load()
    run.check_data(data.checksum)
    return data
