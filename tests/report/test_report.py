"""Reports of tiny runs, read back with the standard library's parser.

The runs are trained for a few steps, so what they find is of no interest: the tests hold the page
against the run folders.
"""

import base64
import dataclasses
import io
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch
from PIL import Image

from lorae import Options, Run
from lorae.errors import InputError
from lorae.linalg import spectral
from lorae.report.report import write_report
from lorae.report.runs import MATRIX_THRESHOLDS
from lorae.training.options import data_of
from lorae.training.train import train
from lorae.utils.samples import as_float

VOID = {"meta", "img", "br", "link", "input", "hr", "source", "area", "base", "col", "embed"}
HOSTILE = "<script>alert(1)</script>"


class Page(HTMLParser):
    """The elements of a page in order; tags that do not match are an error."""

    def __init__(self, text):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in self.open:
            self.words.setdefault(tag, []).append(data)

    def of(self, tag):
        """Return the attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    def pictures(self):
        """Return the images that are not plots."""
        sources = [image["src"] for image in self.of("img")]
        return [source for source in sources if source.startswith("data:image/png;base64,")]

    def plots(self):
        """Return the plots."""
        start = "data:image/svg+xml;base64,"
        sources = [image["src"] for image in self.of("img") if image["src"].startswith(start)]
        return [ET.fromstring(base64.b64decode(source.removeprefix(start))) for source in sources]

    def text(self, tag):
        """Return all words inside elements of a kind, with single spaces."""
        return " ".join("".join(self.words.get(tag, [])).split())


def write_table(path, columns):
    generator = np.random.default_rng(0)
    mixing = generator.standard_normal((2, len(columns)))
    values = generator.standard_normal((200, 2)) @ mixing
    rows = [",".join(columns)] + [",".join(f"{v:.4f}" for v in row) for row in values]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of runs: two on digits, one on a table with a hostile column, one on pictures."""
    folder = tmp_path_factory.mktemp("runs")
    options = Options(data="digits", width=0.25, steps=4, latent=6, batch_size=50)
    for model in ("ae", "lorae"):
        train(dataclasses.replace(options, model=model), folder / model, show=False)
    write_table(folder / "table.csv", ["a", HOSTILE, "$x^2$", "温度", "p&q"])
    table = dataclasses.replace(options, data=str(folder / "table.csv"), latent=3)
    train(table, folder / HOSTILE.replace("/", "\\"), show=False)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 9, 12, 3), dtype=np.uint8)
    np.save(folder / "pixels.npy", pixels)
    pictures = dataclasses.replace(options, data=str(folder / "pixels.npy"), model="irmae")
    train(dataclasses.replace(pictures, seed=1), folder / "pictures", show=False)
    return folder


@pytest.fixture(scope="module")
def generators(folder, tmp_path_factory):
    """Runs of models with a prior, the last without an encoder, on images and on a table."""
    out, runs = tmp_path_factory.mktemp("generators"), {}
    for kind, data in (("image", "digits"), ("table", str(folder / "table.csv"))):
        options = Options(data=data, width=0.25, steps=4, latent=3, batch_size=50)
        runs[kind] = [
            train(dataclasses.replace(options, model=model), out / kind / model, show=False)
            for model in ("vrrae", "wae", "ns-gan")
        ]
    return runs


@pytest.fixture(scope="module")
def runs(folder):
    return [Run.open(path.parent) for path in sorted(folder.glob("*/config.json"))]


@pytest.fixture(scope="module")
def report(folder, runs):
    path = write_report(runs, folder / "all.html")
    assert path == folder / "all.html"
    return path.read_text(encoding="utf-8")


@pytest.fixture
def run(folder, tmp_path):
    """A run of its own to be spoilt."""
    shutil.copytree(folder / "lorae", tmp_path / "lorae")
    return Run.open(tmp_path / "lorae")


def rewrite(run, change):
    """Change the last line of a run's metrics."""
    *metrics, final = run.metrics()
    change(final)
    (run.path / "metrics.jsonl").unlink()
    for line in [*metrics, final]:
        run.append_metrics(line)


def test_page_is_whole(report, runs):
    page = Page(report)
    assert page.of("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.of("meta")
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    targets = [a["href"] for a in page.of("a")]
    assert targets
    assert {target.removeprefix("#") for target in targets} <= set(ids)
    assert all(image["alt"] for image in page.of("img"))
    assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in page.of("svg"))
    assert all(header.get("scope") for header in page.of("th"))
    for run in runs:
        assert run.name in page.text("h1") + page.text("th")


