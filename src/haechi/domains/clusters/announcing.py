"""Nodes whose pods' network still leads to where they are no more: it is started anew there.

Flannel asks for its node's address when it starts, and tells it to the other nodes through the API.
Where the API was away when a node moved, nobody could have it started anew then. So nothing is
remembered: what the API itself says of a node is looked at, and put right once it answers.
"""

import logging
from collections.abc import Collection
from typing import Final, Protocol

from haechi.core.operations import Operations
from haechi.core.tasks import TaskGroup, Tasks
from haechi.domains.clusters import manifests
from haechi.domains.clusters.context import Context
from haechi.domains.clusters.pauses import Pauses
from haechi.domains.clusters.ports import Kube, Node
from haechi.domains.clusters.watched import NodeState, WatchedApi
from haechi.errors import AppError

log = logging.getLogger(__name__)

LOOK_S: Final = 10.0
FIRST_PAUSE_S: Final = 600.0
LAST_PAUSE_S: Final = 86400.0
"""After it was started anew and announces the same as before: a host of two networks has its
reasons, and one whose old address goes only now has not.
"""


class Nodes(Protocol):
    """Watching, as it is used here."""

    def clusters(self) -> list[str]: ...

    def api(self, cluster_id: str) -> WatchedApi: ...

    def nodes(self, cluster_id: str) -> list[NodeState]: ...

    def seen_node(self, cluster_id: str, node_name: str) -> Node | None: ...


class Announcing:
    def __init__(self, context: Context, nodes: Nodes, operations: Operations) -> None:
        self._c = context
        self._nodes = nodes
        self._operations = operations
        self._pauses = Pauses(context.clock, first_s=FIRST_PAUSE_S, last_s=LAST_PAUSE_S)
        self._tasks = Tasks("announcing")

    def start(self) -> None:
        self._tasks.forever("look", self._forever)

    async def close(self) -> None:
        await self._tasks.close()

    async def _forever(self) -> None:
        while True:
            await self._c.clock.sleep(LOOK_S)
            async with TaskGroup() as group:
                for cluster_id in self._nodes.clusters():
                    group.create_task(self._look_at(cluster_id))

    async def _look_at(self, cluster_id: str) -> None:
        stale = self._stale(cluster_id)
        if not stale or await self._operations.active_on(cluster_id) is not None:
            return
        for node in stale:
            log.info("%s announces %s: its network is started anew", *_told(node))
        try:
            async with self._c.kube(cluster_id) as kube:
                await restart_flannel(kube, {one.name for one in stale})
        except AppError as error:  # the next look tries again
            log.info("pods' network of cluster %s: %s", cluster_id, error)
            return
        for node in stale:
            self._pauses.begin(_key(cluster_id, node))

    def _stale(self, cluster_id: str) -> list[Node]:
        """Of nodes that are well: others would not start it anew, or speak of themselves as they
        were.
        """
        if self._nodes.api(cluster_id).state != "ok":
            return []
        seen = [
            self._nodes.seen_node(cluster_id, one.node_name)
            for one in self._nodes.nodes(cluster_id)
            if one.presence == "ok" and one.ready
        ]
        return [
            one
            for one in seen
            if one is not None
            and one.addresses
            and one.network_address
            and one.network_address not in one.addresses
            and not self._pauses.lasts(_key(cluster_id, one))
        ]


async def restart_flannel(kube: Kube, node_names: Collection[str]) -> None:
    """The DaemonSet makes another on each, which announces the node's address."""
    pods = await kube.pods(namespace=manifests.FLANNEL_NAMESPACE)
    made = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": one.name, "namespace": one.namespace},
        }
        for one in pods
        if one.node in node_names
    ]
    if made:
        await kube.delete(made, wait_s=30)


def _key(cluster_id: str, node: Node) -> str:
    """Another address of either is another matter."""
    return " ".join((cluster_id, node.name, node.network_address, *node.addresses))


def _told(node: Node) -> tuple[str, str]:
    return f"node {node.name} ({', '.join(node.addresses)})", node.network_address
