"""The steps of remove_node: its work moves, the node goes, its host is cleaned.

A host that is away hinders nothing: it is cleaned when it is seen again.
"""

from haechi.core.operations import Permanent, Run
from haechi.domains.clusters import etcd, store
from haechi.domains.clusters.board import Board
from haechi.domains.clusters.cleaning import Cleaning
from haechi.domains.clusters.context import Context
from haechi.domains.clusters.errors import LastControlPlane
from haechi.domains.clusters.host.errors import HostAway
from haechi.domains.clusters.host.ports import Shell
from haechi.domains.clusters.joining import Joining
from haechi.domains.clusters.model import Cluster, Member, MemberState
from haechi.errors import AppError


class Leaving:
    def __init__(self, context: Context, joining: Joining, cleaning: Cleaning) -> None:
        self._c = context
        self._joining = joining
        self._cleaning = cleaning

    async def drain(self, run: Run) -> None:
        """Take nothing new there, and let what runs end or move."""
        c = self._c
        cluster, member = await self._whom(run)
        board = Board(run)
        await self._refuse_last(cluster, member)
        run.ctx.setdefault("was", member.state.value)
        await run.save()
        await c.change_member(member, MemberState.LEAVING)
        await board.stage(member, "draining", 0.1)
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
        await leave_hooks(self._c, member, Board(run))

    async def delete_node(self, run: Run) -> None:
        """Out of etcd, if it is a control plane, and out of Kubernetes."""
        cluster, member = await self._whom(run)
        board = Board(run)
        await board.stage(member, "leaving", 0.5)
        run.ctx["deleted"] = True
        await run.save()
        await take_out(self._c, self._joining, cluster, member, board)

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

    async def _refuse_last(self, cluster: Cluster, member: Member) -> None:
        if member.is_control_plane and not await _other_control_planes(self._c, member):
            raise Permanent(LastControlPlane(host=member.node_name, id=cluster.id))


async def take_out(
    context: Context, joining: Joining, cluster: Cluster, member: Member, board: Board
) -> None:
    """Out of etcd and of every proxy, if it is a control plane, and out of Kubernetes."""
    others = await _other_control_planes(context, member)
    if member.is_control_plane:
        await _forget_etcd(context, member, others, board)
    async with context.kube(cluster.id) as kube:
        await kube.delete_node(member.node_name)
    if member.is_control_plane and others:
        everyone = await context.members(cluster.id)
        rest = [one for one in everyone if one.device_id != member.device_id]
        await joining.lead_to(cluster, rest, others, board.log)


async def _other_control_planes(context: Context, without: Member) -> list[Member]:
    return [
        one
        for one in await context.members(without.cluster_id)
        if one.is_control_plane
        and one.device_id != without.device_id
        and one.state == MemberState.READY
    ]


async def _forget_etcd(
    context: Context, member: Member, others: list[Member], board: Board
) -> None:
    """By the first other control plane that can."""
    last: AppError | None = None
    for other in others:

        async def act(shell: Shell) -> None:
            await etcd.forget_member(shell, name=member.node_name, address=member.address)

        try:
            await context.on_host(other.device_id, act, log=board.log(other), away_s=0)
        except AppError as error:
            board.log(other)(f"-- {error}")
            last = error
        else:
            return
    if last is not None:
        raise last


async def leave_hooks(context: Context, member: Member, board: Board) -> None:
    """Whatever hooks say, the node goes."""
    log = board.log(member)
    for hook in context.hooks:
        try:
            await hook.leaving(member.cluster_id, member.device_id, log=log)
        except HostAway as error:
            log(f"-- {hook.name}: {error}")
            return  # the others would wait for it in vain as well
        except AppError as error:
            log(f"-- {hook.name}: {error}")
