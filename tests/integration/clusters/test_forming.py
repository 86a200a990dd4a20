"""Forming: what ends well, what fails at each stage, and what is left then."""

import asyncio
from dataclasses import replace

import pytest

from haechi.core.access import SYSTEM
from haechi.core.operations import Definition, Step
from haechi.domains.clusters import kubeadm, store
from haechi.domains.clusters.context import KUBECONFIG
from haechi.domains.clusters.errors import (
    AlreadyRunsOther,
    BadMembers,
    BadNetwork,
    DeviceInCluster,
    DuplicateCluster,
    HostBusy,
    KubeUnreachable,
)
from haechi.domains.clusters.host.errors import CommandFailed, HostDiskFull, HostKeyUnknown
from haechi.domains.clusters.host.ports import HostKey
from haechi.domains.clusters.model import FormOptions
from haechi.domains.clusters.ports import HostFinding
from haechi.errors import Busy, Text
from haechi.testing.waiting import eventually

ALL = {"dev-m": "ready", "dev-a": "ready", "dev-b": "ready"}


async def test_a_cluster_is_formed_from_bare_hosts(world):
    cluster_id = await world.formed()
    assert await world.state(cluster_id) == "ready"
    assert await world.states(cluster_id) == ALL
    kube = world.site.kubes.of(cluster_id)
    assert {name: node.device_id for name, node in kube.nodes_by_name.items()} == {
        "master": "dev-m",
        "alpha": "dev-a",
        "beta": "dev-b",
    }
    assert ("DaemonSet", "kube-flannel", "kube-flannel-ds") in kube.objects
    assert invitations(world, cluster_id) == [], "they are withdrawn once all are in"


def invitations(world, cluster_id):
    """What lets hosts join: tokens, and the certificates for control planes."""
    return [name for kind, _, name in world.site.kubes.of(cluster_id).objects if kind == "Secret"]


async def test_a_node_is_told_where_pods_call_from(world):
    assert await world.clusters.book.pod_networks("dev-a") == []
    await world.formed()
    assert await world.clusters.book.pod_networks("dev-a") == [FormOptions().pod_cidr]


async def test_the_kubeconfig_is_the_real_users_and_kept_encrypted(world):
    cluster_id = await world.formed()
    file = world.site.hosts.hosts["dev-m"].files["/home/kim/.kube/config"]
    assert (file.mode, file.owner) == (0o600, "kim:kim")
    assert f"api.{cluster_id}.haechi.internal:6444" in file.content.decode()
    async with world.db.read() as tx:
        row = await tx.get(store.SecretRow, (cluster_id, KUBECONFIG))
        kept = await store.secret(tx, world.keyring, cluster_id, KUBECONFIG)
    assert b"client-key-data" not in row.content
    assert "client-key-data" in kept.reveal()


async def test_no_secret_is_in_a_command_a_log_or_the_operation(world):
    operation = await world.ended(await world.form())
    shells = world.site.hosts.hosts.values()
    commands = "\n".join(line for shell in shells for line in shell.commands())
    assert "token" not in commands.replace("--skip-token-print", "")
    assert "U0VDUkVU" not in commands + await world.log(operation) + str(operation.ctx)
    for shell in shells:
        assert kubeadm.CONFIG not in shell.files, "the configuration with the token stays nowhere"


async def test_every_finding_is_told_at_once_and_nothing_is_touched(world):
    for device_id, name in (("dev-m", "swap_on"), ("dev-a", "port_taken")):
        world.site.work.findings_of.append(
            HostFinding(
                device_id=device_id,
                host=device_id,
                name=name,
                level="error",
                code="clusters.host_disk_full",
                data={"host": device_id, "path": "/"},
            )
        )
    world.site.hosts.turn_off("dev-b")
    operation = await world.ended(await world.form())
    assert operation.error["code"] == "clusters.hosts_not_fit"
    told = {one["data"]["host"] for one in operation.error["data"]["problems"]}
    assert told == {"dev-m", "dev-a", "beta"}
    assert set(await _states(world, operation)) == {"gone"}
    assert {act for act, _ in world.site.work.acts} == {"report"}
    assert await world.state(operation.subject) == "failed"


async def test_a_warning_hinders_until_it_is_accepted_by_name(world):
    warning = HostFinding(
        device_id="dev-a",
        host="alpha",
        name="little_memory",
        level="warning",
        code="clusters.host_disk_full",
        data={"host": "alpha", "path": "/"},
    )
    world.site.work.findings_of.append(warning)
    assert (await world.ended(await world.form())).state == "failed"
    assert (await world.ended(await world.form(accept=["little_memory"]))).state == "succeeded"


