"""Nodes of clusters pull from the site registry: wired when they join, checked by a pull, mended.

A hook of the clusters domain, and a duty: whatever took the wiring away (a tool that rewrote
containerd's file, another address of the server), it is put right at the next look, or at once
where a pull fails because of it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from haechi.core.names import NameUnknown, address_of
from haechi.core.tasks import Tasks
from haechi.domains.clusters.host import registry_trust, runtime
from haechi.domains.clusters.host.ports import Hosts, Shell
from haechi.errors import AppError, Text, Upstream
from haechi.protocol.commands import RegistryAccess

log = logging.getLogger(__name__)

LOOK_S: Final = 900.0
PULL_S: Final = 60.0
PARALLEL: Final = 8
NOBODYS: Final = f"haechi/pull-check@sha256:{'0' * 64}"
"""An image that no registry has: only one that was reached, trusted and entered says so."""
_SAID: Final = ("not found", "manifest unknown", "name unknown", "manifest_unknown")

OnText = Callable[[str], None]
AccessOf = Callable[[str], Awaitable[RegistryAccess | None]]
Nodes = Callable[[], Awaitable[list[str]]]
"""Devices that are nodes now."""


class NodeCannotPull(Upstream):
    code = "deployments.node_cannot_pull"
    detail = Text(
        "호스트 {host}이(가) 사이트 레지스트리 {registry}({address})에서 이미지를 받지 못합니다: "
        "{reason}",
        "Host {host} cannot pull from the site registry {registry} at {address}: {reason}",
    )
    remedy = Text(
        "호스트에서 서버 주소와 포트로 연결되는지 확인하세요. 주소가 바뀌었다면 "
        "registry.address 설정을 고치면 노드가 저절로 따라갑니다.",
        "Check that the host reaches the server at that address and port. Where the address has "
        "changed, correct the setting registry.address: nodes follow by themselves.",
    )


class NodeTrust:
    """`Hook` of clusters."""

    name = "registry_trust"

    def __init__(
        self, *, hosts: Hosts, registry: Callable[[], str], access: AccessOf, nodes: Nodes
    ) -> None:
        """`registry`: its stable name; `access` also makes a device's credential."""
        self._hosts = hosts
        self._registry = registry
        self._access = access
        self._nodes = nodes
        self._places = asyncio.Semaphore(PARALLEL)
        self._tasks = Tasks("node-trust")

    def start(self) -> None:
        self._tasks.forever("look", self._keep)

    async def close(self) -> None:
        await self._tasks.close()

    # --- the hook

    async def joined(self, cluster_id: str, device_id: str, *, log: OnText) -> None:
        """A registry that cannot be reached now keeps no node out: it is said, and looked at again
        when something is deployed.
        """
        del cluster_id
        async with self._hosts.open(device_id) as shell:
            try:
                access = await self._resolved(device_id)
                if access is None:
                    return
                await registry_trust.trust(shell, access, log=log)
                await registry_trust.repair(shell, log=log)
                await self.check_pull(shell, access)
            except (NameUnknown, NodeCannotPull) as error:
                log(f"-- {error}")
            else:
                log(f"{access.name} was reached, trusted and entered")

    async def leaving(self, cluster_id: str, device_id: str, *, log: OnText) -> None:
        del cluster_id, log
        async with self._hosts.open(device_id) as shell:
            await registry_trust.distrust(shell, self._registry())

    # --- the check and the duty

    async def check_pull(self, shell: Shell, access: RegistryAccess) -> None:
        """By containerd itself, with its own configuration. Raises NodeCannotPull."""
        reference = f"{access.name}/{NOBODYS}"
        ran = await shell.run(
            [
                *("ctr", "-n", "k8s.io", "images", "pull", "--hosts-dir", runtime.CERTS_FOLDER),
                reference,
            ],
            root=True,
            timeout_s=PULL_S,
            check=False,
        )
        said = f"{ran.stdout}\n{ran.stderr}".lower()
        if ran.status == 0 or any(sign in said for sign in _SAID):
            return
        raise NodeCannotPull(
            host=shell.host.name,
            registry=access.name,
            address=access.address,
            reason=ran.last_line[:300],
        )

    async def mend(self, device_id: str) -> bool:
        """After a pull that failed: True where something was put right, so that another try is
        worth it. What cannot be looked at cannot be mended.
        """

        def note(line: str) -> None:
            log.warning("%s: %s", device_id, line)

        try:
            async with self._places, self._hosts.open(device_id) as shell:
                access = await self._resolved(device_id)
                if access is None:
                    return False
                trusted = await registry_trust.trust(shell, access, log=note)
                return await registry_trust.repair(shell, log=note) or trusted
        except AppError as error:
            log.info("the registry's wiring of %s cannot be looked at: %s", device_id, error)
            return False

    async def look(self) -> None:
        """Once at every node."""
        await asyncio.gather(*(self.mend(one) for one in await self._nodes()))

    async def _keep(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def _resolved(self, device_id: str) -> RegistryAccess | None:
        """With an address instead of a name: the host may know no name service. Raises
        NameUnknown.
        """
        access = await self._access(device_id)
        if access is None:
            return None
        host, _, port = access.address.rpartition(":")
        address = await address_of(host.strip("[]"))
        shown = f"[{address}]" if ":" in address else address
        return RegistryAccess(
            name=access.name,
            address=f"{shown}:{port}",
            ca_pem=access.ca_pem,
            user=access.user,
            password=access.password,
        )
