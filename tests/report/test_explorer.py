"""The explorer in a real browser, which Playwright drives; without one these tests are skipped.

Most models are not trained: random decoders with large weights show more kinds of pixels.
"""

import base64
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lorae
from lorae import Options, Run
from lorae.errors import InputError
from lorae.nn.autoencoder import Architecture, Autoencoder, build
from lorae.nn.categories import Categories
from lorae.report.explorer import explore_run, write_explorer
from lorae.report.explorer_views import view_of
from lorae.training.train import train

HOSTILE = "</script><img src=x onerror=alert(1)>"
GRAY_LEVEL = 1 / 255

# In a page: set every slider, then wait for two frames, in which the page has drawn.
FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
SET_SLIDERS = """(code) => {
  for (const [k, value] of code.entries()) {
    const slider = document.getElementById(`u${k + 1}`);
    slider.value = value;
    slider.dispatchEvent(new Event("input"));
  }
}"""
PIXELS = """(id) => {
  const canvas = document.querySelector(id);
  const copy = new OffscreenCanvas(canvas.width, canvas.height);
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const text = Array.from(data, (value) => String.fromCharCode(value)).join("");
  return { width: canvas.width, height: canvas.height, data: btoa(text) };
}"""


def make_model(name: str, shape: tuple[int, ...], latent: int, **settings: Any) -> Autoencoder:
    """Return a random autoencoder whose decoder varies with its codes."""
    torch.manual_seed(0)
    model = build(Architecture(name, shape, latent, **({"width": 0.25} | settings))).eval()
    for part in model.decoder.parameters():
        part.data *= 2.5
    return model


@torch.no_grad()
def spread_codes(model: Autoencoder, samples: Tensor) -> None:
    """Scale the codes of samples to variance 1, so that pictures vary on the whole map."""
    last = [layer for layer in model.encoder.modules() if hasattr(layer, "weight")][-1]
    deviations = model.encode(samples).std(0)
    last.weight /= deviations.view(-1, *[1] * (last.weight.ndim - 1))


@dataclass
class Explorer:
    """A page, the model behind it, and what it was written from."""

    page: Any
    model: Autoencoder
    samples: Tensor
    training: Tensor
    path: Path

    def decode(self, u: Tensor) -> Tensor:
        """Return what standardized coordinates decode to, from the codes of the training set."""
        with torch.no_grad():
            codes = self.model.encode(self.training).double()
            z = codes.mean(0) + u.double() * codes.std(0)
            return self.model.decode(z.float())

    def encode(self, samples: Tensor) -> Tensor:
        with torch.no_grad():
            codes = self.model.encode(self.training).double()
            return (self.model.encode(samples).double() - codes.mean(0)) / codes.std(0)

    def settle(self) -> None:
        self.page.evaluate(FRAMES)

    def wait(self, condition: str) -> None:
        """Wait until a condition holds; the page's policy forbids `wait_for_function`."""
        end = time.monotonic() + 30
        while not self.page.evaluate(condition):
            assert time.monotonic() < end, condition
            self.settle()

    def set(self, code: Tensor) -> None:
        self.page.evaluate(SET_SLIDERS, code.tolist())
        self.settle()

    def pixels(self, selector: str = "#decoded") -> Tensor:
        """Return the pixels of a canvas, 3 x h x w, in [0, 1]."""
        found = self.page.evaluate(PIXELS, selector)
        data = torch.frombuffer(bytearray(base64.b64decode(found["data"])), dtype=torch.uint8)
        data = data.view(found["height"], found["width"], 4)
        assert (data[..., 3] == 255).all()
        return data[..., :3].permute(2, 0, 1) / 255

    def place(self, u: Tensor) -> tuple[float, float]:
        """Return the place on the screen of a code on the map, which is scrolled into view."""
        self.page.locator("#map").scroll_into_view_if_needed()
        x, y = self.page.evaluate("(u) => toPixel(u)", u.tolist())
        box = self.page.locator("#map").bounding_box()
        return box["x"] + x, box["y"] + y

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).inner_text())

    def in_sight(self) -> list[int]:
        """Return samples on the map that no other is close to."""
        u = self.encode(self.samples)[:, :2]
        apart = torch.cdist(u, u) + 99 * torch.eye(len(u))
        return (-apart.min(1).values).argsort().tolist()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, that of the system or Playwright's own."""
    api = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    with api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"no Chromium: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open pages in turn; afterwards, nothing was requested and nothing logged."""
    problems: list[str] = []
    contexts = []

    def open_one(path: Path, **settings: Any) -> Any:
        context = browser.new_context(**({"viewport": {"width": 1200, "height": 900}} | settings))
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(dialog.message))
        page.on("request", lambda request: requests.append(request.url))
        requests: list[str] = []
        page.goto(path.resolve().as_uri())
        page.wait_for_selector("html[data-ready]")
        others = [url for url in requests if not url.startswith("data:")]
        assert others == [path.resolve().as_uri()]
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def explorer(open_page: Callable[..., Any], tmp_path: Path) -> Callable[..., Explorer]:
    """Write the explorer of a model with random samples, and open it."""

    def explore(model: Autoencoder, samples: Tensor, **settings: Any) -> Explorer:
        screen = settings.pop("screen", {})
        latent = model.bridge.latent
        spread_codes(model, samples)
        shares = [2.0**-k / 3 for k in range(latent)]  # the order of the codes
        training = settings.setdefault("training", samples[::2])
        path = write_explorer(tmp_path / "e.html", model, samples, shares=shares, **settings)
        return Explorer(open_page(path, **screen), model, samples, training, path)

    return explore


