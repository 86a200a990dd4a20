"""The operation `readdress_control_planes`: so many of them have other addresses that etcd has no
majority, as where a new router has renumbered a whole site.

One alone is told to the others (`readdressing.py`); here nobody is left to be told. All of them are
stopped, and go on as one new etcd at their new addresses, from the data of the one that knows most.
What was written in the last moments before a power cut may not be in it. It is a restore but for
where the data comes from, and its steps are those of one.
"""

import asyncio
from typing import Any, Final

from haechi.core.access import SYSTEM
from haechi.core.operations import Definition, Run
from haechi.domains.clusters import etcd
from haechi.domains.clusters.announcing import restart_flannel
from haechi.domains.clusters.backups.losing import refuse_living
from haechi.domains.clusters.backups.restoring import Restoring, step
from haechi.domains.clusters.backups.taking import Upkeep
from haechi.domains.clusters.board import Board
from haechi.domains.clusters.etcd_errors import EtcdDecides, EtcdHistoriesDiffer
from haechi.domains.clusters.host.ports import CARRY_S, Shell
from haechi.domains.clusters.joining import Joining
from haechi.domains.clusters.model import Member, MemberState
from haechi.domains.clusters.procedures import patient
from haechi.domains.clusters.readdressing import settled, write_anew
from haechi.errors import AppError, Text

KIND: Final = "readdress_control_planes"


