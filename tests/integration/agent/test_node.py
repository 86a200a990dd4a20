"""An agent of a cluster's node, without Kubernetes: where pods would reach it, and what it says.

Nothing here touches the machine's network: the agent serves at a loopback address of its own, which
needs no rights and no cleaning up. At its real address, which it adds itself, with pods on a real
node, it is tested in the lab.
"""

import random

import httpx2

from haechi.core import ids
from haechi.protocol.desired import ContainerSpec, DesiredState
from haechi.testing.processes import free_ports

from .conftest import Edge, ScriptedServer

LIMIT_S = 90


def spec_of(token_digest: str) -> ContainerSpec:
    return ContainerSpec(
        deployment_id=ids.new_id("deployment"),
        package_id=ids.new_id("package"),
        version_id=ids.new_id("version"),
        name="pod",
        image="an-image",
        token_digest=token_digest,
    )


async def test_it_listens_for_pods_and_takes_up_desired_states(server: ScriptedServer, edge: Edge):
    address = f"127.{random.randint(64, 127)}.{random.randint(0, 255)}.{random.randint(1, 254)}"
    (port,) = free_ports(1)
    pod = spec_of("00")
    server.desired = DesiredState(revision=1, workloads=[pod])
    edge.start(node=True, node_address=address, docker_socket="", intake_port=port)
    await server.until(lambda: server.samples, timeout_s=LIMIT_S)
    capacity = server.hellos[0].capacity
    assert capacity is not None
    assert capacity.engine == "kubernetes"
    await edge.says(f"intake on {address}:{port}", timeout_s=LIMIT_S)
    # Applied though there is no engine of its own; the pod is not there.
    await server.until(lambda: server.states and server.states[-1].revision == 1, timeout_s=LIMIT_S)
    (status,) = server.states[-1].deployments
    assert (status.deployment_id, status.state) == (pod.deployment_id, "absent")
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
        url = f"http://{address}:{port}"
        assert (await client.get(f"{url}/v1/health")).json()["status"] == "ok"
        # Whoever is no pod of this node is nobody.
        answer = await client.post(f"{url}/v1/results", json={"class": "x"})
        assert answer.status_code == 403
    await server.want(DesiredState(revision=2))
    await server.until(lambda: server.states[-1].revision == 2, timeout_s=LIMIT_S)
    assert server.states[-1].deployments == []
