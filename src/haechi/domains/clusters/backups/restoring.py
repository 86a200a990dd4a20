"""The operation `restore_cluster`: all control planes go back to a backup, together.

etcd is restored on each of them into one new etcd cluster, so it is the same with one and with
three. What ran before is kept on the hosts until the restored cluster lives, and put back where it
does not. AIs go on all the while: kubelets keep their pods without an API.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from haechi.core.operations import Definition, Run, Step
from haechi.domains.clusters import etcd, static_pods
from haechi.domains.clusters.backups import store
from haechi.domains.clusters.backups.model import ETCD_FILE, ControlPlanesAway
from haechi.domains.clusters.backups.settling import retire, say_goodbye, settle_nodes
from haechi.domains.clusters.backups.taking import HOST_FOLDER, Upkeep, remove_folder
from haechi.domains.clusters.board import Board
from haechi.domains.clusters.etcd_errors import EtcdNotBack
from haechi.domains.clusters.host.ports import CARRY_S, Shell
from haechi.domains.clusters.joining import Joining
from haechi.domains.clusters.model import Member, MemberState
from haechi.domains.clusters.procedures import patient
from haechi.errors import AppError, Text

KIND: Final = "restore_cluster"
KEPT: Final = f"{etcd.DATA_DIR}.before-restore"
PUT_BACK_SCRIPT: Final = """\
set -eu
data=$1; kept=$2; of=$3
if [ -d "$kept/member" ] && [ "$(cat "$kept/of" 2>/dev/null)" = "$of" ]; then
  rm -rf "$data/member"
  mv "$kept/member" "$data/member"
  rm -rf "$kept"