def test_nothing_outside_is_referred_to(report):
    page = Page(report)
    assert not re.search(r"https?:|//[a-z]", re.sub(r"base64,[^\"]*", "", report))
    assert not {"script", "link", "iframe", "object", "base", "form"} & dict(page.elements).keys()
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "srcset", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/"))
    assert "url(" not in report
    assert "@import" not in report
    policy = next(m["content"] for m in page.of("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize("name", ["ae", "lorae", "pictures"])
def test_numbers_of_the_table_are_those_of_the_run(folder, name):
    run = Run.open(folder / name)
    page = Page(write_report([run], folder / f"{name}.html").read_text(encoding="utf-8"))
    final = run.metrics()[-1]
    sigma = torch.tensor(final["test"]["covariance"], dtype=torch.float64)
    M = torch.tensor(final["test"]["matrix"], dtype=torch.float64)
    expected = [] if run.options["weight"] is None else [run.options["weight"]]
    expected += [len(sigma), final["test"]["reconstruction"]]
    expected += spectral.rank_profile(sigma).values()
    expected += [float(spectral.effective_rank(sigma)), float(spectral.participation_ratio(sigma))]
    if name != "ae":
        expected += spectral.rank_profile(M, MATRIX_THRESHOLDS).values()
    expected += [final["step"], final["seconds"]]
    assert [float(cell["value"]) for cell in page.of("data")] == expected
    rank = spectral.rank_profile(sigma)[1e-2]
    assert f"fill {rank} of {len(sigma)} latent dimensions" in page.text("header")


@pytest.mark.parametrize("kind", ["image", "table"])
def test_models_with_a_prior_are_drawn_from_it(kind, generators, tmp_path):
    page = Page(write_report(generators[kind], tmp_path / "r.html").read_text(encoding="utf-8"))
    spreads = [f"{run.last['test']['spread']:.2f}" for run in generators[kind]]
    assert "Spread" in page.text("thead")
    for spread in spreads:
        assert spread in page.text("td")
    if kind == "image":
        assert [f"from its prior, spread {spread}" in page.text("figcaption") for spread in spreads]
        assert len(page.pictures()) == 1 + 2 * 6 + 3  # the GAN reconstructs nothing
        assert "between random codes" in page.text("figcaption")
    else:
        assert page.text("li").count("mean R²") == 2
    # Four steps leave every decoder near a constant, which must not be hidden.
    near_constant = "of the variance of the data"
    assert page.text("p").count(near_constant) == len(
        [run for run in generators[kind] if near_constant in "".join(run.warnings)]
    )


@pytest.mark.parametrize("kind", ["image", "table"])
def test_a_gan_alone_has_a_report_without_an_error(kind, generators, tmp_path):
    page = Page(write_report([generators[kind][-1]], tmp_path / "r.html").read_text("utf-8"))
    assert "without an encoder" in page.text("header")
    assert "Reconstruction" not in page.text("h2")
    assert "nan" not in page.text("table")


def test_headline_compares_with_the_plain_autoencoder(folder, tmp_path):
    spectra = {"ae": [1.0] * 5 + [0.0], "lorae": [1.0, 1.0, 0, 0, 0, 0]}
    errors = {"ae": 0.010, "lorae": 0.015}
    runs = []
    for name, spectrum in spectra.items():
        shutil.copytree(folder / name, tmp_path / name)
        runs.append(Run.open(tmp_path / name))
        test = {"reconstruction": errors[name], "covariance": spectrum}
        rewrite(runs[-1], lambda line, test=test: line["test"].update(test))
    page = Page(write_report(runs, tmp_path / "report.html").read_text(encoding="utf-8"))
    assert (
        "On digits, lorae has the lowest rank: its codes fill 2 of 6 latent dimensions, against 5 "
        "of 6 for the plain autoencoder ae. Its test error is 0.01500, 50% above that of ae."
    ) in page.text("header")


def test_hostile_names_stay_text(report):
    page = Page(report)
    assert HOSTILE not in report
    assert HOSTILE in page.text("figcaption")
    words = {element.text for plot in page.plots() for element in plot.iter()}
    assert {HOSTILE, "$x^2$", "温度", "p&q"} < words
    assert HOSTILE.replace("/", "\\") in page.text("th")


def test_each_data_set_has_its_own_part(report):
    page = Page(report)
    headings = page.text("h2")
    assert all(name in headings for name in ("digits", "table", "pixels"))
    assert page.text("h3").count("Reconstructions") == 2
    assert page.text("h3").count("Reconstruction by column") == 1
    # Two runs of digits and one of pictures: originals, then 6 pictures of each run.
    assert len(page.pictures()) == 2 + 3 * 6


def test_pictures_come_before_the_table_of_runs(folder, tmp_path):
    page = Page(write_report([Run.open(folder / "lorae")], tmp_path / "r.html").read_text("utf-8"))
    tags = [tag for tag, _ in page.elements]
    assert tags.index("table") > max(k for k, tag in enumerate(tags) if tag == "img")


def test_traversals_decode_along_the_principal_coordinates(folder, tmp_path):
    run = Run.open(folder / "lorae")
    page = Page(write_report([run], tmp_path / "r.html").read_text(encoding="utf-8"))
    (image,) = [i for i in page.of("img") if i["alt"].startswith("Samples along the first")]
    grid = np.asarray(Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2]))))
    model, data = run.model(), data_of(run)
    with torch.no_grad():
        codes = model.encode(as_float(data.train))
        middle = data.unit(model.decode(codes.mean(0, keepdim=True)))[0, 0]
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    shares = [float(share) for share in re.findall(r"<li>\d: ([\d.]+)%</li>", text)]
    assert shares == sorted(shares, reverse=True)
    assert len(shares) == 6
    start = 4 * (8 + 1)  # the fifth of nine images of 8 pixels, with gaps of 1
    shown = grid[:8, start : start + 8, 0] / 255
    assert np.abs(shown - middle.clamp(0, 1).numpy()).max() < 2 / 255


