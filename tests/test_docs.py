"""What the pages of the documentation tell, holds."""

import importlib.util
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "own-networks.md"


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the language, with its words, and the code of every block."""
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```(\S.*?)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_page_on_own_networks_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found = [code for language, code in blocks(PAGE) if language == "python"]
    assert len(found) >= 7
    names: dict = {}
    for code in found:
        exec(compile(code, str(PAGE), "exec"), names)
    assert names["small"].bridge.latent <= 32
    assert int(capsys.readouterr().out.splitlines()[0]) >= 1


def test_the_block_for_lightning_is_python():
    (code,) = [code for language, code in blocks(PAGE) if language == "python lightning"]
    compile(code, str(PAGE), "exec")
    if importlib.util.find_spec("lightning") is None:
        return
    exec(code, {})


@pytest.mark.parametrize("piece", ["LowRank", "nuclear_norm", "bridge.shrink"])
def test_each_piece_takes_three_lines(piece):
    codes = [code for language, code in blocks(PAGE) if language == "python"]
    pattern = re.compile(rf"import {piece}\b|^{re.escape(piece)}\(", re.MULTILINE)
    (shown,) = [code for code in codes if pattern.search(code)]
    lines = [line for line in shown.splitlines() if line and not re.match("from|import", line)]
    assert len(lines) == 3