@pytest.mark.parametrize("stage", ["snapshot", "prepare", "initialise", "ready"])
async def test_a_control_plane_that_fails_ends_it_and_all_is_taken_back(world, stage):
    site = world.site
    if stage in {"snapshot", "prepare"}:
        site.work.failures[stage, "dev-m"] = HostDiskFull(host="master", path="/var")
    elif stage == "initialise":
        site.refuse("dev-m", "kubeadm init", "wait-control-plane failed")
    before = {one: dict(shell.files) for one, shell in site.hosts.hosts.items()}
    operation = await world.form()
    if stage == "ready":
        site.kubes.of(operation.subject).not_ready.add("master")
    operation = await world.ended(operation)
    assert operation.state == "failed"
    assert await world.state(operation.subject) == "failed"
    assert set(await _states(world, operation)) <= {"gone", "failed"}
    for one, shell in site.hosts.hosts.items():
        assert shell.files == before[one], f"{one} is as it was"
    site.work.failures.clear()
    assert (await world.ended(await world.form(name="again"))).state == "succeeded"


@pytest.mark.parametrize("stage", ["prepare", "join", "ready"])
async def test_a_worker_that_fails_is_left_out_and_cleaned(world, stage):
    site = world.site
    if stage == "prepare":
        site.work.failures["prepare", "dev-b"] = HostDiskFull(host="beta", path="/var")
    elif stage == "join":
        site.refuse("dev-b", "kubeadm join", "error execution phase kubelet-start")
    operation = await world.form()
    if stage == "ready":
        site.kubes.of(operation.subject).not_ready.add("beta")
    operation = await world.ended(operation)
    assert operation.state == "succeeded"
    assert operation.ctx["result"]["failed"] == 1
    assert operation.ctx["result"]["hosts"]["dev-b"]["error"]["code"].startswith("clusters.")
    assert await world.states(operation.subject) == ALL | {"dev-b": "failed"}
    assert set(site.kubes.of(operation.subject).nodes_by_name) == {"master", "alpha"}
    added = await world.clusters.add_node(operation.subject, ["dev-b"], by=SYSTEM)
    site.kubes.of(operation.subject).not_ready.clear()
    assert (await world.ended(added)).state == "succeeded"
    assert await world.states(operation.subject) == ALL


async def test_a_cluster_whose_only_worker_fails_is_formed_without_it(world):
    world.site.refuse("dev-a", "kubeadm join", "error: no")
    operation = await world.ended(await world.form(workers=("dev-a",)))
    assert (operation.state, operation.ctx["result"]["failed"]) == ("succeeded", 1)
    assert await world.states(operation.subject) == {"dev-m": "ready", "dev-a": "failed"}


async def test_adding_hosts_of_which_none_joins_fails_and_leaves_the_cluster_alone(world):
    cluster_id = await world.formed(workers=("dev-a",))
    world.site.refuse("dev-b", "kubeadm join", "error: no")
    added = await world.ended(await world.clusters.add_node(cluster_id, ["dev-b"], by=SYSTEM))
    assert added.error["code"] == "clusters.host_step_failed"
    assert await world.state(cluster_id) == "ready"
    assert (await world.states(cluster_id))["dev-b"] == "failed"


async def test_a_host_that_is_a_node_already_is_told_by_its_machine(world):
    """One device registered twice, or a disk that was cloned."""
    cluster_id = await world.formed(workers=("dev-a",))
    nodes = world.site.kubes.of(cluster_id).nodes_by_name
    nodes["alpha"] = replace(nodes["alpha"], machine_id="dev-b")
    added = await world.ended(await world.clusters.add_node(cluster_id, ["dev-b"], by=SYSTEM))
    assert added.error["code"] == "clusters.hosts_not_fit"
    (problem,) = added.error["data"]["problems"]
    assert problem["code"] == "clusters.same_machine_id"
    assert problem["data"]["others"] == "alpha"
    assert ("prepare", "dev-b") not in world.site.work.acts


async def test_a_failed_step_tells_the_hosts_own_last_error(world):
    shell = world.site.hosts.hosts["dev-m"]
    shell.on("systemctl is-active kubelet", stdout="activating\n", status=3)
    shell.on(
        "journalctl -u kubelet",
        stdout='E0101 run.go:72] "command failed" err="failed to load kubelet config file"\n',
    )
    world.site.refuse("dev-m", "kubeadm init", "rate: Wait(n=1) would exceed context deadline")
    operation = await world.ended(await world.form())
    assert operation.error["code"] == "clusters.kubelet_not_starting"
    assert operation.error["data"]["reason"] == "failed to load kubelet config file"
    assert "kubelet: E0101" in await world.log(operation)


