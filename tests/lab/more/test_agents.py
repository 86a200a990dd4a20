"""The agent on a real node of real Kubernetes: brought by SSH, serving pods, updated and removed."""

import json
import shlex
import time
from typing import Any

import httpx2
from tests.lab.agents import Fleet, agent_image, built, fleet  # noqa: F401 - fixtures

from haechi.protocol.desired import NODE_AGENT_ADDRESS, NODE_AGENT_URL
from haechi.protocol.samples import Sample
from lab import Host, byhand, faults

NEIGHBOUR = "import socket\nserver = socket.create_server(('', 8000))\nwhile True: server.accept()"
"""A pod of somebody else: whoever calls is let in."""
CALLS = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor

def reached(target):
    try:
        socket.create_connection(target, timeout=60).close()
    except OSError:
        return False
    return True

targets = json.loads(sys.argv[1])
with ThreadPoolExecutor(len(targets)) as pool:
    print(json.dumps([*pool.map(reached, targets)]))
"""
OLD = "198.18.77.1"
"""Of the benchmark range (RFC 2544): nobody is there."""
AI = f"""
import json, os, time, urllib.request

def post(url, body, **headers):
    headers["Content-Type"] = "application/json"
    call = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
    try:
        with urllib.request.urlopen(call, timeout=3) as answer:
            return answer.read().decode()
    except OSError as error:
        return repr(error)

token = os.environ["HAECHI_TOKEN"]
while True:
    result = {{"class": "native", "class_prob": 0.9}}
    print(post("{NODE_AGENT_URL}/v1/results", result, Authorization="Bearer " + token))
    print(post("http://{OLD}:5231/add_newAiResult", {{
        "eid": "0x01", "sid": "0xs01", "time": 202511201414, "version": "0.01v",
        "ainame": "WeatherAI", "class": 3, "class_prob": 0.7}}), flush=True)
    time.sleep(0.5)
