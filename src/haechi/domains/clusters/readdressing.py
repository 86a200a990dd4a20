"""The operation `readdress_node`: a node has another address than before.

A worker needs nothing of it but that its own parts take the new address up; it is found and led
home without anybody's doing (`finding.py`), its pods' network later where the API is away
(`announcing.py`). A control plane's address stands in its etcd, in its static pods and in
certificates of its own: those are made anew for the new one, and the cluster's other nodes are
told. The API's name, the CA and everybody's kubeconfig stay.
"""

from dataclasses import replace
from typing import Final

from haechi.core.access import SYSTEM
from haechi.core.operations import Definition, Permanent, Run, Step
from haechi.domains.clusters import etcd, kubeadm, manifests, static_pods, store, tokens
from haechi.domains.clusters.announcing import restart_flannel
from haechi.domains.clusters.board import Board
from haechi.domains.clusters.context import Context
from haechi.domains.clusters.errors import NodeNotReady
from haechi.domains.clusters.host.ports import Shell
from haechi.domains.clusters.joining import Joining
from haechi.domains.clusters.model import Cluster, Member, MemberState
from haechi.domains.clusters.ports import Kube, Pod
from haechi.errors import Text, Unavailable

KIND: Final = "readdress_node"
ADDRESSED_PKI: Final = ("apiserver", "etcd/server", "etcd/peer")
"""Certificates that bear the control plane's address."""
CERT_PHASES: Final = ("apiserver", "etcd-server", "etcd-peer")
REWRITE_SCRIPT: Final = """\
set -eu
old=$(printf '%s' "$1" | sed 's/[.]/\\\\./g'); new=$2; shift 2
for file in "$@"; do
  [ -f "$file" ] || continue
  if grep -Eq "(^|[^0-9.])$old([^0-9.]|$)" "$file"; then
    cp -p "$file" "$file.haechi-new"
    sed -E -e ":again" -e "s/(^|[^0-9.])$old([^0-9.]|$)/\\\\1$new\\\\2/g" -e "tagain" \\
      "$file" > "$file.haechi-new"
    mv "$file.haechi-new" "$file"
  fi
done
"""
"""Puts one address in another's place, whole addresses only; each file at once."""
ADDRESSED_SCRIPT: Final = """\
for file in "$@"; do
  [ -f "$file" ] || continue
  sed -n -E -e 's/^ *- --advertise-address=//p' \
    -e 's#^ *- --initial-advertise-peer-urls=https://(.*):2380$#\\1#p' "$file"
done
"""
"""The addresses by which API server and etcd call themselves: other than the recorded one where an
earlier try was cut.
"""
FILES: Final = (
    *(f"{static_pods.HELD_FOLDER}/{name}.yaml" for name in static_pods.ALL),
    *(f"{static_pods.FOLDER}/{name}.yaml" for name in static_pods.ALL),
    *(
        f"/etc/kubernetes/{name}.conf"
        for name in ("admin", "super-admin", "kubelet", "controller-manager", "scheduler")
    ),
)


