"""Sphinx configuration; `python3 dev.py docs` builds the site into docs/_build/html."""

import argparse
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docutils.nodes
import nbformat
import tyro
from docutils.utils.math import latex2mathml
from myst_nb.core.read import read_myst_markdown_notebook
from sphinx.application import Sphinx

from lorae import __version__
from lorae.cli import parsing
from lorae.cli.console import GROUPS

HERE = Path(__file__).parent
TUTORIALS = HERE / "tutorials"

project = "lorae"
author = "The lorae developers"
project_copyright = "The lorae developers"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "tutorials/_notebooks"]
templates_path = ["_templates"]
smartquotes_action = "qe"  # quotes and ellipses only: "--option" keeps its hyphens
html_theme = "furo"
html_title = "lorae"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"

# Python
default_role = "py:obj"  # `Options` in a docstring links to it if there is such an object
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
napoleon_custom_sections = [("Reference", "References"), ("Shape", "returns_style")]
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
# References to names of this package must exist; those of other packages are not looked up.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!lorae\.).*"), ("py:.*", r".*\._\w+")]
# Annotations that only a type checker resolves name classes that have two pages.
suppress_warnings = ["ref.python"]
toc_object_entries_show_parents = "hide"

# Markdown and notebooks
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_timeout = 600
nb_merge_streams = True
nb_execution_show_tb = True
copybutton_exclude = ".linenos, .gp, .go"
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

linkcheck_timeout = 20
linkcheck_workers = 4


def setup(app: Sphinx) -> None:
    """Connect what Sphinx has no setting for."""
    app.add_html_math_renderer("mathml", (_inline_math, None), (_block_math, None))
    app.connect("autodoc-skip-member", _skip_member)
    app.connect("builder-inited", _write_pages)
    app.connect("source-read", _link_notebook)


def _inline_math(writer: Any, node: docutils.nodes.math) -> None:
    writer.body.append(_mathml(node.astext(), as_block=False))
    raise docutils.nodes.SkipNode


def _block_math(writer: Any, node: docutils.nodes.math_block) -> None:
    text = node.astext()
    if r"\\" in text:
        text = rf"\begin{{aligned}}{text}\end{{aligned}}"
    writer.body.append(f'<div class="math">{_mathml(text)}</div>')
    raise docutils.nodes.SkipNode


def _mathml(text: str, *, as_block: bool = True) -> str:
    r"""Return a formula as MathML, which browsers render without a script.

    Docutils does not know \\dots, \\Big and \\tfrac12; brackets of MathML grow by themselves.
    """
    text = re.sub(r"frac(\d)(?:(\w)|(?={))", r"frac{\1}\2", text)
    text = re.sub(r"frac({\d})(\w)", r"frac\1{\2}", text)
    text = re.sub(r"\\[bB]ig+[lr]?(?![a-zA-Z])", "", text.replace(r"\dots", r"\ldots"))
    mathml: str = latex2mathml.tex2mathml(text, as_block=as_block)
    return mathml


def _skip_member(_app: Sphinx, _kind: str, name: str, member: Any, skip: bool, _: Any) -> bool:  # noqa: FBT001
    """Leave out what a class has from other packages, whose docs refer to pages of theirs."""
    home = getattr(member, "__module__", None) or ""
    return skip or home.partition(".")[0] in {"sklearn", "torch"} or name.endswith("_request")


# Pages that are generated


def _write_pages(_app: Sphinx) -> None:
    _write(HERE / "reference" / "cli.md", "\n".join(_command_line()))
    for page in TUTORIALS.glob("*.md"):
        if page.stem != "index":
            text = page.read_text(encoding="utf-8")
            notebook = read_myst_markdown_notebook(text)
            notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
            _write(TUTORIALS / "_notebooks" / f"{page.stem}.ipynb", nbformat.writes(notebook))


def _link_notebook(_app: Sphinx, name: str, source: list[str]) -> None:
    """Offer the notebook of a tutorial for download, under its title."""
    stem = Path(name).name
    if (TUTORIALS / "_notebooks" / f"{stem}.ipynb").is_file() and name.startswith("tutorials/"):
        before, title, after = source[0].partition("\n# ")
        heading, _, rest = after.partition("\n")
        link = f"{{download}}`Download this tutorial as a notebook <_notebooks/{stem}.ipynb>`"
        source[0] = f"{before}{title}{heading}\n\n{link}\n{rest}"


def _command_line() -> Iterator[str]:
    """Yield the lines of the reference of the command line."""
    yield "# Command line\n"
    yield "`lorae --help` lists the commands, and `lorae COMMAND --help` the options of one.\n"
    for title, group in GROUPS.items():
        yield f"## {title}\n"
        for name, kind in group.items():
            yield from _command(name, kind)


def _command(name: str, kind: type) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        parser = tyro.extras.get_parser(
            kind, prog=f"lorae {name}", config=parsing._CONFIG, registry=parsing._REGISTRY
        )
    yield f"### lorae {name}\n"
    yield f"{kind.__doc__}\n".replace("\n    ", "\n")
    actions = [one for one in parser._actions if one.dest != "help"]
    positional = [_values(one) for one in actions if not one.option_strings]
    yield f"```text\nlorae {' '.join([name, *positional, '[OPTION ...]'])}\n```\n"
    for action in actions:
        words = action.option_strings or [_values(action)]
        values = _values(action) if action.option_strings else ""
        yield f"`{' '.join([*words[:1], values]).strip()}`"
        yield f": {' '.join((action.help or '').split())}\n"


def _values(action: argparse.Action) -> str:
    """Return the values that an option takes, as the help shows them."""
    metavar = action.metavar or ""
    return " ".join(metavar) if isinstance(metavar, tuple) else metavar


def _write(path: Path, text: str) -> None:
    """Write a page, unless it has this text already and need not be read again."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
