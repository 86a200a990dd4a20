"""The operation `back_up_cluster`: snapshot etcd on a control plane that lives, bring it here
together with certificates and configuration, keep it encrypted, forget the oldest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from haechi.core.operations import Definition, Run, Step
from haechi.domains.clusters import etcd
from haechi.domains.clusters.backups import store
from haechi.domains.clusters.backups.model import (
    ETCD_FILE,
    SAVED_PATHS,
    Backup,
    NoLivingControlPlane,
    Occasion,
    SavedNode,
)
from haechi.domains.clusters.backups.vault import Vault
from haechi.domains.clusters.context import Context
from haechi.domains.clusters.host.ports import CARRY_S, Shell
from haechi.domains.clusters.model import Member, MemberState
from haechi.errors import AppError, Text

KIND: Final = "back_up_cluster"
HOST_FOLDER: Final = "/var/lib/haechi-backup"
COLLECT_SCRIPT: Final = """\
set -eu
umask 077
folder=$1; database=$2; shift 2
cd /
found=
for path in "$@"; do
  if [ -e "$path" ]; then found="$found $path"; fi
done
tar --use-compress-program='gzip -1' -cf "$folder/backup.tar.gz" \\
  -C "$folder" "$database" -C / $found
"""


@dataclass
class Upkeep:
    """What backups and their ways back need beside the domain's context."""

    context: Context
    vault: Vault
    keep: Callable[[], int]
    """How many backups of a cluster are kept."""


async def living_control_plane(
    c: Context, cluster_id: str, *, but: str = "", log: Callable[[str], None]
) -> Member:
    """One whose etcd answers with a majority behind it, other than device `but`."""
    words: list[dict[str, Any]] = []
    members = [one for one in await c.members(cluster_id) if one.is_control_plane]
    for member in sorted(members, key=lambda one: one.state != MemberState.READY):
        if member.device_id == but or member.state == MemberState.CLEANING:
            continue
        try:
            async with c.hosts.open(member.device_id) as shell:
                if await etcd.is_healthy(shell):
                    return member
            words.append({"host": member.node_name, "reason": "etcd does not answer"})
        except AppError as error:
            words.append({"host": member.node_name, "reason": str(error)[:300]})
        log(f"[{member.node_name}] {words[-1]['reason']}")
    raise NoLivingControlPlane(cluster_id=cluster_id, hosts=words)


