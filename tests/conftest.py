"""What every test runs under: one thread, a seed, checked shapes, no network, its own cache."""

import ipaddress
import os
import random
import socket
from pathlib import Path

# Before torch is imported: threads that spin while they wait slow a shared machine many times.
os.environ["OMP_WAIT_POLICY"] = "passive"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MPLBACKEND"] = "agg"

import hypothesis
import jaxtyping
import numpy as np
import pytest
import torch
from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintException

# An int serves where a float is asked for, as type checkers have it.
check_types = beartype(conf=BeartypeConf(is_pep484_tower=True))


def checked(function):
    """Check types and shapes at every call, where the annotations can be checked."""
    try:
        return check_types(function)
    except BeartypeDecorHintException:
        # Annotations that only a static checker understands: typing.Self outside its class, a
        # protocol that isinstance does not know, numpy.ndarray of anything.
        return function


# Before lorae is imported.
jaxtyping.install_import_hook("lorae", "conftest.checked")

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

# CI repeats the same examples; on a desk each run tries new ones.
hypothesis.settings.register_profile("desk", deadline=None, print_blob=True)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "desk")

# What stands beside the tests is imported by them, and holds no examples to collect.
HERE = Path(__file__).parent
collect_ignore = [path.name for path in HERE.glob("*.py") if not path.name.startswith("test_")]


class Everywhere:
    """Fixtures for all tests, the examples in src/lorae among them.

    A fixture of a conftest.py reaches only what lies below its folder; those of a plugin have no
    such bounds.
    """

    @pytest.fixture(autouse=True)
    def data_cache(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """Keep what a session fetches in a temporary folder, never in the user's cache."""
        monkeypatch.setenv("LORAE_DATA", str(tmp_path_factory.getbasetemp() / "lorae-data"))

    @pytest.fixture(autouse=True)
    def seed(self) -> None:
        """Start every test from the same state of the global generators."""
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002 - the legacy state is what others may still draw from
        torch.manual_seed(0)

    @pytest.fixture(autouse=True)
    def offline(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        """Refuse connections beyond this machine, except to tests marked `network`."""
        if request.node.get_closest_marker("network"):
            return
        for name in ("connect", "connect_ex"):
            monkeypatch.setattr(socket.socket, name, only_here(getattr(socket.socket, name)))

    @pytest.fixture
    def data_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Read the data of equal options only once in a session."""
        from small import load

        from lorae.training.options import Options

        monkeypatch.setattr(Options, "load", load)


def only_here(connect):
    """Wrap a method of `socket.socket` so that it reaches this machine only."""

    def checked(self: socket.socket, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not is_here(address[0]):
            message = f"a test not marked `network` tried to reach {address[0]}"
            raise ConnectionRefusedError(message)
        return connect(self, address)

    return checked


def is_here(host: str) -> bool:
    """Return whether a host is this machine, without asking a name server."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", "")


def pytest_configure(config: pytest.Config) -> None:
    """Register the fixtures above for the whole session."""
    config.pluginmanager.register(Everywhere(), "lorae-everywhere")
