"""Clusters formed of bare hosts by a real server over its REST API: from sshd alone to Ready nodes
and back, through kills of the server, dead hosts and a kubelet that cannot start.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from haechi.testing.processes import PASSWORD, ServerProcess
from lab import Host, Site, faults, profile, ready
from lab.stand import ACCEPT, PROFILE

FORM_S = 900.0


async def until(true: Callable[[], Awaitable[Any]], within_s: float) -> Any:
    """Ask twice a second, not more: the machine has little to give."""
    async with asyncio.timeout(within_s):
        while not (found := await true()):
            await asyncio.sleep(0.5)
        return found


@dataclass
class Server:
    """A real `haechi serve` whose devices are the site's hosts."""

    process: ServerProcess
    client: httpx2.AsyncClient
    ids: dict[str, str] = field(default_factory=dict)

    async def start(self) -> None:
        await asyncio.to_thread(self.process.start)

    async def sign_in(self) -> None:
        """Once: the session outlives the server."""
        login = {"name": "admin", "password": PASSWORD}
        (await self.client.post("/session", json=login)).raise_for_status()

    async def kill(self) -> None:
        await asyncio.to_thread(self.process.kill)

    async def call(self, method: str, path: str, **given: Any) -> httpx2.Response:
        return await self.client.request(method, path, **given)

    async def know(self, host: Host) -> None:
        """Register it with the login by password, which sudo asks for too."""
        answer = await self.call(
            "POST",
            "/devices",
            json={
                "name": host.name,
                "host_name": host.name,
                "address": host.address,
                "ssh_user": host.keeper.user,
                "ssh_password": host.keeper.password,
            },
        )
        self.ids[host.name] = answer.json()["id"]

    def wish(self, masters: list[Host], workers: list[Host], **options: Any) -> dict[str, Any]:
        return {
            "name": "lab",
            "control_plane_ids": [self.ids[one.name] for one in masters],
            "worker_ids": [self.ids[one.name] for one in workers],
            "options": {"accept": ACCEPT, "profile": PROFILE, **options},
        }

    async def operation(self, answer: httpx2.Response) -> dict[str, Any]:
        assert answer.status_code == 202, answer.text
        found = await self.call("GET", f"/operations/{answer.json()['operation_id']}")
        return dict(found.json())

    async def ended(self, answer: httpx2.Response, within_s: float = FORM_S) -> dict[str, Any]:
        async def done() -> dict[str, Any] | None:
            operation = await self.operation(answer)
            return operation if operation["ended_at"] else None

        return dict(await until(done, within_s))

    async def at_step(self, answer: httpx2.Response, step: str) -> None:
        """Wait until the operation is there, or beyond where the step was too quick to be seen."""

        async def there() -> bool:
            operation = await self.operation(answer)
            assert not operation["ended_at"], await self.log(answer)
            states = {one["name"]: one["state"] for one in operation["steps"]}
            return states[step] != "waiting"

        await until(there, FORM_S)

    async def log(self, answer: httpx2.Response) -> str:
        found = await self.call("GET", f"/operations/{answer.json()['operation_id']}/log")
        return found.text

    async def states(self, cluster_id: str) -> dict[str, str]:
        cluster = (await self.call("GET", f"/clusters/{cluster_id}")).json()
        return {one["node_name"]: one["state"] for one in cluster["members"]}

    async def proof(self, cluster_id: str) -> dict[str, Any]:
        found = (await self.call("GET", f"/clusters/{cluster_id}/proof")).json()
        names = {device_id: name for name, device_id in self.ids.items()}
        return {names[one["device_id"]]: one for one in found["hosts"]}


@pytest.fixture
async def server(tmp_path: Path, bundle) -> AsyncIterator[Server]:
    process = ServerProcess(tmp_path, bundle__folder=bundle.folder.parent)
    client = httpx2.AsyncClient(
        base_url=f"{process.url}/api/v1",
        # No connection is kept: the server at its other end is killed.
        headers={"Accept-Language": "en", "Connection": "close"},
        timeout=300,
        trust_env=False,
    )
    async with client:
        made = Server(process, client)
        try:
            await made.start()
            await made.sign_in()
            yield made
        finally:
            await made.kill()
            print(process.log[-8000:])  # shown where the test fails


@pytest.fixture
async def prepared_before(prepared_hosts) -> Callable[[int], Awaitable[list[Host]]]:
    """Not by haechi, as far as that knows: for scenes that are not about preparing, which takes
    longest.
    """

    async def add(count: int) -> list[Host]:
        hosts: list[Host] = await prepared_hosts(count)
        for host in hosts:
            await ready.forget(host)
        return hosts

    return add


async def nodes(host: Host) -> dict[str, bool]:
    """Name → Ready, as the host's own user sees them with their own kubectl."""
    words = await host.shell(f"sudo -u {host.keeper.user} -i kubectl get nodes -o json")
    return {
        one["metadata"]["name"]: any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in one["status"]["conditions"]
        )
        for one in json.loads(words)["items"]
    }


def clean(proof: dict[str, Any], *names: str) -> None:
    """Every difference is shown where there is one."""
    assert {name: proof[name]["differences"] for name in names} == {name: [] for name in names}
    assert {proof[name]["state"] for name in names} == {"clean"}