fi
"""


Act = Callable[[Run], Awaitable[None]]


def step(
    name: str, ko: str, en: str, do: Act, undo: Act | None = None, timeout_s: float = 1800
) -> Step:
    """One that waits for several hosts."""
    return Step(name, Text(ko, en), do, undo, timeout_s)


class Restoring:
    def __init__(self, upkeep: Upkeep, joining: Joining) -> None:
        self._upkeep = upkeep
        self._c = upkeep.context
        self._joining = joining

    def definition(self) -> Definition:
        made = Definition(
            kind=KIND,
            title=Text("클러스터 복원", "Restore a cluster"),
            parallel=2,
            steps=[
                step("check", "제어 노드 확인", "Check the control planes", self.check),
                step(
                    "bring",
                    "백업 보내기",
                    "Send the backup there",
                    self.bring,
                    self.sweep,
                    CARRY_S,
                ),
                *self.steps("stop", "restore", "start"),
                step("wait", "응답 대기", "Wait for the API", self.wait),
                *self.steps("leave_out"),
                step("settle", "노드 맞추기", "Settle the nodes", self.settle),
                step("tidy", "정리", "Tidy up", self.tidy),
            ],
        )
        return patient(self._c, made)

    def steps(self, *names: str) -> list[Step]:
        """Some of those that serve as they are wherever etcd is made anew on all control planes:
        `ctx` has its `lost`, and `send` has brought the data.
        """
        of_all = [
            step("stop", "제어 노드 멈추기", "Stop the control planes", self.stop, self.let_go),
            step("restore", "etcd 복원", "Restore etcd", self.restore, self.put_back),
            step(
                "start", "제어 노드 시작", "Start the control planes", self.start, self.hold_again
            ),
            step("leave_out", "잃은 제어 노드 빼기", "Leave out the lost", self.leave_out),
        ]
        return [one for one in of_all if one.name in names]

    async def check(self, run: Run) -> None:
        """Every control plane, or none: one left out would go on with the old data. Unless the
        caller says that those which are away are lost.
        """
        away: dict[str, str] = {}

        async def look(member: Member) -> None:
            async with self._c.hosts.open(member.device_id) as shell:
                await shell.run(["true"], root=True)

        members = await self.control_planes(run)

        def missed(member: Member, error: AppError) -> None:
            away[member.device_id] = f"{member.node_name} ({error})"

        reached = await self._c.on_each(members, look, failed=missed)
        if not reached or (away and not run.ctx.get("leave_out_away")):
            raise ControlPlanesAway(away=", ".join(away.values()))
        for words in away.values():
            run.log(f"left out: {words}")
        run.ctx["lost"] = list(away)

    async def bring(self, run: Run) -> None:
        c, vault = self._c, self._upkeep.vault
        async with c.db.read() as tx:
            row = await store.row(tx, run.subject, run.ctx["backup_id"])
        clear = vault.clear_path(run.id)
        try:
            await vault.take_out(row, ETCD_FILE, clear)
            await self.send(run, clear)
        finally:
            clear.unlink(missing_ok=True)

    async def send(self, run: Run, snapshot: Path) -> None:
        """To where `restore` takes it from."""

        async def act(shell: Shell) -> None:
            folder = _folder(run)
            await shell.run(["mkdir", "-p", "-m", "0700", HOST_FOLDER, folder], root=True)
            await shell.send(snapshot, f"{folder}/{ETCD_FILE}", mode=0o600, root=True)

        await self.on_all(run, act)

    async def stop(self, run: Run) -> None:
        await self.on_all(run, static_pods.hold)

    async def restore(self, run: Run) -> None:
        members = await self.control_planes(run)
        peers = {one.node_name: one.address for one in members}
        names = {one.device_id: one.node_name for one in members}

        async def act(shell: Shell) -> None:
            await etcd.restore_snapshot(
                shell,
                f"{_folder(run)}/{ETCD_FILE}",
                name=names[shell.host.device_id],
                peers=peers,
                token=run.id,
            )

        await self.on_all(run, act)

    async def start(self, run: Run) -> None:
        await self.on_all(run, static_pods.release)

    async def wait(self, run: Run) -> None:
        await self.wait_for_api(run)
        await self.wait_for_etcds(run)

    async def wait_for_api(self, run: Run) -> None:
        """From then on there is no way back."""
        run.progress(0.7, "waiting for the API")
        await self._joining.api_answers(run.subject)
        run.ctx["lives"] = True
        await run.save()

    async def wait_for_etcds(self, run: Run) -> None:
        await self.on_all(run, self._etcd_answers)

    async def _etcd_answers(self, shell: Shell) -> None:
        """The API answers by a majority; a restored cluster is one where nobody is missing."""

        async def ask() -> bool | None:
            return True if await etcd.is_healthy(shell) else None

        if await self._c.until(ask, self._c.pace.api_s) is None:
            raise EtcdNotBack(host=shell.host.name, timeout_s=round(self._c.pace.api_s))

    # --- undo: only while the restored cluster has not lived

    async def hold_again(self, run: Run) -> None:
        if not run.ctx.get("lives"):
            await self.on_all(run, static_pods.hold)

    async def put_back(self, run: Run) -> None:
        """What was there before. The pods are held back."""

        async def act(shell: Shell) -> None:
            words = [etcd.DATA_DIR, KEPT, run.id]
            argv = ["sh", "-c", PUT_BACK_SCRIPT, "haechi-put-back", *words]
            await shell.run(argv, root=True, timeout_s=300)

        if not run.ctx.get("lives"):
            await self.on_all(run, act)

    async def let_go(self, run: Run) -> None:
        await self.on_all(run, static_pods.release)

    async def sweep(self, run: Run) -> None:
        async def act(shell: Shell) -> None:
            await remove_folder(shell, _folder(run))

        await self.on_all(run, act)

    # --- afterwards

    async def leave_out(self, run: Run) -> None:
        """The nodes are led to those that stay."""
        c = self._c
        if not _lost(run):
            return
        await retire(c, run, _lost(run))
        cluster = await c.cluster(run.subject)
        nodes = [one for one in await c.members(run.subject) if one.state == MemberState.READY]
        stay = await self.control_planes(run)
        await self._joining.lead_to(cluster, nodes, stay, Board(run).log)

    async def settle(self, run: Run) -> None:
        await settle_nodes(self._c, run)

    async def tidy(self, run: Run) -> None:
        await self.clear_up(run)
        run.ctx["result"] = {"backup_id": run.ctx["backup_id"]}

    async def clear_up(self, run: Run) -> None:
        async def act(shell: Shell) -> None:
            await remove_folder(shell, _folder(run))
            await shell.run(["rm", "-rf", KEPT], root=True)

        await self.on_all(run, act)
        await say_goodbye(self._c, run, _lost(run))

    async def control_planes(self, run: Run) -> list[Member]:
        members = await self._c.members(run.subject)
        return [
            one
            for one in members
            if one.is_control_plane
            and one.state in {MemberState.READY, MemberState.LEAVING}
            and one.device_id not in _lost(run)
        ]

    async def on_all(self, run: Run, act: Callable[[Shell], Awaitable[object]]) -> None:
        """All control planes beside each other; the first failure is raised once all have ended."""
        failures: list[AppError] = []

        async def one(member: Member) -> None:
            def log(line: str) -> None:
                run.log(f"[{member.node_name}] {line}")

            await self._c.on_host(member.device_id, act, log=log)

        await self._c.on_each(
            await self.control_planes(run),
            one,
            failed=lambda _member, error: failures.append(error),
        )
        if failures:
            raise failures[0]


def _lost(run: Run) -> list[str]:
    """Devices of control planes that are left out; none where an older release began."""
    return list(run.ctx.get("lost", ()))


def _folder(run: Run) -> str:
    return f"{HOST_FOLDER}/{run.id}"
