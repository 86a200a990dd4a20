"""What comes after a restore: the restored API and the living cluster are brought together."""

from collections.abc import Collection

from haechi.core.operations import Run
from haechi.domains.clusters import kubeadm, tokens
from haechi.domains.clusters.board import Board
from haechi.domains.clusters.context import Context
from haechi.domains.clusters.host.ports import Shell
from haechi.domains.clusters.leaving import leave_hooks
from haechi.domains.clusters.model import Cluster, Member, MemberState
from haechi.errors import AppError


async def retire(c: Context, run: Run, lost: Collection[str]) -> None:
    """These devices are members no more: one that comes back is cleaned, for its old etcd must not
    be a second truth.
    """
    for member in await c.members(run.subject):
        if member.device_id in lost and member.state != MemberState.CLEANING:
            await c.change_member(member, MemberState.CLEANING)


async def say_goodbye(c: Context, run: Run, lost: Collection[str]) -> None:
    """Their agents are let in no more, and what ran there has ended."""
    board = Board(run)

    async def one(member: Member) -> None:
        await leave_hooks(c, member, board.log(member))

    gone = [one for one in await c.members(run.subject) if one.device_id in lost]
    await c.on_each(gone, one, failed=board.failed)


async def settle_nodes(c: Context, run: Run) -> None:
    """Bring the restored API and the living cluster together: nodes that are no members go, and
    members that the backup does not know register again (a kubelet does when it starts).
    """
    cluster = await c.cluster(run.subject)
    members = [one for one in await c.members(run.subject) if one.state != MemberState.CLEANING]
    names = {one.node_name for one in members}
    async with c.kube(run.subject) as kube:
        known = await kube.nodes()
        for node in known:
            if node.name not in names:
                run.log(f"node {node.name} is of the backup, not of the cluster: removed")
                await kube.delete_node(node.name)
    marked = {node.name for node in known if node.control_plane}

    async def restart(member: Member) -> None:
        async def act(shell: Shell) -> None:
            await shell.run(["systemctl", "restart", "kubelet"], root=True, timeout_s=120)
            if member.is_control_plane and member.node_name not in marked:
                await _mark(shell, cluster, member)

        await c.on_host(member.device_id, act, log=run.log, away_s=0)

    def missed(member: Member, error: AppError) -> None:
        run.log(f"[{member.node_name}] its kubelet was not restarted: {error}")

    await c.on_each(members, restart, failed=missed)


async def _mark(shell: Shell, cluster: Cluster, member: Member) -> None:
    """A kubelet registers its node like a worker's, so AIs would be sent to a control plane."""
    documents = kubeadm.init_documents(
        cluster.id,
        member,
        cluster.options,
        version=cluster.kubernetes_version,
        token=tokens.new_token(),
    )
    await kubeadm.run(shell, kubeadm.mark_argv(), documents, log=_nothing)


def _nothing(line: str) -> None:
    del line
