"""Fixtures every tier may use. The unit tier has no sockets; other tiers reach loopback only."""

import gc
from pathlib import Path

import hypothesis
import pytest
import pytest_socket

ROOT = Path(__file__).parent.parent

# How long an example takes says how busy the machine is, nothing of the code.
hypothesis.settings.register_profile(
    "haechi", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("haechi")


def pytest_addoption(parser):
    parser.addoption(
        "--part", default="1/1", help="Only every n-th test, from the k-th on: k/n (tools/test.py)."
    )


def pytest_configure():
    gc.disable()


def pytest_collection_finish():
    """What was imported lives to the end: the collector need not look at it again and again."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(config, items):
    first, step = map(int, config.getoption("part").split("/"))
    items[:] = items[first - 1 :: step]
    for item in items:
        tier = Path(item.fspath).relative_to(ROOT / "tests").parts[0]
        if tier in {"integration", "contract"}:
            item.add_marker(pytest.mark.integration)
        if tier == "e2e":
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(autouse=True)
def _no_sockets_in_units(request):
    tier = Path(request.node.fspath).relative_to(ROOT / "tests").parts[0]
    if tier in {"unit", "golden"}:
        pytest_socket.disable_socket(allow_unix_socket=True)
        yield
        pytest_socket.enable_socket()
    else:
        yield
