"""The wheel is whole: it runs where no checkout is, and brings the dashboard along."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Needs a built dashboard, as `make test` makes it."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        check=True,
        timeout=120,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


def test_it_contains_dashboard_migrations_and_sdk(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "haechi/web/static/index.html" in names
    assert any(name.startswith("haechi/web/static/assets/") for name in names)
    assert "haechi/migrations/versions/0001_initial.py" in names
    assert "haechi/migrations/script.py.mako" in names
    assert "haechi/sdk/__init__.py" in names
    assert "haechi/py.typed" in names
    assert not any(name.startswith(("tests/", "demo/", "tools/")) for name in names)


def test_it_runs_without_a_checkout(wheel, tmp_path):
    """Unpacked alone, beside the environment's dependencies, it makes a DB and describes its API."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import haechi; assert haechi.__file__.startswith(sys.argv[1]), haechi.__file__\n"
        "from haechi.app import STATIC_DIR, describe_api\n"
        "assert (STATIC_DIR / 'index.html').exists()\n"
        "print(len(describe_api()['paths']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "site")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40
