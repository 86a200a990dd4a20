"""A haechi server in the test's loop that forms clusters of lab hosts, and words to drive it."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from haechi.core.access import SYSTEM
from haechi.core.operations import Operation
from haechi.domains.clusters.model import FormOptions, HostProfile
from haechi.testing import packages
from haechi.testing.server import RunningServer, running_server
from lab import profile, stock, waiting
from lab.host import Host
from lab.site import Site

LIMIT_S = 600.0
ANSWER_S = 120.0
PROFILE = HostProfile(
    kubelet=profile.KUBELET,
    kube_proxy=profile.KUBE_PROXY,
    containerd=profile.CONTAINERD,
    ignore_preflight=profile.IGNORE_PREFLIGHT,
)
ACCEPT = [
    "disk_nearly_full",
    "host_key_unknown",
    "memory_scarce",
    "module_missing",
    "other_runtime",  # that of `prepared_hosts`
]
BASE_IMAGE = {"source": "python:3.11-slim", "target": "haechi/python:3.11-slim"}
KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf --request-timeout=20s"


@dataclass
class Yard:
    """`devices`: host name → device id."""

    server: RunningServer
    site: Site
    data_dir: Path
    devices: dict[str, str] = field(default_factory=dict)

    @classmethod
    @asynccontextmanager
    async def open(cls, site: Site, folder: Path, **flags: Any) -> AsyncIterator[Self]:
        """Once the first host is there, for only then is the site's gateway."""
        with socket.socket() as probe:
            probe.bind((site.gateway, 0))
            port = probe.getsockname()[1]
        given = {
            "server.listen": f"{site.gateway}:0",
            "server.tls": "off",
            "agents.listen": f"{site.gateway}:{port}",
            "agents.image": "nobody/has-it:1",
            **flags,
        }
        await stock.lay(folder)
        async with running_server(folder, given) as server:
            server.client.timeout = ANSWER_S
            yield cls(server, site, folder)
        await stock.keep_agent(folder)

    @property
    def haechi(self) -> Any:
        return self.server.haechi

    async def device(self, host: Host) -> str:
        body = {
            "name": host.name,
            "host_name": host.name,
            "address": host.address,
            "ssh_user": host.robot.user,
            "ssh_key": host.robot.key_file.read_text() if host.robot.key_file else None,
        }
        answer = await self.server.client.post("/devices", json=body)
        assert answer.status_code == 201, answer.text
        device_id: str = answer.json()["id"]
        await self.haechi.hosts.learn(device_id, by=SYSTEM)
        self.devices[host.name] = device_id
        return device_id

    async def form(
        self,
        control_planes: Sequence[Host],
        workers: Sequence[Host],
        name: str = "yard",
        **options: Any,
    ) -> str:
        for host in [*control_planes, *workers]:
            if host.name not in self.devices:
                await self.device(host)
            # What these hosts were prepared with counts as theirs, not as an earlier cluster's.
            await host.shell("systemctl stop kubelet || :; rm -rf /var/lib/haechi/host")
        began_s = time.monotonic()
        formed = await self.haechi.clusters.form_cluster(
            name,
            [self.devices[one.name] for one in control_planes],
            [self.devices[one.name] for one in workers],
            FormOptions(profile=PROFILE, accept=ACCEPT, **options),
            by=SYSTEM,
        )
        await self.ended(formed.operation)
        print(f"formed {len(control_planes)}+{len(workers)} in {time.monotonic() - began_s:.1f} s")
        cluster_id: str = formed.cluster.id
        return cluster_id

    async def ended(self, operation: Operation, *, state: str = "succeeded") -> Operation:
        """To its end, which must be this one; its log is shown where it is not."""
        haechi = self.haechi
        ended: Operation = await asyncio.wait_for(haechi.operations.wait(operation.id), LIMIT_S)
        if ended.state != state:
            await haechi.operations.flush_log(operation.id)
            print(haechi.operations.log_path(operation.id).read_text())
        assert ended.state == state, ended.error
        return ended

    async def does(self, method: str, path: str, body: Any = None) -> Operation:
        """Start an operation over the API and see it succeed."""
        answer = await self.server.client.request(method, path, json=body, timeout=120)
        assert answer.status_code == 202, answer.text
        started = await self.haechi.operations.get(answer.json()["operation_id"])
        return await self.ended(started)

    # --- AIs

    async def map_base_image(self) -> None:
        """This machine's Python image is what packages are built from."""
        answer = await self.server.client.put("/base-images", json=BASE_IMAGE)
        assert answer.status_code == 200, answer.text
        if operation_id := answer.json()["operation_id"]:
            await self.ended(await self.haechi.operations.get(operation_id))
        await stock.keep_base(self.data_dir)

    async def upload(self, name: str, version: str, files: Mapping[str, str]) -> str:
        """A zip of these files, uploaded and built; the version's id."""
        answer = await self.server.client.post(
            "/packages/upload",
            params={"filename": "a.zip", "name": name, "version": version},
            content=packages.zip_of(dict(files)),
        )
        assert answer.status_code == 201, answer.text
        made = answer.json()
        await self.does("POST", f"/packages/{made['package_id']}/versions/{version}/build")
        version_id: str = made["id"]
        return version_id

    async def begin_deploy(self, version_id: str, host: Host, **wishes: Any) -> Operation:
        """To this one device; the operation is the device's own."""
        body = {"version_id": version_id, "device_ids": [self.devices[host.name]], **wishes}
        answer = await self.server.client.post("/deployments", json=body)
        assert answer.status_code == 202, answer.text

        async def child() -> Any:
            parent_id = answer.json()["operation_id"]
            return (await self.haechi.operations.find(parent_id=parent_id)).items

        (operation, *_) = await self.until("the device's own operation has begun", child)
        return operation

    async def deploy(self, version_id: str, host: Host, **wishes: Any) -> Operation:
        return await self.ended(await self.begin_deploy(version_id, host, **wishes))

    async def until_step(self, operation: Operation, *steps: str) -> None:
        """At one of them: several where the first may be over before one looks."""

        async def there() -> bool:
            now = await self.haechi.operations.get(operation.id)
            assert not now.state.ended, now.error
            return now.step in steps

        await self.until(f"{operation.kind} is at {' or '.join(steps)}", there, pause_s=0.1)

    async def log(self, operation: Operation) -> str:
        """What it has said so far."""
        await self.haechi.operations.flush_log(operation.id)
        path: Path = self.haechi.operations.log_path(operation.id)
        return path.read_text() if path.exists() else ""

    async def deployments(self, host: Host) -> list[dict[str, Any]]:
        params = {"device_id": self.devices[host.name], "limit": 1000}
        found = await self.server.client.get("/deployments", params=params)
        return list(found.json()["items"])

    async def running(self, host: Host) -> list[dict[str, Any]]:
        return [row for row in await self.deployments(host) if row["state"] == "running"]

    async def health(self, cluster_id: str) -> dict[str, Any]:
        answer = await self.server.client.get(f"/clusters/{cluster_id}/health")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def node(self, cluster_id: str, host: Host) -> dict[str, Any]:
        for one in (await self.health(cluster_id))["nodes"]:
            if one["device_id"] == self.devices[host.name]:
                return dict(one)
        return {"presence": "none", "reason": "none"}

    async def until(
        self,
        what: str,
        true: Callable[[], Awaitable[Any]],
        timeout_s: float = LIMIT_S,
        *,
        pause_s: float = waiting.PAUSE_S,
    ) -> Any:
        return await waiting.until(what, true, timeout_s, pause_s=pause_s)

    async def until_all_run(self, control_plane: Host) -> None:
        """All pods of the cluster: forming waits for one of CoreDNS', not for both."""
        listed = f"{KUBECTL} get pods -A --no-headers > /run/lab-pods"
        all_of_them = f"{listed} && ! grep -v '1/1  *Running' /run/lab-pods"
        await control_plane.until(all_of_them, "all pods run", timeout_s=300)

    async def until_node(
        self, cluster_id: str, host: Host, presence: str, *reasons: str
    ) -> dict[str, Any]:
        """`presence` may name several (`silent|dead`): a busy test may miss the first. How long it
        took is printed, never asserted.
        """
        began_s = time.monotonic()

        async def seen() -> Any:
            node = await self.node(cluster_id, host)
            fits = node["presence"] in presence.split("|") and (
                not reasons or node["reason"] in reasons
            )
            return node if fits else None

        found: dict[str, Any] = await self.until(f"{host.name} is {presence} {reasons}", seen)
        took_s = time.monotonic() - began_s
        print(f"{host.name} is {presence} ({found['reason']}) after {took_s:.1f} s")
        return found
