"""Control planes in → haproxy's configuration out. `HAECHI_GOLDEN=write` renews the files."""

import os
from pathlib import Path

import pytest

from haechi.domains.clusters.proxy import (
    UNIT_TEXT,
    proxy_backends,
    proxy_config,
    with_hosts_entry,
)

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


@pytest.mark.parametrize(
    ("before", "address", "after"),
    [
        ("", "127.0.0.1", "127.0.0.1 api.test # haechi\n"),
        ("127.0.0.1 localhost", None, "127.0.0.1 localhost\n"),
        (
            "127.0.0.1 localhost\n\n# site\n10.0.0.1 api.test other # theirs\n",
            "127.0.0.1",
            "127.0.0.1 localhost\n\n# site\n10.0.0.1 other\n127.0.0.1 api.test # haechi\n",
        ),
        ("127.0.0.1 api.test # haechi\n::1 ip6\n", None, "::1 ip6\n"),
        ("# 127.0.0.1 api.test\n", None, "# 127.0.0.1 api.test\n"),
        ("10.0.0.1 xapi.test api.test.org\n", None, "10.0.0.1 xapi.test api.test.org\n"),
    ],
)
def test_hosts_entry(before, address, after):
    made = with_hosts_entry(before, "api.test", address)
    assert made == after
    assert with_hosts_entry(made, "api.test", address) == made