@pytest.fixture
def digits(explorer: Callable[..., Explorer]) -> Explorer:
    """The explorer of the paper's networks for MNIST with 40 labelled images."""
    return explorer(*images(), labels=torch.arange(40) % 10, training=images()[1].flip(3)[:30])


def images() -> tuple[Autoencoder, Tensor]:
    samples = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return make_model("mnist", (1, 32, 32), 6), samples.repeat_interleave(8, 2).repeat_interleave(
        8, 3
    )


def unit(model: Autoencoder, decoded: Tensor) -> Tensor:
    """Return a decoded image in [0, 1], as RGB."""
    assert model.architecture is not None
    low, high = model.architecture.value_range
    found = ((decoded[0] - low) / (high - low)).clamp(0, 1)
    return found.expand(3, -1, -1) if len(found) == 1 else found[:3]


@pytest.mark.parametrize(
    ("name", "shape", "settings"),
    [
        ("mnist", (1, 32, 32), {}),
        ("celeba", (3, 64, 64), {"width": 1 / 32}),
        ("shapes", (3, 32, 32), {}),
        ("conv", (1, 13, 22), {}),
        ("conv", (3, 9, 8), {"value_range": (-1.0, 1.0), "probabilities": False}),
        ("conv", (3, 8, 8), {"lipschitz": True}),
    ],
)
def test_canvas_shows_what_torch_decodes(
    explorer: Callable[..., Explorer],
    name: str,
    shape: tuple[int, ...],
    settings: dict[str, Any],
) -> None:
    model = make_model(name, shape, 5, **settings)
    page = explorer(model, torch.rand(20, *shape))
    shown = []
    for code in torch.randn(10, 5).clamp(-3, 3).mul(100).round().div(100):
        page.set(code)
        expected = unit(model, page.decode(code[None]))
        assert (page.pixels() - expected).abs().max() <= GRAY_LEVEL
        shown.append(page.pixels())
    assert torch.stack(shown).std(0).max() > 3 * GRAY_LEVEL  # the codes matter


@pytest.mark.parametrize(
    "decoder",
    [
        nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.LeakyReLU(0.1), nn.Linear(5, 12)),
        nn.Sequential(nn.Linear(3, 6), nn.ELU(), nn.Unflatten(1, (2, 3)), nn.Conv1d(2, 4, 3, 1, 1)),
        nn.Sequential(
            nn.Unflatten(1, (3, 1, 1)),
            nn.ConvTranspose2d(3, 2, 3, bias=False),
            nn.SiLU(),
            nn.BatchNorm2d(2),
            nn.ConvTranspose2d(
                2, 3, (3, 2), (2, 3), (1, 0), output_padding=(1, 2), dilation=(1, 2)
            ),
            nn.Softplus(),
            nn.Conv2d(3, 1, (2, 3), (1, 2), (1, 0), dilation=(2, 1)),
        ),
        nn.Sequential(
            nn.Linear(3, 8),
            nn.Tanh(),
            nn.Unflatten(1, (1, 2, 2, 2)),
            nn.ConvTranspose3d(1, 2, (3, 2, 4), (2, 1, 2), (1, 0, 1)),
            nn.Sigmoid(),
            nn.Conv3d(2, 3, 2),
            nn.Dropout(),
            nn.Flatten(),
        ),
        nn.Sequential(
            nn.Linear(3, 7),
            Categories([2, 3], torch.tensor([0.4, 0.6, 0.0, 0.3, 0.7]), torch.full((5,), 0.8)),
        ),
    ],
    ids=["vectors", "1-D", "2-D", "3-D", "categories"],
)
def test_layers_compute_what_torch_computes(
    explorer: Callable[..., Explorer], decoder: nn.Sequential
) -> None:
    torch.manual_seed(0)
    decoder(3 * torch.randn(50, 3) + 1)  # running statistics of the norms
    values = decoder.eval()(torch.zeros(1, 3)).numel()
    samples = torch.randn(20, values)
    model = lorae.wrap(
        nn.Linear(values, 3),
        nn.Sequential(decoder, nn.Flatten()),
        bridge="none",
        sample=samples[:2],
    ).eval()
    page = explorer(model, samples)
    codes = torch.randn(5, 3)
    found = [page.page.evaluate("(u) => Array.from(decode(u))", u.tolist()) for u in codes]
    assert torch.allclose(torch.tensor(found), page.decode(codes).flatten(1), atol=2e-3)


