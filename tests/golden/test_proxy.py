"""Control planes in → haproxy's configuration out. `HAECHI_GOLDEN=write` renews the files."""

import os
from pathlib import Path

import pytest

from haechi.domains.clusters.proxy import UNIT_TEXT, proxy_backends, proxy_config

FOLDER = Path(__file__).parent / "proxy"
CASES = {
    "one": ["192.168.0.9"],
    "three": ["192.168.0.10", "192.168.0.9", "192.168.0.101"],
    "v6": ["fd00::9"],
}


def compare(path: Path, made: str) -> None:
    if os.environ.get("HAECHI_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(made)
    assert made == path.read_text()


@pytest.mark.parametrize("case", CASES)
def test_config(case):
    made = proxy_config(CASES[case])
    compare(FOLDER / f"{case}.cfg", made)
    assert sorted(proxy_backends(made)) == sorted(CASES[case])


def test_unit():
    compare(FOLDER / "unit.service", UNIT_TEXT)


def test_order_and_repeats_change_nothing():
    three = CASES["three"]
    assert proxy_config([*reversed(three), three[0]]) == proxy_config(three)


def test_no_control_plane_is_a_mistake():
    with pytest.raises(ValueError, match="control plane"):
        proxy_config([])
