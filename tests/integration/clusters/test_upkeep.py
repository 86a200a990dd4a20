"""Certificates, moved addresses, replaced nodes, hosts that come back."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from haechi.core.access import SYSTEM
from haechi.core.operations import Definition, State, Step
from haechi.domains.clusters.context import KUBECONFIG
from haechi.domains.clusters.errors import DeviceInCluster, HostBusy, KubeUnreachable, NotAMember
from haechi.domains.clusters.host.errors import CommandFailed
from haechi.domains.clusters.host.ports import HostName
from haechi.domains.clusters.model import MemberState
from haechi.domains.clusters.upkeep_errors import AddressUnknown, SameDevice, StillLives
from haechi.domains.deployments.node_trust import NodeTrust
from haechi.errors import Busy, Text, Unavailable
from haechi.protocol.commands import RegistryAccess
from haechi.testing.upkeep import certificate
from haechi.testing.waiting import eventually

THREE = ("dev-m", "dev-n", "dev-o")


def shell_of(world, device_id):
    return world.site.hosts.hosts[device_id]


async def done(world, operation):
    ended = await world.ended(operation)
    assert ended.state == "succeeded", await world.log(ended)
    return ended


# --- certificates


async def test_certificates_are_listed_soonest_first(world, lab, cluster_id):
    lab.ends_at = datetime.now(UTC) + timedelta(days=10)
    world.site.hosts.turn_off("dev-b")
    found, failures = await world.upkeep.certificates(cluster_id)
    assert [one.name for one in found[:3]] == ["admin.conf", "apiserver", "etcd-server"]
    assert {one.node_name for one in found if one.name == "kubelet"} == {"master", "alpha"}
    assert found[-1].authority
    assert list(failures) == ["dev-b"]


async def test_only_what_ends_soon_is_renewed_unasked(world, lab, cluster_id):
    ended = await done(
        world, await world.upkeep.renew_certificates(cluster_id, by=SYSTEM, every=False)
    )
    assert ended.ctx["result"]["renewed"] == []
    lab.ends_at = datetime.now(UTC) + timedelta(days=10)
    ended = await done(
        world, await world.upkeep.renew_certificates(cluster_id, by=SYSTEM, every=False)
    )
    assert ended.ctx["result"]["renewed"] == ["dev-m"]


async def test_control_planes_are_renewed_one_after_the_other(world, lab, three):
    order = []
    for device_id in THREE:
        shell = shell_of(world, device_id)
        shell.on("kubeadm certs renew", do=lambda _, d=device_id: order.append((d, "renew")))
        shell.on(
            lambda line: "' haechi-restart " in line,
            do=lambda call, d=device_id: order.append((d, call.command.split()[-3])),
        )
    await done(world, await world.upkeep.renew_certificates(three, by=SYSTEM))
    pods = ["renew", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]
    devices = list(dict.fromkeys(device for device, _ in order))
    assert sorted(devices) == sorted(THREE)
    assert order == [(device, pod) for device in devices for pod in pods]


async def test_the_new_kubeconfig_is_kept(world, lab, cluster_id):
    from haechi.domains.clusters import store

    shell = shell_of(world, "dev-m")
    fresh = shell.text("/etc/kubernetes/admin.conf").replace("U0VDUkVU", "RlJFU0g=")
    shell.on("kubeadm certs renew", do=lambda _: shell.put("/etc/kubernetes/admin.conf", fresh))
    await done(world, await world.upkeep.renew_certificates(cluster_id, by=SYSTEM))
    async with world.db.read() as tx:
        kept = await store.secret(tx, world.keyring, cluster_id, KUBECONFIG)
    assert "RlJFU0g=" in kept.reveal()


async def test_a_kubelet_that_did_not_renew_is_started_again(world, lab, cluster_id):
    soon = certificate(datetime.now(UTC) + timedelta(days=2))
    shell_of(world, "dev-a").on("sed -n", stdout=soon)
    await done(world, await world.upkeep.renew_certificates(cluster_id, by=SYSTEM, every=False))
    assert "systemctl restart kubelet" in shell_of(world, "dev-a").commands()
    assert "systemctl restart kubelet" not in shell_of(world, "dev-b").commands()


async def test_an_etcd_that_does_not_come_back_stops_it(world, lab, three):
    """The next control plane would take the majority away."""
    for device_id in THREE:
        shell = shell_of(world, device_id)
        shell.on(lambda line: "endpoint health" in line, status=1, stderr="Error: unhealthy")
    ended = await world.ended(await world.upkeep.renew_certificates(three, by=SYSTEM))
    assert ended.error["code"] == "clusters.etcd_failed"
    renewed = [
        device_id
        for device_id in THREE
        if "kubeadm certs renew all" in shell_of(world, device_id).commands()
    ]
    assert len(renewed) == 1


async def test_a_host_that_prints_no_certificates_is_named(world, lab, cluster_id):
    shell_of(world, "dev-m").on("kubeadm certs check-expiration", "{broken")
    found, failures = await world.upkeep.certificates(cluster_id)
    assert failures["dev-m"].code == "clusters.host_command_failed"
    assert {one.device_id for one in found} == {"dev-a", "dev-b"}


async def test_what_stays_old_is_named(world, lab, cluster_id):
    lab.ends_at = datetime.now(UTC) + timedelta(days=10)
    shell_of(world, "dev-m").on("kubeadm certs renew")
    operation = await world.upkeep.renew_certificates(cluster_id, by=SYSTEM)
    ended = await world.ended(operation)
    assert ended.error["code"] == "clusters.certificates_not_renewed"
    assert "master/apiserver" in ended.error["data"]["names"]


# --- addresses


def move(world, device_id, address):
    """The host has another address, which its kubelet tells the API when it starts."""
    shell = shell_of(world, device_id)
    shell.host = HostName(device_id, shell.host.name, address)

    def tell(_call):
        for kube in world.site.kubes.clusters.values():
            for name, node in kube.nodes_by_name.items():
                if node.device_id == device_id:
                    kube.nodes_by_name[name] = replace(node, addresses=(address,))

    shell.on("systemctl restart kubelet", do=tell)


async def test_a_worker_is_taken_up_at_its_new_address(world, lab, cluster_id):
    move(world, "dev-a", "192.0.2.77")
    operation = await world.upkeep.readdress_node(
        cluster_id, "dev-a", address="192.0.2.77", by=SYSTEM
    )
    ended = await done(world, operation)
    assert ended.ctx["result"]["address"] == "192.0.2.77"
    members = {one.device_id: one for one in await world.context.members(cluster_id)}
    assert members["dev-a"].address == "192.0.2.77"
    assert (await world.site.devices.device("dev-a")).address == "192.0.2.77"
    assert not [line for line in shell_of(world, "dev-a").commands() if "haechi-hold" in line]


async def test_it_is_looked_for_where_nobody_says(world, lab, cluster_id):
    with pytest.raises(AddressUnknown):
        await world.upkeep.readdress_node(cluster_id, "dev-a", by=SYSTEM)
    move(world, "dev-a", "192.0.2.88")
    world.finder.places["dev-a"] = "192.0.2.88"
    await done(world, await world.upkeep.readdress_node(cluster_id, "dev-a", by=SYSTEM))
    members = {one.device_id: one for one in await world.context.members(cluster_id)}
    assert members["dev-a"].address == "192.0.2.88"


async def test_a_control_plane_gets_certificates_for_its_new_address(world, lab, three):
    old = shell_of(world, "dev-n").host.address
    move(world, "dev-n", "192.0.2.99")
    await done(
        world,
        await world.upkeep.readdress_node(three, "dev-n", address="192.0.2.99", by=SYSTEM),
    )
    lines = shell_of(world, "dev-n").commands()
    told = [
        word
        for line in lines
        for word in (
            "haechi-hold",
            "haechi-rewrite",
            "certs apiserver",
            "certs etcd-server",
            "certs etcd-peer",
            "haechi-release",
        )
        if word in line
    ]
    assert told[:6] == [
        "haechi-hold",
        "haechi-rewrite",
        "certs apiserver",
        "certs etcd-server",
        "certs etcd-peer",
        "haechi-release",
    ]
    rewrite = next(line for line in lines if "haechi-rewrite" in line)
    assert f"{old} 192.0.2.99" in rewrite
    updates = [
        line
        for device_id in ("dev-m", "dev-o")
        for line in shell_of(world, device_id).commands()
        if "member update" in line
    ]
    assert len(updates) >= 1
    assert "https://192.0.2.99:2380" in updates[0]
    for device_id in ("dev-m", "dev-a", "dev-b"):
        assert "192.0.2.99:6443" in shell_of(world, device_id).text("/etc/haechi/api-proxy.cfg")
        assert old not in shell_of(world, device_id).text("/etc/haechi/api-proxy.cfg")


async def test_the_server_moved(world, lab, cluster_id):
    class Wire:
        name = "registry"
        nodes: list[str] = []

        async def joined(self, cluster_id, device_id, *, log):
            if device_id == "dev-b" and "dev-b" not in self.nodes:
                self.nodes.append("dev-b")
                raise CommandFailed(host="beta", command="x", status=1, message="no")
            self.nodes.append(device_id)

        async def leaving(self, cluster_id, device_id, *, log):
            pass

    world.context.hooks.append(Wire())
    ended = await world.ended(await world.upkeep.readdress_server(by=SYSTEM))
    assert ended.error["code"] == "clusters.host_command_failed"
    assert set(Wire.nodes) == {"dev-m", "dev-a", "dev-b"}
    await done(world, await world.upkeep.readdress_server(by=SYSTEM))


async def test_nodes_find_the_registry_where_the_server_is_now(world, lab, cluster_id):
    where = "10.0.0.1:8425"

    async def access(device_id):
        return RegistryAccess("registry.site.example:8425", where, "the CA", user=device_id)

    async def nodes():
        return []

    trust = NodeTrust(
        hosts=world.site.hosts,
        registry=lambda: "registry.site.example:8425",
        access=access,
        nodes=nodes,
    )
    world.context.hooks.insert(0, trust)  # as the app does
    for device_id in ("dev-m", "dev-a", "dev-b"):
        shell = shell_of(world, device_id)
        shell.on("containerd config dump")
        shell.on("ctr -n k8s.io images pull", status=1, stderr="ctr: not found")
        await trust.joined(cluster_id, device_id, log=lambda _: None)
    where = "10.0.0.9:8425"
    await done(world, await world.upkeep.readdress_server(by=SYSTEM))
    for device_id in ("dev-m", "dev-a", "dev-b"):
        hosts = shell_of(world, device_id).text("/etc/hosts")
        assert "10.0.0.9 registry.site.example" in hosts
        assert "10.0.0.1 " not in hosts


# --- replacing


async def test_a_dead_worker_is_replaced_with_its_work(world, lab, cluster_id):
    world.site.hosts.turn_off("dev-a")
    world.site.host("dev-new", name="newcomer")
    ended = await done(
        world, await world.upkeep.replace_node(cluster_id, "dev-a", "dev-new", by=SYSTEM)
    )
    assert world.mover.moved == [("dev-a", "dev-new")]
    states = await world.states(cluster_id)
    assert states["dev-new"] == MemberState.READY
    assert states["dev-a"] == MemberState.CLEANING
    nodes = world.site.kubes.of(cluster_id).nodes_by_name
    assert set(nodes) == {"master", "beta", "newcomer"}
    assert ended.ctx["result"]["replaced"] == "dev-a"


async def test_work_moves_once_the_new_nodes_agent_is_there(world, lab, cluster_id):
    """Cameras come by it, and results go by it: without it an AI would not prove itself."""
    order, may_end = [], asyncio.Event()

    async def bring(run):
        await may_end.wait()
        order.append("agent")

    step = Step("bring", Text("에이전트", "agent"), bring)
    world.operations.register(Definition("bring_agent", Text("에이전트", "agent"), [step]))

    class Agent:
        name = "agent"

        async def joined(self, cluster_id, device_id, *, log):
            _ = await world.operations.start("bring_agent", device_id, {}, requested_by="haechi")

        async def leaving(self, cluster_id, device_id, *, log):
            pass

    class Mover:
        async def move_work(self, old_id, new_id, *, by, log):
            order.append("work")

    world.context.hooks.append(Agent())
    world.upkeep.moves_work_by(Mover())
    world.site.hosts.turn_off("dev-a")
    world.site.host("dev-new", name="newcomer")
    operation = await world.upkeep.replace_node(cluster_id, "dev-a", "dev-new", by=SYSTEM)

    async def waits():
        return (await world.operations.get(operation.id)).step == "move_work"

    await eventually(waits)
    may_end.set()
    await done(world, operation)
    assert order == ["agent", "work"]


async def test_what_was_begun_on_the_old_device_meanwhile_ends_before_it_leaves(
    world, lab, cluster_id
):
    """Or it would make there anew what is taken away: the device still lives, and so does its
    cluster.
    """
    told, deploying = [], asyncio.Event()

    async def start(run):
        deploying.set()
        await asyncio.Event().wait()

    async def undo(run):
        told.append("taken back")

    words = Text("배포", "deploy")
    step = Step("start", words, start, undo)
    world.operations.register(Definition("deploy_to_device", words, [step]))

    async def begin():
        return await world.operations.start(
            "deploy_to_device", "dev-a/pkg-1", {}, requested_by="kim"
        )

    class Leaving:
        name = "deployments"

        async def joined(self, cluster_id, device_id, *, log):
            pass

        async def leaving(self, cluster_id, device_id, *, log):
            with pytest.raises(Busy):
                await begin()
            told.append("left")

    class Mover:
        async def move_work(self, old_id, new_id, *, by, log):
            told.append((await begin()).id)
            await deploying.wait()

    world.context.hooks.append(Leaving())
    world.upkeep.moves_work_by(Mover())
    world.site.host("dev-new", name="newcomer")
    operation = await world.upkeep.replace_node(
        cluster_id, "dev-a", "dev-new", force=True, by=SYSTEM
    )
    ended = await done(world, operation)
    assert told[1:] == ["taken back", "left"]
    assert (await world.operations.get(told[0])).state == State.CANCELLED
    assert told[0] in await world.log(ended), "it says whom it ended"
    assert (await begin()).state == State.QUEUED, "it is nobody's any more"


async def test_a_worker_that_is_dead_for_long_is_replaced_too(world, lab, cluster_id):
    """Kubernetes goes on wanting its pods there, which never get ready."""
    world.site.hosts.turn_off("dev-a")
    nodes = world.site.kubes.of(cluster_id).nodes_by_name
    nodes["alpha"] = replace(nodes["alpha"], ready=False)
    world.site.host("dev-new", name="newcomer")
    await done(world, await world.upkeep.replace_node(cluster_id, "dev-a", "dev-new", by=SYSTEM))
    assert set(nodes) == {"master", "beta", "newcomer"}


async def test_a_dead_control_plane_leaves_etcd_before_the_new_one_joins(world, lab, three):
    world.site.hosts.turn_off("dev-o")
    world.site.host("dev-new", name="newcomer")
    joined_when = []
    shell_of(world, "dev-new").on(
        lambda line: "systemctl stop haechi-kubeadm" in line,
        do=lambda _: joined_when.append(list(world.site.etcd_removed)),
    )
    await done(world, await world.upkeep.replace_node(three, "dev-o", "dev-new", by=SYSTEM))
    assert len(world.site.etcd_removed) == 1
    assert joined_when[-1] == world.site.etcd_removed
    states = await world.states(three)
    assert (states["dev-new"], states["dev-o"]) == (MemberState.READY, MemberState.CLEANING)
    proxy = shell_of(world, "dev-a").text("/etc/haechi/api-proxy.cfg")
    assert f"{shell_of(world, 'dev-new').host.address}:6443" in proxy
    assert f"{shell_of(world, 'dev-o').host.address}:6443" not in proxy


async def test_work_that_cannot_be_moved_is_told_but_the_node_is_replaced(world, lab, cluster_id):
    class NoRoom(Unavailable):
        code = "tests.no_room"

    world.mover.error = NoRoom(host="newcomer")
    world.site.hosts.turn_off("dev-a")
    world.site.host("dev-new", name="newcomer")
    operation = await world.upkeep.replace_node(cluster_id, "dev-a", "dev-new", by=SYSTEM)
    ended = await world.ended(operation)
    assert (ended.state, ended.error["code"]) == (State.FAILED, "tests.no_room")
    states = await world.states(cluster_id)
    assert (states["dev-new"], states["dev-a"]) == (MemberState.READY, MemberState.CLEANING)


async def test_a_host_that_does_not_fit_changes_nothing(world, lab, cluster_id):
    world.site.hosts.turn_off("dev-a")
    world.site.host("dev-new", name="newcomer")
    world.site.refuse("dev-new", "kubeadm join", "kubelet is dead", times=None)
    operation = await world.upkeep.replace_node(cluster_id, "dev-a", "dev-new", by=SYSTEM)
    ended = await world.ended(operation)
    assert ended.state == State.FAILED
    states = await world.states(cluster_id)
    assert states["dev-a"] == MemberState.READY
    assert states["dev-new"] == MemberState.FAILED
    assert world.mover.moved == []


async def test_what_cannot_be_replaced(world, lab, cluster_id):
    world.site.host("dev-new", name="newcomer")
    with pytest.raises(SameDevice):
        await world.upkeep.replace_node(cluster_id, "dev-a", "dev-a", by=SYSTEM)
    with pytest.raises(DeviceInCluster):
        await world.upkeep.replace_node(cluster_id, "dev-a", "dev-b", by=SYSTEM)
    with pytest.raises(NotAMember):
        await world.upkeep.replace_node(cluster_id, "dev-new", "dev-b", by=SYSTEM)
    await world.upkeep.start()
    assert _presence(world, "dev-a") == "new"
    with pytest.raises(StillLives):
        await world.upkeep.replace_node(cluster_id, "dev-a", "dev-new", by=SYSTEM)
    await eventually(lambda: _presence(world, "dev-a") == "ok")
    with pytest.raises(StillLives):
        await world.upkeep.replace_node(cluster_id, "dev-a", "dev-new", by=SYSTEM)


async def test_a_host_that_something_else_works_on_takes_no_ones_place(world, lab, cluster_id):
    world.site.host("dev-new", name="newcomer")
    may_end = asyncio.Event()

    async def work(run):
        await may_end.wait()

    step = Step("work", Text("일", "work"), work)
    world.operations.register(Definition("install_something", Text("일", "work"), [step]))
    other = await world.operations.start("install_something", "dev-new", {}, requested_by="kim")
    with pytest.raises(HostBusy):
        await world.upkeep.replace_node(cluster_id, "dev-a", "dev-new", by=SYSTEM, force=True)
    may_end.set()
    await world.ended(other)


async def test_an_api_that_is_away_for_a_moment_takes_no_replacement_back(world, lab, cluster_id):
    world.site.hosts.turn_off("dev-a")
    world.site.host("dev-new", name="newcomer")
    kube = world.site.kubes.of(cluster_id)
    applied, silent = kube.apply, iter([True])

    async def apply(objects, **given):
        if next(silent, False):
            raise KubeUnreachable(cluster_id=cluster_id, reason="connection reset")
        await applied(objects, **given)

    kube.apply = apply
    await done(world, await world.upkeep.replace_node(cluster_id, "dev-a", "dev-new", by=SYSTEM))


async def test_a_replaced_node_is_said_goodbye_to(world, lab, cluster_id):
    class Farewell:
        name = "farewell"
        left: list[str] = []

        async def joined(self, cluster_id, device_id, *, log):
            pass

        async def leaving(self, cluster_id, device_id, *, log):
            self.left.append(device_id)

    world.context.hooks.append(Farewell())
    world.site.host("dev-new", name="newcomer")
    await done(
        world,
        await world.upkeep.replace_node(cluster_id, "dev-a", "dev-new", by=SYSTEM, force=True),
    )
    assert Farewell.left == ["dev-a"]


def _presence(world, device_id):
    judgement = world.upkeep.watching.presence(device_id)
    return judgement.presence if judgement else None


# --- coming back


async def test_a_host_is_cleaned_when_it_is_seen_again(world, lab, cluster_id):
    address = shell_of(world, "dev-b").host.address
    world.site.hosts.turn_off("dev-b")
    world.probe.vanish(address)
    nodes = world.site.kubes.of(cluster_id).nodes_by_name
    name, registered = next((key, one) for key, one in nodes.items() if key.startswith("beta"))
    await done(world, await world.clusters.remove_node(cluster_id, "dev-b", by=SYSTEM))
    assert (await world.states(cluster_id))["dev-b"] == MemberState.CLEANING
    assert name not in nodes
    nodes[name] = registered  # as its kubelet does as soon as it runs again
    await world.upkeep.start()
    world.site.hosts.turn_on("dev-b")
    world.probe.come_back(address)

    async def clean():
        return (await world.states(cluster_id))["dev-b"] == MemberState.GONE

    await eventually(clean)
    assert ("clean", "dev-b") in world.site.work.acts
    await eventually(lambda: name not in nodes)


async def test_a_node_that_was_away_learns_where_its_api_is(world, lab, cluster_id):
    shell = shell_of(world, "dev-b")
    shell.put("/etc/haechi/api-proxy.cfg", "old\n")
    await world.upkeep.start()
    master = shell_of(world, "dev-m").host.address
    await eventually(lambda: f"{master}:6443" in shell.text("/etc/haechi/api-proxy.cfg"))
