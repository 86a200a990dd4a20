"""A real `haechi serve` beside a site of lab hosts, and words to drive it as its users do: by HTTP.

For what is measured, shown or left running for long: the server is a process of its own, so its
memory is its own and it can be killed. `lab.yard` has a server inside the test's loop instead.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx2

from haechi.testing import packages
from haechi.testing.processes import PASSWORD, ServerProcess
from lab import profile, stock, waiting
from lab.host import Host
from lab.site import Site

LIMIT_S = 900.0
PROFILE = {
    "kubelet": profile.KUBELET,
    "kube_proxy": profile.KUBE_PROXY,
    "containerd": profile.CONTAINERD,
    "ignore_preflight": profile.IGNORE_PREFLIGHT,
}
ACCEPT = [
    *("host_key_unknown", "module_missing", "disk_nearly_full", "memory_scarce"),
    "other_runtime",  # of hosts that were prepared before
]
BASE_IMAGE = {"source": "python:3.11-slim", "target": "haechi/python:3.11-slim"}
NO_AGENT = "nobody/has-it:1"
QUICK_S = 0.1
ENDED = ("succeeded", "failed", "cancelled")


class Refused(Exception):
    """The server said no, or an operation did not end as it should; in its own words."""


@dataclass
class Stand:
    """`ids`: host name → device id."""

    site: Site
    process: ServerProcess
    client: httpx2.AsyncClient
    say: Callable[[str], None] = print
    ids: dict[str, str] = field(default_factory=dict)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        site: Site,
        folder: Path,
        bundles: Path,
        *,
        say: Callable[[str], None] = print,
        **settings: Any,
    ) -> AsyncIterator[Self]:
        """Once the first host is there, for only then is the site's gateway. `settings` as of
        `ServerProcess`; no agent is brought to nodes unless they name its image.
        """
        process = ServerProcess(
            folder, **{"bundle__folder": bundles, "agents__image": NO_AGENT, **settings}
        )
        process.flags = (
            *process.flags[:2],
            f"--agents-listen={site.gateway}:{process.agents_port}",
            f"--registry-listen={site.gateway}:{process.registry_port}",
        )
        client = httpx2.AsyncClient(
            base_url=f"{process.url}/api/v1",
            # No connection is kept: the server at its other end may be killed.
            headers={"Accept-Language": "en", "Connection": "close"},
            timeout=300,
            trust_env=False,
        )
        async with client:
            try:
                await stock.lay(process.data_dir)
                await asyncio.to_thread(process.start)
                made = cls(site, process, client, say)
                await made.call("POST", "/session", json={"name": "admin", "password": PASSWORD})
                yield made
            finally:
                await asyncio.to_thread(process.kill)
                await stock.keep_agent(process.data_dir)

    # --- calls

    async def call(self, method: str, path: str, **given: Any) -> Any:
        answer = await self.client.request(method, path, **given)
        if not answer.is_success:
            raise Refused(f"{method} {path}: {answer.status_code} {answer.text[:1500]}")
        kind = answer.headers.get("content-type", "")
        return answer.json() if kind.startswith("application/json") else answer.text

    async def ended(
        self,
        accepted: Mapping[str, Any],
        *,
        state: str | None = "succeeded",
        within_s: float = LIMIT_S,
        show: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """The operation at its end, which must be this one (None: any); else `Refused` with its
        log. `show` gets it whenever it is looked at.
        """
        path = f"/operations/{accepted['operation_id']}"
        operation: dict[str, Any] = {}
        try:
            async with asyncio.timeout(within_s):
                while operation.get("state") not in ENDED:
                    if operation:
                        await asyncio.sleep(0.2)
                    operation = await self.call("GET", path)
                    if show is not None:
                        show(operation)
        except TimeoutError:
            raise Refused(f"{path} takes over {within_s:g} s\n{await self.log(accepted)}") from None
        if state is not None and operation["state"] != state:
            raise Refused(f"{path}: {operation['error']}\n{await self.log(accepted)}")
        return operation

    async def log(self, accepted: Mapping[str, Any]) -> str:
        return str(await self.call("GET", f"/operations/{accepted['operation_id']}/log"))

    async def until(
        self, what: str, true: Callable[[], Awaitable[Any]], within_s: float = LIMIT_S
    ) -> Any:
        return await waiting.until(what, true, within_s, Refused, pause_s=QUICK_S)

    # --- hosts and clusters

    async def know(self, hosts: Iterable[Host], *, by_key: bool = False) -> None:
        """Register them with the login by password, which sudo asks for too; or by key, with a sudo
        that asks nothing.
        """
        for host in hosts:
            login = host.robot if by_key else host.keeper
            body = {
                "name": host.name,
                "host_name": host.name,
                "address": host.address,
                "ssh_user": login.user,
                "ssh_password": login.password,
                "ssh_key": login.key_file.read_text() if login.key_file else None,
            }
            self.ids[host.name] = (await self.call("POST", "/devices", json=body))["id"]

    async def begin_form(
        self, name: str, masters: Sequence[Host], workers: Sequence[Host], **options: Any
    ) -> dict[str, Any]:
        """`cluster_id` and `operation_id`."""
        await self.know(one for one in [*masters, *workers] if one.name not in self.ids)
        wish = {
            "name": name,
            "control_plane_ids": [self.ids[one.name] for one in masters],
            "worker_ids": [self.ids[one.name] for one in workers],
            "options": {"accept": ACCEPT, "profile": PROFILE, **options},
        }
        return dict(await self.call("POST", "/clusters", json=wish))

    async def form(
        self, name: str, masters: Sequence[Host], workers: Sequence[Host], **options: Any
    ) -> str:
        began_s = time.monotonic()
        formed = await self.begin_form(name, masters, workers, **options)
        await self.ended(formed)
        took_s = time.monotonic() - began_s
        self.say(f"{name}: {len(masters)}+{len(workers)} formed in {took_s:.1f} s")
        return str(formed["cluster_id"])

    async def node(self, cluster_id: str, host: Host) -> dict[str, Any]:
        """What is shown of a node."""
        health = await self.call("GET", f"/clusters/{cluster_id}/health")
        found = [one for one in health["nodes"] if one["device_id"] == self.ids[host.name]]
        return dict(found[0]) if found else {"presence": "none", "reason": "none"}

    async def until_presence(
        self, cluster_id: str, host: Host, *presences: str, within_s: float = LIMIT_S
    ) -> None:
        async def there() -> bool:
            return (await self.node(cluster_id, host))["presence"] in presences

        await self.until(f"{host.name} is {' or '.join(presences)}", there, within_s)

    # --- packages

    async def map_base_image(self) -> None:
        """This machine's Python image into the site registry."""
        mapped = await self.call("PUT", "/base-images", json=BASE_IMAGE)
        if mapped["operation_id"]:
            await self.ended(mapped)
        await stock.keep_base(self.process.data_dir)

    async def upload(self, name: str, version: str, files: Mapping[str, str]) -> dict[str, Any]:
        """A zip of these files, uploaded and built: `{id, package_id, …}`."""
        made = await self.call(
            "POST",
            "/packages/upload",
            params={"filename": "a.zip", "name": name, "version": version},
            content=packages.zip_of(dict(files)),
        )
        path = f"/packages/{made['package_id']}/versions/{version}/build"
        await self.ended(await self.call("POST", path))
        return dict(made)

    async def deploy(
        self, version: Mapping[str, Any], *, state: str | None = "succeeded", **wishes: Any
    ) -> dict[str, Any]:
        body = {"version_id": version["id"], **wishes}
        return await self.ended(await self.call("POST", "/deployments", json=body), state=state)

    async def running(self, host: Host) -> list[dict[str, Any]]:
        found = await self.call(
            "GET", "/deployments", params={"device_id": self.ids[host.name], "limit": 1000}
        )
        return [row for row in found["items"] if row["state"] == "running"]