class Renumbering:
    def __init__(self, upkeep: Upkeep, joining: Joining, restoring: Restoring) -> None:
        self._c = upkeep.context
        self._vault = upkeep.vault
        self._joining = joining
        self._restoring = restoring

    def definition(self) -> Definition:
        restoring = self._restoring
        made = Definition(
            kind=KIND,
            title=Text("제어 노드 주소 모두 변경", "Take all control planes' new addresses up"),
            parallel=2,
            steps=[
                step("reach", "새 주소로 연결", "Reach them there", self.reach, self.turn_back),
                *restoring.steps("stop"),
                step(
                    "collect",
                    "가장 새로운 etcd 자료 나누기",
                    "Bring etcd's newest data to all",
                    self.collect,
                    restoring.sweep,
                    CARRY_S,
                ),
                step(
                    "rewrite",
                    "설정과 인증서 갱신",
                    "Renew configuration and certificates",
                    self.rewrite,
                ),
                *restoring.steps("restore", "start"),
                step("lead", "노드에 알리기", "Tell the nodes", self.lead),
                step("wait", "응답 대기", "Wait for the API", restoring.wait_for_api),
                *restoring.steps("leave_out"),
                step("settle", "노드 맞추기", "Settle the nodes", self.settle),
                step("tidy", "정리", "Tidy up", self.tidy),
                step("see", "모두 준비될 때까지 대기", "Wait until all are ready", self.see),
            ],
        )
        return patient(self._c, made)

    async def reach(self, run: Run) -> None:
        """At `ctx["addresses"]`, by the keys that are pinned; then a host's own word counts."""
        c, moves = self._c, _moves(run)
        for member in await self._restoring.control_planes(run):
            known = (await c.devices.device(member.device_id)).address
            moves.setdefault(member.device_id, {"known": known})
        await run.save()
        for device_id, move in moves.items():
            where = run.ctx["addresses"].get(device_id, move["known"])
            await c.devices.readdress(device_id, where, by=SYSTEM)
        await self._restoring.check(run)
        lost: list[str] = run.ctx["lost"]
        if lost:
            await refuse_living(c, run, lost)
        told: dict[str, str] = {}

        async def ask(shell: Shell) -> None:
            member = members[shell.host.device_id]
            if await etcd.is_healthy(shell):
                raise EtcdDecides(host=member.node_name)
            report = await c.work.report(shell, member.device_id, member.role)
            told[member.device_id] = report.address or shell.host.address

        staying = await self._restoring.control_planes(run)
        members = {one.device_id: one for one in staying}
        await self._restoring.on_all(run, ask)
        for member in staying:
            moves[member.device_id]["address"] = told[member.device_id]
            run.log(f"[{member.node_name}] {member.address} → {told[member.device_id]}")

    async def turn_back(self, run: Run) -> None:
        """Unless all were reached, devices keep the addresses that they had."""
        for device_id, move in _moves(run).items():
            if "address" not in move and move["known"]:
                await self._c.devices.readdress(device_id, move["known"], by=SYSTEM)

    async def collect(self, run: Run) -> None:
        """All etcds have ended: the data of the one that knows most goes to each. What a majority
        has kept is in the newest of a majority; fewer are enough only where the others are lost.
        """
        facts: dict[str, etcd.SnapshotFacts] = {}
        failures: list[AppError] = []
        staying = await self._restoring.control_planes(run)

        async def look(member: Member) -> None:
            facts[member.device_id] = await self._c.on_host(
                member.device_id, etcd.resting_facts, log=run.log
            )

        def missed(member: Member, error: AppError) -> None:
            run.log(f"[{member.node_name}] -- {error}")
            failures.append(error)

        await self._c.on_each(staying, look, failed=missed)
        if len(facts) < min(len(staying), len(_moves(run)) // 2 + 1):
            raise failures[0]
        by_revision = sorted(facts, key=lambda one: facts[one].revision)
        oldest, newest = by_revision[0], by_revision[-1]
        if facts[newest].revision - facts[oldest].revision >= etcd.BUMP_REVISION:
            names = {one.device_id: one.node_name for one in staying}
            raise EtcdHistoriesDiffer(host=names[newest], other=names[oldest])
        run.log(f"etcd revision {facts[newest].revision}, {facts[newest].total_keys} keys")
        clear = self._vault.clear_path(run.id)

        async def fetch(shell: Shell) -> None:
            await shell.fetch(etcd.RESTING_FILE, clear, root=True)

        try:
            await self._c.on_host(newest, fetch, log=run.log)
            await asyncio.to_thread(etcd.add_digest, clear)
            await self._restoring.send(run, clear)
        finally:
            clear.unlink(missing_ok=True)

    async def rewrite(self, run: Run) -> None:
        """Recorded at once: from here on it is so, whether etcd comes back or not."""
        c, moves = self._c, _moves(run)
        cluster = await c.cluster(run.subject)
        members = {one.device_id: one for one in await self._restoring.control_planes(run)}

        async def act(shell: Shell) -> None:
            member = members[shell.host.device_id]
            address = moves[member.device_id]["address"]
            await write_anew(shell, cluster, member, address)
            await c.change_member(member, address=address)
            await c.devices.readdress(member.device_id, address, by=SYSTEM)

        await self._restoring.on_all(run, act)

    async def lead(self, run: Run) -> None:
        """Workers that have moved as well are told when they are found."""
        cluster = await self._c.cluster(run.subject)
        stay = await self._restoring.control_planes(run)
        ids = {one.device_id for one in stay}
        told = [
            one
            for one in await self._c.members(run.subject)
            if one.device_id in ids
            or (one.state in {MemberState.READY, MemberState.LEAVING} and not one.is_control_plane)
        ]
        await self._joining.lead_to(cluster, told, stay, Board(run).log)

    async def settle(self, run: Run) -> None:
        await self._restoring.settle(run)
        stay = await self._restoring.control_planes(run)
        async with self._c.kube(run.subject) as kube:
            await restart_flannel(kube, {one.node_name for one in stay})

    async def tidy(self, run: Run) -> None:
        await self._restoring.clear_up(run)
        addresses = {key: one["address"] for key, one in _moves(run).items() if "address" in one}
        run.ctx["result"] = {"addresses": addresses}

    async def see(self, run: Run) -> None:
        """Last of all: one that does not come back is to be mended by itself."""
        await self._restoring.wait_for_etcds(run)
        for member in await self._restoring.control_planes(run):
            await settled(self._c, member, member.address)


def _moves(run: Run) -> dict[str, dict[str, Any]]:
    """Device → the address that it was `known` by and, once all were reached, its node's."""
    moves: dict[str, dict[str, Any]] = run.ctx.setdefault("moves", {})
    return moves
