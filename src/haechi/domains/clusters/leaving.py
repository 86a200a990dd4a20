"""The steps of remove_node: its work moves, the node goes, its host is cleaned.

A host that is away hinders nothing: it is cleaned when it is seen again.
"""

from collections.abc import Callable

from haechi.core.operations import Permanent, Run
from haechi.domains.clusters import etcd, store
from haechi.domains.clusters.board import Board
from haechi.domains.clusters.cleaning import Cleaning
from haechi.domains.clusters.context import Context
from haechi.domains.clusters.errors import LastControlPlane
from haechi.domains.clusters.etcd_errors import EtcdMajorityNeeded
from haechi.domains.clusters.host.errors import HostAway
from haechi.domains.clusters.host.ports import Shell
from haechi.domains.clusters.joining import Joining
from haechi.domains.clusters.judging import Judgement
from haechi.domains.clusters.model import Cluster, Member, MemberState
from haechi.domains.clusters.ports import OnText
from haechi.errors import AppError


class Leaving:
    def __init__(self, context: Context, joining: Joining, cleaning: Cleaning) -> None:
        self._c = context
        self._joining = joining
        self._cleaning = cleaning
        self.presence: Callable[[str], Judgement | None] = lambda _device_id: None
        """How a node is doing; set by whoever watches."""

    async def drain(self, run: Run) -> None:
        """Take nothing new there, and let what runs end or move; of a dead node nothing does."""
        c = self._c
        cluster, member = await self._whom(run)
        board = Board(run)
        await self._refuse(cluster, member, board)
        judged = self.presence(member.device_id)  # who leaves is watched no more
        run.ctx.setdefault("was", member.state.value)
        run.ctx.setdefault("dead", judged is not None and judged.presence == "dead")
        await run.save()
        await c.change_member(member, MemberState.LEAVING)
        await board.stage(member, "draining", 0.1)
        if run.ctx["dead"]:
            async with c.kube(cluster.id) as kube:
                count = await kube.abandon(member.node_name, log=board.log(member))
            run.log(f"the node is dead: {count} pods taken out, nothing to wait for")
            return
        async with c.kube(cluster.id) as kube:
            drained = await kube.drain(
                member.node_name,
                grace_s=c.pace.grace_s,
                timeout_s=c.pace.drain_s,
                log=board.log(member),
            )
        run.log(f"{drained.evicted} pods moved away")
        for left in drained.left:
            run.log(f"still there, ended with the node: {left}")

    async def undo_drain(self, run: Run) -> None:
        """Only where the node is still there."""
        c = self._c
        _, member = await self._whom(run)
        if run.ctx.get("deleted") or member.state != MemberState.LEAVING:
            return
        async with c.kube(run.subject) as kube:
            if await kube.node(member.node_name) is not None:
                await kube.uncordon(member.node_name)
        await c.change_member(member, MemberState(run.ctx.get("was", MemberState.READY)))

    async def say_goodbye(self, run: Run) -> None:
        """Others take back what they did to the node; one that cannot does not hinder."""
        _, member = await self._whom(run)
        await leave_hooks(self._c, member, Board(run).log(member))

    async def delete_node(self, run: Run) -> None:
        """Out of etcd, if it is a control plane, and out of Kubernetes."""
        cluster, member = await self._whom(run)
        board = Board(run)
        await board.stage(member, "leaving", 0.5)
        await leave_etcd(self._c, member, board)
        run.ctx["deleted"] = True
        await run.save()
        await leave_api(self._c, self._joining, cluster, member, board)

    async def clean(self, run: Run) -> None:
        _, member = await self._whom(run)
        board = Board(run)
        await board.stage(member, "cleaning", 0.7)
        cleaned = await self._cleaning.clean(member, board.log(member), away_s=0)
        await board.stage(member, "clean" if cleaned else "away", 1.0)
        run.ctx["result"]["pending"] = 0 if cleaned else 1

    # --- what they share

    async def _whom(self, run: Run) -> tuple[Cluster, Member]:
        async with self._c.db.read() as tx:
            cluster = await store.cluster(tx, run.subject)
            member = await store.member(tx, run.subject, run.ctx["device_id"])
        return cluster, member

    async def _refuse(self, cluster: Cluster, member: Member, board: Board) -> None:
        """A control plane without which nothing could be decided, before anything is changed."""
        if not member.is_control_plane:
            return
        others = await _other_control_planes(self._c, member)
        if not others:
            raise Permanent(LastControlPlane(host=member.node_name, id=cluster.id))

        async def count(_other: Member, shell: Shell) -> etcd.Voters:
            return await etcd.voters(shell, without=member.node_name)

        voters = await self._c.by_first(others, count, log=board.log)
        if not voters.decide:
            away = ", ".join(voters.silent)
            raise Permanent(EtcdMajorityNeeded(host=member.node_name, id=cluster.id, away=away))


async def take_out(
    context: Context, joining: Joining, cluster: Cluster, member: Member, board: Board
) -> None:
    """Out of etcd and of every proxy, if it is a control plane, and out of Kubernetes."""
    await leave_etcd(context, member, board)
    await leave_api(context, joining, cluster, member, board)


async def leave_etcd(context: Context, member: Member, board: Board) -> None:
    """By the first other control plane that can; nothing to do for a worker."""
    others = await _other_control_planes(context, member)
    if not member.is_control_plane or not others:
        return

    async def act(_other: Member, shell: Shell) -> None:
        await etcd.forget_member(shell, name=member.node_name, address=member.address)

    await context.by_first(others, act, log=board.log)


async def leave_api(
    context: Context, joining: Joining, cluster: Cluster, member: Member, board: Board
) -> None:
    """Kubernetes and the proxies of the other nodes know it no more."""
    async with context.kube(cluster.id) as kube:
        await kube.delete_node(member.node_name)
    others = await _other_control_planes(context, member)
    if member.is_control_plane and others:
        everyone = await context.members(cluster.id)
        rest = [
            one
            for one in everyone
            if one.device_id != member.device_id and one.state != MemberState.CLEANING
        ]
        await joining.lead_to(cluster, rest, others, board.log)


async def _other_control_planes(context: Context, without: Member) -> list[Member]:
    return [
        one
        for one in await context.members(without.cluster_id)
        if one.is_control_plane
        and one.device_id != without.device_id
        and one.state == MemberState.READY
    ]


async def leave_hooks(context: Context, member: Member, log: OnText) -> None:
    """What joining laid last is taken back first. Whatever hooks say, the node goes."""
    for hook in reversed(context.hooks):
        try:
            await hook.leaving(member.cluster_id, member.device_id, log=log)
        except HostAway as error:
            log(f"-- {hook.name}: {error}")
            return  # the others would wait for it in vain as well
        except AppError as error:
            log(f"-- {hook.name}: {error}")