def test_sliders_stand_in_the_order_of_the_variance(digits: Explorer) -> None:
    page = digits.page
    assert page.locator("input[type=range]:visible").count() == 6
    assert page.locator(".coordinate .head span.n").all_inner_texts()[:2] == ["33.3 %", "16.7 %"]
    slider = page.get_by_label("Coordinate 2, 16.7 % of the variance")
    slider.focus()
    page.keyboard.press("ArrowRight")
    digits.settle()
    assert slider.get_attribute("aria-valuetext") == "+0.01 standard deviations"
    page.keyboard.press("End")
    digits.settle()
    end = torch.tensor([[0.0, 3, 0, 0, 0, 0]])
    expected = unit(digits.model, digits.decode(end))
    assert (digits.pixels() - expected).abs().max() <= GRAY_LEVEL
    page.get_by_role("button", name="Reset").click()
    digits.settle()
    assert slider.get_attribute("aria-valuetext") == "+0.00 standard deviations"
    expected = unit(digits.model, digits.decode(torch.zeros(1, 6)))
    assert (digits.pixels() - expected).abs().max() <= GRAY_LEVEL


def test_filmstrips_go_from_minus_2_to_2_deviations(digits: Explorer) -> None:
    for k in (0, 5):
        for f, step in enumerate((-2, -1, 0, 1, 2)):
            code = torch.zeros(1, 6)
            code[0, k] = step
            selector = f"#coordinates li:nth-child({k + 1}) canvas:nth-child({f + 1})"
            expected = unit(digits.model, digits.decode(code))
            assert (digits.pixels(selector) - expected).abs().max() <= GRAY_LEVEL
    digits.page.locator("#coordinates li:nth-child(3) canvas").nth(4).click()
    digits.settle()
    assert digits.text("#coordinates li:nth-child(3) output") == "+2.00"


def test_random_draws_come_from_the_given_ones(
    explorer: Callable[..., Explorer],
) -> None:
    model, samples = images()
    draws = torch.randn(1, 6)
    page = explorer(model, samples, draws=draws)
    page.page.get_by_role("button", name="Random draw").click()
    page.settle()
    with torch.no_grad():
        expected = unit(model, model.decode(draws))
    assert (page.pixels() - expected).abs().max() <= GRAY_LEVEL
    assert "Random draw" in page.text("#caption")


def test_pointing_at_the_map_decodes_there(digits: Explorer) -> None:
    start = torch.tensor([0.0, 0, 1.5, 0, 0, 0])
    digits.set(start)
    before = digits.pixels()
    digits.page.mouse.move(*digits.place(torch.tensor([1.25, -0.75, 0, 0, 0, 0])))
    digits.settle()
    there = torch.tensor([[1.25, -0.75, 1.5, 0, 0, 0]])
    expected = unit(digits.model, digits.decode(there))
    # The pointer has whole pixels, of about 0.01 standard deviations.
    assert (digits.pixels() - expected).abs().mean() <= GRAY_LEVEL
    assert not torch.equal(digits.pixels(), before)
    assert re.fullmatch(
        r"Coordinate 1 at \+1\.2\d, coordinate 2 at −0\.7\d", digits.text("#caption")
    )
    digits.page.mouse.move(2, 2)
    digits.settle()
    assert torch.equal(digits.pixels(), before)


def test_axes_of_the_map_can_be_chosen(digits: Explorer) -> None:
    digits.page.get_by_label("Across").select_option("3")
    digits.page.get_by_label("Up").select_option("5")
    digits.page.mouse.move(*digits.place(torch.tensor([9.0, 9, 9, -0.5, 9, 1.0])))
    digits.settle()
    assert re.match(r"Coordinate 4 at −0\.(49|50|51), coordinate 6 at", digits.text("#caption"))


