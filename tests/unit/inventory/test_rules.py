import math

import pytest

from haechi.domains.inventory import rules
from haechi.domains.inventory.model import BadGps, BadHostName, BadText, BadTimezone, BadValue


@pytest.mark.parametrize("good", ["a", "edge-w1", "0", "a" * 63])
def test_host_names(good: str) -> None:
    assert rules.host_name(good) == good


@pytest.mark.parametrize("bad", ["", "-a", "a-", "A", "a_b", "a.b", "a" * 64, "장치", "a\n"])
def test_what_is_no_dns_label(bad: str) -> None:
    with pytest.raises(BadHostName):
        rules.host_name(bad)


@pytest.mark.parametrize(
    ("latitude", "longitude"), [(91, 0), (0, -181), (math.nan, 0), (0, math.inf)]
)
def test_coordinates_out_of_range(latitude: float, longitude: float) -> None:
    with pytest.raises(BadGps):
        rules.gps(latitude, longitude)


def test_names_are_composed_and_compared_as_read() -> None:
    decomposed = "\u110c\u1165\u11bc\u1106\u116e\u11ab"
    assert rules.name(decomposed) == "정문"
    assert rules.name_key("EDGE  01") == rules.name_key("edge 01")
    for bad in ("", "  ", "a\nb", "x" * 129, "\ud800", "a\x00b"):
        with pytest.raises(BadText):
            rules.name(bad)


def test_addresses_are_only_checked_for_their_form() -> None:
    for good in ("192.0.2.21", "2001:db8::1", "edge-w1.local", "::1"):
        assert rules.address(good) == good
    for bad in ("", "a b", "http://x", "a;b", "x/y"):
        with pytest.raises(BadValue):
            rules.address(bad)


def test_time_zones() -> None:
    assert rules.timezone("Asia/Seoul") == "Asia/Seoul"
    for bad in ("Asia/Nowhere", "../etc/passwd", "", "/etc/localtime"):
        with pytest.raises(BadTimezone):
            rules.timezone(bad)


def test_distance() -> None:
    seoul, busan = rules.gps(37.5665, 126.9780), rules.gps(35.1796, 129.0756)
    assert rules.distance_m(seoul, busan) == pytest.approx(325_000, rel=0.01)
