"""Plots, report and explorer of an estimator: what they show, from memory or from a saved file."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.decomposition import PCA

import lorae as package
from lorae import InputError, LowRankAutoencoder
from lorae.report.estimator_report import write_estimator_report

pytest_plugins = ["commands"]

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    RNG.normal(size=(120, 2)) @ RNG.normal(size=(2, 9)) + 0.1 * RNG.normal(size=(120, 9)),
    columns=[f"<b>{name}</b>" for name in "abcdefghi"],
)
LABELS = ["odd" if k % 2 else "even" for k in range(120)]
IMAGES = RNG.integers(0, 256, (40, 8, 9), dtype=np.uint8)


@pytest.fixture(scope="module")
def chosen():
    reducer = LowRankAutoencoder(n_components="auto", steps=30, random_state=0)
    return reducer.fit(FRAME)


@pytest.fixture(scope="module")
def of_images():
    return LowRankAutoencoder(n_components=3, steps=5, random_state=0).fit(IMAGES)


def texts(svg):
    return " ".join(re.findall(r">([^<>]+)</text>", svg.decode()))


def test_codes_are_named_by_what_they_explain_and_coloured_by_label(chosen):
    found = texts(chosen.plot("codes", FRAME, LABELS))
    share = 100 * chosen.explained_variance_ratio_[0]
    assert f"coordinate 1 ({share:.3g} % of the variance)" in found
    assert "even" in found
    assert "odd" in found
    assert chosen.plot().startswith(b"<?xml")
    assert chosen.plot()._repr_svg_().startswith("<?xml")


def test_path_shows_pca_and_the_number_that_was_chosen(chosen):
    found = texts(chosen.plot("path"))
    assert "PCA" in found
    assert f"{chosen.n_components_} chosen" in found


def test_coordinates_of_a_table_start_with_the_column_that_changes_most(chosen, of_images):
    effect = chosen.components_ * np.sqrt(chosen.explained_variance_)[:, None]
    first = FRAME.columns[np.abs(effect[:3]).max(0).argmax()]
    svg = chosen.plot("coordinates").decode()
    names = re.findall(r"&lt;b&gt;(\w)&lt;/b&gt;", svg)
    assert names[0] == first[3]
    found = texts(of_images.plot("coordinates"))
    assert "coordinate 3" in found
    assert "+2 sd" in found


def test_a_dark_page_inverts_plots_but_no_images(chosen, of_images, tmp_path):
    for estimator, images in ((chosen, 0), (of_images, 1)):
        page = write_estimator_report(estimator, tmp_path / "report.html").read_text()
        assert page.count('<img class="plot images"') == images
        shown = re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", page)
        schemes = [b"prefers-color-scheme: dark" in base64.b64decode(one) for one in shown]
        assert sum(schemes) == images


def test_what_cannot_be_plotted_is_refused(chosen, of_images):
    for call, message in (
        (lambda: chosen.plot("curve"), "kind must be"),
        (lambda: of_images.plot("path"), "kind must not be path"),
        (lambda: chosen.plot("codes", FRAME, [1, 2]), "one for each row of X, got 2 for 120"),
        (lambda: chosen.plot("codes", labels=LABELS), "one for each row of X, got 120 for no X"),
    ):
        with pytest.raises(InputError, match=message):
            call()


def test_report_of_a_saved_estimator_says_the_number_and_pcas_error(lorae, chosen):
    chosen.save("reducer.safetensors")
    FRAME.assign(label=LABELS).to_csv("a.csv", index=False)
    status, out, _ = lorae("report", "reducer.safetensors", "--data", "a.csv")
    assert (status, out) == (0, "report.html\n")
    page = Path("report.html").read_text()
    k, (low, high) = chosen.n_components_, chosen.n_components_interval_
    assert f"<b>{k}</b> coordinate" in page
    assert f"interval is {low} to {high}" in page
    point = next(point for point in chosen.path_ if point.rank == k)
    assert f"principal components {100 * point.pca_error:.3g} %" in page
    errors = -chosen.score_samples(FRAME)
    assert (
        f'<th scope="row" class="n">{errors.argmax()}</th><td class="n">{errors.max():.3g}' in page
    )
    assert "<b>a</b>" not in page
    for heading in ("map", "variance", "path", "coordinates", "worst"):
        assert f'id="{heading}"' in page
    assert lorae("report", "reducer.safetensors", "--out", "b.html")[0] == 0
    assert 'id="worst"' not in Path("b.html").read_text()


@pytest.mark.parametrize("standardize", [False, True])
def test_explained_variance_stands_beside_that_of_pca_of_the_same_samples(standardize, tmp_path):
    X = FRAME.to_numpy() * np.arange(1, 10)
    reducer = LowRankAutoencoder(n_components=2, steps=30, standardize=standardize).fit(X)
    page = write_estimator_report(reducer, tmp_path / "a.html", X).read_text()
    scaled = X / X.std(0) if standardize else X
    expected = np.cumsum(PCA(2).fit(scaled).explained_variance_ratio_)
    found = re.search(r"PCA of the samples given: \[(.*?)\]", page)[1].split(", ")
    np.testing.assert_allclose(np.array(found, float), expected, rtol=1e-4)
    ours = re.search(r"lorae, the samples given: \[(.*?)\]", page)[1].split(", ")
    np.testing.assert_allclose(float(ours[-1]), reducer.score(X), rtol=1e-4)


def test_report_of_images_shows_the_worst(of_images, tmp_path):
    page = write_estimator_report(of_images, tmp_path / "a.html", IMAGES).read_text()
    worst = np.argsort(of_images.score_samples(IMAGES))[:8].tolist()
    assert f"Samples {worst} above their reconstructions" in page
    assert 'id="path"' not in page


def explored(path):
    found = re.search(r'id="data">(.*?)</script>', path.read_text(), re.DOTALL)
    return json.loads(found[1])


def test_an_estimator_is_explored_from_memory_and_from_its_file(lorae, chosen, of_images):
    page = package.explore(chosen, "a.html", samples=FRAME, labels=LABELS)
    content = explored(page)
    assert set(content["labels"]) == {"odd", "even"}
    assert content["shares"] == pytest.approx(chosen.explained_variance_ratio_.tolist())
    chosen.save("reducer.safetensors")
    FRAME.assign(label=LABELS).to_csv("a.csv", index=False)
    assert lorae("explore", "reducer.safetensors", "--data", "a.csv", "--out", "b.html")[0] == 0
    assert explored(Path("b.html")) == content
    assert lorae("explore", "reducer.safetensors")[0] == 0
    assert explored(Path("explorer.html"))["view"]["kind"] == "table"
    assert explored(package.explore(of_images, "c.html", samples=IMAGES))["count"] == 40


@pytest.mark.parametrize(("dtype", "high"), [(np.uint8, 255), (np.float32, 16)])
def test_the_explorer_of_images_shows_gray_values_and_errors(dtype, high, tmp_path):
    random = np.random.default_rng(0)
    X = (random.random((40, 1, 1)) * random.random((40, 8, 8)) * high).round().astype(dtype)
    X[0, 0, 0] = high
    reducer = LowRankAutoencoder(n_components=3, steps=20, random_state=0).fit(X)
    content = explored(package.explore(reducer, tmp_path / "a.html", samples=X))
    assert content["view"]["kind"] == "image"
    sheet = Image.open(io.BytesIO(base64.b64decode(content["samples"]["sheet"].split(",")[1])))
    shown = np.asarray(sheet)[:8, :8] / 255  # the first sample
    assert np.abs(shown - X[0] / high).max() < 0.003
    factor, offset = decode(content["decoder"]["outputWeights"]).reshape(2, -1)
    scale, shift = reducer.model_.scale.numpy(), reducer.model_.shift.numpy() + reducer.offset_
    unit = 1 if dtype == np.uint8 else high  # networks take bytes divided by 255
    np.testing.assert_allclose(factor, np.ravel(scale) / unit, rtol=1e-5)
    np.testing.assert_allclose(offset, np.ravel(shift) / unit, atol=1e-5)
    decoded = reducer.inverse_transform(reducer.transform(X)).astype(np.float64)
    errors = ((X - decoded) ** 2).mean((1, 2))
    found = decode(content["errors"])
    tolerance = 1e-3 if dtype == np.uint8 else 1e-6  # decoded bytes are rounded and clipped
    np.testing.assert_allclose(found / found.sum(), errors / errors.sum(), 1e-3, tolerance)


def decode(text):
    return np.frombuffer(base64.b64decode(text), "<f4")


def test_a_run_is_explored_by_name(lorae, table):
    path = package.explore(table)
    assert path == table / "explorer.html"
    assert explored(path)["view"]["columns"] == ["a", "b", "c"]
    with pytest.raises(InputError, match="samples and labels must be left to a run"):
        package.explore(table, samples=np.ones((2, 3)))
