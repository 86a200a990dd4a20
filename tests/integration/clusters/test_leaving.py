"""Nodes come and go, clusters are deleted, and the proof of it."""

import asyncio

import pytest

from haechi.core.access import SYSTEM
from haechi.domains.agents.presence import Limits
from haechi.domains.clusters.errors import (
    ClusterNotReady,
    KubeUnreachable,
    LastControlPlane,
    NoKubeconfig,
    NotAMember,
)
from haechi.domains.clusters.proxy import proxy_backends
from haechi.testing.waiting import eventually

GONE = {"dev-m": "gone", "dev-a": "gone", "dev-b": "gone"}


async def test_a_removed_worker_is_drained_deleted_and_cleaned(world):
    cluster_id = await world.formed()
    operation = await world.clusters.remove_node(cluster_id, "dev-a", by=SYSTEM)
    assert (await world.ended(operation)).state == "succeeded"
    kube = world.site.kubes.of(cluster_id)
    assert kube.drained == ["alpha"]
    assert set(kube.nodes_by_name) == {"master", "beta"}
    assert (await world.states(cluster_id))["dev-a"] == "gone"
    assert sorted(world.site.hosts.hosts["dev-a"].files) == ["/etc/hosts"]
    with pytest.raises(NotAMember):
        await world.clusters.remove_node(cluster_id, "dev-a", by=SYSTEM)


async def test_a_removed_worker_can_come_back(world):
    cluster_id = await world.formed()
    await world.ended(await world.clusters.remove_node(cluster_id, "dev-a", by=SYSTEM))
    added = await world.ended(await world.clusters.add_node(cluster_id, ["dev-a"], by=SYSTEM))
    assert added.state == "succeeded"
    assert (await world.states(cluster_id))["dev-a"] == "ready"


async def test_a_dead_worker_is_removed_and_cleaned_later(world):
    cluster_id = await world.formed()
    world.site.hosts.turn_off("dev-a")
    operation = await world.ended(await world.clusters.remove_node(cluster_id, "dev-a", by=SYSTEM))
    assert operation.state == "succeeded"
    assert operation.ctx["result"]["pending"] == 1
    assert (await world.states(cluster_id))["dev-a"] == "cleaning"
    assert set(world.site.kubes.of(cluster_id).nodes_by_name) == {"master", "beta"}


async def test_nobody_waits_for_the_pods_of_a_node_that_is_dead(world):
    """Nothing there could end them; they are taken out of Kubernetes at once."""
    cluster_id = await world.formed()
    world.limits = Limits(0.5, 1.0)
    await world.kill()
    await world.revive()
    await world.upkeep.start()
    world.site.hosts.turn_off("dev-a")
    world.probe.vanish(world.site.hosts.hosts["dev-a"].host.address)

    def dead():
        judgement = world.upkeep.watching.presence("dev-a")
        return judgement is not None and judgement.presence == "dead"

    await eventually(dead)
    operation = await world.ended(await world.clusters.remove_node(cluster_id, "dev-a", by=SYSTEM))
    assert operation.state == "succeeded"
    kube = world.site.kubes.of(cluster_id)
    assert (kube.abandoned, kube.drained) == (["alpha"], [])
    assert set(kube.nodes_by_name) == {"master", "beta"}


async def test_the_last_control_plane_cannot_be_removed(world):
    cluster_id = await world.formed()
    with pytest.raises(LastControlPlane):
        await world.clusters.remove_node(cluster_id, "dev-m", by=SYSTEM)


async def test_a_control_plane_leaves_etcd_and_every_proxy(world):
    for number in (2, 3):
        world.site.host(f"dev-m{number}", name=f"master{number}")
    cluster_id = await world.formed(masters=("dev-m", "dev-m2", "dev-m3"), workers=("dev-a",))
    world.site.etcd_removed.clear()
    operation = await world.clusters.remove_node(cluster_id, "dev-m3", by=SYSTEM)
    assert (await world.ended(operation)).state == "succeeded"
    assert len(world.site.etcd_removed) == 1
    left = world.site.hosts.hosts["dev-m3"].host.address
    for one in ("dev-m", "dev-m2", "dev-a"):
        assert left not in world.site.hosts.hosts[one].text("/etc/haechi/api-proxy.cfg")


