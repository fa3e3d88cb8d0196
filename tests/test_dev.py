"""What dev.py installs and when, and that commands receive their arguments and exit status.

Nothing is installed: each test has a copy of dev.py next to an empty virtual environment.
"""

import ast
import importlib.metadata
import importlib.util
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
DEV = ROOT / "dev.py"
COMMANDS = ["demo", "test", "lint", "bench", "docs", "lorae"]
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


@pytest.fixture
def clone(tmp_path):
    """Return a folder with dev.py and the files that determine what it installs."""
    for name in ("dev.py", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.fixture
def dev(clone, monkeypatch):
    """Return the clone's dev.py as a module whose installer only records its arguments."""
    spec = importlib.util.spec_from_file_location("dev", clone / "dev.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.steps = []

    def make_venv():
        module.steps.append("venv")
        module.PYTHON.parent.mkdir(parents=True, exist_ok=True)
        module.PYTHON.touch()
        version = ".".join(map(str, sys.version_info[:3]))
        (module.VENV / "pyvenv.cfg").write_text(f"version = {version}\n")
        module.STAMP.write_text("unfinished")

    monkeypatch.setattr(module, "make_venv", make_venv)
    monkeypatch.setattr(module, "pip", lambda *words: module.steps.append(words[-1]))
    monkeypatch.setattr(module, "warm_up", lambda _: module.steps.append("import"))
    return module


@pytest.fixture
def ready(clone, dev):
    """Return the clone with a real environment in which lorae and pytest are stubs."""
    venv.create(clone / ".venv", with_pip=False)
    (clone / ".venv" / "dev-stamp").write_text(f"{dev.digest()} dev\n")
    stub = (
        "import os, sys\n"
        "print(sys.argv[1:], os.getcwd(), os.environ['OMP_WAIT_POLICY'],"
        " os.environ.get('OMP_NUM_THREADS'), flush=True)\n"
        "sys.exit(int(os.environ.get('STUB_STATUS', 0)))\n"
    )
    (packages,) = (clone / ".venv").rglob("site-packages")
    for name in ("lorae", "pytest"):
        (packages / name).mkdir()
        (packages / name / "__main__.py").write_text(stub)
    return clone


def call(clone, *arguments, **variables):
    """Run the clone's dev.py and return the finished process."""
    env = {
        key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "PYTHON"))
    }
    return subprocess.run(
        [sys.executable, str(clone / "dev.py"), *arguments],
        env=env | variables,
        cwd=clone,
        capture_output=True,
        text=True,
        check=False,
    )


def only_line(result):
    """Return the single line that a failed command printed."""
    (line,) = result.stderr.strip().splitlines()
    assert not result.stdout
    return line


# What is installed, and when


@pytest.mark.parametrize(
    ("kind", "target"), [("run", "{}[flows]"), ("dev", "{}[dev]"), ("docs", "{}[dev,docs]")]
)
def test_only_the_first_run_installs(dev, clone, kind, target):
    dev.ensure(kind)
    assert dev.steps == ["venv", "editables", target.format(clone), "import"]
    dev.ensure(kind)
    assert len(dev.steps) == 4


def test_the_tools_are_added_once(dev, clone):
    dev.ensure("run")
    dev.ensure("dev")
    assert dev.steps[4:] == ["editables", f"{clone}[dev]", "import"]
    dev.ensure("run")
    assert len(dev.steps) == 7
    dev.ensure("docs")
    assert dev.steps[7:] == ["editables", f"{clone}[dev,docs]", "import"]
    dev.ensure("dev")
    dev.ensure("run")
    assert len(dev.steps) == 10


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_file_reinstalls_into_the_same_environment(dev, clone, name):
    dev.ensure("run")
    with (clone / name).open("a") as file:
        file.write("# changed\n")
    dev.ensure("run")
    assert dev.steps[4:] == ["editables", f"{clone}[flows]", "import"]


def test_line_endings_do_not_count_as_a_change(dev, clone):
    before = dev.digest()
    for name in ("pyproject.toml", "constraints.txt"):
        (clone / name).write_bytes((clone / name).read_bytes().replace(b"\n", b"\r\n"))
    assert dev.digest() == before


def test_an_interrupted_installation_starts_afresh(dev, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dev, "pip", interrupt)
        with pytest.raises(KeyboardInterrupt):
            dev.ensure("run")
    dev.ensure("run")
    assert dev.steps.count("venv") == 2
    assert dev.installed() == (dev.digest(), "run")


def test_a_failed_import_leaves_no_stamp(dev, monkeypatch):
    def fail(_):
        raise dev.Stop(1, "cannot be imported")

    monkeypatch.setattr(dev, "warm_up", fail)
    with pytest.raises(dev.Stop):
        dev.ensure("run")
    assert dev.installed() == ("unfinished", "")