async def test_a_cluster_from_bare_hosts_and_back(site: Site, server: Server):
    master, worker = await site.add(2)
    for host in (master, worker):
        await server.know(host)
    wish = server.wish([master], [worker])
    checked = await server.call(
        "POST", "/clusters/check", json={k: v for k, v in wish.items() if k != "name"}
    )
    assert checked.json()["fit"], checked.text
    formed = await server.call("POST", "/clusters", json=wish)
    operation = await server.ended(formed)
    assert operation["state"] == "succeeded", await server.log(formed)
    cluster_id = formed.json()["cluster_id"]
    assert await server.states(cluster_id) == {master.name: "ready", worker.name: "ready"}
    assert await nodes(master) == {master.name: True, worker.name: True}
    asked = "grep -rh 'periodSeconds' /etc/kubernetes/manifests | tr -d ' ' | sort -u"
    assert await master.shell(asked) == "periodSeconds:10"
    owner = await master.shell(f"stat -c '%U %a' /home/{master.keeper.user}/.kube/config")
    assert owner.strip() == f"{master.keeper.user} 600"
    assert not await master.holds("test -e /root/.kube/config")
    again = await server.call("POST", "/clusters", json=wish)
    assert (again.status_code, again.json()["code"]) == (409, "clusters.duplicate_name")
    held = await server.call("DELETE", f"/devices/{server.ids[worker.name]}?force=true")
    assert held.json()["code"] == "inventory.still_used"
    config = (await server.call("GET", f"/clusters/{cluster_id}/kubeconfig")).text
    assert f"https://{master.address}:6443" in config
    secret = config.partition("client-key-data: ")[2].split()[0]
    assert secret not in server.process.log + await server.log(formed)
    deleted = await server.call("DELETE", f"/clusters/{cluster_id}")
    ended = await server.ended(deleted, 300)
    assert ended["state"] == "succeeded", await server.log(deleted)
    clean(await server.proof(cluster_id), master.name, worker.name)


async def test_a_server_that_is_killed_again_and_again_ends_what_it_began(
    site: Site, server: Server, prepared_before
):
    master = await site.host("master")
    (worker,) = await prepared_before(1)
    for host in (master, worker):
        await server.know(host)
    wish = server.wish([master], [worker])
    formed = await server.call("POST", "/clusters", json=wish)
    for step in ("prepare", "initialise", "join_workers"):
        await server.at_step(formed, step)
        if step == "prepare":
            cluster = formed.json()["cluster_id"]
            refused = await server.call("DELETE", f"/clusters/{cluster}")
            assert (refused.status_code, refused.json()["code"]) == (409, "core.busy")
            twice = await server.call("POST", "/clusters", json=wish)
            assert twice.json() == formed.json()
        await server.kill()
        await server.start()
    operation = await server.ended(formed)
    assert operation["state"] == "succeeded", await server.log(formed)
    assert await nodes(master) == {master.name: True, worker.name: True}


async def test_a_kubelet_that_cannot_start_is_told_in_its_own_words(
    server: Server, prepared_before
):
    (master,) = await prepared_before(1)
    await server.know(master)
    broken = {**PROFILE, "kubelet": {**profile.KUBELET, "featureGates": {"NoSuchGate": True}}}
    formed = await server.call("POST", "/clusters", json=server.wish([master], [], profile=broken))
    operation = await server.ended(formed)
    assert operation["state"] == "failed"
    assert operation["error"]["code"] == "clusters.kubelet_not_starting", await server.log(formed)
    assert "NoSuchGate" in operation["error"]["detail"]
    assert master.name in operation["error"]["detail"]
    clean(await server.proof(formed.json()["cluster_id"]), master.name)


async def test_hosts_that_die_hinder_nobody_and_are_cleaned_when_they_return(
    site: Site, server: Server, prepared_before
):
    """A worker stops for half a minute while it is prepared, and goes on; another dies while it joins;
    one is off while the cluster is deleted. The dead one comes back under another address.
    """
    worker = await site.host("worker")
    master, lost = await prepared_before(2)
    for host in (master, worker, lost):
        await server.know(host)
    formed = await server.call("POST", "/clusters", json=server.wish([master], [worker, lost]))
    cluster_id = formed.json()["cluster_id"]
    await server.at_step(formed, "prepare")
    await worker.pause()

    async def missed() -> bool:
        return f"[{worker.name}] -- clusters.host_" in await server.log(formed)

    await until(missed, FORM_S)
    await worker.resume()
    await server.at_step(formed, "join_workers")
    await lost.kill()
    operation = await server.ended(formed)
    assert operation["state"] == "succeeded", await server.log(formed)
    assert operation["result"]["failed"] == 1
    assert await nodes(master) == {master.name: True, worker.name: True}
    assert (await server.states(cluster_id))[lost.name] == "cleaning"
    await worker.stop()
    deleted = await server.call("DELETE", f"/clusters/{cluster_id}")
    ended = await server.ended(deleted)
    assert ended["state"] == "succeeded", await server.log(deleted)
    assert ended["result"]["pending"] == 2
    clean(await server.proof(cluster_id), master.name)
    await faults.readdress(site, lost)
    for host in (worker, lost):
        await host.start()

    async def cleaned() -> bool:
        found = await server.states(cluster_id)
        return {found[worker.name], found[lost.name]} <= {"gone", "failed"}

    await until(cleaned, FORM_S)
    clean(await server.proof(cluster_id), master.name, worker.name, lost.name)