async def test_removing_is_undone_while_the_node_is_still_there(world):
    cluster_id = await world.formed()
    kube = world.site.kubes.of(cluster_id)
    kube.down = True
    operation = await world.ended(await world.clusters.remove_node(cluster_id, "dev-a", by=SYSTEM))
    assert operation.error["code"] == "clusters.api_unreachable"
    kube.down = False
    removed = await world.clusters.remove_node(cluster_id, "dev-a", by=SYSTEM)
    assert (await world.ended(removed)).state == "succeeded"


async def test_a_deleted_cluster_leaves_hosts_as_they_were_and_proves_it(world):
    before = {one: dict(shell.files) for one, shell in world.site.hosts.hosts.items()}
    cluster_id = await world.formed()
    operation = await world.ended(await world.clusters.delete_cluster(cluster_id, by=SYSTEM))
    assert operation.state == "succeeded"
    assert await world.states(cluster_id) == GONE
    order = [device_id for act, device_id in world.site.work.acts if act == "clean"]
    assert order[-1] == "dev-m", "the control plane goes last"
    for one, shell in world.site.hosts.hosts.items():
        assert shell.files == before[one]
    proofs = await world.clusters.book.proof(cluster_id)
    assert {one.device_id: one.state for one in proofs} == dict.fromkeys(GONE, "clean")
    with pytest.raises(NoKubeconfig):
        await world.clusters.book.kubeconfig(cluster_id, by=SYSTEM)
    with pytest.raises(ClusterNotReady):
        await world.clusters.delete_cluster(cluster_id, by=SYSTEM)
    assert (await world.ended(await world.form())).state == "succeeded", "the name is free again"


async def test_what_is_left_on_a_host_is_shown(world):
    cluster_id = await world.formed()
    world.site.hosts.hosts["dev-b"].put("/etc/left-behind", "x")
    operation = await world.ended(await world.clusters.delete_cluster(cluster_id, by=SYSTEM))
    proofs = {one.device_id: one for one in await world.clusters.book.proof(cluster_id)}
    assert proofs["dev-b"].state == "differs"
    (found,) = proofs["dev-b"].differences
    assert (found["kind"], found["name"], found["before"]) == ("file", "/etc/left-behind", None)
    assert "/etc/left-behind" in await world.log(operation)


async def test_hosts_that_are_away_do_not_hinder_deleting(world):
    cluster_id = await world.formed()
    world.site.hosts.turn_off("dev-a")
    operation = await world.ended(await world.clusters.delete_cluster(cluster_id, by=SYSTEM))
    assert operation.state == "succeeded"
    assert operation.ctx["result"]["pending"] == 1
    assert await world.states(cluster_id) == GONE | {"dev-a": "cleaning"}
    proofs = {one.device_id: one.state for one in await world.clusters.book.proof(cluster_id)}
    assert proofs["dev-a"] == "pending"
    world.site.hosts.turn_on("dev-a")
    member = next(one for one in await world.context.members(cluster_id))
    assert await world.clusters.cleaning.clean(member, lambda _: None)
    proofs = {one.device_id: one.state for one in await world.clusters.book.proof(cluster_id)}
    assert proofs["dev-a"] == "clean"


async def test_a_device_of_a_cluster_cannot_be_deleted(world):
    cluster_id = await world.formed()
    async with world.db.write() as tx:
        uses = await world.clusters.book.uses_of_device(tx, "dev-a")
    assert [(one.id, one.blocking) for one in uses] == [(cluster_id, True)]