def test_another_python_recreates_the_environment(dev):
    dev.ensure("run")
    (dev.VENV / "pyvenv.cfg").write_text("version = 3.10.1\n")
    dev.STAMP.write_text("of-another-python run\n")
    dev.ensure("run")
    assert dev.steps.count("venv") == 2


def test_an_environment_created_by_hand_is_kept(dev):
    dev.PYTHON.parent.mkdir(parents=True)
    dev.PYTHON.touch()
    dev.ensure("run")
    assert "venv" not in dev.steps
    assert dev.installed() == (dev.digest(), "run")


def test_an_unfinished_environment_is_emptied(clone):
    folder = clone / ".venv"
    (folder / "lib").mkdir(parents=True)
    (folder / "half-written").touch()
    (folder / "dev-stamp").write_text("unfinished")
    module = runpy.run_path(str(clone / "dev.py"))
    commands = []
    module["make_venv"].__globals__["run"] = commands.append
    module["make_venv"]()
    assert [path.name for path in folder.iterdir()] == ["dev-stamp"]
    assert commands[0][1:3] == ["-m", "venv"]


def test_pip_reports_big_downloads_and_the_errors(clone, monkeypatch, capsys):
    module = runpy.run_path(str(clone / "dev.py"))
    script = clone / "pip.py"
    script.write_text(
        "print('Collecting x')\n"
        "print('  Downloading x-1-py3-none-any.whl (8.2 MB)')\n"
        "print('Downloading torch-2.whl (190.1 MB)')\n"
        "print('ERROR: no space left')\n"
        "raise SystemExit(1)\n"
    )
    (clone / ".venv").mkdir()
    fake = lambda command, **options: subprocess.Popen([sys.executable, str(script)], **options)  # noqa: E731
    monkeypatch.setitem(
        module["pip"].__globals__,
        "subprocess",
        type("Fake", (), {"Popen": staticmethod(fake), "PIPE": -1, "STDOUT": -2}),
    )
    with pytest.raises(module["Stop"], match="pip could not install"):
        module["pip"]("lorae")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["dev.py:   downloading torch-2.whl, 190.1 MB", "ERROR: no space left"]
    assert "Collecting x" in (clone / ".venv" / "dev-install.log").read_text()


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_a_python_without_venv_is_refused_with_a_remedy(clone, missing):
    source = (
        "import importlib.util, runpy, sys\n"
        "find = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name: None if name == {missing!r} else find(name)\n"
        f"sys.argv = ['dev.py', 'demo']\n"
        f"runpy.run_path({str(clone / 'dev.py')!r}, run_name='__main__')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "apt install python3-venv" in only_line(result)
    assert not (clone / ".venv").exists()


# Old Pythons


def test_old_pythons_can_parse_it():
    ast.parse(DEV.read_text(encoding="utf-8"), feature_version=(3, 6))


def test_old_pythons_are_refused(clone, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer"):
        runpy.run_path(str(clone / "dev.py"))


# The commands


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "COMMAND must be one of"),
        (["tset"], "unknown command 'tset' (did you mean 'test'?)"),
        (["lint", "typos"], "unknown check 'typos' (did you mean 'types'?)"),
        (["bench", "nothing"], "unknown benchmark 'nothing'"),
        (["docs", "--link"], "unknown option '--link' (did you mean '--links'?)"),
    ],
)
def test_unknown_names_are_refused(clone, arguments, sentence):
    result = call(clone, *arguments)
    assert result.returncode == 2
    assert sentence in only_line(result)
    assert not (clone / ".venv").exists()


def test_help_lists_every_command(clone):
    overview = call(clone, "--help").stdout
    for name in COMMANDS:
        assert f"\n  {name} " in overview
    for name in COMMANDS[:-1]:
        assert f"python3 dev.py {name}" in call(clone, name, "--help").stdout
    assert not (clone / ".venv").exists()


def test_lorae_runs_in_the_current_folder(ready):
    result = call(ready, "lorae", "train", "--help", "-x", "a b", STUB_STATUS="7")
    assert result.returncode == 7
    assert result.stdout.startswith("['train', '--help', '-x', 'a b'] ")
    assert result.stdout.endswith(f"{ready} passive None\n")
    assert not result.stderr


def test_demo_is_a_command_of_lorae(ready):
    assert call(ready, "demo", "--steps", "3").stdout.startswith("['demo', '--steps', '3'] ")


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        (["-x"], r"\['-n', '\d+', '-x'\]"),
        (["--all"], r"\['-m', '', '-n', '\d+'\]"),
        (["dev.py::test", "-q"], r"\['dev.py::test', '-q'\]"),
        (["-n0"], r"\['-n0'\]"),
        (["--pdb"], r"\['--pdb'\]"),
    ],
)
def test_tests_run_on_one_thread_each(ready, given, passed):
    result = call(ready, "test", *given, STUB_STATUS="1")
    assert result.returncode == 1
    assert re.match(passed + " .* passive 1\n", result.stdout)


