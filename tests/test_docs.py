"""The pages of the documentation: their code runs, and the names that they refer to exist."""

import importlib.util
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "tutorials" / "own-networks.md"
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")]
CELL = "{code-cell} ipython3"


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the language line and the code of every block."""
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```(\S.*?)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def is_missing(name: str) -> bool:
    """Return whether nothing has this dotted name."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return True
    return False


def test_names_in_pages_exist():
    """Names in code, such as `lorae.Options`, and imports in blocks of Python."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        names = set(re.findall(r"(?:`|\bfrom )(lorae(?:\.\w+)+)", text))
        assert not [name for name in names if is_missing(name)], page


def test_names_in_docstrings_exist():
    """Names in Sphinx roles, such as :func:`lorae.train`."""
    for path in ROOT.glob("src/lorae/**/*.py"):
        names = set(re.findall(r":\w+:`(lorae(?:\.\w+)+)`", path.read_text(encoding="utf-8")))
        assert not [name for name in names if is_missing(name)], path


def test_the_page_on_own_networks_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    found = [code for language, code in blocks(PAGE) if language == CELL]
    assert len(found) >= 7
    names: dict = {}
    for code in found:
        exec(compile(code, str(PAGE), "exec"), names)
    assert names["small"].bridge.latent <= 32
    assert int(capsys.readouterr().out.splitlines()[0]) >= 1


def test_the_block_for_lightning_is_python():
    (code,) = [code for language, code in blocks(PAGE) if language == "python"]
    compile(code, str(PAGE), "exec")
    if importlib.util.find_spec("lightning") is None:
        return
    exec(code, {})


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("lorae tr", "train"),
        ("lorae train --we", "--weight --weight-decay"),
        ("lorae fold x", "xy"),
    ],
)
def test_the_shell_completes_commands_options_and_files(words, completed, tmp_path):
    (tmp_path / "xy").touch()
    script = (
        f'lorae() {{ {shlex.quote(sys.executable)} -m lorae "$@"; }}\n'
        f". {shlex.quote(str(ROOT / 'docs' / 'lorae-completion.bash'))}\n"
        f"COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n"
        '_lorae; echo "${COMPREPLY[*]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.strip() == completed


@pytest.mark.parametrize("piece", ["LowRank", "nuclear_norm", "bridge.shrink"])
def test_each_piece_takes_three_lines(piece):
    codes = [code for language, code in blocks(PAGE) if language == CELL]
    pattern = re.compile(rf"import {piece}\b|^{re.escape(piece)}\(", re.MULTILINE)
    (shown,) = [code for code in codes if pattern.search(code)]
    lines = [line for line in shown.splitlines() if line and not re.match("from|import", line)]
    assert len(lines) == 3