async def test_a_host_that_goes_away_for_a_moment_hinders_nothing(world):
    shell = world.site.hosts.hosts["dev-a"]
    world.site.work.hold["prepare", "dev-a"] = asyncio.Event()
    operation = await world.form()
    await eventually(lambda: ("prepare", "dev-a") in world.site.work.acts)
    world.site.hosts.turn_off("dev-a")
    world.site.work.failures["prepare", "dev-a"] = shell.away
    world.site.work.hold.pop(("prepare", "dev-a")).set()
    await eventually(lambda: ("prepare", "dev-a") not in world.site.work.failures)
    world.site.hosts.turn_on("dev-a")
    assert (await world.ended(operation)).ctx["result"]["failed"] == 0


async def test_an_api_that_does_not_answer_for_a_moment_ends_nothing(world):
    world.site.work.hold["prepare", "dev-m"] = asyncio.Event()
    operation = await world.form()
    kube = world.site.kubes.of(operation.subject)
    applied, silent = kube.apply, iter([True, False, True, False])

    async def apply(objects, **given):
        if next(silent, False):
            raise KubeUnreachable(cluster_id=operation.subject, reason="connection reset")
        await applied(objects, **given)

    kube.apply = apply
    world.site.work.hold["prepare", "dev-m"].set()
    assert (await world.ended(operation)).state == "succeeded"
    assert (await world.log(operation)).count("connection reset") == 2


async def test_three_control_planes_join_one_after_the_other(world):
    for number in (2, 3):
        world.site.host(f"dev-m{number}", name=f"master{number}")
    cluster_id = await world.formed(masters=("dev-m", "dev-m2", "dev-m3"), workers=("dev-a",))
    assert [call for call in world.site.calls if call[0] != "reset"][:3] == [
        ("init", "dev-m"),
        ("join", "dev-m2"),
        ("join", "dev-m3"),
    ]
    proxy = world.site.hosts.hosts["dev-a"].text("/etc/haechi/api-proxy.cfg")
    addresses = [world.site.hosts.hosts[one].host.address for one in ("dev-m", "dev-m2", "dev-m3")]
    assert all(f"{address}:6443" in proxy for address in addresses)
    first = world.site.hosts.hosts["dev-m"].text("/etc/haechi/api-proxy.cfg")
    assert all(f"{address}:6443" in first for address in addresses)
    kube = world.site.kubes.of(cluster_id)
    assert sum(node.control_plane for node in kube.nodes_by_name.values()) == 3
    assert invitations(world, cluster_id) == []


async def test_nothing_that_lets_hosts_join_stays_where_none_did(world):
    cluster_id = await world.formed(workers=("dev-a",))
    world.site.host("dev-n", name="cp-n")
    for device_id, role in (("dev-b", "worker"), ("dev-n", "control_plane")):
        world.site.refuse(device_id, "kubeadm join", "error: no", times=None)
        added = await world.clusters.add_node(cluster_id, [device_id], role=role, by=SYSTEM)
        assert (await world.ended(added)).state == "failed"
        assert invitations(world, cluster_id) == []


async def test_nor_where_joining_was_cancelled(world):
    cluster_id = await world.formed(workers=("dev-a",))
    shell, never = world.site.hosts.hosts["dev-b"], asyncio.Event()
    shell.on(lambda line: "kubeadm join" in line, hold=never)
    added = await world.clusters.add_node(cluster_id, ["dev-b"], by=SYSTEM)
    await shell.held.wait()
    assert invitations(world, cluster_id) != []
    await world.operations.cancel(added.id)
    assert (await world.ended(added)).state == "cancelled"
    assert invitations(world, cluster_id) == []


async def test_nor_where_it_was_cancelled_before_its_token_was_known_to_be_taken(world):
    cluster_id = await world.formed(workers=("dev-a",))
    kube, taken = world.site.kubes.of(cluster_id), asyncio.Event()
    apply = kube.apply

    async def unanswered(objects, **given):
        await apply(objects, **given)
        taken.set()
        await asyncio.Event().wait()

    kube.apply = unanswered
    added = await world.clusters.add_node(cluster_id, ["dev-b"], by=SYSTEM)
    await taken.wait()
    assert invitations(world, cluster_id) != []
    await world.operations.cancel(added.id)
    assert (await world.ended(added)).state == "cancelled"
    assert invitations(world, cluster_id) == []


async def test_a_token_that_cannot_be_withdrawn_takes_no_node_back(world):
    """It ends by itself within the hour."""
    cluster_id = await world.formed(workers=("dev-a",))
    kube = world.site.kubes.of(cluster_id)
    delete, silent = kube.delete, iter([True])

    async def refuse_once(objects, **given):
        if given.get("wait_s") == 0 and next(silent, False):
            raise KubeUnreachable(cluster_id=cluster_id, reason="connection reset")
        await delete(objects, **given)

    kube.delete = refuse_once
    added = await world.ended(await world.clusters.add_node(cluster_id, ["dev-b"], by=SYSTEM))
    assert added.state == "succeeded"
    assert world.site.calls.count(("join", "dev-b")) == 1
    assert "connection reset" in await world.log(added)