class Taking:
    def __init__(self, upkeep: Upkeep) -> None:
        self._upkeep = upkeep
        self._c = upkeep.context

    def definition(self) -> Definition:
        return Definition(
            kind=KIND,
            title=Text("클러스터 백업", "Back up a cluster"),
            parallel=2,
            steps=[
                Step(
                    "snapshot",
                    Text("제어 노드에서 스냅샷 만들기", "Take a snapshot on a control plane"),
                    self.snapshot,
                    self.tidy,
                    timeout_s=1800,
                ),
                Step(
                    "keep",
                    Text("가져와 암호화해 보관", "Bring it here and keep it encrypted"),
                    self.keep,
                    self.drop,
                    timeout_s=CARRY_S,
                ),
                Step("tidy", Text("정리", "Tidy up"), self.tidy, timeout_s=300),
            ],
        )

    async def snapshot(self, run: Run) -> None:
        c = self._c
        member = await living_control_plane(c, run.subject, log=run.log)
        run.ctx["device_id"] = member.device_id
        await run.save()
        folder = _folder(run)

        async def act(shell: Shell) -> etcd.SnapshotFacts:
            await shell.run(["rm", "-rf", folder], root=True)
            await shell.run(["mkdir", "-p", "-m", "0700", HOST_FOLDER, folder], root=True)
            facts = await etcd.save_snapshot(shell, f"{folder}/{ETCD_FILE}")
            collect = ["sh", "-c", COLLECT_SCRIPT, "haechi-backup", folder, ETCD_FILE]
            await shell.run([*collect, *SAVED_PATHS], root=True, timeout_s=600)
            return facts

        facts = await c.on_host(member.device_id, act, log=run.log)
        run.log(f"[{member.node_name}] etcd revision {facts.revision}, {facts.total_keys} keys")
        run.ctx["revision"], run.ctx["total_keys"] = facts.revision, facts.total_keys
        run.progress(0.4, member.node_name)

    async def keep(self, run: Run) -> None:
        c, vault = self._c, self._upkeep.vault
        async with c.db.read() as tx:
            listed = await store.listed(tx, run.ctx["backup_id"])
        if listed is not None:
            # Done before a crash. Sealing it anew would take another key than the one listed.
            run.ctx["result"] = {"backup_id": listed.id, "size_bytes": listed.size_bytes}
            return
        clear = vault.clear_path(run.id)

        async def act(shell: Shell) -> None:
            await shell.fetch(f"{_folder(run)}/backup.tar.gz", clear, root=True)

        try:
            await c.on_host(run.ctx["device_id"], act, log=run.log)
            kept = await vault.keep(run.ctx["backup_id"], clear)
        finally:
            clear.unlink(missing_ok=True)
        cluster = await c.cluster(run.subject)
        backup = Backup(
            id=run.ctx["backup_id"],
            cluster_id=run.subject,
            occasion=run.ctx["occasion"],
            size_bytes=kept.size_bytes,
            sha256=kept.sha256,
            kubernetes_version=cluster.kubernetes_version,
            revision=run.ctx["revision"],
            total_keys=run.ctx["total_keys"],
            device_id=run.ctx["device_id"],
            control_planes=[
                SavedNode(one.node_name, one.address)
                for one in await c.members(run.subject)
                if one.is_control_plane
            ],
            created_by=run.ctx["requested_by"],
            created_at=c.clock.now(),
        )
        async with c.db.write() as tx:
            await store.add(tx, backup, kept.file_key)
        run.ctx["result"] = {"backup_id": backup.id, "size_bytes": kept.size_bytes}
        c.bus.publish("states", {"kind": "backup", "id": backup.id, "cluster_id": run.subject})

    async def drop(self, run: Run) -> None:
        """A backup that is not listed is not kept."""
        async with self._c.db.read() as tx:
            listed = await store.listed(tx, run.ctx["backup_id"])
        if listed is None:
            await self._upkeep.vault.forget([run.ctx["backup_id"]])

    async def tidy(self, run: Run) -> None:
        """Nothing of it stays on the host, as far as it can be reached; the oldest go here."""
        c = self._c
        device_id = run.ctx.get("device_id")
        if device_id is not None:

            async def act(shell: Shell) -> None:
                await remove_folder(shell, _folder(run))

            try:
                await c.on_host(device_id, act, log=run.log, away_s=0)
            except AppError as error:
                run.log(f"the copy on the host could not be removed: {error}")
        await self.forget_oldest(run.subject)

    async def forget_oldest(self, cluster_id: str) -> None:
        """Those asked for and those taken daily count together; the newest stay."""
        c = self._c
        async with c.db.write() as tx:
            old = (await store.of_cluster(tx, cluster_id))[self._upkeep.keep() :]
            ids = [one.id for one in old]
            await store.delete(tx, ids)
        await self._upkeep.vault.forget(ids)


async def remove_folder(shell: Shell, folder: str) -> None:
    await shell.run(["rm", "-rf", folder], root=True)
    await shell.run(["rmdir", "--ignore-fail-on-non-empty", HOST_FOLDER], root=True, check=False)


def new_context(backup_id: str, occasion: Occasion, requested_by: str) -> dict[str, Any]:
    return {"backup_id": backup_id, "occasion": occasion, "requested_by": requested_by}


def _folder(run: Run) -> str:
    return f"{HOST_FOLDER}/{run.id}"
