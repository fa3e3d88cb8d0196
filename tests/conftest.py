"""Settings of every test: one thread, a seed, checked shapes, no network, its own cache."""

import ipaddress
import os
import random
import socket

# Before torch is imported: threads that spin while they wait slow down a shared machine.
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

# An int is allowed where a float is expected, as for type checkers.
check_types = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check_calls(function):
    """Check types and shapes at every call, if the annotations can be checked."""
    try:
        return check_types(function)
    except BeartypeDecorHintException:
        # Annotations for static checkers only: typing.Self outside its class, protocols that
        # isinstance does not support, numpy.ndarray of any type.
        return function


# Before lorae is imported.
jaxtyping.install_import_hook("lorae", "conftest.check_calls")

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

# CI repeats the same examples; locally each run tries new ones.
hypothesis.settings.register_profile("local", deadline=None, print_blob=True)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")

collect_ignore = ["conftest.py", "helpers"]  # no examples to collect


class GlobalFixtures:
    """Fixtures for all tests, including the examples in src/lorae.

    A fixture of a conftest.py applies only below its folder, one of a plugin everywhere.
    """

    @pytest.fixture(autouse=True)
    def data_cache(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """Keep downloads of a session in a temporary folder, not in the user's cache."""
        monkeypatch.setenv("LORAE_DATA", str(tmp_path_factory.getbasetemp() / "lorae-data"))

    @pytest.fixture(autouse=True)
    def seed(self) -> None:
        """Start every test from the same state of the global generators."""
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002 - libraries may use the legacy generator
        torch.manual_seed(0)

    @pytest.fixture(autouse=True)
    def offline(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        """Refuse connections beyond this machine, except to tests marked `network`."""
        if request.node.get_closest_marker("network"):
            return
        for name in ("connect", "connect_ex"):
            monkeypatch.setattr(socket.socket, name, only_local(getattr(socket.socket, name)))

    @pytest.fixture
    def cached_data(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Load the data of equal options only once in a session."""
        from small import load

        from lorae.training.options import Options

        monkeypatch.setattr(Options, "load", load)


def only_local(connect):
    """Wrap a method of `socket.socket` so that it connects to this machine only."""

    def connect_locally(self: socket.socket, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not is_local(address[0]):
            message = f"a test not marked `network` tried to connect to {address[0]}"
            raise ConnectionRefusedError(message)
        return connect(self, address)

    return connect_locally


def is_local(host: str) -> bool:
    """Return whether a host is this machine, without a name server."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", "")


def pytest_configure(config: pytest.Config) -> None:
    """Register the fixtures above for the whole session."""
    config.pluginmanager.register(GlobalFixtures(), "lorae-global-fixtures")
