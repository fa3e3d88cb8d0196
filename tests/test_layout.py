"""The layout: folders import in one direction, tests mirror them, and CONTRIBUTING.md lists them.

Imports inside functions and under TYPE_CHECKING count. Those of a folder's `__init__`, which
re-exports what users import from there, have a rule of their own.
"""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "lorae"
FOLDERS = (
    "errors",
    "utils",
    "linalg",
    "data",
    "nn",
    "objectives",
    "sampling",
    "training",
    "estimator",
    "metrics",
    "report",
    "export",
    "paper",
    "cli",
)
"""In the order of imports: a module imports from its own folder and from those before it."""


TESTED_BY = {
    "cli/samples": "cli/test_evaluate",
    "data/archives": "data/test_array_files",
    "data/arrays": "data/test_array_files",
    "data/downloads": "data/test_mnist",
    "data/registry": "data/test_datasets",
    "data/scaling": "data/test_datasets",
    "data/whole": "cli/test_encode",
    "estimator/path_folder": "cli/test_path",
    "estimator/plotting": "report/test_estimator_report",
    "estimator/loading": "nn/test_containers",
    "export/model_card": "cli/test_export",
    "nn/blocks": "nn/test_networks",
    "nn/bridges": "nn/test_bridges",
    "nn/paper_networks": "nn/test_networks",
    "nn/serialization": "nn/test_autoencoder",
    "paper": "paper/test_recipes",
    "report": "report/test_report",
    "training/evaluation": "training/test_train",
    "training/progress": "training/test_train",
    "training/session": "training/test_train",
    "training/run_folder": "cli/test_train",
    "training/signals": "training/test_resume",
    "utils/seeding": "training/test_train",
}
"""Where modules, or all modules of a folder, are tested that have no test file of their own."""

SPANNING = {
    "cli/test_fuzz": "strange options through the command line",
    "cli/test_damage": "files of run folders that are damaged, and kills at every write",
    "nn/test_bridges": "laws that run through the list of bridges",
    "paper/test_slurm": "the command on a cluster",
    "paper/test_theorems": "the recipes of the theorems at a small scale",
    "training/test_cuda": "trainings on a GPU, against a CPU",
    "training/test_resume": "runs that are stopped, killed and resumed",
}
"""Test files of what several modules do together."""


def name_of(path: Path) -> str:
    """Return the dotted name of a module or package."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {
    name_of(path): path for path in sorted(SOURCE.rglob("*.py")) if path.name != "__init__.py"
}
PACKAGES = {name_of(path): path for path in sorted(SOURCE.glob("*/**/__init__.py"))}


def imports(source: str) -> Iterator[str]:
    """Yield the full name of everything that a module imports from the package."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "lorae")


def rank(name: str) -> int:
    """Return the place of a dotted name in the order; the package's own names come last."""
    folder = name.split(".")[1] if "." in name else ""
    return FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS)


def violations(importer: str, source: str) -> set[str]:
    """Return the imports by which a module reaches into a folder after its own."""
    return {
        f"{importer}: {name}"
        for name in imports(source)
        if rank(name) > rank(importer) and name != "lorae.__version__"
    }


def test_a_folder_imports_only_from_those_before_it():
    found = set().union(*(violations(name, path.read_text()) for name, path in MODULES.items()))
    assert found == set()


@pytest.mark.parametrize(
    "source",
    [
        "from lorae.training.train import train",
        "import lorae.cli.console",
        "from lorae import training",
        "from lorae import Options",
        "import lorae",
        "def f():\n    from lorae.estimator.path import lorae_path",
        "if TYPE_CHECKING:\n    from lorae.training.options import Options",
    ],
)
def test_an_import_in_the_wrong_direction_is_found(source):
    assert len(violations("lorae.nn.autoencoder", source)) == 1


def test_modules_import_from_modules_and_not_from_packages():
    for importer, path in MODULES.items():
        for name in imports(path.read_text()):
            module = name if name in MODULES else name.rpartition(".")[0]
            allowed = importer == "lorae.__main__" or name == "lorae.__version__"
            assert module in MODULES or allowed, f"{importer} imports {name}"


def test_a_folder_re_exports_only_what_is_its_own():
    for package, path in PACKAGES.items():
        for name in imports(path.read_text()):
            assert name.startswith(f"{package}."), f"{package} re-exports {name}"


@pytest.mark.parametrize("package", ["lorae", *PACKAGES])
def test_every_public_name_is_found(package):
    module = importlib.import_module(package)
    assert all(hasattr(module, name) for name in dir(module))


def test_importing_the_package_imports_nothing_that_takes_long():
    code = "import lorae, os, sys; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "passive False\n"


def test_nothing_else_is_at_the_top():
    files = {path.name for path in SOURCE.iterdir() if path.is_file()}
    folders = {path.name for path in SOURCE.iterdir() if path.is_dir()} - {"__pycache__"}
    assert files == {"__init__.py", "__init__.pyi", "__main__.py", "errors.py", "py.typed"}
    assert folders == set(FOLDERS) - {"errors"}


def test_a_folder_holds_at_most_two_dozen_modules():
    for path in PACKAGES.values():
        assert len(list(path.parent.glob("*.py"))) <= 25, path.parent


def test_tests_mirror_the_modules():
    modules = {
        str(path.relative_to(SOURCE).with_suffix(""))
        for path in MODULES.values()
        if path.parent != SOURCE
    }
    tests = {
        str(path.relative_to(ROOT / "tests").with_suffix(""))
        for path in ROOT.glob("tests/*/**/test_*.py")
    }
    own = {module: re.sub(r"(\w+)$", r"test_\1", module) for module in modules}
    assert tests - {*own.values(), *SPANNING} == set()
    untested = [module for module, test in own.items() if test not in tests]
    assert [m for m in untested if {m, m.rpartition("/")[0]}.isdisjoint(TESTED_BY)] == []
    assert [m for m in TESTED_BY if own.get(m) in tests] == []
    assert {*TESTED_BY.values(), *SPANNING} <= tests


def test_the_tree_lists_every_folder():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = text.partition("src/lorae/\n")[2].partition("```")[0]
    listed = re.findall(r"^  (\w+(?:\.py|/))  +\S", tree, re.MULTILINE)
    assert listed == [f"{name}/" if (SOURCE / name).is_dir() else f"{name}.py" for name in FOLDERS]
