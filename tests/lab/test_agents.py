"""The agent on a real node of real Kubernetes: brought by SSH, serving pods, updated and removed."""

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from haechi.core.clock import SystemClock
from haechi.core.ids import new_id
from haechi.domains.deployments import store as deployments
from haechi.domains.deployments.model import Deployment, DeploymentState, Wishes
from haechi.protocol.desired import NODE_AGENT_URL
from haechi.protocol.samples import Sample
from haechi.testing.server import RunningServer, running_server
from lab import Host, Site, byhand, faults, profile

ROOT = Path(__file__).parents[2]
LIMIT_S = 240.0
FORM_S = 900.0
ACCEPT = ["host_key_unknown", "module_missing", "disk_nearly_full", "memory_scarce"]
"""What lab hosts may be told of: they share the machine's kernel, disk and memory."""
PROFILE = {
    "kubelet": profile.KUBELET,
    "kube_proxy": profile.KUBE_PROXY,
    "containerd": profile.CONTAINERD,
    "ignore_preflight": profile.IGNORE_PREFLIGHT,
}
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


def built(tag: str, dockerfile: str) -> str:
    subprocess.run(
        ["docker", "build", "--pull=false", "--network=none", "-t", tag, "-"],
        input=dockerfile.encode(),
        check=True,
        capture_output=True,
        timeout=300,
    )
    return tag


@pytest.fixture(scope="session")
def agent_image() -> str:
    tag = "haechi-test/lab-agent:1"
    subprocess.run(
        [sys.executable, ROOT / "packaging/agent/build.py", "--tag", tag],
        check=True,
        capture_output=True,
        timeout=600,
    )
    return tag


@dataclass
class Fleet:
    server: RunningServer
    chosen: dict[str, str]
    """`image`: which one agents are made of."""

    async def device(self, host: Host, **more: Any) -> str:
        body = {
            "name": host.name,
            "host_name": host.name,
            "address": host.address,
            "ssh_user": host.keeper.user,
            "ssh_password": host.keeper.password,
            **more,
        }
        answer = await self.server.client.post("/devices", json=body)
        assert answer.status_code == 201, answer.text
        device_id: str = answer.json()["id"]
        trusted = await self.server.client.post(f"/devices/{device_id}/host-key", json={})
        assert trusted.json()["fingerprint"].startswith("SHA256:")
        return device_id

    async def form(self, device_id: str) -> None:
        """A cluster of this one host; its agent comes by itself."""
        body = {
            "name": "yard",
            "control_plane_ids": [device_id],
            "worker_ids": [],
            "options": {"accept": ACCEPT, "profile": PROFILE},
        }
        answer = await self.server.client.post("/clusters", json=body)
        ended = await self.ended(answer)
        assert ended.state == "succeeded", ended.error

    async def begun(self, kind: str, device_id: str) -> Any:
        """The operation of that kind on the device, ended."""
        operations = self.server.haechi.operations

        async def there() -> Any:
            params = {"subject": device_id}
            found = await self.server.client.get("/operations", params=params)
            return [row for row in found.json()["items"] if row["kind"] == kind]

        (row, *_) = await self.until(f"{kind} of {device_id}", there)
        ended = await asyncio.wait_for(operations.wait(row["id"]), LIMIT_S)
        print(operations.log_path(row["id"]).read_text())
        return ended

    async def does(self, what: str, path: str) -> Any:
        """Start an operation and see its end."""
        return await self.ended(await self.server.client.request(what, path))

    async def ended(self, answer: Any) -> Any:
        assert answer.status_code == 202, answer.text
        operation_id = answer.json()["operation_id"]
        haechi = self.server.haechi
        ended = await asyncio.wait_for(haechi.operations.wait(operation_id), FORM_S)
        print(haechi.operations.log_path(operation_id).read_text())
        return ended

    async def agent(self, device_id: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.server.client.get(f"/devices/{device_id}/agent")).json()
        return found

    async def until(self, what: str, true: Callable[[], Any]) -> Any:
        try:
            async with asyncio.timeout(LIMIT_S):
                while not (found := await true()):
                    await asyncio.sleep(0.1)
                return found
        except TimeoutError:
            raise AssertionError(f"not within {LIMIT_S:.0f} s: {what}") from None

    async def deployment(self, device_id: str) -> tuple[str, str]:
        """One that a cluster's engine runs, as the book has it; its token."""
        haechi, now = self.server.haechi, SystemClock().now()
        deployment_id = new_id("deployment")
        one = Deployment(
            id=deployment_id,
            package_id=new_id("package"),
            package_name="weather",
            version_id=new_id("version"),
            version="1",
            device_id=device_id,
            engine="kubernetes",
            image="an-image@sha256:00",
            image_digest="sha256:00",
            name="weather-1",
            strategy="overlap",
            camera="none",
            camera_id=None,
            wishes=Wishes(),
            needs={},
            generation=1,
            replaces=[],
            desired="running",
            state=DeploymentState.STARTING,
            outcome="",
            message="",
            operation_id=None,
            token_digest="",
            created_by="test",
            created_at=now,
            started_at=None,
            ended_at=None,
        )
        async with haechi.db.write() as tx:
            await deployments.add_deployment(tx, one)
            token, digest = await haechi.auth.machines.issue_deployment_token(
                tx, deployment_id=deployment_id, device_id=device_id, facts={}
            )
            row = await deployments.deployment_row(tx, deployment_id)
            row.token_digest = digest
        haechi.agents.changed(device_id)
        return deployment_id, token.reveal()