def test_click_shows_a_sample_and_its_reconstruction(digits: Explorer) -> None:
    k = digits.in_sight()[0]
    u = digits.encode(digits.samples)
    assert digits.page.locator("#sample").is_hidden()
    digits.page.mouse.click(*digits.place(u[k]))
    digits.page.mouse.move(2, 2)
    digits.settle()
    assert digits.text("#sample figcaption") == f"Sample {k + 1}, label {k % 10}"
    original = unit(digits.model, digits.samples[k : k + 1])
    assert (digits.pixels("#sample canvas") - original).abs().max() <= 0.51 * GRAY_LEVEL
    with torch.no_grad():
        decoded = digits.model(digits.samples[k : k + 1])
    assert (digits.pixels() - unit(digits.model, decoded)).abs().max() <= GRAY_LEVEL
    error = float((decoded - digits.samples[k]).square().mean())
    shown = float(digits.text("#caption").removeprefix("Reconstruction, error "))
    assert shown == pytest.approx(error, rel=0.01)
    assert digits.page.locator("#neighbour").is_hidden()
    assert digits.page.evaluate("state.selected") == k


def test_shift_click_compares_with_the_nearest_training_sample(digits: Explorer) -> None:
    k = digits.in_sight()[1]
    weights = torch.tensor([2.0**-j for j in range(6)]).sqrt()
    u, others = digits.encode(digits.samples), digits.encode(digits.training)
    nearest = int(torch.cdist(u[k : k + 1] * weights, others * weights).argmin())
    x, y = digits.place(u[k])
    digits.page.keyboard.down("Shift")
    digits.page.mouse.click(x, y)
    digits.page.keyboard.up("Shift")
    digits.settle()
    expected = unit(digits.model, digits.training[nearest : nearest + 1])
    assert (digits.pixels("#neighbour canvas") - expected).abs().max() <= 0.51 * GRAY_LEVEL
    apart = float((digits.training[nearest] - digits.samples[k]).square().mean())
    caption = digits.text("#neighbour figcaption").removeprefix(
        "Nearest training sample, differs by "
    )
    assert float(caption) == pytest.approx(apart, rel=0.01)
    compare = digits.page.get_by_role("button", name="Compare with the nearest training sample")
    assert compare.get_attribute("aria-pressed") == "true"
    compare.click()
    digits.settle()
    assert digits.page.locator("#neighbour").is_hidden()


def test_drag_plays_the_interpolation(digits: Explorer) -> None:
    a, b = digits.in_sight()[:2]
    u = digits.encode(digits.samples)
    digits.page.mouse.move(*digits.place(u[a]))
    digits.page.mouse.down()
    digits.page.mouse.move(*digits.place(u[b]), steps=5)
    digits.page.mouse.up()
    digits.page.mouse.move(2, 2)
    digits.wait("state.path && !state.path.playing")
    digits.settle()
    expected = unit(digits.model, digits.decode(u[b : b + 1]))
    assert (digits.pixels() - expected).abs().max() <= GRAY_LEVEL
    place = digits.page.get_by_label("Place on the interpolation")
    assert place.input_value() == "1"
    place.fill("0.5")
    digits.settle()
    expected = unit(digits.model, digits.decode((u[a] + u[b])[None] / 2))
    assert (digits.pixels() - expected).abs().max() <= GRAY_LEVEL
    assert digits.text("#caption") == "Interpolation, 50 % of the way"
    assert digits.text("#sample figcaption") == f"From sample {a + 1}, label {a % 10}"
    assert digits.text("#neighbour figcaption") == f"To sample {b + 1}, label {b % 10}"
    original = unit(digits.model, digits.samples[b : b + 1])
    assert (digits.pixels("#neighbour canvas") - original).abs().max() <= 0.51 * GRAY_LEVEL
    digits.page.get_by_role("button", name="Play").click()
    assert digits.page.evaluate("state.path.playing")
    digits.page.get_by_role("button", name="Pause").click()
    assert not digits.page.evaluate("state.path.playing")


def test_map_by_keyboard(digits: Explorer) -> None:
    u = digits.encode(digits.samples)
    digits.page.get_by_role("application").focus()
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowUp", "ArrowLeft", "ArrowDown"):
        digits.page.keyboard.press(key)
    digits.settle()
    assert digits.page.evaluate("Array.from(state.code)") == pytest.approx([0.1, 0.4, 0, 0, 0, 0])
    digits.page.keyboard.press("Shift+Enter")
    digits.settle()
    x, y = digits.page.evaluate("toPixel([0.1, 0.4, 0, 0, 0, 0])")
    places = torch.tensor([digits.page.evaluate("(u) => toPixel(u)", v.tolist()) for v in u])
    nearest = int((places - torch.tensor([x, y])).norm(dim=1).argmin())
    assert digits.text("#sample figcaption").startswith(f"Sample {nearest + 1},")
    assert digits.page.locator("#neighbour").is_visible()
    assert f"Sample {nearest + 1}," in digits.text("#status")
    for _ in range(12):
        digits.page.keyboard.press("Shift+ArrowLeft")
    digits.page.keyboard.press("i")
    digits.wait("state.path && !state.path.playing")
    assert "Interpolation from Sample" in digits.text("#status")
    digits.page.keyboard.press("Home")
    digits.settle()
    assert digits.page.evaluate("Array.from(state.code)") == [0.0] * 6


