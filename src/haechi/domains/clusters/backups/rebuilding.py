"""The operation `rebuild_cluster`: every control plane is lost, a backup makes another host the
cluster's control plane.

The cluster's authorities (CA and signing keys) come out of the backup, so that every certificate
and token that workers and pods hold stays good, and the API keeps its name: workers are only told
the new address. AIs on the workers go on all the while.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final

from haechi.core.operations import Definition, Permanent, Run, Step
from haechi.core.secrets import Secret
from haechi.domains.clusters import etcd
from haechi.domains.clusters import store as clusters_store
from haechi.domains.clusters.backups import store
from haechi.domains.clusters.backups.losing import refuse_living
from haechi.domains.clusters.backups.model import AUTHORITIES, ETCD_FILE, BackupIncomplete
from haechi.domains.clusters.backups.settling import retire, say_goodbye, settle_nodes
from haechi.domains.clusters.backups.taking import HOST_FOLDER, Upkeep, remove_folder
from haechi.domains.clusters.board import Board
from haechi.domains.clusters.cleaning import Cleaning
from haechi.domains.clusters.forming import Forming
from haechi.domains.clusters.host.ports import CARRY_S, Shell
from haechi.domains.clusters.joining import Joining
from haechi.domains.clusters.model import Cluster, Member, MemberState
from haechi.domains.clusters.procedures import patient, steps_of
from haechi.errors import AppError, Text

KIND: Final = "rebuild_cluster"
PKI: Final = "/etc/kubernetes/pki"
_SAVED_PKI: Final = "etc/kubernetes/pki"
_EXPECTED: Final = "DirAvailable--var-lib-etcd"
"""kubeadm's check against exactly what is done here."""


