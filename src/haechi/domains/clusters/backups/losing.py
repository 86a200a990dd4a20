"""Are a cluster's control planes really lost? Looked at by every way there is, before another host
takes their place: two clusters would answer under one name, and workers would go to either.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from haechi.core.operations import Permanent, Run
from haechi.domains.clusters import etcd
from haechi.domains.clusters.backups.model import ControlPlaneLives
from haechi.domains.clusters.board import Board
from haechi.domains.clusters.context import Context
from haechi.domains.clusters.host.ports import Shell, TcpEnd
from haechi.domains.clusters.model import API_PORT, Member, MemberState
from haechi.errors import AppError, Unavailable

REACH_SCRIPT: Final = 'exec 3<>"/dev/tcp/$1/$2"'


async def refuse_living(
    c: Context, run: Run, lost: Sequence[str], newcomer: str | None = None
) -> None:
    """Raises ControlPlaneLives where one of the devices `lost` still does its work: its API or its
    etcd answers here, or a worker reaches its API. A host that is merely on is cleaned afterwards;
    one whose address the device `newcomer` has now, or somebody else, is there no more.
    """
    members = await c.members(run.subject)
    taken = None if newcomer is None else (await c.devices.device(newcomer)).address
    old = [
        one
        for one in members
        if one.device_id in lost and one.state != MemberState.CLEANING and one.address != taken
    ]
    workers = [
        one for one in members if not one.is_control_plane and one.state == MemberState.READY
    ]
    alive: dict[str, str] = {}

    async def look(member: Member) -> None:
        if await _api_answers(c, member):
            alive[member.device_id] = f"{member.node_name} (API)"
        elif await _etcd_answers(c, member):
            alive[member.device_id] = f"{member.node_name} (etcd)"

    async def look_from(worker: Member) -> None:
        async with c.hosts.open(worker.device_id) as shell:
            for member in old:
                if not await _reaches(shell, member):
                    continue
                if await _is_another(c, shell, member):
                    Board(run).log(member)(f"its port {API_PORT} is another one's now")
                    continue
                words = f"{member.node_name} (API, {worker.node_name})"
                alive.setdefault(member.device_id, words)

    def unsaid(member: Member, error: AppError) -> None:
        Board(run).log(member)(f"-- {error}")

    await c.on_each(old, look, failed=unsaid)
    await c.on_each(workers, look_from, failed=unsaid)
    if alive:
        raise Permanent(ControlPlaneLives(hosts=", ".join(alive.values())))


async def _api_answers(c: Context, member: Member) -> bool:
    """That of this control plane alone; a refusal is an answer."""
    access = await c.access(member.cluster_id)
    servers = tuple(one for one in access.servers if one.device_id == member.device_id)
    try:
        async with c.kubes.open(replace(access, servers=servers)) as kube:
            await kube.version()
    except Unavailable:
        return False
    except AppError:
        return True
    return True


async def _etcd_answers(c: Context, member: Member) -> bool:
    """Raises AppError where the host cannot be asked."""
    async with c.hosts.open(member.device_id) as shell:
        return await etcd.answers(shell)


async def _reaches(shell: Shell, member: Member) -> bool:
    where = [member.address, str(API_PORT)]
    argv = ["timeout", "3", "bash", "-c", REACH_SCRIPT, "haechi-reach", *where]
    return (await shell.run(argv, timeout_s=10, check=False)).status == 0


async def _is_another(c: Context, shell: Shell, member: Member) -> bool:
    """The site may have given the address of one that is dead to somebody else. Where the worker
    lets nobody through, whoever listens is taken for the old one.
    """
    access = await c.access(member.cluster_id)
    try:
        async with shell.tunnel(TcpEnd(member.address, API_PORT)) as socket:
            return await c.kubes.is_another(access, socket)
    except AppError:
        return False