def test_every_control_has_a_name_and_is_reached_by_keyboard(digits: Explorer) -> None:
    page = digits.page
    tree = page.locator("body").aria_snapshot()
    for line in tree.splitlines():
        if re.match(r"\s*- (button|slider|combobox|application|img)\b", line):
            assert re.search(r'- \w+ "[^"]+', line), line
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    assert {"reset", "draw", "x", "y", "colour", "map", *(f"u{k}" for k in range(1, 7))} <= reached


def test_phone(explorer: Callable[..., Explorer]) -> None:
    model, samples = images()
    screen = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    page = explorer(model, samples, screen=screen)
    assert page.page.evaluate("document.documentElement.scrollWidth") == 390
    k = page.in_sight()[0]
    u = page.encode(samples)
    page.page.touchscreen.tap(*page.place(u[k]))
    page.settle()
    assert page.text("#sample figcaption") == f"Sample {k + 1}"
    page.page.get_by_role("button", name="Interpolate to the next sample selected").tap()
    other = page.in_sight()[1]
    page.page.touchscreen.tap(*page.place(u[other]))
    page.wait("state.path && !state.path.playing")
    expected = unit(model, page.decode(u[other : other + 1]))
    assert (page.pixels() - expected).abs().max() <= GRAY_LEVEL
    page.page.locator("#u6").scroll_into_view_if_needed()
    stage, slider = (page.page.locator(part).bounding_box() for part in ("#decoded", "#u6"))
    assert 0 <= stage["y"] < stage["y"] + stage["height"] <= slider["y"]  # both are in sight


def test_colours_follow_the_scheme(explorer: Callable[..., Explorer]) -> None:
    page = explorer(*images(), screen={"color_scheme": "dark"}).page
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(20, 23, 27)"
    colours = page.evaluate("map.colours")
    page.emulate_media(color_scheme="light")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    changed = "before => map.colours.some((colour, k) => colour !== before[k])"
    page.wait_for_function(changed, arg=colours)  # the page listens to the change


@pytest.mark.parametrize(
    ("labels", "options", "legend"),
    [
        (None, ["Reconstruction error"], 1),
        (["b", "a"] * 20, ["Label", "Reconstruction error"], 2),
        ([f"name {k}" for k in range(40)], ["Label", "Reconstruction error"], 10),
        ([k / 40 for k in range(40)], ["Label", "Reconstruction error"], 1),
    ],
    ids=["none", "two", "many", "numbers"],
)
def test_labels_and_errors_colour_the_map(
    explorer: Callable[..., Explorer], labels: Any, options: list[str], legend: int
) -> None:
    page = explorer(*images(), labels=labels).page
    assert page.locator("#colour option").all_inner_texts() == options
    assert page.locator("#legend li").count() == legend
    if legend > 1:
        assert len(set(page.evaluate("map.colours"))) == legend
    page.get_by_role("combobox", name="Colour").select_option("error")
    errors, colours = page.evaluate("Array.from(errors)"), page.evaluate("map.colours")
    assert colours[int(np.argmax(errors))] != colours[int(np.argmin(errors))]


def test_worst_and_best_are_those_of_the_largest_and_smallest_error(digits: Explorer) -> None:
    with torch.no_grad():
        errors = (digits.model(digits.samples) - digits.samples).square().flatten(1).mean(1)
    order = errors.argsort().tolist()
    for name, expected in (("best", order[:6]), ("worst", order[::-1][:6])):
        buttons = digits.page.locator(f"#{name} button")
        labels = [buttons.nth(k).get_attribute("aria-label") for k in range(6)]
        assert [int(re.findall(r"\d+", label)[0]) - 1 for label in labels] == expected
    digits.page.locator("#worst button").first.click()
    digits.settle()
    assert digits.page.evaluate("state.selected") == order[-1]


