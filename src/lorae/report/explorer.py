"""The explorer: one HTML file in which the decoder of a model runs, to look at its latent space.

Codes on the page are coordinates u with mean 0 and variance 1 over the samples, in the order of the
variance that they carry in data space, or in that of an estimator's codes. Errors are mean squares
over the values of a sample in scaled units. The page opens offline and refers to nothing outside
itself.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from lorae.errors import InputError
from lorae.estimator.coordinates import Coordinates, principal_coordinates
from lorae.estimator.estimator import LowRankAutoencoder
from lorae.estimator.inputs import read_samples, to_float
from lorae.estimator.serialization import holds_estimator
from lorae.nn.autoencoder import Autoencoder, clone
from lorae.nn.inference import decode_all, encode_all
from lorae.report import browser_decoder, explorer_page, explorer_views
from lorae.report.browser_decoder import Unsupported, encode_floats
from lorae.report.code_space import CodeSpace, metric_samples
from lorae.report.explorer_views import View
from lorae.report.runs import printable
from lorae.sampling.registry import fit_density
from lorae.training.options import data_of
from lorae.training.run_folder import Run, check_output_file
from lorae.utils.files import write_atomic
from lorae.utils.samples import as_float, subsample

STEPS = (-2, -1, 0, 1, 2)
"""Standard deviations of the pictures of a filmstrip."""
MAX_SAMPLES = 1000
"""The largest number of samples on the map."""

_TRAINING = 5000  # training samples for coordinates, density and neighbours, at most
DRAWS = 300
_EXTREMES = 6
_HALF = 1e-3  # largest change of decoded samples, in scaled units, by weights in float16
_SEED = 0


def write_explorer(
    path: str | Path,
    model: Autoencoder,
    samples: Tensor,
    *,
    labels: Sequence[Any] | Tensor | None = None,
    columns: Sequence[str] | None = None,
    training: Tensor | None = None,
    coordinates: Coordinates | None = None,
    shares: Sequence[float] | None = None,
    draws: Float[Tensor, "n l"] | None = None,
    errors_by_rank: Sequence[tuple[int, float]] = (),
    value_range: tuple[float, float] | None = None,
    title: str = "Latent space",
) -> Path:
    """Write an explorer of a model's latent space, atomically, and return its path.

    Args:
        path: the HTML file, replaced if it exists.
        model: an autoencoder whose decoder inverts its encoder.
        samples: samples for the map, n x shape in the units of the data, at least 2; at most
            `MAX_SAMPLES` of them, fewer if they are large, are drawn for the page.
        labels: a label for each sample, numbers or texts.
        columns: names of the values of a vector.
        training: training samples, for the nearest neighbours and the density of random draws; by
            default there are no neighbours, and the density is that of the samples.
        coordinates: the coordinates to show; by default the codes of the model, centred.
        shares: the share of the variance of the data that each coordinate carries, which keep
            their order; by default estimated from the derivative of the decoder, with the explained
            variance as their sum, and the largest comes first.
        draws: random codes of the model, from a fitted density; by default from a Gaussian.
        errors_by_rank: ranks and errors of models of the same data.
        value_range: the values of black and white of images; by default that of the model.
        title: heading of the page.

    Raises:
        InputError: if the model has no encoder that its decoder inverts, there are fewer than 2
            samples, or labels and samples differ in number.
        OSError: if the file cannot be written; an old one stays.
    """
    if not model.inverts:
        raise InputError("model must have an encoder that its decoder inverts, got a GAN")
    if len(samples) < 2:
        raise InputError(f"samples must be at least 2, got {len(samples)}")
    if labels is not None and len(labels) != len(samples):
        raise InputError(
            f"labels must be one for each of {len(samples)} samples, got {len(labels)}"
        )
    view = explorer_views.view_of(model, samples, columns, value_range)
    fitted = subsample(samples if training is None else training, _TRAINING, _SEED)
    index = subsample(torch.arange(len(samples)), view.count(MAX_SAMPLES), _SEED)
    shown, fitted = as_float(samples[index]), as_float(fitted)
    codes = encode_all(model, fitted)
    space = CodeSpace.of(model, shown, fitted, codes, coordinates=coordinates, shares=shares)
    if draws is None:
        draws = fit_density(model, lambda: codes).sample(DRAWS, _generator())
    names = [] if labels is None else [_text(labels[k]) for k in index.tolist()]
    content = _content(space, view, shown, names)
    content["draws"] = encode_floats(space.standardize(draws[:DRAWS]))
    if training is not None:
        content["neighbours"] = _neighbours(space, view, shown, fitted, codes)
    page = explorer_page.render(
        content, printable(title), errors_by_rank, DRAWS, is_test=training is not None
    )
    write_atomic(Path(path), page.encode(errors="replace"))
    return Path(path)


def explore_run(run: Run, path: Path, *, density: str | None = None) -> Path:
    """Write the explorer of a finished run, and return its path.

    The coordinates are those of :func:`lorae.estimator.coordinates.principal_coordinates`.

    Args:
        run: the run, whose test samples are shown.
        path: the HTML file, replaced if it exists.
        density: of random draws, a name in `DENSITIES`; by default the prior or a Gaussian.

    Raises:
        InputError: if the run has not ended, its data are missing, or its model is a GAN.
    """
    model, data = run.model(), data_of(run)
    if not model.inverts:
        raise InputError(
            f"run must be of a model that reconstructs, got {run.options['model']!r}, whose "
            "encoder is a critic"
        )
    training = as_float(subsample(data.train, _TRAINING, _SEED))
    labels = data.test_labels
    found = fit_density(model, lambda: encode_all(model, training), density)
    return write_explorer(
        path,
        model,
        data.test,
        labels=labels if labels is not None and labels.ndim == 1 else None,
        columns=data.columns,
        training=training,
        coordinates=principal_coordinates(
            model, training, metric_samples=metric_samples(model, training)
        ),
        draws=found.sample(DRAWS, _generator()),
        title=run.name if run.name == data.name else f"{run.name} on {data.name}",
    )


def explore(
    source: str | Path | Run | LowRankAutoencoder,
    out: str | Path | None = None,
    *,
    samples: Any = None,
    labels: Sequence[Any] | None = None,
) -> Path:
    """Write an HTML page that shows a latent space and decodes in the browser, offline.

    Args:
        source: a finished run, or its folder; or a fitted estimator, or the file it was saved to.
        out: the HTML file, replaced if it exists; by default explorer.html in the run folder, or
            in the working directory for an estimator.
        samples: of an estimator, samples to show; by default decoded codes of training samples.
        labels: of an estimator, a label for each of the samples.

    Returns:
        The path of the page.

    Raises:
        InputError: if the run has not ended, its data are missing or its model is a GAN; or if
            the source has samples of its own.

    Example:
        >>> from tempfile import mkdtemp
        >>> X = torch.randn(60, 4)
        >>> reducer = LowRankAutoencoder(n_components=2, steps=5).fit(X)
        >>> explore(reducer, Path(mkdtemp()) / "page.html", samples=X).name
        'page.html'
    """
    if isinstance(source, str | Path) and holds_estimator(Path(source)):
        source = LowRankAutoencoder.load(source)
    if isinstance(source, LowRankAutoencoder):
        return _explore_estimator(source, Path(out or "explorer.html"), samples, labels)
    if samples is not None or labels is not None:
        raise InputError("samples and labels must be left to a run, which has data of its own")
    run = source if isinstance(source, Run) else Run.open(source)
    return explore_run(run, check_output_file(Path(out or run.path / "explorer.html")))


def _explore_estimator(
    estimator: LowRankAutoencoder, path: Path, X: Any, labels: Sequence[Any] | None
) -> Path:
    """Write the explorer of an estimator, in the units of its samples."""
    check_is_fitted(estimator)
    model, layout = clone(estimator.model_).cpu(), estimator.input_format_
    if estimator.offset_.any():
        model.shift = model.shift.double() + torch.from_numpy(estimator.offset_)
    if X is None:
        shown = decode_all(model, estimator.codes_)
    else:
        shown = to_float(layout.to_tensor(read_samples(X)[0]))
    as_bytes = layout.is_grid and layout.dtype == "uint8"
    return write_explorer(
        path,
        model,
        shown,
        labels=labels,
        columns=layout.schema.value_names if layout.schema else layout.columns,
        shares=estimator.explained_variance_ratio_.clip(0).tolist(),
        errors_by_rank=[(point.rank, point.error) for point in estimator.path_],
        value_range=(0.0, 1.0) if as_bytes else explorer_views.image_range(shown),
        title="LowRankAutoencoder" + (" (decoded codes of training samples)" if X is None else ""),
    )


def _content(space: CodeSpace, view: View, samples: Tensor, labels: list[str]) -> dict[str, Any]:
    """Return what the page's script reads, apart from draws and neighbours."""
    u = space.encode(samples)
    decoded = space.decode(u)
    errors = ((decoded - samples) / space.model.scale).square().flatten(1).nanmean(1)
    order = errors.argsort()
    count = min(_EXTREMES, len(samples) // 2)
    content: dict[str, Any] = {
        "view": view.describe(),
        "shares": space.shares.tolist(),
        "codes": encode_floats(u),
        "errors": encode_floats(errors),
        "labels": labels,
        "count": len(samples),
        "samples": view.pack(samples),
        "best": order[:count].tolist(),
        "worst": order.flip(0)[:count].tolist(),
        "steps": STEPS,
    }
    try:
        content["decoder"] = _pack_decoder(space, view, u)
    except Unsupported as reason:
        content["unsupported"] = str(reason)
        content["frames"] = view.pack(space.decode(_strips(u.shape[1])))
        content["reconstructions"] = view.pack(decoded)
    return content


def _strips(coordinates: int) -> Float[Tensor, "n k"]:
    """Return the codes of all filmstrips, one coordinate after the other."""
    return torch.kron(torch.eye(coordinates), torch.tensor(STEPS, dtype=torch.float32)[:, None])


def _pack_decoder(space: CodeSpace, view: View, u: Tensor) -> dict[str, Any]:
    layers = browser_decoder.simplify(space.model.decoder, space.B, space.mean)
    packing = browser_decoder.pack(layers)
    probe = torch.cat([u[:32], _strips(u.shape[1])[:32]])
    expected, rounded = layers(probe), browser_decoder.round_to_half(layers)(probe)
    half = bool((rounded - expected).abs().max() < _HALF)
    factor, offset = view.output_map()
    output = browser_decoder.Packing()
    values = expected[0].numel() // len(factor)
    last = browser_decoder.pack_affine(factor, offset, values, output)
    return {
        "half": half,
        "products": packing.products,
        "layers": packing.layers,
        "weights": packing.encode(torch.float16 if half else torch.float32),
        "output": last,
        "outputWeights": output.encode(torch.float32),
    }


def _neighbours(
    space: CodeSpace, view: View, samples: Tensor, training: Tensor, codes: Tensor
) -> dict[str, Any]:
    """Return the training sample nearest to each sample in data space to first order."""
    scale = space.shares.sqrt()  # a unit step along u moves the decoded sample so far
    found = NearestNeighbors(n_neighbors=1).fit((space.standardize(codes) * scale).numpy())
    u = (space.encode(samples) * scale).numpy()
    nearest = torch.from_numpy(found.kneighbors(u, return_distance=False)[:, 0])
    kept, index = torch.unique(nearest, return_inverse=True)
    apart = ((training[nearest] - samples) / space.model.scale).square().flatten(1).nanmean(1)
    return {
        "index": index.tolist(),
        "apart": encode_floats(apart),
        "samples": view.pack(training[kept]),
    }


def _text(label: Any) -> str:
    """Return a label of a sample as text."""
    value = label.item() if isinstance(label, Tensor) or hasattr(label, "item") else label
    return printable(str(value))


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(_SEED)
