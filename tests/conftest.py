"""Fixtures every tier may use. The unit tier has no sockets; other tiers reach loopback only."""

import gc
from itertools import accumulate
from pathlib import Path

import hypothesis
import pytest
import pytest_socket

ROOT = Path(__file__).parent.parent
_NOT_OURS = pytest.StashKey[set[Path]]()

# How long an example takes says how busy the machine is, nothing of the code.
hypothesis.settings.register_profile(
    "haechi", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("haechi")


def pytest_addoption(parser):
    parser.addoption(
        "--part", default="1/1", help="Only the k-th of n parts of the files: k/n (tools/test.py)."
    )


def pytest_configure(config):
    gc.disable()
    config.stash[_NOT_OURS] = _not_in_part(config)


def pytest_ignore_collect(collection_path, config):
    return True if collection_path in config.stash[_NOT_OURS] else None


def _not_in_part(config) -> set[Path]:
    """Parts of about equal size, each of neighbouring files: those import the same."""
    number, count = map(int, config.getoption("part").split("/"))
    if count == 1:
        return set()
    files = sorted(file for one in config.args for file in Path(one).resolve().rglob("test_*.py"))
    sizes = [file.stat().st_size for file in files]
    before = accumulate(sizes, initial=0)
    share = sum(sizes) / count
    return {
        file
        for file, size, start in zip(files, sizes, before, strict=False)
        if int((start + size / 2) / share) != number - 1
    }


def pytest_collection_finish():
    """What was imported lives to the end: the collector need not look at it again and again."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items):
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