def test_table_shows_columns_in_their_own_units(explorer: Callable[..., Explorer]) -> None:
    torch.manual_seed(0)
    samples = torch.randn(60, 3) * torch.tensor([1.0, 100, 1e-3]) + torch.tensor([0.0, 2e5, 0])
    digits = (samples.amax(0) - samples.amin(0)) / 100
    architecture = Architecture("residual", (3,), 2, value_range=None)
    model = build(architecture, samples.mean(0), samples.std(0)).eval()
    page = explorer(model, samples, columns=["a", HOSTILE, "<b>c</b>"], title=HOSTILE)
    code = torch.tensor([1.0, -0.5])
    page.set(code)
    expected = page.decode(code[None])[0]
    shown = page.page.locator("#decoded tbody td.n:not(.other)").all_inner_texts()
    numbers = torch.tensor([float(text.replace("−", "-")) for text in shown])
    assert ((numbers - expected).abs() < digits).all()
    page.page.locator("#best button").first.click()
    page.settle()
    k = page.page.evaluate("state.selected")
    others = page.page.locator("#decoded tbody td.other:not(.near)").all_inner_texts()
    originals = torch.tensor([float(text.replace("−", "-")) for text in others])
    assert ((originals - samples[k]).abs() < digits).all()
    assert unbroken(page.page.locator("#decoded tbody th")) == ["a", HOSTILE, "<b>c</b>"]


def unbroken(names: Any) -> list[str]:
    """Return the texts of elements without the places where they may break."""
    return [name.replace("\u200b", "") for name in names.all_inner_texts()]


def test_table_shows_what_coordinates_change_and_what_errors_consist_of(
    explorer: Callable[..., Explorer],
) -> None:
    torch.manual_seed(0)
    samples = torch.randn(60, 6) * torch.tensor([1.0, 100, 1e-2, 5, 1, 1])
    names = ["a", "b", "c", "d", "e", HOSTILE]
    architecture = Architecture("residual", (6,), 2, value_range=None)
    model = build(architecture, samples.mean(0), samples.std(0)).eval()
    page = explorer(model, samples, columns=names)
    spans = samples.amax(0) - samples.amin(0)
    steps = torch.zeros(5, 2)
    steps[:, 1] = torch.arange(-2.0, 3)
    frames = page.decode(steps)
    changes = (frames.amax(0) - frames.amin(0)) / spans
    expected = changes.argsort(descending=True)[:4].tolist()
    rows = page.page.locator("#coordinates li:nth-child(2) .effects tbody tr")
    assert unbroken(rows.locator("th")) == [names[k] for k in expected]
    for row, k in enumerate(expected):
        shown = [
            float(text.replace("−", "-")) for text in rows.nth(row).locator("td").all_inner_texts()
        ]
        assert ((torch.tensor(shown) - frames[:, k]).abs() < spans[k] / 100).all()
    page.page.locator("#coordinates li:nth-child(2) .effects thead th").last.click()
    page.settle()
    assert page.text("#coordinates li:nth-child(2) output") == "+2.00"
    worst = page.page.evaluate("data.worst[0]")
    apart = ((page.decode(page.encode(samples)) - samples)[worst] / spans).abs()
    shown = page.page.locator("#worst button").first.locator(".change span:first-child")
    assert unbroken(shown) == [names[k] for k in apart.argsort(descending=True)[:3]]


def test_channels_have_a_legend(explorer: Callable[..., Explorer]) -> None:
    model = make_model("conv", (2, 9, 8), 3, value_range=None)
    samples = torch.rand(30, 2, 9, 8)
    samples[:, 0] -= 0.25
    page = explorer(model, samples)
    items = page.page.locator("#channels li").all_inner_texts()
    assert [re.sub(r"\s+", " ", text) for text in items] == [
        f"Channel 1 −{samples[:, 0].max():.3g} {samples[:, 0].max():.3g}",
        f"Channel 2 {samples[:, 1].min():.3g} {samples[:, 1].max():.3g}".replace("e-", "e−"),
    ]
    canvas = page.page.evaluate("(() => [$('decoded').width, $('decoded').height])()")
    assert canvas == [8, 19]  # one above the other, with a gap


def test_names_with_markup_stay_text(explorer: Callable[..., Explorer]) -> None:
    model, samples = images()
    page = explorer(model, samples, labels=[HOSTILE, "&lt;"] * 20, title=HOSTILE)
    assert page.text("h1") == HOSTILE
    assert HOSTILE in page.page.locator("#legend li").all_inner_texts()
    assert page.page.locator("img").count() == 0
    page.page.locator("#worst button").first.click()
    page.settle()
    assert "label" in page.text("#sample figcaption")
    assert HOSTILE not in page.path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        ("mlp", (150,), "signal"),
        ("conv", (2, 33), "signal"),
        ("conv", (2, 9, 8), "field"),
        ("conv", (1, 4, 8, 9), "field"),
    ],
)
def test_signals_and_fields_have_pictures(
    explorer: Callable[..., Explorer], name: str, shape: tuple[int, ...], kind: str
) -> None:
    model = make_model(name, shape, 3, value_range=None)
    page = explorer(model, torch.randn(30, *shape))
    assert page.page.evaluate("view.kind") == kind
    picture = page.page.evaluate(PIXELS, "#decoded")["data"]
    page.set(torch.tensor([2.0, -1, 1]))
    assert page.page.evaluate(PIXELS, "#decoded")["data"] != picture
    values = torch.tensor(page.page.evaluate("Array.from(decode(state.code))"))
    expected = page.decode(torch.tensor([[2.0, -1, 1]]))
    assert torch.allclose(values, expected.flatten(), atol=1e-2)


