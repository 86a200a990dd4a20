"""The steps of form_cluster and add_node. Each is idempotent: after a crash it runs again.

`ctx`: `device_ids` — whom this operation is about; `consent` — what may be done to them
(`consent.py`). A worker that fails is put out (`Board`), the others go on; a control plane that
fails ends the operation, and what was done is undone.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from haechi.core.operations import Permanent, Run
from haechi.domains.clusters import manifests, store
from haechi.domains.clusters.board import Board
from haechi.domains.clusters.checking import Checking, HostToCheck
from haechi.domains.clusters.cleaning import Cleaning
from haechi.domains.clusters.consent import options_for
from haechi.domains.clusters.context import Context
from haechi.domains.clusters.errors import WorkersFailed
from haechi.domains.clusters.host.ports import Shell
from haechi.domains.clusters.joining import Joining
from haechi.domains.clusters.leaving import take_out
from haechi.domains.clusters.model import (
    DEVICE_LABEL,
    Cluster,
    ClusterState,
    Member,
    MemberState,
)
from haechi.domains.clusters.ports import Node
from haechi.domains.clusters.readiness import Readiness
from haechi.errors import AppError

MemberAct = Callable[[Member], Awaitable[object]]


class Forming:
    def __init__(
        self, context: Context, checking: Checking, joining: Joining, cleaning: Cleaning
    ) -> None:
        self._c = context
        self._checking = checking
        self._joining = joining
        self._cleaning = cleaning
        self._readiness = Readiness(context)

    # --- the steps

    async def check(self, run: Run) -> None:
        """Preflight of all, then the exact version. Changes nothing on any host."""
        c = self._c
        cluster, members = await self._whom(run)
        names = {one.device_id: one for one in members}
        board = Board(run)
        there = _was_there(cluster, run)
        but = {*names, run.ctx.get("device_id", "")}  # one that is replaced goes
        for member in members:
            board.forgive(member)
            await board.stage(member, "checking", 0.02)
        checked = await self._checking.check(
            [HostToCheck(one.device_id, one.node_name, one.role) for one in members],
            options_for(run.ctx, cluster.options),
            log=lambda device_id: board.log(names[device_id]),
            machines=await self._checking.machines_of(cluster.id, names) if there else None,
            there=await self._checking.control_planes_of(cluster.id, but) if there else (),
        )
        for finding in checked.findings:
            word = " (accepted)" if finding in checked.accepted else ""
            run.log(f"[{finding.host}] {finding.level}: {finding.name}{word}")
        checked.refuse()
        await self._checking.remember(members, checked.reports)
        if not cluster.kubernetes_version:
            platforms = {report.platform for report in checked.reports}
            version = await c.releases.resolve(cluster.options, platforms)
            await c.change_cluster(cluster.id, kubernetes_version=version)
            run.log(f"Kubernetes {version}")

    async def snapshot(self, run: Run) -> None:
        """What hosts look like before anything is changed: kept for the proof."""
        c = self._c
        _, members = await self._whom(run)
        board = Board(run)

        async def keep(member: Member) -> None:
            async def act(shell: Shell) -> None:
                content = await c.work.snapshot(shell)
                async with c.db.write() as tx:
                    await store.put_snapshot(
                        tx,
                        member.cluster_id,
                        member.device_id,
                        "before",
                        content,
                        c.clock.now(),
                    )
                    await store.delete_snapshots(tx, member.cluster_id, member.device_id, "after")

            await board.stage(member, "looking", 0.05)
            await c.on_host(member.device_id, act, log=board.log(member))

        await self._each(run, board, members, keep)

    async def prepare(self, run: Run) -> None:
        c = self._c
        cluster, members = await self._whom(run)
        board = Board(run)

        async def one(member: Member) -> None:
            log = board.log(member)

            async def act(shell: Shell) -> None:
                await c.work.prepare(
                    shell,
                    member.role,
                    options_for(run.ctx, cluster.options),
                    cluster.kubernetes_version,
                    log=log,
                    progress=lambda ratio: board.part(member, ratio),
                )

            await c.change_member(member, MemberState.JOINING)
            await board.stage(member, "preparing", 0.1)
            await c.on_host(member.device_id, act, log=log)
            await board.stage(member, "prepared", 0.4)

        await self._each(run, board, members, one)

    async def undo_prepare(self, run: Run) -> None:
        """Whatever the later steps did on these hosts goes with it; a cluster that was there before
        knows nothing of them any more.
        """
        cluster, members = await self._whom(run, all_ever=True)
        board = Board(run)
        begun = [one for one in members if one.state == MemberState.JOINING]
        if cluster.state == ClusterState.READY:
            if begun:
                await self._joining.withdraw(cluster, run.log)
            for member in begun:
                await self._take_out(cluster, member, board)

        async def one(member: Member) -> None:
            await self._cleaning.clean(member, board.log(member), then=MemberState.FAILED)

        await self._c.on_each(begun, one, failed=board.failed)

    async def initialise(self, run: Run) -> None:
        """The first control plane, and the kubeconfig that it makes."""
        cluster, members = await self._whom(run)
        board = Board(run)
        first = members[0]
        await board.stage(first, "initialising", 0.45)
        await self._joining.initialise(cluster, first, board.log(first))

    async def keep_kubeconfig(self, run: Run) -> None:
        cluster, members = await self._whom(run)
        board = Board(run)
        await self._joining.take_kubeconfig(cluster, members[0], board.log(members[0]))
        await self._joining.api_answers(cluster.id)
        await board.stage(members[0], "joined", 0.6)

    async def network(self, run: Run) -> None:
        """The pods' network: a template of the package, images of the bundle."""
        c = self._c
        cluster, _ = await self._whom(run)
        version = cluster.kubernetes_version
        by_packages = cluster.options.source == "distribution"
        objects = manifests.flannel(
            image=await c.releases.image(version, "flannel"),
            pod_cidr=cluster.options.pod_cidr,
            pull_policy="IfNotPresent",
            plugin=await c.releases.image(version, "flannel-cni-plugin") if by_packages else "",
        )
        async with c.kube(cluster.id) as kube:
            await kube.apply(objects, log=run.log)

    async def join_control_planes(self, run: Run) -> None:
        """One after the other: etcd takes one new member at a time."""
        c = self._c
        cluster, members = await self._whom(run)
        board = Board(run)
        everyone = await c.members(cluster.id)
        for member in [one for one in members if one.is_control_plane]:
            living = _living(everyone, member, board)
            if not living:
                continue  # the first, which initialised the cluster
            log = board.log(member)
            await board.stage(member, "joining", 0.65)
            async with self._joining.invited(cluster, run.log) as invitation:
                full = await self._joining.with_certificates(cluster, invitation, living, board.log)
                await self._joining.join(cluster, member, full, living, log)
            await self._joining.take_kubeconfig(cluster, member, log)
            await c.change_member(member, joined_at=c.clock.now())
            await board.stage(member, "joined", 0.7)
            everyone = await c.members(cluster.id)
            nodes = [one for one in everyone if _is_node(one, board)]
            control_planes = [*living, member]
            await self._joining.lead_to(cluster, nodes, control_planes, board.log)

    async def join_workers(self, run: Run) -> None:
        cluster, members = await self._whom(run)
        board = Board(run)
        workers = board.going_on([one for one in members if not one.is_control_plane])
        if not workers:
            return
        everyone = await self._c.members(cluster.id)
        living = [one for one in everyone if one.is_control_plane and _is_in(one, members)]

        async def one(member: Member) -> None:
            await board.stage(member, "joining", 0.75)
            await self._joining.join(cluster, member, invitation, living, board.log(member))
            await board.stage(member, "joined", 0.8)

        async with self._joining.invited(cluster, run.log) as invitation:
            await self._each(run, board, workers, one)

    async def wait_ready(self, run: Run) -> None:
        """All nodes Ready, with the cluster's own pods on them. Where the cluster is new, its names
        too; one that was there before answers for itself.
        """
        cluster, members = await self._whom(run)
        board = Board(run)
        there = _was_there(cluster, run)
        seen = await self._readiness.wait(run, board, board.going_on(members), whole=not there)
        await self._label(cluster, board.going_on(members), seen)
        for member in board.going_on(members):
            await board.stage(member, "ready", 0.98)

    async def apply_hooks(self, run: Run) -> None:
        """Registry trust, agents: what others do to each node, while its system pods start."""
        cluster, members = await self._whom(run)
        board = Board(run)

        async def one(member: Member) -> None:
            for hook in self._c.hooks:
                await board.stage(member, hook.name, 0.85)
                await hook.joined(cluster.id, member.device_id, log=board.log(member))
            await board.stage(member, "wired", 0.9)

        await self._each(run, board, board.going_on(members), one)

    async def finish(self, run: Run) -> None:
        """Members are ready; those put out are cleaned, so that they can be added again."""
        c = self._c
        cluster, members = await self._whom(run)
        board = Board(run)
        for member in board.going_on(members):
            joined_at = member.joined_at or c.clock.now()
            await c.change_member(member, MemberState.READY, joined_at=joined_at)
        out = board.out(members)

        async def put_out(member: Member) -> None:
            await self._take_out(cluster, member, board)
            await self._cleaning.clean(member, board.log(member), then=MemberState.FAILED)

        await c.on_each(out, put_out, failed=board.failed)
        run.ctx["result"]["failed"] = len(out)
        message = f"{len(out)} of {len(members)} hosts did not join" if out else ""
        await c.change_cluster(
            cluster.id,
            state=ClusterState.READY.value,
            formed_at=cluster.formed_at or c.clock.now(),
            message=message,
        )
        if out and len(out) == len(members):
            raise Permanent(board.raised(out[0]) or _all_failed(out, members))

    # --- what they share

    async def _whom(self, run: Run, *, all_ever: bool = False) -> tuple[Cluster, list[Member]]:
        """The cluster, and the members that this operation is about, the first control plane of a
        new cluster first.
        """
        c = self._c
        order = {device_id: place for place, device_id in enumerate(run.ctx["device_ids"])}
        members = await c.members(run.subject, all_ever=all_ever)
        mine = [one for one in members if one.device_id in order]
        mine.sort(key=lambda one: (not one.is_control_plane, order[one.device_id]))
        return await c.cluster(run.subject), mine

    async def _each(self, run: Run, board: Board, members: list[Member], act: MemberAct) -> None:
        """For all that are not out. A worker's failure is its own, a control plane's ends all."""
        fatal: list[AppError] = []

        def failed(member: Member, error: AppError) -> None:
            board.failed(member, error)
            if member.is_control_plane:
                fatal.append(error)

        await self._c.on_each(board.going_on(members), act, failed=failed)
        await run.save()
        if fatal:
            raise Permanent(fatal[0])
        if all(board.error_of(one) is not None for one in run.ctx["device_ids"]):
            raise Permanent(board.raised(members[0]) or _all_failed(members, members))

    async def _take_out(self, cluster: Cluster, member: Member, board: Board) -> None:
        """As far as that can be done now: the host is cleaned all the same."""
        try:
            await take_out(self._c, self._joining, cluster, member, board)
        except AppError as error:
            board.log(member)(f"-- the cluster still knows of it: {error}")

    async def _label(self, cluster: Cluster, members: list[Member], seen: dict[str, Node]) -> None:
        """Registered nodes carry the device's id already, unless they are older than haechi."""
        async with self._c.kube(cluster.id) as kube:
            for member in members:
                if seen[member.node_name].device_id != member.device_id:
                    await kube.label_node(member.node_name, {DEVICE_LABEL: member.device_id})


def _was_there(cluster: Cluster, run: Run) -> bool:
    """Before this operation; one that a backup makes anew was not."""
    return cluster.state == ClusterState.READY and not run.ctx.get("backup_id")


def _living(everyone: list[Member], member: Member, board: Board) -> list[Member]:
    """Control planes that are in already: ready ones, then those that this operation joined."""
    return [
        one
        for one in everyone
        if one.is_control_plane and one.device_id != member.device_id and _is_node(one, board)
    ]


def _is_node(member: Member, board: Board) -> bool:
    return member.state == MemberState.READY or board.stage_of(member) in {"joined", "ready"}


def _is_in(member: Member, mine: list[Member]) -> bool:
    """A control plane that runs: of an earlier operation, or joined by this one before workers."""
    return member.state == MemberState.READY or member in mine


def _all_failed(failed: list[Member], members: list[Member]) -> WorkersFailed:
    names: list[dict[str, Any]] = [{"host": one.node_name} for one in failed]
    return WorkersFailed(failed=len(failed), total=len(members), hosts=names)
