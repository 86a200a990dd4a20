"""When hosts have become nodes, Ready and with the cluster's own pods on them, and what keeps one.

What is wrong on a host is held against that host alone. What is wrong elsewhere in a cluster that
was there before is named in the log and keeps nobody out: a new node may even be the cure.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from haechi.core.operations import Permanent, Run
from haechi.domains.clusters import journal, system
from haechi.domains.clusters.board import Board
from haechi.domains.clusters.checking import error_of
from haechi.domains.clusters.context import Context
from haechi.domains.clusters.errors import KubeletNotStarting, NodeNotReady
from haechi.domains.clusters.model import Member
from haechi.domains.clusters.ports import HostFinding, Node, Pod
from haechi.errors import AppError, Unavailable

_LINES: Final = 20


@dataclass(slots=True)
class _Seen:
    """As the API said last."""

    nodes: dict[str, Node] = field(default_factory=dict)
    pods: list[Pod] = field(default_factory=list)

    def is_ready(self, member: Member) -> bool:
        node = self.nodes.get(member.node_name)
        return node is not None and node.ready

    def said_of(self, member: Member, lacking: HostFinding | None) -> str:
        """By the API. A kubelet without pods' network knows only that there is none."""
        node = self.nodes.get(member.node_name)
        if node is None:
            return "it never registered"
        why = lacking and lacking.data.get("reason")
        own = f"{lacking.data['pod']}: {why}" if lacking and why else ""
        return "; ".join(one for one in (node.why_not_ready, own) if one)

    def on(self, members: list[Member]) -> Iterator[HostFinding]:
        return system.on_nodes({one.node_name: one.device_id for one in members}, self.pods)

    def names(self) -> HostFinding | None:
        """Where nobody answers for them."""
        nodes = {one.name: one.device_id or "" for one in self.nodes.values() if one.ready}
        down = [one for one in system.names(nodes, self.pods) if one.level == "error"]
        return down[0] if down else None

    def elsewhere(self, members: list[Member]) -> Iterator[HostFinding]:
        mine = {one.node_name for one in members}
        others = {
            one.name: one.device_id or ""
            for one in self.nodes.values()
            if one.ready and one.name not in mine
        }
        yield from system.on_nodes(others, self.pods)
        names = self.names()
        if names is not None:
            yield names


class Readiness:
    def __init__(self, context: Context) -> None:
        self._c = context

    async def wait(
        self, run: Run, board: Board, members: list[Member], *, whole: bool
    ) -> dict[str, Node]:
        """The cluster's nodes by name. Workers that do not get there are put out, a control plane
        ends it; so do names, where the cluster is to be `whole` by this: all who answer for them
        are waited for, and one is enough in the end.
        """
        c, seen = self._c, _Seen()

        async def look() -> bool | None:
            try:
                async with c.kube(run.subject) as kube:
                    nodes = await kube.nodes()
                    seen.pods = await system.pods(kube)
            except Unavailable as error:
                run.log(f"-- {error}")
                return None
            seen.nodes = {one.name: one for one in nodes}
            late = not all(seen.is_ready(one) for one in members) or any(seen.on(members))
            names = not whole or system.every_name_server_answers(seen.pods)
            return True if names and not late else None

        if await c.until(look, c.pace.ready_s) is None:
            await self._put_out(run, board, members, seen)
            names = seen.names() if whole else None
            if names is not None:
                raise Permanent(error_of(names))
        if not whole:
            for finding in seen.elsewhere(members):
                run.log(f"!! {error_of(finding)}")
        return seen.nodes

    async def _put_out(self, run: Run, board: Board, members: list[Member], seen: _Seen) -> None:
        lacking = {one.device_id: one for one in seen.on(members)}
        for member in members:
            if not seen.is_ready(member):
                said = seen.said_of(member, lacking.get(member.device_id))
                error = await self._why_late(member, said, board)
            elif member.device_id in lacking:
                error = error_of(lacking[member.device_id])
            else:
                continue
            board.failed(member, error)
            if member.is_control_plane:
                raise Permanent(error)
        await run.save()

    async def _why_late(self, member: Member, said: str, board: Board) -> AppError:
        """What Kubernetes says of the node, and what its own kubelet says."""
        c, log = self._c, board.log(member)
        try:
            fails, lines = await c.on_host(
                member.device_id, journal.kubelet_words, log=log, away_s=0
            )
        except AppError as error:
            log(f"-- its kubelet cannot be asked: {error}")
        else:
            for line in lines[-_LINES:]:
                log(f"kubelet: {line}")
            own = journal.telling_line(lines)
            if fails and own:
                host = member.node_name
                return KubeletNotStarting(host=host, step="wait_ready", reason=own)
            said = f"{said} (kubelet: {own})" if own else said
        timeout_s = round(c.pace.ready_s)
        return NodeNotReady(node=member.node_name, timeout_s=timeout_s, reason=said)