def test_of_a_volume_the_middle_slice_is_stored_and_shown(
    explorer: Callable[..., Explorer],
) -> None:
    model = make_model("conv", (1, 5, 8, 9), 3, value_range=None)
    samples = torch.rand(30, 1, 5, 8, 9).mul(2).round()
    page = explorer(model, samples)
    stored = content(page.path)["samples"]
    width = {True: "<f2", False: "<f4"}[stored["half"]]
    values = np.frombuffer(base64.b64decode(stored["floats"]), width)
    shown = [page.page.evaluate(f"Array.from(samples({k}))") for k in range(30)]
    planes = torch.tensor(shown).view(30, 5, 8, 9)[:, 2]
    assert torch.equal(planes, torch.tensor(values.astype("f4")).view(30, 8, 9))
    order = [int((samples[:, 0, 2] == plane).flatten(1).all(1).nonzero()[0]) for plane in planes]
    assert sorted(order) == list(range(30))
    page.page.evaluate("select(0)")
    page.settle()
    expected = planes[0] / samples.max()
    picture = page.pixels("#sample canvas")  # viridis grows lighter
    darkest, lightest = picture[:, expected == 0], picture[:, expected == 1]
    assert darkest.sum(0).max() < lightest.sum(0).min()


@pytest.mark.parametrize("scales", [(1,), (2, 1, 1), (2, 9, 8)])
def test_the_output_map_gives_the_units_of_the_data(scales: tuple[int, ...]) -> None:
    architecture = Architecture("conv", (2, 9, 8), 3, width=0.25, value_range=None)
    torch.manual_seed(0)
    model = build(architecture, torch.randn(scales), torch.rand(scales) + 0.5).eval()
    factor, offset = view_of(model, torch.randn(20, 2, 9, 8)).output_map()
    values = model.decoder(torch.randn(4, 3)).flatten(1)
    each = values.shape[1] // len(factor)
    shown = values * factor.repeat_interleave(each) + offset.repeat_interleave(each)
    expected = values.view(4, 2, 9, 8) * model.scale + model.shift
    torch.testing.assert_close(shown, expected.flatten(1))


def test_given_shares_keep_their_order(tmp_path: Path) -> None:
    model = make_model("mlp", (6,), 3, value_range=None)
    path = write_explorer(tmp_path / "e.html", model, torch.randn(30, 6), shares=[0.1, 0.4, 0.2])
    page = path.read_text("utf-8")
    assert '"shares": [0.1, 0.4, 0.2]' in page
    assert "The columns of the codes, in their order." in page


def test_a_periodic_decoder_has_pictures_made_before(tmp_path: Path) -> None:
    model = make_model("conv", (1, 32), 3, value_range=None, padding="circular")
    page = write_explorer(tmp_path / "e.html", model, torch.randn(30, 1, 32)).read_text("utf-8")
    assert "does not run in a browser: it has a layer CircularPad1d" in page