class Readdressing:
    def __init__(self, context: Context, joining: Joining) -> None:
        self._c = context
        self._joining = joining

    def definition(self) -> Definition:
        return Definition(
            kind=KIND,
            title=Text("노드 주소 변경", "Take a node's new address up"),
            parallel=4,
            steps=[
                Step("reach", Text("새 주소로 연결", "Reach it there"), self.reach, self.turn_back),
                Step(
                    "hold",
                    Text("제어 노드 멈추기", "Stop the control plane"),
                    self.hold,
                    self.release,
                ),
                Step("move_etcd", Text("etcd에 알리기", "Tell etcd"), self.move_etcd),
                Step("rewrite", Text("설정과 인증서 갱신", "Write it anew"), self.rewrite),
                Step("record", Text("기록", "Record it"), self.record),
                Step("release", Text("제어 노드 시작", "Start it again"), self.release),
                Step("lead", Text("노드에 알리기", "Tell the nodes"), self.lead),
                Step("settle", Text("노드 맞추기", "Let the node settle"), self.settle),
                Step("wait", Text("준비 대기", "Wait until it is ready"), self.wait),
            ],
        )

    async def reach(self, run: Run) -> None:
        """At the new address, by the key that is pinned; its own word on its address counts."""
        c = self._c
        member = await self._member(run)
        run.ctx.setdefault("old", member.address)
        run.ctx.setdefault("known", (await c.devices.device(member.device_id)).address)
        await run.save()
        await c.devices.readdress(member.device_id, run.ctx["address"], by=SYSTEM)

        async def act(shell: Shell) -> str:
            report = await c.work.report(shell, member.device_id, member.role)
            return report.address

        run.ctx["address"] = await c.on_host(member.device_id, act, log=run.log)
        run.ctx["reached"] = True
        run.log(f"[{member.node_name}] {run.ctx['old']} → {run.ctx['address']}")

    async def turn_back(self, run: Run) -> None:
        """Nobody was there: the device keeps the address that it had."""
        if run.ctx.get("known") and not run.ctx.get("reached"):
            await self._c.devices.readdress(run.ctx["device_id"], run.ctx["known"], by=SYSTEM)

    async def hold(self, run: Run) -> None:
        member = await self._member(run)
        if member.is_control_plane and self._moved(run):
            await self._c.on_host(member.device_id, static_pods.hold, log=run.log)

    async def release(self, run: Run) -> None:
        member = await self._member(run)
        if member.is_control_plane:
            await self._c.on_host(member.device_id, static_pods.release, log=run.log)

    async def move_etcd(self, run: Run) -> None:
        """Of several, the others must know where to find it before it starts."""
        c = self._c
        member = await self._member(run)
        others = await self._other_control_planes(run)
        if not member.is_control_plane or not others or not self._moved(run):
            return

        async def act(_other: Member, shell: Shell) -> None:
            await etcd.move_member(shell, name=member.node_name, address=run.ctx["address"])

        await c.by_first(others, act, log=Board(run).log)

    async def rewrite(self, run: Run) -> None:
        member = await self._member(run)
        if not member.is_control_plane or not self._moved(run):
            return
        cluster = await self._c.cluster(run.subject)

        async def act(shell: Shell) -> None:
            await write_anew(shell, cluster, member, run.ctx["address"])

        await self._c.on_host(member.device_id, act, log=run.log)

    async def record(self, run: Run) -> None:
        member = await self._member(run)
        await self._c.change_member(member, address=run.ctx["address"])
        await self._c.devices.readdress(member.device_id, run.ctx["address"], by=SYSTEM)

    async def lead(self, run: Run) -> None:
        """All proxies, where it was a control plane; its own in any case."""
        c = self._c
        cluster = await c.cluster(run.subject)
        members = [one for one in await c.members(run.subject) if one.state == MemberState.READY]
        member = await self._member(run)
        control_planes = [one for one in members if one.is_control_plane]
        told = members if member.is_control_plane else [member]
        await self._joining.lead_to(cluster, told, control_planes, Board(run).log)
        if member.is_control_plane:
            await self._joining.api_answers(cluster.id)

    async def settle(self, run: Run) -> None:
        """Kubelet and pods' network look at the address when they start."""
        c = self._c
        member = await self._member(run)

        async def act(shell: Shell) -> None:
            await shell.run(["systemctl", "restart", "kubelet"], root=True, timeout_s=120)
            if member.is_control_plane:
                await etcd.move_member(shell, name=member.node_name, address=run.ctx["address"])

        await c.on_host(member.device_id, act, log=run.log)
        try:
            async with c.kube(run.subject) as kube:
                await restart_flannel(kube, [member.node_name])
        except Unavailable as error:
            run.log(f"-- {error}; its pods' network follows once the API answers")

    async def wait(self, run: Run) -> None:
        """A worker waits for no API: its control plane may have moved with it, and the operator
        could not say so while this goes on.
        """
        await settled(self._c, await self._member(run), run.ctx["address"])
        run.ctx["result"] = {"old": run.ctx["old"], "address": run.ctx["address"]}

    async def _member(self, run: Run) -> Member:
        async with self._c.db.read() as tx:
            return await store.member(tx, run.subject, run.ctx["device_id"])

    async def _other_control_planes(self, run: Run) -> list[Member]:
        return [
            one
            for one in await self._c.members(run.subject)
            if one.is_control_plane
            and one.state == MemberState.READY
            and one.device_id != run.ctx["device_id"]
        ]

    def _moved(self, run: Run) -> bool:
        return bool(run.ctx["old"]) and run.ctx["old"] != run.ctx["address"]


async def write_anew(shell: Shell, cluster: Cluster, member: Member, address: str) -> None:
    """The address in a control plane's files, in place of any that it had, and certificates for it
    by the CA that is there; keys too, for they cost nothing. Nothing where all is so already.
    """
    said = await shell.run(["sh", "-c", ADDRESSED_SCRIPT, "haechi-addressed", *FILES], root=True)
    before = {one for one in (member.address, *said.stdout.split()) if one} - {address}
    if not before:
        return
    for old in sorted(before):
        argv = ["sh", "-c", REWRITE_SCRIPT, "haechi-rewrite", old, address, *FILES]
        await shell.run(argv, root=True)
    documents = kubeadm.init_documents(
        cluster.id,
        replace(member, address=address),
        cluster.options,
        version=cluster.kubernetes_version,
        token=tokens.new_token(),
    )
    files = [f"/etc/kubernetes/pki/{one}.{end}" for one in ADDRESSED_PKI for end in ("crt", "key")]
    await shell.run(["rm", "-f", *files], root=True)
    for phase in CERT_PHASES:
        argv = ["kubeadm", "init", "phase", "certs", phase, "--config", kubeadm.CONFIG]
        await kubeadm.run(shell, argv, documents, log=_nothing)


async def settled(c: Context, member: Member, address: str) -> None:
    """Wait until its node is ready at that address, its pods' network too. Raises NodeNotReady. For
    a worker an API that is away is not waited for.
    """
    seen = ""

    async def look() -> bool | None:
        nonlocal seen
        try:
            async with c.kube(member.cluster_id) as kube:
                node = await kube.node(member.node_name)
                network = await _network_pods(kube, member.node_name)
        except Unavailable as error:
            seen = str(error)
            return None if member.is_control_plane else True
        if node is None:
            seen = "it is not registered"
            return None
        seen = node.why_not_ready or f"it says {', '.join(node.addresses)}"
        if not node.ready or address not in node.addresses:
            return None
        seen = ", ".join(f"{one.name}: {one.reason}" for one in network if not one.ready)
        return None if seen else True

    if await c.until(look, c.pace.ready_s) is None:
        raise Permanent(
            NodeNotReady(node=member.node_name, timeout_s=round(c.pace.ready_s), reason=seen)
        )


async def _network_pods(kube: Kube, node_name: str) -> list[Pod]:
    return await kube.pods(namespace=manifests.FLANNEL_NAMESPACE, node=node_name)


def _nothing(line: str) -> None:
    del line
