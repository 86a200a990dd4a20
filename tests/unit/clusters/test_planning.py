"""Members and networks that a cluster can have, and those it cannot."""

import pytest

from haechi.domains.clusters.errors import BadMembers, BadNetwork
from haechi.domains.clusters.model import FormOptions, HostProfile
from haechi.domains.clusters.planning import check_members, check_networks, plan_members
from haechi.domains.clusters.ports import ClusterDevice


@pytest.mark.parametrize("masters", [["a"], ["a", "b", "c"], list("abcde")])
def test_an_odd_number_of_control_planes(masters):
    check_members(masters, ["w"])


@pytest.mark.parametrize(
    ("masters", "workers"), [([], ["w"]), (["a", "b"], []), (list("abcdefghi"), []), (["a"], ["a"])]
)
def test_members_that_cannot_be(masters, workers):
    with pytest.raises(BadMembers):
        check_members(masters, workers)


@pytest.mark.parametrize(
    "options",
    [
        {"pod_cidr": "10.0.0.1/16"},
        {"pod_cidr": "fd00::/48"},
        {"pod_cidr": "10.244.0.0/24"},
        {"service_cidr": "10.244.128.0/20"},
        {"service_cidr": "192.168.0.0/24"},
    ],
)
def test_networks_that_cannot_be(options):
    with pytest.raises(BadNetwork):
        check_networks(FormOptions(**options), ["192.168.0.9", "edge-1.local"])


def test_the_defaults_can_be():
    check_networks(FormOptions(), ["192.168.0.9", "10.0.0.1", ""])


def test_two_devices_of_one_name_get_two_node_names():
    devices = [ClusterDevice(f"dev-{one}", "Edge", "edge", None) for one in "ab"]
    planned = plan_members([(one, "worker") for one in devices], ["master"])
    assert [one.node_name for one in planned] == ["edge", "edge-2"]


def test_options_survive_being_saved_and_tolerate_what_a_newer_release_added():
    options = FormOptions(accept=["x"], profile=HostProfile(kubelet={"a": {"b": 1}}))
    saved = {**options.as_json(), "from_the_future": 1}
    saved["profile"] = {**saved["profile"], "from_the_future": 1}
    assert FormOptions.of_json(saved) == options