@pytest.fixture
async def fleet(
    tmp_path: Path, agent_image: str, bundle: Any
) -> AsyncIterator[Callable[[Site], Any]]:
    opened: list[Any] = []

    async def begin(site: Site) -> Fleet:
        """The site's gateway is there while a host is: one that no test switches off."""
        await site.host("anchor")
        with socket.socket() as probe:
            probe.bind((site.gateway, 0))
            port = probe.getsockname()[1]
        flags = {
            "server.listen": f"{site.gateway}:0",
            "server.tls": "off",
            "agents.listen": f"{site.gateway}:{port}",
            "registry.listen": f"{site.gateway}:0",
            "agents.image": agent_image,
            "bundle.folder": bundle.folder.parent,
        }
        context = running_server(tmp_path / "data", flags)
        server = await context.__aenter__()
        opened.append(context)
        server.client.timeout = LIMIT_S
        chosen = {"image": agent_image}
        server.haechi.host_agents._steps._images._image = lambda: chosen["image"]
        return Fleet(server, chosen)

    yield begin
    for context in opened:
        await context.__aexit__(None, None, None)


def pod_of(node: Host, image: str, token: str) -> bytes:
    container = {
        "name": "ai",
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["python3", "-u", "-c", AI],
        "env": [{"name": "HAECHI_TOKEN", "value": token}],
        "securityContext": {"runAsUser": 1000, "capabilities": {"drop": ["ALL"]}},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "weather"},
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


async def test_an_agent_on_a_node_serves_its_pods(site, prepared_hosts, fleet, agent_image):
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
    await node.shell(f"{byhand.KUBECTL} apply -f -", stdin=pod_of(node, reference, token))

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

    await _gone_and_back(made, node, device)
    await _updated(made, device, agent_image)
    count = len(await results("native"))
    assert count
    await _removed(made, node, device)


async def _gone_and_back(made: Fleet, node: Host, device: str) -> None:
    async def presence(wanted: str) -> bool:
        return bool((await made.agent(device))["presence"] == wanted)

    async with faults.unplugged(node):
        began_s = time.monotonic()
        await made.until("shown as silent", lambda: presence("silent"))
        print(f"silent shown after {time.monotonic() - began_s:.1f} s")
    await made.until("seen again", lambda: presence("ok"))


async def _updated(made: Fleet, device: str, agent_image: str) -> None:
    """A newer image replaces it; one that does not work gives way to the one before."""
    made.chosen["image"] = built("haechi-test/lab-agent:2", f"FROM {agent_image}\nLABEL two=2\n")
    updated = await made.does("POST", f"/devices/{device}/agent/update")
    assert updated.state == "succeeded", updated.error
    assert updated.ctx["result"]["image"] != updated.ctx["result"]["before"]
    broken = f'FROM {agent_image}\nENTRYPOINT ["sh", "-c", "echo no good; exit 3"]\n'
    made.chosen["image"] = built("haechi-test/lab-agent:3", broken)
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
    assert "haechi.internal/agent" not in await node.shell("ctr -n k8s.io images ls -q")
    answer = await made.server.client.get(f"/devices/{device}")
    assert answer.json()["enrolment"] == "revoked"


async def test_an_agent_on_a_docker_host(site, docker_host, fleet):
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