class Own(nn.Module):
    """A decoder that no browser knows."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 192)

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(3 * self.linear(z)).view(-1, 3, 8, 8)


def test_decoder_that_no_browser_runs_has_pictures_made_before(
    explorer: Callable[..., Explorer],
) -> None:
    torch.manual_seed(0)
    samples = torch.rand(30, 3, 8, 8)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    model = lorae.wrap(encoder, Own(), bridge="none", sample=samples[:2]).eval()
    page = explorer(model, samples)
    assert "does not run in a browser: it has a layer Own" in page.text(".notice")
    assert page.page.locator("input[type=range]:visible").count() == 0
    for f, step in enumerate((-2, -1, 0, 1, 2)):
        expected = page.decode(torch.tensor([[0.0, step, 0]]))[0]
        selector = f"#coordinates li:nth-child(2) canvas:nth-child({f + 1})"
        assert (page.pixels(selector) - expected).abs().max() <= GRAY_LEVEL
    k = page.in_sight()[0]
    page.page.mouse.click(*page.place(page.encode(samples)[k]))
    page.settle()
    with torch.no_grad():
        expected = model(samples[k : k + 1])[0]
    assert (page.pixels() - expected).abs().max() <= GRAY_LEVEL
    page.page.get_by_role("application").focus()
    page.page.keyboard.press("ArrowRight")
    page.settle()
    assert page.page.evaluate("state.selected") == (k + 1) % 30


def test_errors_by_rank_are_plotted(explorer: Callable[..., Explorer]) -> None:
    page = explorer(*images(), errors_by_rank=[(8, 0.1), (2, 0.5), (1, 0.9)])
    chart = page.page.get_by_role("img", name="rank 1: 0.9; rank 2: 0.5; rank 8: 0.1")
    assert chart.locator(".dot").count() == 3


def test_mnist_at_a_quarter_width_is_small_and_fast(explorer: Callable[..., Explorer]) -> None:
    model = make_model("mnist", (1, 32, 32), 16)
    page = explorer(model, torch.rand(1000, 1, 32, 32))  # noise: no picture takes more bytes
    assert page.path.stat().st_size < 4_000_000
    rate = page.page.evaluate(
        """() => {
          const code = new Float64Array(K);
          for (let k = 0; k < 20; k++) decode(code);
          const start = performance.now();
          for (let k = 0; k < 60; k++) decode(code);
          return 60000 / (performance.now() - start);
        }"""
    )
    assert rate > 30


# Without a browser


def content(path: Path) -> dict[str, Any]:
    """Return what the script of a page reads."""
    text = path.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


def floats(text: str, columns: int) -> Tensor:
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), "<f4").copy()).view(-1, columns)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A short run on the digits."""
    folder = tmp_path_factory.mktemp("runs")
    options = Options(data="digits", model="lorae", width=0.25, steps=30, latent=6, batch_size=50)
    return train(options, folder / "digits", show=False)


def test_coordinates_of_a_run_are_uncorrelated_and_ordered(run: Run, tmp_path: Path) -> None:
    path = explore_run(run, tmp_path / "explorer.html")
    found = content(path)
    shares = torch.tensor(found["shares"])
    assert (shares.diff() <= 0).all()
    codes = floats(found["codes"], len(shares))
    assert len(codes) == len(found["labels"]) == found["count"]
    assert torch.allclose(torch.corrcoef(codes[:, :2].mT), torch.eye(2), atol=0.2)
    assert found["samples"]["sheet"].startswith("data:image/png;base64,")
    assert "<h1>digits</h1>" in path.read_text(encoding="utf-8")


def test_same_run_gives_the_same_bytes(run: Run, tmp_path: Path) -> None:
    first = explore_run(run, tmp_path / "a.html").read_bytes()
    torch.manual_seed(1)
    assert explore_run(run, tmp_path / "b.html").read_bytes() == first


def test_nothing_outside_is_referred_to(run: Run, tmp_path: Path) -> None:
    text = explore_run(run, tmp_path / "explorer.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|[\"'(]//[a-z]", re.sub(r'"[A-Za-z0-9+/=]{200,}"', "", text))
    assert "default-src 'none'" in text


def test_draws_of_a_density(run: Run, tmp_path: Path) -> None:
    gaussian = content(explore_run(run, tmp_path / "a.html", density="gaussian"))
    mixture = content(explore_run(run, tmp_path / "b.html", density="mixture-4"))
    assert gaussian["codes"] == mixture["codes"]
    assert gaussian["draws"] != mixture["draws"]
    u = floats(gaussian["draws"], len(gaussian["shares"]))
    assert torch.allclose(u[:, 0].std(), torch.tensor(1.0), atol=0.2)


@pytest.mark.parametrize("model", ["vrrae", "rae-sn", "vae-flow"])
def test_models_with_a_prior_or_norms_run_in_the_page(model: str, tmp_path: Path) -> None:
    options = Options(data="digits", model=model, width=0.25, steps=2, latent=3, batch_size=50)
    found = content(
        explore_run(train(options, tmp_path / model, show=False), tmp_path / "explorer.html")
    )
    assert [layer["kind"] for layer in found["decoder"]["layers"]][-2:] == ["transposed", "sigmoid"]


def test_a_gan_is_refused(tmp_path: Path) -> None:
    options = Options(data="digits", model="ns-gan", width=0.25, steps=2, latent=3, batch_size=50)
    gan = train(options, tmp_path / "gan", show=False)
    with pytest.raises(InputError, match="must be of a model that reconstructs, got 'ns-gan'"):
        explore_run(gan, tmp_path / "explorer.html")


def test_labels_of_another_number_are_refused(tmp_path: Path) -> None:
    model, samples = images()
    with pytest.raises(InputError, match="labels must be one for each of 40 samples, got 3"):
        write_explorer(tmp_path / "e.html", model, samples, labels=[1, 2, 3])
    with pytest.raises(InputError, match="samples must be at least 2, got 1"):
        write_explorer(tmp_path / "e.html", model, samples[:1])
    assert not (tmp_path / "e.html").exists()
