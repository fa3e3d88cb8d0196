"""The options of a training run, and what each is when left to choose itself."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from lorae.data.datasets import DATASETS, Data, load
from lorae.errors import InputError
from lorae.linalg.polar import interval
from lorae.nn.autoencoder import Architecture
from lorae.nn.bridges.truncated_svd import RANK
from lorae.objectives.registry import Method, method
from lorae.training.run_folder import Run
from lorae.utils.validation import check_range

_PAPER_EPOCHS = {"mnist": 50, "celeba": 100, "shapes": 100}
_PAPER_LATENT = {"mnist": 128, "celeba": 128, "shapes": 32}
_PAPER_DEPTH = {"mnist": 8, "celeba": 4, "shapes": 2}
STRATEGIES = ("auto", "ddp")
PRECISIONS = ("32-true", "64-true", "bf16-mixed")


@dataclass(frozen=True)
class Options:
    """What to train on what, and how. Every option has a default.

    The defaults are the paper's recipe: Adam at 1e-4 in batches of 100, for the paper's number of
    epochs on its data sets. Other data train at 1e-3 for 100 epochs, and for 3,000 steps at least.

    Example:
        >>> options = Options(data="digits", model="lorae-proximal")
        >>> resolved = options.resolved(options.load())
        >>> resolved.network, resolved.latent, resolved.learning_rate, resolved.weight
        ('conv', 64, 0.001, 1.0)
    """

    data: str = "mnist"
    """Data set: a name (see `lorae data list`), a folder or zip of images, or a .npy, .npz, .csv
    or .parquet file."""
    model: str = "lorae"
    """Model, such as ae, lorae or vae; `lorae models` lists them all."""
    weight: float | None = None
    """Weight lambda of the model's penalty; the model's own by default."""
    settings: dict[str, int | float] = field(default_factory=dict, hash=False)
    """Further settings of the model, name and value in turn, such as rank 16; see
    `lorae models`."""
    warmup: int = 0
    """Steps over which the weight rises from 0 to lambda; a direction that a penalty has killed
    early does not come back."""
    network: str | None = None
    """Encoder and decoder: mnist, celeba, shapes (the paper's), conv or mlp; fits the data by
    default."""
    latent: int | None = None
    """Dimension l of the latent codes; by default the paper's, else 128 or the number of values
    of a sample where that is less."""
    width: float = 1.0
    """Factor on the hidden widths of the networks; 1 is the paper's."""
    epochs: float | None = None
    """Passes over the training samples."""
    steps: int | None = None
    """Optimizer steps, instead of epochs."""
    batch_size: int = 100
    """Samples in a step, over all processes."""
    learning_rate: float | None = None
    """Step size of Adam; by default 1e-4 for the paper's networks, 1e-3 for general ones."""
    weight_decay: float = 0.0
    """Weight decay of Adam (added to the gradient, as L2)."""
    clip_norm: float | None = None
    """Largest norm of the gradient; longer ones are shortened to it. Off by default."""
    ema: float | None = None
    """Decay of a moving average of the weights, such as 0.999; the average is the model that is
    kept. Off by default."""
    validation: float = 0.0
    """Share of the training samples held out for early stopping, 0 to 0.5."""
    patience: int | None = None
    """Stop after this many evaluations without a better validation error, and keep the best
    model. Off by default; needs --validation."""
    evaluate_every: int | None = None
    """Steps between evaluations, each followed by a checkpoint; an epoch by default,
    within a hundredth and a twentieth of training."""
    probe: int = 2000
    """Held-out samples used by the evaluations during training; the last one uses all."""
    size: int | None = None
    """Resize images to this many pixels on each side (after cutting a centred square)."""
    crop: int | None = None
    """Cut a centred square of this many pixels first."""
    skip_bad: bool = False
    """Leave out files of a folder that cannot be read, instead of stopping."""
    drop_constant: bool = False
    """Leave out constant columns of a table, instead of stopping."""
    test_fraction: float = 0.1
    """Share of the samples held out for testing, where the data have no split of their own."""
    seed: int = 0
    """Seed of the weights, the order of the samples and the split."""
    device: str = "auto"
    """Where to train: auto, cpu, cuda or mps."""
    devices: int = 1
    """Number of devices (processes) on each machine; torchrun or srun has the say."""
    nodes: int = 1
    """Number of machines, on each of which the command is started."""
    strategy: str = "auto"
    """How processes share the work: auto or ddp (distributed data parallel), which auto is where
    there are several."""
    precision: str = "32-true"
    """Arithmetic: 32-true, 64-true or bf16-mixed."""

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Return the options that `dataclasses.asdict` turned into `fields`.

        Raises:
            InputError: if a field is not an option of this version.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if not set(fields) <= known:
            strange = ", ".join(sorted(set(fields) - known))
            raise InputError(f"the run was made by another version: it has the options {strange}")
        return cls(**fields)

    def check(self) -> None:
        """Check every option that can be checked without the data.

        Raises:
            InputError: naming the first option that is out of range.
        """
        chosen = method(self.model)
        chosen.resolve_settings(self.settings)
        if self.validation and not chosen.traits.get("inverts", True):
            raise InputError(
                f"validation is by reconstruction, which {self.model} does not do, got "
                f"{self.validation:g}"
            )
        self._check_ranges()
        self._check_together()

    def _check_ranges(self) -> None:
        """Check every number by itself."""
        check_range("weight", self.weight, 0)
        check_range("warmup", self.warmup, 0)
        check_range("width", self.width, 0, 64, open_low=True)
        check_range("latent", self.latent, 1)
        check_range("epochs", self.epochs, 0, open_low=True)
        check_range("steps", self.steps, 1)
        check_range("batch_size", self.batch_size, 1)
        check_range("learning_rate", self.learning_rate, 0, 1, open_low=True)
        check_range("weight_decay", self.weight_decay, 0)
        check_range("clip_norm", self.clip_norm, 0, open_low=True)
        check_range("ema", self.ema, 0, 1, open_low=True, open_high=True)
        check_range("validation", self.validation, 0, 0.5)
        check_range("patience", self.patience, 1)
        check_range("evaluate_every", self.evaluate_every, 1)
        check_range("probe", self.probe, 2)
        check_range("seed", self.seed, 0, 2**31 - 1)
        check_range("devices", self.devices, 1)
        check_range("nodes", self.nodes, 1)

    def _check_together(self) -> None:
        """Check what is one of a few words, and what has to suit another option."""
        if self.steps is not None and self.epochs is not None:
            raise InputError(f"give steps or epochs, not both (got {self.steps} and {self.epochs})")
        if self.patience is not None and self.validation == 0:
            raise InputError("patience needs validation samples: give validation, such as 0.1")
        if self.precision not in PRECISIONS:
            raise InputError(f"precision must be one of {PRECISIONS}, got {self.precision!r}")
        if self.strategy not in STRATEGIES:
            raise InputError(
                f"strategy must be one of {STRATEGIES}, got {self.strategy!r}; a model is never "
                "sharded, for the penalty of its matrix needs the whole of it"
            )
        if self.batch_size % (self.devices * self.nodes):
            raise InputError(
                f"batch_size must be a multiple of devices times nodes, got {self.batch_size} "
                f"and {self.devices} times {self.nodes}"
            )

    def load(self) -> Data:
        """Return the data that the options name."""
        return load(
            self.data,
            size=self.size,
            crop=self.crop,
            skip_bad=self.skip_bad,
            drop_constant=self.drop_constant,
            test_fraction=self.test_fraction,
            seed=self.seed,
        )

    def resolved(self, data: Data) -> Self:
        """Return the options with every choice made that depends on the data.

        Raises:
            InputError: if an option does not suit the data.
        """
        self.check()
        train = len(data.train) - self.held_out(len(data.train))
        if train < self.batch_size:
            raise InputError(
                f"batch_size must not exceed the number of training samples, got "
                f"{self.batch_size} for {train} samples of {self.data!r}"
            )
        network = data.network if self.network is None else self.network
        per_epoch = train // self.batch_size
        steps = self._steps(network, per_epoch)
        values = data.train[0].numel()
        latent = self.latent or _PAPER_LATENT.get(network, min(128, values))
        rate = 1e-4 if network in _PAPER_EPOCHS else 1e-3
        chosen = method(self.model)
        return dataclasses.replace(
            self,
            data=self.data
            if self.data in DATASETS
            else str(Path(self.data).expanduser().resolve()),
            weight=chosen.weight if self.weight is None else self.weight,
            settings=chosen.resolve_settings(_settings(chosen, network, latent) | self.settings),
            network=network,
            latent=latent,
            steps=steps,
            epochs=None,
            learning_rate=rate if self.learning_rate is None else self.learning_rate,
            evaluate_every=self.evaluate_every
            or max(1, min(max(per_epoch, steps // 100), steps // 20)),
        )

    def held_out(self, count: int) -> int:
        """Return how many of `count` training samples are held out for validation."""
        return round(self.validation * count)

    def architecture(self, data: Data) -> Architecture:
        """Return the architecture of resolved options."""
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
            **chosen.traits,
        )

    def _steps(self, network: str, per_epoch: int) -> int:
        if self.steps is not None:
            return self.steps
        if self.epochs is not None:
            return max(1, round(self.epochs * per_epoch))
        if network in _PAPER_EPOCHS:
            return _PAPER_EPOCHS[network] * per_epoch
        return max(3000, 100 * per_epoch)


def _settings(chosen: Method, network: str, latent: int) -> dict[str, int | float]:
    """Return the settings of a method whose defaults depend on network or latent dimension."""
    defaults = {
        "depth": _PAPER_DEPTH.get(network),
        "rank": min(RANK, latent),
        "every": interval(latent),
    }
    return {
        name: value
        for name, value in defaults.items()
        if name in chosen.settings and value is not None
    }


def data_of(run: Run) -> Data:
    """Return the data that a run was trained on.

    Args:
        run: a run folder, finished or not.

    Raises:
        InputError: if they are no longer there, or no longer the same.
    """
    data = Options.from_dict(run.options).load()
    run.check_data(data.checksum)
    return data