def test_map_has_a_legend_of_the_labels(folder, tmp_path):
    page = Page(write_report([Run.open(folder / "ae")], tmp_path / "r.html").read_text("utf-8"))
    plots = [[element.text for element in plot.iter()] for plot in page.plots()]
    (words,) = [words for words in plots if any("coordinate 1" in (w or "") for w in words)]
    assert {str(k) for k in range(10)} <= set(words)


def test_an_explorer_beside_the_report_is_linked(run):
    path = run.path / "report.html"
    assert "explorer.html" not in write_report([run], path).read_text(encoding="utf-8")
    (run.path / "explorer.html").touch()
    links = [a["href"] for a in Page(write_report([run], path).read_text("utf-8")).of("a")]
    assert "explorer.html" in links
    other = Page(write_report([run], run.path.parent / "r.html").read_text(encoding="utf-8"))
    assert "lorae/explorer.html" in [a["href"] for a in other.of("a")]


def test_same_runs_give_the_same_bytes(report, runs, tmp_path):
    torch.manual_seed(1)
    again = write_report([*runs, runs[0]], tmp_path / "again.html")
    assert again.read_text(encoding="utf-8") == report


def test_runs_of_one_name_are_told_apart(folder, run):
    path = write_report([Run.open(folder / "lorae"), run], run.path / "report.html")
    text = path.read_text(encoding="utf-8")
    assert f"{folder.name}/lorae" in text
    assert f"{run.path.parent.name}/lorae" in text


def test_no_run():
    with pytest.raises(InputError, match="at least one run"):
        write_report([], Path("report.html"))


def test_metrics_without_a_final_line_are_refused(run, tmp_path):
    rewrite(run, lambda line: line.update(final=False))
    with pytest.raises(InputError, match="no final line"):
        write_report([run], tmp_path / "report.html")
    (run.path / "metrics.jsonl").unlink()
    with pytest.raises(InputError, match="is missing or empty"):
        write_report([run], tmp_path / "report.html")


def test_metrics_of_another_version_are_refused(run, tmp_path):
    rewrite(run, lambda line: line.pop("test"))
    with pytest.raises(InputError, match="'test' is missing"):
        write_report([run], tmp_path / "report.html")


def test_collapsed_codes(run, tmp_path):
    rewrite(run, lambda line: line["test"].update(covariance=[0.0] * 6, rank=0))
    page = Page(write_report([run], tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "fill 0 of 6 latent dimensions" in page.text("header")
