"""A site in memory for tests of clusters: hosts on which kubeadm, the API and the parts of `host/`
do as the real ones do, as far as forming and deleting can tell.

    site = FakeSite()
    site.host("dev-a", name="master")
    site.refuse("dev-b", "kubeadm join", "kubelet is dead")
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import yaml

from haechi.core.access import Principal
from haechi.domains.clusters import kubeadm
from haechi.domains.clusters.errors import KubeUnreachable, NoBundle
from haechi.domains.clusters.host.findings import Finding, Leftovers
from haechi.domains.clusters.host.ports import Ran, Shell
from haechi.domains.clusters.host.preflight import of_firewall, of_one_to_be_joined
from haechi.domains.clusters.marker import MARKER
from haechi.domains.clusters.model import FormOptions, MemberRole
from haechi.domains.clusters.ports import (
    ClusterDevice,
    Drained,
    HostFinding,
    HostReport,
    KubeAccess,
    Manifest,
    Node,
    OnText,
    Pod,
)
from haechi.errors import AppError, ObjectNotFound
from haechi.testing.hosts import Call, FakeHosts, FakeShell

VERSION: Final = "1.36.3"
PREPARED: Final = "/opt/fake/prepared"
CA_DATA: Final = "RkFLRSBDQQ=="
_INIT: Final = "kubeadm init --config"
_JOIN: Final = "kubeadm join"
_UPLOAD: Final = "kubeadm init phase upload-certs"
_RESET: Final = "kubeadm reset"


@dataclass
class FakeKube:
    """One cluster's API. `down`: nobody answers."""

    cluster_id: str
    nodes_by_name: dict[str, Node] = field(default_factory=dict)
    objects: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    down: bool = False
    not_ready: set[str] = field(default_factory=set)
    """Names of nodes that never become Ready."""
    drained: list[str] = field(default_factory=list)
    abandoned: list[str] = field(default_factory=list)
    ailing: dict[str, str] = field(default_factory=dict)
    """Names of system pods that are not ready, and why: `kube-proxy-alpha`, `coredns-1`."""
    listed: Counter[str | None] = field(default_factory=Counter)
    """How often pods were listed, by namespace."""
    restarted: list[str] = field(default_factory=list)
    """Pods of the network that were deleted; each comes back, and announces its node's address."""
    announces: dict[str, str] = field(default_factory=dict)
    """Node → the address that its pod announces, where that is not its kubelet's."""

    def _reach(self) -> None:
        if self.down:
            raise KubeUnreachable(cluster_id=self.cluster_id, reason="the fake is down")

    async def version(self) -> str:
        self._reach()
        return VERSION

    async def nodes(self) -> list[Node]:
        self._reach()
        return list(self.nodes_by_name.values())

    async def node(self, name: str) -> Node | None:
        self._reach()
        return self.nodes_by_name.get(name)

    async def label_node(self, name: str, labels: Mapping[str, str | None]) -> None:
        node = self.nodes_by_name[name]
        merged = {**node.labels, **{key: value for key, value in labels.items() if value}}
        self.nodes_by_name[name] = replace(node, labels=merged)

    async def untaint_node(self, name: str, key: str) -> None:
        node = self.nodes_by_name[name]
        kept = tuple(one for one in node.taints if not one.startswith(key))
        self.nodes_by_name[name] = replace(node, taints=kept)

    async def cordon(self, name: str) -> None:
        self.nodes_by_name[name] = replace(self.nodes_by_name[name], unschedulable=True)

    async def uncordon(self, name: str) -> None:
        self.nodes_by_name[name] = replace(self.nodes_by_name[name], unschedulable=False)

    async def drain(self, name: str, *, grace_s: int, timeout_s: float, log: OnText) -> Drained:
        del grace_s, timeout_s
        self._reach()
        if name in self.nodes_by_name:
            await self.cordon(name)
        self.drained.append(name)
        log(f"drained {name}")
        return Drained(0, ())

    async def abandon(self, name: str, *, log: OnText) -> int:
        self._reach()
        if name in self.nodes_by_name:
            await self.cordon(name)
        self.abandoned.append(name)
        log(f"abandoned {name}")
        return 0

    async def delete_node(self, name: str) -> None:
        self._reach()
        self.nodes_by_name.pop(name, None)

    async def pods(
        self,
        *,
        namespace: str | None = None,
        node: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> list[Pod]:
        """Those that every cluster has: on each node, and CoreDNS on the first two."""
        self._reach()
        self.listed[namespace] += 1
        known = list(self.nodes_by_name.values())
        found = [self._pod(*kind, one.name, one) for one in known for kind in _ON_EACH]
        found += [self._pod(*_DNS, str(n), one) for n, one in enumerate(known[:2], 1)]
        return [
            one
            for one in found
            if namespace in {None, one.namespace}
            and node in {None, one.node}
            and (labels or {}).items() <= one.labels.items()
        ]

    def _pod(self, name: str, namespace: str, key: str, value: str, end: str, node: Node) -> Pod:
        full = f"{name}-{end}"
        return Pod(
            namespace=namespace,
            name=full,
            node=node.name,
            phase="Running",
            ready=node.ready and full not in self.ailing,
            restarts=0,
            labels={key: value},
            reason=self.ailing.get(full, ""),
        )

    async def apply(self, objects: Sequence[Manifest], *, log: OnText | None = None) -> None:
        del log
        self._reach()
        for one in objects:
            self.objects[_key(one)] = dict(one)

    async def delete(self, objects: Sequence[Manifest], *, wait_s: float = 30) -> None:
        del wait_s
        self._reach()
        for one in objects:
            self.objects.pop(_key(one), None)
            if _key(one)[:2] == ("Pod", "kube-flannel"):
                self._restart_network(_key(one)[2])

    def _restart_network(self, pod: str) -> None:
        self.restarted.append(pod)
        name = pod.removeprefix("kube-flannel-ds-")
        node = self.nodes_by_name.get(name)
        if node is not None:
            address = self.announces.get(name, node.addresses[0])
            self.nodes_by_name[name] = replace(node, network_address=address)

    async def get(
        self, api_version: str, kind: str, name: str, namespace: str | None = None
    ) -> dict[str, Any] | None:
        del api_version
        self._reach()
        return self.objects.get((kind, namespace or "", name))

    async def watch_nodes(self) -> AsyncIterator[list[Node]]:
        self._reach()
        yield await self.nodes()
        await asyncio.Event().wait()


_ON_EACH: Final = (
    ("kube-proxy", "kube-system", "k8s-app", "kube-proxy"),
    ("kube-flannel-ds", "kube-flannel", "app", "flannel"),
)
_DNS: Final = ("coredns", "kube-system", "k8s-app", "kube-dns")


def _key(one: Manifest) -> tuple[str, str, str]:
    metadata = one["metadata"]
    return str(one["kind"]), str(metadata.get("namespace", "")), str(metadata["name"])


@dataclass
class FakeKubes:
    """`hosts`: an API all of whose control planes are off does not answer."""

    clusters: dict[str, FakeKube] = field(default_factory=dict)
    hosts: FakeHosts = field(default_factory=FakeHosts)
    others: set[str] = field(default_factory=set)
    """Addresses at which somebody else listens."""

    async def is_another(self, access: KubeAccess, socket: Path) -> bool:
        del access
        return await asyncio.to_thread(socket.read_text) in self.others

    def of(self, cluster_id: str) -> FakeKube:
        return self.clusters.setdefault(cluster_id, FakeKube(cluster_id))

    @asynccontextmanager
    async def open(self, access: KubeAccess) -> AsyncIterator[FakeKube]:
        assert access.servers, "no control plane to call"
        known = [self.hosts.hosts.get(one.device_id) for one in access.servers]
        off = all(one is not None and one.away is not None for one in known)
        yield FakeKube(access.cluster_id, down=True) if off else self.of(access.cluster_id)


@dataclass
class FakeWork:
    """`findings_of` are told by the check; `failures` are raised once: (act, device)."""

    findings_of: list[HostFinding] = field(default_factory=list)
    failures: dict[tuple[str, str], AppError] = field(default_factory=dict)
    hold: dict[tuple[str, str], asyncio.Event] = field(default_factory=dict)
    acts: list[tuple[str, str]] = field(default_factory=list)
    """What was done, in order: `("prepare", "dev-a")`."""
    leftovers: set[str] = field(default_factory=set)
    """Devices on which an earlier cluster left something."""
    closed: dict[str, list[str]] = field(default_factory=dict)
    """Device → the ports that its firewall closes: `2379/tcp`."""

    async def _act(self, act: str, shell: Shell) -> str:
        device_id = shell.host.device_id
        _ = await shell.run(["true"])  # raises where the host is away
        self.acts.append((act, device_id))
        if (act, device_id) in self.hold:
            await self.hold[act, device_id].wait()
        error = self.failures.pop((act, device_id), None)
        if error is not None:
            raise error
        return device_id

    async def report(self, shell: Shell, device_id: str, role: MemberRole) -> HostReport:
        await self._act("report", shell)
        return HostReport(
            device_id, shell.host.name, role, shell.host.address, "linux/amd64", device_id, {}
        )

    def findings(
        self, reports: Sequence[HostReport], options: FormOptions, *, control_planes: int = 0
    ) -> list[HostFinding]:
        known = {one.device_id: one.host for one in reports}
        found = [one for one in self.findings_of if one.device_id in known]
        left = set() if options.clean_leftovers else self.leftovers & known.keys()
        several = control_planes + sum(one.role == "control_plane" for one in reports) > 1
        return [
            *found,
            *(_leftovers(one, known[one]) for one in sorted(left)),
            *(
                _told(report, one)
                for report in reports
                for one in of_firewall(
                    report.host, report.role, self.closed.get(report.device_id, ()), several
                )
            ),
        ]

    def findings_to_join(self, reports: Sequence[HostReport]) -> list[HostFinding]:
        return [
            _told(report, one)
            for report in reports
            for one in of_one_to_be_joined(report.host, self.closed.get(report.device_id, ()))
        ]

    async def snapshot(self, shell: Shell) -> dict[str, Any]:
        await self._act("snapshot", shell)
        assert isinstance(shell, FakeShell)
        return {"files": sorted(shell.files)}

    def differences(
        self, before: Mapping[str, Any], after: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        changed = set(before["files"]) ^ set(after["files"])
        told = []
        for path in sorted(changed):
            was, now = ("x" if path in one["files"] else None for one in (before, after))
            told.append({"kind": "file", "name": path, "before": was, "after": now})
        return told

    async def prepare(
        self,
        shell: Shell,
        role: MemberRole,
        options: FormOptions,
        version: str,
        *,
        log: OnText,
        progress: Callable[[float], None],
    ) -> None:
        del role
        await shell.write(PREPARED, version)
        device_id = await self._act("prepare", shell)
        if options.clean_leftovers:
            self.leftovers.discard(device_id)
        progress(1.0)
        log("prepared")

    async def clean(self, shell: Shell, *, log: OnText) -> None:
        del log
        assert isinstance(shell, FakeShell)
        await self._act("clean", shell)
        shell.files.pop(PREPARED, None)


def _told(report: HostReport, finding: Finding) -> HostFinding:
    name = finding.code.rpartition(".")[2]
    return HostFinding(
        report.device_id, report.host, name, finding.level, finding.code, finding.data
    )


def _leftovers(device_id: str, host: str) -> HostFinding:
    data = {"host": host, "count": 1, "items": "/var/lib/etcd"}
    return HostFinding(device_id, host, "leftovers", Leftovers.level, Leftovers.code, data)


@dataclass
class FakeReleases:
    versions: list[str] = field(default_factory=lambda: [VERSION])

    async def resolve(self, options: FormOptions, platforms: Collection[str]) -> str:
        wanted = options.kubernetes_version or ""
        fitting = [one for one in self.versions if f"{one}.".startswith(f"{wanted}.".lstrip("."))]
        if not fitting:
            raise NoBundle(version=wanted, platform=", ".join(sorted(platforms)))
        return fitting[-1]

    async def image(self, version: str, name: str) -> str:
        return f"registry.example/{name}:v{version}"


@dataclass
class FakeDevices:
    devices: dict[str, ClusterDevice] = field(default_factory=dict)
    machines: dict[str, str] = field(default_factory=dict)
    twins_of: dict[str, list[str]] = field(default_factory=dict)

    async def device(self, device_id: str) -> ClusterDevice:
        if device_id not in self.devices:
            raise ObjectNotFound(kind="device", id=device_id)
        return self.devices[device_id]

    async def report_machine(self, device_id: str, *, machine_id: str, platform: str) -> None:
        del platform
        self.machines[device_id] = machine_id

    async def readdress(self, device_id: str, address: str, *, by: Principal) -> None:
        del by
        self.devices[device_id] = replace(self.devices[device_id], address=address)

    async def twins(self, device_id: str) -> list[str]:
        return self.twins_of.get(device_id, [])


@dataclass
class FakeSite:
    hosts: FakeHosts = field(default_factory=FakeHosts)
    kubes: FakeKubes = field(default_factory=FakeKubes)
    work: FakeWork = field(default_factory=FakeWork)
    releases: FakeReleases = field(default_factory=FakeReleases)
    devices: FakeDevices = field(default_factory=FakeDevices)
    calls: list[tuple[str, str]] = field(default_factory=list)
    """kubeadm's own: `("init", "dev-a")`."""
    etcd_removed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.kubes.hosts = self.hosts

    def host(self, device_id: str, *, name: str = "") -> FakeShell:
        shell = self.hosts.add(device_id, name=name, lenient=True)
        self.devices.devices[device_id] = ClusterDevice(
            device_id, shell.host.name, shell.host.name, shell.host.address
        )
        shell.put("/etc/hosts", "127.0.0.1 localhost\n")
        shell.on(lambda line: line.startswith("sh -c 'id -un;"), stdout="kim\nkim\n/home/kim\n")
        shell.on(
            lambda line: line.startswith("sh -c 'if grep -qs"), do=self._take_kubeconfig(shell)
        )
        shell.on(lambda line: "haechi-etcd etcdctl" in line, do=self._etcd)
        shell.on(lambda line: line.startswith("timeout 3 bash -c"), do=self._connect)
        shell.on("cat /etc/haechi/node.json", do=lambda _: _cat(shell, MARKER))
        shell.on(lambda line: line.startswith("rm "), do=lambda call: _remove(shell, call))
        shell.on(lambda line: _INIT in line, do=lambda _: self._init(shell))
        shell.on(lambda line: _UPLOAD in line, do=lambda _: self._upload(shell))
        shell.on(lambda line: _JOIN in line, do=lambda _: self._join(shell))
        shell.on(lambda line: _RESET in line, do=lambda _: self._reset(shell))
        return shell

    def refuse(self, device_id: str, what: str, stderr: str, *, times: int | None = 1) -> None:
        """The next such kubeadm fails so."""
        shell = self.hosts.hosts[device_id]
        shell.on(lambda line: what in line, status=1, stderr=stderr, times=times)

    def documents(self, shell: FakeShell) -> dict[str, dict[str, Any]]:
        """The configuration of kubeadm as it lies on the host now, by kind."""
        found = yaml.safe_load_all(shell.text(kubeadm.CONFIG))
        return {str(one["kind"]): one for one in found}

    def _init(self, shell: FakeShell) -> Ran:
        self.calls.append(("init", shell.host.device_id))
        documents = self.documents(shell)
        cluster_id = documents["ClusterConfiguration"]["clusterName"]
        server = f"https://{documents['ClusterConfiguration']['controlPlaneEndpoint']}"
        self._admin_conf(shell, server)
        self._register(
            shell, cluster_id, documents["InitConfiguration"]["nodeRegistration"], control=True
        )
        return Ran(0, "Your Kubernetes control-plane has initialized successfully!")

    def _upload(self, shell: FakeShell) -> Ran:
        """The certificates, encrypted, and a token without rights whose end is theirs."""
        documents = self.documents(shell)
        known = self.kubes.of(documents["ClusterConfiguration"]["clusterName"]).objects
        owner = {"name": "bootstrap-token-owner1", "namespace": "kube-system"}
        known["Secret", "kube-system", owner["name"]] = {"kind": "Secret", "metadata": owner}
        owners = [{"apiVersion": "v1", "kind": "Secret", "name": owner["name"]}]
        metadata = {"name": "kubeadm-certs", "namespace": "kube-system", "ownerReferences": owners}
        known["Secret", "kube-system", "kubeadm-certs"] = {"kind": "Secret", "metadata": metadata}
        return Ran(0)

    def _join(self, shell: FakeShell) -> Ran:
        self.calls.append(("join", shell.host.device_id))
        document = self.documents(shell)["JoinConfiguration"]
        discovery = yaml.safe_load(shell.text(kubeadm.DISCOVERY))
        server = discovery["clusters"][0]["cluster"]["server"]
        cluster_id = server.split(".")[1]
        token_id = document["discovery"]["tlsBootstrapToken"].partition(".")[0]
        known = self.kubes.of(cluster_id).objects
        if ("Secret", "kube-system", f"bootstrap-token-{token_id}") not in known:
            return Ran(1, "", "error execution phase preflight: Unauthorized")
        name = document["nodeRegistration"]["name"]
        there = self.kubes.of(cluster_id).nodes_by_name.get(name)
        if there is not None and there.ready:
            message = f'a Node with name "{name}" and status "Ready" already exists in the cluster'
            return Ran(1, "", f"error execution phase kubelet-start: {message}")
        if "controlPlane" in document:
            self._admin_conf(shell, server)
        self._register(
            shell, cluster_id, document["nodeRegistration"], control="controlPlane" in document
        )
        return Ran(0, "This node has joined the cluster")

    def _etcd(self, call: Call) -> Ran:
        """A member for each control plane; `member remove` is written down. One whose host is off
        does not answer.
        """
        if "endpoint health" in call.command:
            address = call.command.partition("--endpoints=https://")[2].partition(":")[0]
            off = {one.host.address for one in self.hosts.hosts.values() if one.away}
            return Ran(1, "", "Error: unhealthy cluster") if address in off else Ran(0)
        if "member remove" in call.command:
            self.etcd_removed.append(call.command.rpartition(" ")[2])
            return Ran(0)
        nodes = [
            node for kube in self.kubes.clusters.values() for node in kube.nodes_by_name.values()
        ]
        members = [
            {"ID": number, "name": node.name, "peerURLs": [f"https://{node.addresses[0]}:2380"]}
            for number, node in enumerate(nodes, 10)
            if node.control_plane
        ]
        return Ran(0, json.dumps({"members": members}))

    def _connect(self, call: Call) -> Ran:
        """A host to another one's port; what is off takes nothing."""
        address = call.command.split()[-2]
        there = [one for one in self.hosts.hosts.values() if one.host.address == address]
        return Ran(0) if there and there[0].away is None else Ran(1)

    def _reset(self, shell: FakeShell) -> Ran:
        self.calls.append(("reset", shell.host.device_id))
        for path in [path for path in shell.files if path.startswith("/etc/kubernetes/")]:
            del shell.files[path]
        return Ran(0)

    def _admin_conf(self, shell: FakeShell, server: str) -> None:
        document = {
            "clusters": [
                {
                    "name": "kubernetes",
                    "cluster": {"server": server, "certificate-authority-data": CA_DATA},
                }
            ],
            "users": [{"name": "admin", "user": {"client-key-data": "U0VDUkVU"}}],
        }
        shell.put(kubeadm.ADMIN_CONF, yaml.safe_dump(document), 0o600)

    def _register(
        self, shell: FakeShell, cluster_id: str, registration: dict[str, Any], *, control: bool
    ) -> None:
        kube = self.kubes.of(cluster_id)
        name = registration["name"]
        labels = dict([registration["kubeletExtraArgs"][0]["value"].split("=")])
        kube.nodes_by_name[name] = Node(
            name=name,
            device_id=labels.get("haechi.internal/device-id"),
            ready=name not in kube.not_ready,
            unschedulable=False,
            control_plane=control,
            addresses=(shell.host.address,),
            kubelet_version=VERSION,
            labels=labels,
            network_address=shell.host.address,
        )

    def _take_kubeconfig(self, shell: FakeShell) -> Callable[[Call], Ran | None]:
        def take(_: Call) -> None:
            shell.files.pop("/home/kim/.kube/config", None)

        return take


def _cat(shell: FakeShell, path: str) -> Ran:
    if path not in shell.files:
        return Ran(1, "", f"cat: {path}: No such file or directory")
    return Ran(0, json.dumps(json.loads(shell.text(path))))


def _remove(shell: FakeShell, call: Call) -> Ran:
    for path in call.command.split()[2:]:
        for known in [one for one in shell.files if one == path or one.startswith(f"{path}/")]:
            del shell.files[known]
    return Ran(0)