def test_variables_of_the_user_take_precedence(ready):
    assert call(ready, "test", OMP_NUM_THREADS="3").stdout.endswith("passive 3\n")


def test_benchmarks_are_listed_and_run_by_name(ready):
    assert "no benchmarks" in call(ready, "bench").stdout
    (ready / "benchmarks").mkdir()
    (ready / "benchmarks" / "loop.py").write_text("import sys; print(sys.argv[1:]); sys.exit(5)")
    assert call(ready, "bench").stdout == "loop\n"
    result = call(ready, "bench", "loop", "--steps", "2")
    assert (result.returncode, result.stdout) == (5, "['--steps', '2']\n")


def test_lint_runs_every_check_and_fails_if_one_does(ready):
    (packages,) = (ready / ".venv").rglob("site-packages")
    for name, status in (("ruff", 1), ("mypy", 0)):
        (packages / name).mkdir()
        (packages / name / "__main__.py").write_text(
            f"import sys; print('{name}', *sys.argv[1:]); sys.exit({status})"
        )
    result = call(ready, "lint")
    assert result.returncode == 1
    assert result.stdout.splitlines() == ["ruff check", "ruff format --check", "mypy"]
    assert "failed: style, format" in result.stderr
    assert call(ready, "lint", "types").returncode == 0


def test_the_site_is_built_with_warnings_as_errors(ready):
    (ready / ".venv" / "dev-stamp").write_text(
        (ready / ".venv" / "dev-stamp").read_text().replace(" dev", " docs")
    )
    (packages,) = (ready / ".venv").rglob("site-packages")
    (packages / "sphinx").mkdir()
    (packages / "sphinx" / "__main__.py").write_text(
        "import sys; print(*sys.argv[1:3], '--fail-on-warning' in sys.argv, sys.argv[-1])"
    )
    built = ready / "docs" / "_build"
    assert call(ready, "docs").stdout == f"-b html True {built / 'html'}\n"
    assert call(ready, "docs", "--links").stdout.endswith(
        f"-b linkcheck True {built / 'linkcheck'}\n"
    )


@posix
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_command(ready, sent, monkeypatch):
    (packages,) = (ready / ".venv").rglob("site-packages")
    (packages / "lorae" / "__main__.py").write_text(
        "import signal, sys, time\n"
        f"signal.signal({int(sent)}, lambda *_: sys.exit(9))\n"
        "print('started', flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, str(ready / "dev.py"), "lorae"]
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "started\n"
        child.send_signal(sent)
        assert child.communicate(timeout=30) == ("", "")
    assert child.returncode == 9


@posix
def test_ctrl_c_during_installation_prints_one_line(clone):
    source = (
        "import runpy, signal, subprocess, sys\n"
        # A job in the background starts with SIGINT ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"dev = runpy.run_path({str(clone / 'dev.py')!r})\n"
        "code = 'import signal, time; signal.signal(2, signal.SIG_DFL); print(1, flush=True);'\n"
        "slow = [sys.executable, '-c', code + 'time.sleep(60)']\n"
        "dev['main'].__globals__['dispatch'] = lambda _: (print('in', flush=True),"
        " dev['run'](slow))[1]\n"
        "sys.exit(dev['main']())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", source],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        assert child.stdout.readline() == "in\n"
        assert child.stdout.readline() == "1\n"  # the grandchild has its own handler by now
        os.killpg(child.pid, signal.SIGINT)
        _, errors = child.communicate(timeout=30)
    assert child.returncode == 130
    assert errors.splitlines()[-1] == "dev.py: interrupted; run the command again to continue"


# The project's files


def pins():
    """Return the pinned version of every package in constraints.txt."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE))


def requirements(package: str) -> list[str]:
    """Return what an installed package requires; the docs' packages need not be installed."""
    try:
        return importlib.metadata.requires(package) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def test_everything_that_lorae_needs_is_pinned():
    wanted, reached = (
        [Requirement("lorae[dev,docs]"), Requirement("hatchling"), Requirement("pip")],
        set(),
    )
    while wanted:
        package = wanted.pop()
        name = canonicalize_name(package.name)
        if (name, extras := frozenset(package.extras)) in reached:
            continue
        reached.add((name, extras))
        for line in requirements(name):
            needed = Requirement(line)
            if not needed.marker or any(
                needed.marker.evaluate({"extra": extra}) for extra in extras | {""}
            ):
                wanted.append(needed)
    assert {name for name, _ in reached} - {"lorae"} <= pins().keys()


def test_torchvision_is_nowhere():
    assert "torchvision" not in pins()
    assert "torchvision" not in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_pre_commit_runs_the_pinned_ruff():
    config = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    (revision,) = re.findall(r"ruff-pre-commit\s+rev: v(\S+)", config)
    assert revision == pins()["ruff"]
