"""What the script prints, and what it cannot have printed."""

import pytest

from haechi.core.clock import SystemClock
from haechi.domains.clusters.host.errors import FactsUnreadable
from haechi.domains.clusters.host.facts import gather, parse
from haechi.testing.hosts import FakeHosts

TEXT = """\
began\t1000.0
arch\tx86_64
address\teth0\t192.168.0.9/24
address\tlo\t127.0.0.1/8
route\tdefault\teth0
route\t192.168.0.0/24\teth0
route\t10.9.0.5\teth0
route\tblackhole\t
route\tunreachable\t
route\tnexthop\teth1
ended\t1001.0
"""


def test_routes_that_lead_nowhere_are_no_networks_of_the_host():
    facts = parse(TEXT, 1000.0, 1001.0)
    assert [str(one) for one in facts.networks()] == [
        "192.168.0.0/24",
        "192.168.0.0/24",
        "10.9.0.5/32",
    ]
    assert facts.address_near("192.168.0.9") == "192.168.0.9"


@pytest.mark.parametrize(
    "line", ["address\teth1\t10.0.0.1 check/24", "route\tdefault", "disk\t/\t/", "cpus\tmany"]
)
async def test_what_the_script_cannot_have_printed_is_told_with_the_hosts_name(line):
    shell = FakeHosts().add("dev-a", name="alpha")
    shell.on("sh -s", f"{TEXT}{line}\n")
    with pytest.raises(FactsUnreadable) as unreadable:
        await gather(shell, SystemClock())
    assert unreadable.value.data["host"] == "alpha"
