"""An agent of a cluster's node, without Kubernetes: where pods would reach it, and what it says.

The real thing, with pods, is tested in the lab.
"""

import os
import subprocess

import httpx2
import pytest

from haechi.agent.netlink import add_address
from haechi.core import ids
from haechi.protocol.desired import NODE_AGENT_ADDRESS, ContainerSpec, DesiredState
from haechi.testing.processes import free_ports

from .conftest import Edge, ScriptedServer

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as on a node")


@pytest.fixture
def _address():
    """Left on `lo` by the agent, as on a node; others may be using it, so it stays there."""
    try:
        add_address(NODE_AGENT_ADDRESS, "lo")
    except OSError as error:
        pytest.skip(f"no address may be added here: {error}")


def spec_of(token_digest: str) -> ContainerSpec:
    return ContainerSpec(
        deployment_id=ids.new_id("deployment"),
        package_id=ids.new_id("package"),
        version_id=ids.new_id("version"),
        name="pod",
        image="an-image",
        token_digest=token_digest,
    )


@pytest.mark.usefixtures("_address")
async def test_it_listens_for_pods_and_takes_up_desired_states(server: ScriptedServer, edge: Edge):
    (port,) = free_ports(1)
    pod = spec_of("00")
    server.desired = DesiredState(revision=1, workloads=[pod])
    edge.start(node=True, docker_socket="", intake_port=port)
    await server.until(lambda: server.samples, timeout_s=90)
    capacity = server.hellos[0].capacity
    assert capacity is not None
    assert capacity.engine == "kubernetes"
    await edge.says(f"intake on {NODE_AGENT_ADDRESS}:{port}", timeout_s=90)
    # Applied though there is no engine of its own; the pod is not there.
    await server.until(lambda: server.states[-1].revision == 1, timeout_s=90)
    (status,) = server.states[-1].deployments
    assert (status.deployment_id, status.state) == (pod.deployment_id, "absent")
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
        url = f"http://{NODE_AGENT_ADDRESS}:{port}"
        assert (await client.get(f"{url}/v1/health")).json()["status"] == "ok"
        # Whoever is no pod of this node is nobody.
        answer = await client.post(f"{url}/v1/results", json={"class": "x"})
        assert answer.status_code == 403
    await server.want(DesiredState(revision=2))
    await server.until(lambda: server.states[-1].revision == 2, timeout_s=90)
    assert server.states[-1].deployments == []


@pytest.mark.usefixtures("_address")
def test_an_address_may_be_added_again():
    add_address(NODE_AGENT_ADDRESS, "lo")
    look = ["ip", "address", "show", "lo"]
    shown = subprocess.run(look, check=True, capture_output=True, text=True)
    assert shown.stdout.count(f"inet {NODE_AGENT_ADDRESS}/32") == 1
