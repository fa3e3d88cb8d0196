"""lorae demo."""

import re
import shlex
from pathlib import Path

import pytest
from small import content

from lorae.cli.demo import MODELS, program
from lorae.training.run_folder import Run

pytest_plugins = ["commands"]
pytestmark = pytest.mark.usefixtures("cached_data")
SMALL = ("demo", "--data", "digits", "--steps", "2", "--width", "0.1", "--out", "shown")


def page(out, name):
    return Path(re.search(rf"^{name}: (.+)$", out, re.MULTILINE)[1])


def test_demo_trains_its_models_and_resumes(lorae):
    status, out, err = lorae(*SMALL)
    assert status == 0, err
    assert page(out, "explorer").is_file()
    link = page(out, "explorer").relative_to(page(out, "report").parent)
    assert f'href="{link.as_posix()}"' in page(out, "report").read_text()
    before = content(Path("shown"))
    status, again, _ = lorae(*SMALL)
    assert (status, again) == (0, out)
    assert content(Path("shown")) == before


def test_the_printed_commands_give_the_numbers_of_the_demo(lorae):
    _, out, _ = lorae(*SMALL)
    printed = [line for line in out.splitlines() if line.startswith(f"{program()} train ")]
    assert len(printed) == len(MODELS)
    for line in printed:
        *words, folder = shlex.split(line.removeprefix(program()))
        assert lorae(*words, "typed")[0] == 0
        typed, shown = Run(Path("typed")), Run(Path(folder))
        assert typed.last["test"] == shown.last["test"]
        assert typed.options == shown.options
        Path("typed").rename(f"typed-{shown.name}")


def test_the_commands_to_try_next_exist(lorae):
    _, out, _ = lorae(*SMALL)
    lines = out.partition("\nnext:\n")[2].splitlines()
    assert len(lines) == 3
    for line in lines:
        name, *words = shlex.split(line.strip().removeprefix(program()), comments=True)
        known = lorae(name, "--help")[1]
        assert all(word in known for word in words if word.startswith("--"))
