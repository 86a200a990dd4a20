"""Node names are valid for Kubernetes and unique, whatever devices are called."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haechi.domains.clusters.naming import node_name

DEVICE = "dev-aaaaaaaaaaaaaaaa"


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("NUC-01", "nuc-01"),
        ("jetson_orin.local", "jetson-orin-local"),
        ("  edge 3 ", "edge-3"),
        ("-x-", "x"),
        ("현관", DEVICE),
        ("", DEVICE),
        (None, DEVICE),
    ],
)
def test_a_name_is_made_valid(wanted, name):
    assert node_name(wanted, DEVICE, []) == name


def test_a_taken_name_gets_the_first_free_number():
    assert node_name("edge", DEVICE, ["edge", "edge-2"]) == "edge-3"


@given(st.text(max_size=200), st.lists(st.text(max_size=70), max_size=5))
def test_any_text_gives_a_free_dns_label(wanted, taken):
    name = node_name(wanted, DEVICE, [*taken, node_name(wanted, DEVICE, taken)])
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name)
    assert name not in taken