async def test_forming_the_same_twice_is_one_operation(world):
    world.site.work.hold["prepare", "dev-m"] = asyncio.Event()
    first = await world.form()
    second = await world.form()
    assert first.id == second.id
    with pytest.raises(AlreadyRunsOther):
        await world.form(workers=("dev-a",))
    with pytest.raises(HostBusy) as busy:
        await world.form(name="other", workers=())
    assert busy.value.data["operation_id"] == first.id
    world.site.work.hold["prepare", "dev-m"].set()
    assert (await world.ended(first)).state == "succeeded"
    with pytest.raises(DuplicateCluster):
        await world.form()
    with pytest.raises(DeviceInCluster):
        await world.form(name="other", workers=())


async def test_a_host_that_something_else_works_on_is_refused(world):
    may_end = asyncio.Event()

    async def work(run):
        del run
        await may_end.wait()

    step = Step("work", Text("일", "work"), work)
    world.operations.register(Definition("install_something", Text("일", "work"), [step]))
    other = await world.operations.start("install_something", "dev-a", {}, requested_by="kim")
    with pytest.raises(HostBusy) as busy:
        await world.form()
    assert busy.value.data == {
        "host": "alpha",
        "operation_id": other.id,
        "kind": "install_something",
    }
    may_end.set()
    await world.ended(other)
    assert (await world.ended(await world.form())).state == "succeeded"


async def test_deleting_while_it_is_formed_is_refused_and_cancelling_takes_all_back(world):
    world.site.work.hold["prepare", "dev-m"] = asyncio.Event()
    before = dict(world.site.hosts.hosts["dev-m"].files)
    operation = await world.form()
    await eventually(lambda: ("prepare", "dev-m") in world.site.work.acts)
    with pytest.raises(Busy) as busy:
        await world.clusters.delete_cluster(operation.subject, by=SYSTEM)
    assert busy.value.data["operation_id"] == operation.id
    await world.operations.cancel(operation.id)
    ended = await world.ended(operation)
    assert ended.state == "cancelled"
    assert await world.state(operation.subject) == "failed"
    assert world.site.hosts.hosts["dev-m"].files == before


async def test_members_and_networks_that_cannot_be_are_refused(world):
    form = world.clusters.form_cluster
    for masters, workers in (((), ("dev-a",)), (("dev-m", "dev-a"), ()), (("dev-m",), ("dev-m",))):
        with pytest.raises(BadMembers):
            await form("x", masters, workers, FormOptions(), by=SYSTEM)
    for options in (
        FormOptions(pod_cidr="10.96.0.0/16"),
        FormOptions(pod_cidr="nonsense"),
        FormOptions(pod_cidr="10.244.0.0/26"),
        FormOptions(pod_cidr="192.0.0.0/8"),
    ):
        with pytest.raises(BadNetwork):
            await form("x", ("dev-m",), (), options, by=SYSTEM)
    assert (await world.clusters.book.find(include_gone=True)).items == []


async def test_an_unknown_host_key_is_pinned_only_on_the_callers_word(world):
    hosts = world.site.hosts
    shell = hosts.hosts["dev-a"]
    shell.away = HostKeyUnknown(host="alpha", address="192.0.2.2", fingerprint="SHA256:dev-a")
    refused = await world.ended(await world.form())
    assert refused.error["data"]["problems"][0]["code"] == "clusters.host_key_unknown"
    assert hosts.pinned == {}

    async def look(device_id):
        return HostKey(f"ssh-ed25519 {device_id}", f"SHA256:{device_id}")

    learn = hosts.learn

    async def learn_and_open(device_id, **given):
        shell.away = None
        return await learn(device_id, **given)

    hosts.look, hosts.learn = look, learn_and_open
    formed = await world.ended(await world.form(accept=["host_key_unknown"]))
    assert formed.state == "succeeded"
    assert set(hosts.pinned) == {"dev-a"}


async def test_a_command_that_fails_elsewhere_is_told_as_it_is(world):
    world.site.work.failures["prepare", "dev-m"] = CommandFailed(
        host="master", command="tar", status=2, message="unexpected end of file"
    )
    operation = await world.ended(await world.form())
    assert operation.error["code"] == "clusters.host_command_failed"
    assert operation.error["data"]["message"] == "unexpected end of file"


async def _states(world, operation):
    return (await world.states(operation.subject)).values()