class Rebuilding:
    def __init__(
        self, upkeep: Upkeep, forming: Forming, joining: Joining, cleaning: Cleaning
    ) -> None:
        self._upkeep = upkeep
        self._c = upkeep.context
        self._forming = forming
        self._joining = joining
        self._cleaning = cleaning

    def definition(self) -> Definition:
        forming = self._forming
        made = Definition(
            kind=KIND,
            title=Text("새 호스트에 클러스터 복원", "Rebuild a cluster on another host"),
            parallel=2,
            steps=[
                Step(
                    "see_lost",
                    Text("이전 제어 노드 확인", "See that the old control planes are lost"),
                    self.see_lost,
                ),
                Step("claim", Text("호스트 확보", "Claim the host"), self.claim, self.give_up),
                *steps_of(forming, "check", "snapshot", "prepare"),
                Step(
                    "bring",
                    Text("백업 보내기", "Send the backup there"),
                    self.bring,
                    self.sweep,
                    timeout_s=CARRY_S,
                ),
                Step(
                    "initialise",
                    Text("백업으로 제어 노드 시작", "Start the control plane from the backup"),
                    self.initialise,
                    timeout_s=1800,
                ),
                Step(
                    "keep_kubeconfig",
                    Text("kubeconfig 보관", "Keep the kubeconfig"),
                    self.keep_kubeconfig,
                ),
                Step("lead", Text("노드에 알리기", "Tell the nodes"), self.lead, timeout_s=600),
                Step("settle", Text("노드 맞추기", "Settle the nodes"), self.settle),
                *steps_of(forming, "apply_hooks", "wait_ready"),
                Step("finish", Text("마무리", "Finish"), self.finish),
            ],
        )
        return patient(self._c, made)

    async def see_lost(self, run: Run) -> None:
        """What is lost is remembered as such. One that an older release began is past this."""
        if "lost" in run.ctx:
            return
        device_id = run.ctx["device_ids"][0]
        lost = [
            one.device_id
            for one in await self._c.members(run.subject)
            if one.is_control_plane and one.device_id != device_id
        ]
        await refuse_living(self._c, run, lost, device_id)
        run.ctx["lost"] = lost

    async def claim(self, run: Run) -> None:
        """The host becomes a member."""
        await self._c.claim(run.subject, run.ctx["device_ids"][0], "control_plane")

    async def give_up(self, run: Run) -> None:
        """Nothing was done there yet, or `prepare` has cleaned it."""
        await self._c.give_up(run.subject, run.ctx["device_ids"][0])

    async def bring(self, run: Run) -> None:
        c, vault = self._c, self._upkeep.vault
        member = await self._member(run)
        async with c.db.read() as tx:
            row = await store.row(tx, run.subject, run.ctx["backup_id"])
        clear = vault.clear_path(run.id)
        try:
            await vault.take_out(row, ETCD_FILE, clear)
            await c.on_host(
                member.device_id,
                lambda shell: _send(shell, clear, _folder(run)),
                log=Board(run).log(member),
            )
        finally:
            clear.unlink(missing_ok=True)

    async def sweep(self, run: Run) -> None:
        member = await self._member(run)

        async def act(shell: Shell) -> None:
            await remove_folder(shell, _folder(run))

        await self._c.on_host(member.device_id, act, log=run.log, away_s=0)

    async def initialise(self, run: Run) -> None:
        """The authorities, etcd's data, then kubeadm's init around them. Until now one that came
        back meanwhile could simply go on.
        """
        c = self._c
        cluster, member = await c.cluster(run.subject), await self._member(run)
        await refuse_living(c, run, run.ctx["lost"], member.device_id)
        board = Board(run)
        log = board.log(member)
        await board.stage(member, "initialising", 0.5)
        authorities = await self._authorities(run)

        async def lay_out(shell: Shell) -> None:
            for name, content in authorities.items():
                mode = 0o644 if name.endswith((".crt", ".pub")) else 0o600
                await shell.write(f"{PKI}/{name}", content, mode=mode, root=True)
            await etcd.restore_snapshot(
                shell,
                f"{_folder(run)}/{ETCD_FILE}",
                name=member.node_name,
                peers={member.node_name: member.address},
                token=run.id,
            )

        await self._joining.initialise(_expecting_data(cluster), member, log, before=lay_out)

    async def _authorities(self, run: Run) -> dict[str, Secret]:
        async with self._c.db.read() as tx:
            row = await store.row(tx, run.subject, run.ctx["backup_id"])
        wanted = [f"{_SAVED_PKI}/{name}" for name in AUTHORITIES]
        found = await self._upkeep.vault.texts(row, wanted)
        for name in wanted:
            if name not in found:
                raise Permanent(BackupIncomplete(id=row.id, path=name))
        return {name: Secret(found[f"{_SAVED_PKI}/{name}"].decode()) for name in AUTHORITIES}

    async def keep_kubeconfig(self, run: Run) -> None:
        cluster, member = await self._c.cluster(run.subject), await self._member(run)
        await retire(self._c, run, run.ctx["lost"])
        await self._joining.take_kubeconfig(cluster, member, Board(run).log(member))
        await self._joining.api_answers(cluster.id)

    async def lead(self, run: Run) -> None:
        c = self._c
        cluster, member = await c.cluster(run.subject), await self._member(run)
        others = [
            one
            for one in await c.members(run.subject)
            if not one.is_control_plane and one.state == MemberState.READY
        ]
        await self._joining.lead_to(cluster, others, [member], Board(run).log)

    async def settle(self, run: Run) -> None:
        await settle_nodes(self._c, run)

    async def finish(self, run: Run) -> None:
        await self._forming.finish(run)
        await say_goodbye(self._c, run, run.ctx["lost"])
        try:
            await self.sweep(run)
        except AppError as error:
            run.log(f"the backup's copy on the host was not removed: {error}")

    async def _member(self, run: Run) -> Member:
        async with self._c.db.read() as tx:
            return await clusters_store.member(tx, run.subject, run.ctx["device_ids"][0])


async def _send(shell: Shell, clear: Path, folder: str) -> None:
    await shell.run(["mkdir", "-p", "-m", "0700", HOST_FOLDER, folder], root=True)
    await shell.send(clear, f"{folder}/{ETCD_FILE}", mode=0o600, root=True)


def _expecting_data(cluster: Cluster) -> Cluster:
    profile = cluster.options.profile
    ignored = [*profile.ignore_preflight, _EXPECTED]
    options = replace(cluster.options, profile=replace(profile, ignore_preflight=ignored))
    return replace(cluster, options=options)


def _folder(run: Run) -> str:
    return f"{HOST_FOLDER}/{run.id}"