"""


def pod_of(node: Host, name: str, image: str, script: str, token: str = "") -> bytes:
    container = {
        "name": name,
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["python3", "-u", "-c", script],
        "env": [{"name": "HAECHI_TOKEN", "value": token}] if token else [],
        "securityContext": {"runAsUser": 1000, "capabilities": {"drop": ["ALL"]}},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "nodeName": node.hostname,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": [container],
        },
    }
    return json.dumps(pod).encode()


def newest(made: Fleet, device_id: str) -> Sample | None:
    found = made.server.haechi.metrics.newest().get(device_id)
    return None if found is None else found[1]


async def test_an_agent_on_a_node_serves_its_pods(site, prepared_hosts, fleet, agent_image):  # noqa: F811
    (node,) = await prepared_hosts(1)
    made: Fleet = await fleet(site)
    haechi = made.server.haechi
    device = await made.device(node, labels={"redirect": f"{OLD}:5231"})
    await made.form(device)
    installed = await made.begun("install_agent", device)
    assert installed.state == "succeeded", installed.error
    assert (await made.agent(device))["presence"] == "ok"
    assert not await node.holds("test -e /var/lib/haechi-agent/invitation.json")
    await node.until(
        f"{byhand.KUBECTL} get pods -n kube-system | grep -q 'haechi-agent.* 1/1 *Running'",
        "Kubernetes shows the agent's pod",
    )

    async def sampled() -> Any:
        return newest(made, device)

    sample = await made.until("a sample of the device", sampled)
    assert sample.memory_total_bytes > 0

    deployment_id, token = await made.deployment(device)
    reference = installed.ctx["result"]["image"]
    for pod in (
        pod_of(node, "weather", reference, AI, token),
        pod_of(node, "neighbour", reference, NEIGHBOUR),
    ):
        await node.shell(f"{byhand.KUBECTL} apply -f -", stdin=pod)

    async def results(wanted: str) -> Any:
        params = {"deployment_id": deployment_id, "class": wanted, "limit": 10}
        return (await made.server.client.get("/results", params=params)).json()["items"]

    await made.until("results by the pod's token", lambda: results("native"))
    # Old package, fixed address, no token: led to the agent, known by its pod's address.
    (row, *_) = await made.until("results by the old address", lambda: results("03"))
    assert row["claimed"]["eid"] == "0x01"
    rules = await node.shell("iptables -t nat -S")
    mine = [rule for rule in rules.splitlines() if OLD in rule]
    assert mine
    assert all("-s 10.244." in rule for rule in mine)
    # The node's own traffic is never touched.
    connect = f"import socket; socket.create_connection(('{OLD}', 5231), 2)"
    assert not await node.holds(f'python3 -c "{connect}"')

    async def measured() -> Any:
        containers = newest(made, device).containers
        return [one for one in containers if one.deployment_id == deployment_id]

    (measure,) = await made.until("the pod's own figures", measured)
    assert measure.memory_bytes > 1_000_000
    status = next(one for one in haechi.agents.observed(device).deployments)
    assert (status.deployment_id, status.state) == (deployment_id, "running")

    targets = await _targets(made, node)
    await _fenced(made, node, targets)
    await _gone_and_back(made, node, device)
    await _updated(made, device, agent_image)
    # Added by each agent that began, and there once.
    shown = json.loads(await node.shell("ip -json address show lo"))[0]["addr_info"]
    (given,) = [one for one in shown if one["local"] == NODE_AGENT_ADDRESS]
    assert (given["prefixlen"], given["scope"]) == (32, "host")
    newest_at = (await results("native"))[0]["received_at"]

    async def newer() -> bool:
        return bool((await results("native"))[0]["received_at"] > newest_at)

    await made.until("the pod's results go on under the agent that is back", newer)
    await _fenced(made, node, targets)
    await _removed(made, node, device)


async def _targets(made: Fleet, node: Host) -> dict[str, tuple[str, int]]:
    """Everything around an AI that listens."""
    kubectl = byhand.KUBECTL
    await node.until(f"{kubectl} get pod neighbour | grep Running", "the other pod runs")
    neighbour = await node.shell(f"{kubectl} get pod neighbour -o jsonpath='{{.status.podIP}}'")
    server = httpx2.URL(made.server.url)
    agents_host, _, agents_port = made.server.agents_address.rpartition(":")
    return {
        "its agent": (NODE_AGENT_ADDRESS, 8430),
        "the server": (str(server.host), server.port or 0),
        "the server's way in for agents": (agents_host, int(agents_port)),
        "another host": (made.anchor.address, 22),
        "its host": (node.address, 22),
        "its host at the agent's address": (NODE_AGENT_ADDRESS, 22),
        "its kubelet": (node.address, 10250),
        "its kubelet at the agent's address": (NODE_AGENT_ADDRESS, 10250),
        "the API": ("10.96.0.1", 443),
        "the API at its host": (node.address, 6443),
        "the API at the agent's address": (NODE_AGENT_ADDRESS, 6443),
        "the cluster's names": ("10.96.0.10", 53),
        "another pod": (neighbour, 8000),
    }


async def _fenced(made: Fleet, node: Host, targets: dict[str, tuple[str, int]]) -> None:
    """As seen from inside: the AI reaches its agent alone, and a pod of somebody else everything."""

    async def reached(pod: str) -> set[str]:
        asked = shlex.quote(json.dumps(list(targets.values())))
        call = f"exec {pod} -- python3 -c {shlex.quote(CALLS)} {asked}"
        said = json.loads(await node.shell(f"{byhand.KUBECTL} {call}", timeout_s=180))
        return {name for name, there in zip(targets, said, strict=True) if there}

    async def everything() -> bool:
        return await reached("neighbour") == targets.keys()

    await made.until("a pod that is none of haechi's reaches everything", everything)
    assert await reached("weather") == {"its agent"}


async def _gone_and_back(made: Fleet, node: Host, device: str) -> None:
    async def presence(wanted: str) -> bool:
        return bool((await made.agent(device))["presence"] == wanted)

    async with faults.unplugged(node):
        began_s = time.monotonic()
        await made.until("shown as silent", lambda: presence("silent"))
        print(f"silent shown after {time.monotonic() - began_s:.1f} s")
    await made.until("seen again", lambda: presence("ok"))


async def _updated(made: Fleet, device: str, image: str) -> None:
    """A newer image replaces it; one that does not work gives way to the one before."""
    made.chosen["image"] = built(image, "two", "LABEL two=2\n")
    updated = await made.does("POST", f"/devices/{device}/agent/update")
    assert updated.state == "succeeded", updated.error
    assert updated.ctx["result"]["image"] != updated.ctx["result"]["before"]
    broken = 'ENTRYPOINT ["sh", "-c", "echo no good; exit 3"]\n'
    made.chosen["image"] = built(image, "broken", broken)
    steps = made.server.haechi.host_agents._steps
    patient, steps._pace = steps._pace, type(steps._pace)(seen_s=20, stays_s=3)
    failed = await made.does("POST", f"/devices/{device}/agent/update")
    steps._pace = patient
    assert failed.error["code"] == "clusters.agent_rolled_back", failed.error
    assert any("no good" in line for line in failed.error["data"]["log"])
    assert (await made.agent(device))["presence"] == "ok"


async def _removed(made: Fleet, node: Host, device: str) -> None:
    removed = await made.does("DELETE", f"/devices/{device}/agent")
    assert removed.state == "succeeded", removed.error
    assert not await node.holds(
        "ls /var/lib/haechi-agent /etc/kubernetes/manifests/haechi-agent.yaml"
    )
    for table in ("filter", "nat"):
        assert "HAECHI" not in await node.shell(f"iptables -t {table} -S")
    # Those of the update and of the failed one, too.
    assert "haechi.internal/agent" not in await node.shell("ctr -n k8s.io images ls -q")
    answer = await made.server.client.get(f"/devices/{device}")
    assert answer.json()["enrolment"] == "revoked"


async def test_an_agent_on_a_docker_host(site, docker_host, fleet):  # noqa: F811
    made: Fleet = await fleet(site)
    device = await made.device(docker_host)
    installed = await made.does("POST", f"/devices/{device}/agent")
    assert installed.state == "succeeded", installed.error
    agent = await made.agent(device)
    assert agent["presence"] == "ok"
    assert agent["capacity"]["engine"].startswith("docker ")
    await docker_host.kill()
    await docker_host.start()

    async def back() -> bool:
        return bool((await made.agent(device))["connected"])

    await made.until("back after a power loss", back)
    removed = await made.does("DELETE", f"/devices/{device}/agent")
    assert removed.state == "succeeded", removed.error
    assert await docker_host.shell("docker ps -aq") == ""
    assert not await docker_host.holds("test -e /var/lib/haechi-agent")
