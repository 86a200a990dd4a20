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
from haechi.core.operations import Definition, Run, Step
from haechi.domains.clusters import etcd
from haechi.domains.clusters.announcing import restart_flannel
from haechi.domains.clusters.backups.restoring import Restoring
from haechi.domains.clusters.backups.taking import Upkeep
from haechi.domains.clusters.board import Board
from haechi.domains.clusters.etcd_errors import EtcdDecides
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
                Step("reach", Text("새 주소로 연결", "Reach them"), self.reach, self.turn_back),
                Step(
                    "stop",
                    Text("제어 노드 멈추기", "Stop the control planes"),
                    restoring.stop,
                    restoring.let_go,
                    timeout_s=1800,
                ),
                Step(
                    "collect",
                    Text("etcd 자료 모으기", "Bring etcd's newest data to all"),
                    self.collect,
                    restoring.sweep,
                    timeout_s=CARRY_S,
                ),
                Step("rewrite", Text("설정과 인증서 갱신", "Write them anew"), self.rewrite),
                Step("record", Text("기록", "Record it"), self.record),
                Step(
                    "restore",
                    Text("etcd 복원", "Restore etcd"),
                    restoring.restore,
                    restoring.put_back,
                    timeout_s=1800,
                ),
                Step(
                    "start",
                    Text("제어 노드 시작", "Start the control planes"),
                    restoring.start,
                    restoring.hold_again,
                ),
                Step("lead", Text("노드에 알리기", "Tell the nodes"), self.lead),
                Step("wait", Text("응답 대기", "Wait for the API"), restoring.wait, timeout_s=1800),
                Step(
                    "leave_out",
                    Text("잃은 제어 노드 빼기", "Leave out the lost"),
                    restoring.leave_out,
                ),
                Step(
                    "settle", Text("노드 맞추기", "Settle the nodes"), self.settle, timeout_s=1800
                ),
                Step("tidy", Text("정리", "Tidy up"), self.tidy),
            ],
        )
        return patient(self._c, made)

    async def reach(self, run: Run) -> None:
        """At `ctx["addresses"]`, by the keys that are pinned; then a host's own word counts."""
        c, moves = self._c, _moves(run)
        for member in await self._restoring.control_planes(run):
            known = (await c.devices.device(member.device_id)).address
            moves.setdefault(member.device_id, {"old": member.address, "known": known})
        await run.save()
        for device_id in moves:
            await c.devices.readdress(device_id, run.ctx["addresses"][device_id], by=SYSTEM)
        await self._restoring.check(run)
        told: dict[str, str] = {}

        async def ask(shell: Shell) -> None:
            member = members[shell.host.device_id]
            if await etcd.is_healthy(shell):
                raise EtcdDecides(host=member.node_name)
            report = await c.work.report(shell, member.device_id, member.role)
            told[member.device_id] = report.address or run.ctx["addresses"][member.device_id]

        staying = await self._restoring.control_planes(run)
        members = {one.device_id: one for one in staying}
        await self._restoring.on_all(run, ask)
        for member in staying:
            moves[member.device_id]["address"] = told[member.device_id]
            run.log(f"[{member.node_name}] {member.address} → {told[member.device_id]}")

    async def turn_back(self, run: Run) -> None:
        """One that was not reached keeps the address that its device had."""
        for device_id, move in _moves(run).items():
            if "address" not in move and move["known"]:
                await self._c.devices.readdress(device_id, move["known"], by=SYSTEM)

    async def collect(self, run: Run) -> None:
        """All etcds have ended: the data of the one that knows most goes to each."""
        facts: dict[str, etcd.SnapshotFacts] = {}
        failures: list[AppError] = []
        control_planes = await self._restoring.control_planes(run)

        async def look(member: Member) -> None:
            facts[member.device_id] = await self._c.on_host(
                member.device_id, etcd.resting_facts, log=run.log
            )

        def missed(member: Member, error: AppError) -> None:
            run.log(f"[{member.node_name}] -- {error}")
            failures.append(error)

        if not await self._c.on_each(control_planes, look, failed=missed):
            raise failures[0]
        newest = max(facts, key=lambda one: facts[one].revision)
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
        cluster = await self._c.cluster(run.subject)
        moves = _moves(run)
        members = {one.device_id: one for one in await self._restoring.control_planes(run)}

        async def act(shell: Shell) -> None:
            move = moves[shell.host.device_id]
            if move["old"] != move["address"]:
                member = members[shell.host.device_id]
                await write_anew(shell, cluster, member, move["old"], move["address"])

        await self._restoring.on_all(run, act)

    async def record(self, run: Run) -> None:
        """Before they start: it is so, whether etcd comes back or not."""
        for member in await self._restoring.control_planes(run):
            address = _moves(run)[member.device_id]["address"]
            await self._c.change_member(member, address=address)
            await self._c.devices.readdress(member.device_id, address, by=SYSTEM)

    async def lead(self, run: Run) -> None:
        """Workers that have moved as well are told when they are found."""
        cluster = await self._c.cluster(run.subject)
        nodes = [one for one in await self._c.members(run.subject) if one.state in _LED]
        stay = await self._restoring.control_planes(run)
        told = [one for one in nodes if not one.is_control_plane or one in stay]
        await self._joining.lead_to(cluster, told, stay, Board(run).log)

    async def settle(self, run: Run) -> None:
        await self._restoring.settle(run)
        stay = await self._restoring.control_planes(run)
        async with self._c.kube(run.subject) as kube:
            await restart_flannel(kube, {one.node_name for one in stay})
        for member in stay:
            await settled(self._c, member, member.address)

    async def tidy(self, run: Run) -> None:
        await self._restoring.clear_up(run)
        addresses = {key: one["address"] for key, one in _moves(run).items() if "address" in one}
        run.ctx["result"] = {"addresses": addresses}


_LED: Final = frozenset({MemberState.READY, MemberState.LEAVING})


def _moves(run: Run) -> dict[str, dict[str, Any]]:
    """Device → `old` and, once it was reached, new `address` of the node; `known`: the device's."""
    moves: dict[str, dict[str, Any]] = run.ctx.setdefault("moves", {})
    return moves
