"""Make the pictures of the documentation from a demo.

    python3 dev.py demo --out runs/demo
    .venv/bin/python docs/record_demo.py runs/demo

It writes `docs/demo.svg`, the singular values of the codes, and `docs/explorer.gif`, a visit to the
explorer: the pointer on the map, then an interpolation. It needs Playwright and Chromium
(`pip install -e '.[dev]'`).
"""

import io
import math
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from lorae import Run
from lorae.cli.demo import MODELS
from lorae.utils.plots import Curve, Svg, plot_curves

FRAME = 90  # milliseconds
HERE = Path(__file__).parent


def plot_spectra(runs: list[Run]) -> Svg:
    """Return a plot of the singular values of the covariance of the test codes."""
    curves = []
    for style, run in enumerate(runs):
        sigma = run.last["test"]["covariance"]
        heights = [value / sigma[0] for value in sigma]
        curves.append(Curve(run.name, range(1, len(sigma) + 1), heights, style))
    labels = ("index", "singular value / largest")
    title = "Singular values of the codes"
    return Svg(plot_curves(curves, labels, title=title, log="y", limits=(1e-7, 2), level=1e-2))


def record(page: Any) -> Iterator[bytes]:
    """Yield screenshots of a visit to the page."""
    box = page.locator("#map").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for k in range(18):  # the pointer goes around on the map
        angle = 2 * math.pi * k / 18
        x, y = 0.3 * box["width"] * math.cos(angle), 0.3 * box["height"] * math.sin(angle)
        page.mouse.move(middle[0] + x, middle[1] + y)
        yield shoot(page)
    page.mouse.move(2, 2)
    page.evaluate("select(data.worst[0], true)")
    for _ in range(6):
        yield shoot(page)
    page.evaluate("interpolate(data.worst[0], data.best[0]); state.path.playing = false")
    for k in range(16):
        page.evaluate("seek", k / 15)
        yield shoot(page)


def shoot(page: Any) -> bytes:
    """Return the page once it has been drawn."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(done))")
    picture: bytes = page.screenshot()
    return picture


def main() -> None:
    """Write both pictures of the demo in the folder that the argument names."""
    runs = [Run.open(Path(sys.argv[1]) / name) for name in MODELS]
    plot_spectra(runs).save(HERE / "demo.svg")
    source = runs[-1].path / "explorer.html"
    with sync_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 830})
        page.goto(source.resolve().as_uri())
        page.wait_for_selector("html[data-ready]")
        frames = [Image.open(io.BytesIO(one)).convert("RGB") for one in record(page)]
        browser.close()
    small = [frame.resize((900, 622), Image.Resampling.LANCZOS) for frame in frames]
    palette = small[20].quantize(160, method=Image.Quantize.FASTOCTREE)
    first, *rest = [one.quantize(palette=palette, dither=Image.Dither.NONE) for one in small]
    target = HERE / "explorer.gif"
    first.save(target, save_all=True, append_images=rest, duration=FRAME, loop=0, optimize=True)


if __name__ == "__main__":
    main()