async def test_a_plan_names_every_step_and_changes_nothing(world):
    from haechi.domains.clusters.model import FormOptions

    plan = await world.clusters.plan_cluster("site", ["dev-m"], ["dev-a"], FormOptions())
    assert [one.name for one in plan.steps] == [
        "check",
        "snapshot",
        "prepare",
        "initialise",
        "keep_kubeconfig",
        "network",
        "join_workers",
        "apply_hooks",
        "wait_ready",
        "finish",
    ]
    assert plan.kubernetes_version == "1.36.3"
    assert [one.node_name for one in plan.members] == ["master", "alpha"]
    assert world.site.work.acts == []


# --- what a crash, a second caller or a failure must not leave


async def test_two_callers_adding_the_same_host_do_not_lose_it(world):
    """The one that comes second is refused, and takes nothing back of the first's."""
    cluster_id = await world.formed(workers=("dev-a",))
    answers = await asyncio.gather(
        *(world.clusters.add_node(cluster_id, ["dev-b"], by=SYSTEM) for _ in range(2)),
        return_exceptions=True,
    )
    (operation,) = [one for one in answers if not isinstance(one, Exception)]
    assert [one.code for one in answers if isinstance(one, Exception)] == ["core.busy"]
    assert (await world.ended(operation)).state == "succeeded"
    assert (await world.states(cluster_id))["dev-b"] == "ready"


async def test_a_node_written_down_without_its_operation_is_let_go(world):
    cluster_id = await world.formed(workers=("dev-a",))

    async def die(*given, **more):
        raise RuntimeError("power loss")

    started, world.operations.start = world.operations.start, die
    with pytest.raises(RuntimeError):
        await world.clusters.add_node(cluster_id, ["dev-b"], by=SYSTEM)
    world.operations.start = started
    await world.kill()
    await world.revive()
    assert (await world.states(cluster_id))["dev-b"] == "gone"
    assert await world.state(cluster_id) == "ready"
    added = await world.ended(await world.clusters.add_node(cluster_id, ["dev-b"], by=SYSTEM))
    assert added.state == "succeeded"


async def test_a_node_that_did_not_get_ready_is_no_node_any_more(world):
    """Its host is cleaned; the cluster must not wait for it for ever."""
    cluster_id = await world.formed(workers=("dev-a",))
    kube = world.site.kubes.of(cluster_id)
    kube.not_ready.add("beta")
    added = await world.ended(await world.clusters.add_node(cluster_id, ["dev-b"], by=SYSTEM))
    assert added.state == "failed"
    assert (await world.states(cluster_id))["dev-b"] == "failed"
    assert set(kube.nodes_by_name) == {"master", "alpha"}


async def test_a_control_plane_that_did_not_get_ready_leaves_etcd_and_every_proxy(world):
    for number in (2, 3):
        world.site.host(f"dev-m{number}", name=f"master{number}")
    cluster_id = await world.formed()
    kube = world.site.kubes.of(cluster_id)
    kube.not_ready.add("master3")
    added = await world.clusters.add_node(
        cluster_id, ["dev-m2", "dev-m3"], role="control_plane", by=SYSTEM
    )
    assert (await world.ended(added)).state == "failed"
    assert set(kube.nodes_by_name) == {"master", "alpha", "beta"}
    assert len(world.site.etcd_removed) == 2
    first = world.site.hosts.hosts["dev-m"].host.address
    for one in ("dev-m", "dev-a", "dev-b"):
        proxy = world.site.hosts.hosts[one].text("/etc/haechi/api-proxy.cfg")
        assert proxy_backends(proxy) == [first]


async def test_a_host_that_did_not_join_is_cleaned_though_the_api_is_away(world):
    cluster_id = await world.formed(workers=("dev-a",))
    world.site.host("dev-c", name="gamma")
    world.site.refuse("dev-c", "kubeadm join", "error: no")
    kube = world.site.kubes.of(cluster_id)

    async def away(name):
        raise KubeUnreachable(cluster_id=cluster_id, reason="connection reset")

    kube.delete_node = away
    added = await world.clusters.add_node(cluster_id, ["dev-b", "dev-c"], by=SYSTEM)
    assert (await world.ended(added)).state == "succeeded"
    states = await world.states(cluster_id)
    assert (states["dev-b"], states["dev-c"]) == ("ready", "failed")
