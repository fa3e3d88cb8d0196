"""The command that shows what every rank of a set costs: `lorae path`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lorae import scores
from lorae.autoencoder import Autoencoder
from lorae.data import Data
from lorae.errors import InputError
from lorae.files import write_atomic, write_json
from lorae.options import Options
from lorae.output import Json, tell
from lorae.runs import free_folder
from lorae.scores import Protocol, Subject, extractor_for


@dataclass(frozen=True)
class PathCommand:
    """Train once, go down the ranks from there, and keep the model of each with its error."""

    data: str = "mnist"
    """Data set: a name (see `lorae data list`), a folder or zip of images, or a .npy, .npz, .csv
    or .parquet file; its training samples are used."""
    out: Path | None = None
    """New folder for path.json, path.svg and a model for each rank; runs/DATA-path by default."""
    ranks: tuple[int, ...] = ()
    """Ranks to stop at, falling; by default each about a fifth less than the one before."""
    weights: tuple[float, ...] = ()
    """Weights lambda of the stages instead, which reach what ranks they reach."""
    latent: int | None = None
    """Latent size to come down from; 64 by default, or the number of values of a sample where
    that is less."""
    width: float = 1.0
    """Factor on the hidden widths of the networks."""
    steps: int | None = None
    """Optimizer steps of the first training; by default 100 passes, within 300 and 10,000."""
    batch_size: int = 100
    """Samples in a step."""
    learning_rate: float = 1e-3
    """Step size of Adam."""
    validation: float = 0.1
    """Share of the training samples that is held out for the errors, 0 to 0.5."""
    features: str | None = None
    """Also the distance of generated to held-out images for each model, by features of inception
    or of a classifier; off by default."""
    samples: int = 1000
    """Images made for that distance."""
    size: int | None = None
    """Resize images of a folder to this many pixels on each side."""
    crop: int | None = None
    """Cut a centred square of this many pixels first."""
    seed: int = 0
    """Seed of weights, batches and what is held out."""
    device: str = "auto"
    """Where to train: auto, cpu, cuda or mps."""
    as_json: Json = False
    """Print the answer as JSON."""

    def __call__(self) -> None:
        """Walk, write and print the path."""
        from lorae.frontier import lorae_path

        given = Options(data=self.data, size=self.size, crop=self.crop, seed=self.seed)
        data = given.load()
        out = self.out or free_folder(f"{data.name}-path")
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"out must be a new or empty folder, {str(out)!r} is neither")
        path = lorae_path(
            data.train,
            ranks=self.ranks or None,
            weights=self.weights or None,
            latent=self.latent,
            width=self.width,
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            validation_fraction=self.validation,
            distance=self._distance(data),
            device=self.device,
            random_state=self.seed,
        )
        for point in path.points:
            point.model.cpu().save(out / f"rank-{point.rank:03}.safetensors")
        write_atomic(out / "path.svg", path.picture())
        write_json(out / "path.json", path.about() | {"data": data.checksum, "seed": self.seed})
        if self.as_json:
            tell(path.about() | {"folder": str(out)})
        else:
            tell(path.table())
            tell(f"models, path.json and path.svg in {out}")

    def _distance(self, data: Data) -> Callable[[Autoencoder], float] | None:
        """Return what measures a model's samples, drawn from a Gaussian of its training codes."""
        if self.features is None:
            return None
        if len(data.shape) != 3:
            raise InputError(f"features are of images, and {data.name!r} has none")
        protocol = Protocol(
            samples=self.samples, repeats=1, seed=self.seed, densities=("gaussian",)
        )
        extractor = extractor_for(self.features, data)

        def measured(model: Autoencoder) -> float:
            subject = Subject(model.cpu().eval(), data, protocol, extractor)
            return next(iter(scores.generation(subject))).values[0]

        return measured
