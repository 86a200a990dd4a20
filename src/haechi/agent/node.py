"""What is different where the device is a node of a cluster: its AIs are pods.

They reach the agent at one link-local address, the same on every node and for ever, so nothing that
a pod was told becomes wrong when the node's own address changes. The address lies on `lo`: whoever
is not on this machine finds nothing there. Needs CAP_NET_ADMIN; for an address of 127/8, which each
machine answers at anyway, nothing.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Iterable
from typing import Final

from haechi.agent import netlink
from haechi.agent.deployments import Deployments
from haechi.agent.pods import Pods

log = logging.getLogger(__name__)

CHECK_S: Final = 30.0
"""The address is seen to so often: a restarted network may lose it."""
RETRY_S: Final = 5.0
INTERFACE: Final = "lo"
RUNTIME_SOCKET: Final = "/run/containerd/containerd.sock"
"""Where a node's container runtime listens."""


class Node:
    """`gateway` is where pods reach agent and media; "" before it is there."""

    def __init__(
        self, deployments: Deployments, *, address: str, on_pods: Callable[[], None]
    ) -> None:
        self.pods = Pods(deployments, on_change=on_pods)
        self._deployments = deployments
        self._address = address
        self.pod_networks: list[str] = []
        """Of the cluster; told by the server."""
        self.gateway = ""
        self.on_gateway: Callable[[], None] = lambda: None
        self._told = ""

    async def keep(self) -> None:
        """For ever."""
        while True:
            there = await self._see_to_address()
            await asyncio.sleep(CHECK_S if there else RETRY_S)

    async def _see_to_address(self) -> bool:
        try:
            if not ipaddress.ip_address(self._address).is_loopback:
                await asyncio.to_thread(netlink.add_address, self._address, INTERFACE)
        except OSError as error:
            if str(error) != self._told:
                log.error("pods cannot reach the agent: %s", error)  # noqa: TRY400
            self._told = str(error)
            return False
        self._told = ""
        if not self.gateway:
            self.gateway = self._address
            self.on_gateway()
        return True

    def sources(self) -> list[list[str]]:
        """Where AIs call from, as matches of iptables (IPv4 only, as the old addresses are): their
        own addresses. One that is about to begin may get any of the pods' addresses, and a program
        of the old days ends where its first call goes nowhere; so until it is seen all pods are
        led, and the intake tells who is none of its AIs.
        """
        called_from = self.pods.addresses
        if any(one.served and not one.addresses for one in self._deployments):
            called_from = self.pod_networks or called_from
        return _from(called_from)

    def fenced(self) -> list[list[str]] | None:
        """AIs that were not allowed the internet, as matches of iptables; None before the first
        look."""
        fenced = self.pods.fenced
        return None if fenced is None else _from(fenced)


def _from(addresses: Iterable[str]) -> list[list[str]]:
    networks = [ipaddress.ip_network(one) for one in addresses]
    return [["-s", str(one)] for one in networks if one.version == 4]
