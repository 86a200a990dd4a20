"""Clusters of the old interface, formed by the clusters domain over a site in memory."""

import asyncio

import pytest

from haechi.core.access import SYSTEM
from haechi.core.clock import SystemClock
from haechi.domains.audit.service import Audit
from haechi.domains.clusters.host.findings import SwapOn
from haechi.domains.clusters.model import FormOptions
from haechi.domains.clusters.ports import HostFinding
from haechi.domains.inventory import Inventory
from haechi.interop import FormedClusters, RecordedClusters
from haechi.interop.codes import Refusal


@pytest.fixture
def world(world):
    made = world
    audit = Audit(db=made.db, clock=SystemClock())
    inventory = Inventory(
        db=made.db, bus=made.bus, clock=SystemClock(), keyring=made.keyring, audit=audit
    )
    made.inventory = inventory
    made.recorded = RecordedClusters(
        db=made.db, clock=SystemClock(), inventory=inventory, audit=audit
    )
    made.old = FormedClusters(
        db=made.db,
        clusters=made.clusters,
        operations=made.operations,
        recorded=made.recorded,
        options=FormOptions(),
    )
    return made


async def form(world, *wids, mid="dev-m", name="gate"):
    return await world.old.form(mid, list(wids), name=name, by=SYSTEM)


def codes(outcome):
    return {node.device_id: node.code for node in outcome.nodes}


async def test_formed_looked_up_checked_deleted_unknown(world):
    outcome = await form(world, "dev-a", "dev-b")
    assert (outcome.code, codes(outcome)) == (
        "0000",
        {"dev-m": "0000", "dev-a": "0000", "dev-b": "0000"},
    )
    assert outcome.operation_id
    cluster_id = outcome.cluster.id
    found = await world.old.get(cluster_id)
    assert (found.mid, sorted(found.wids)) == ("dev-m", ["dev-a", "dev-b"])
    assert [one.id for one in await world.old.all()] == [cluster_id]
    assert {node.code for node in await world.old.check(cluster_id)} == {"0000"}

    gone = await world.old.delete(cluster_id, by=SYSTEM)
    assert gone.code == "0000"
    assert [node.device_id for node in gone.nodes][-1] == "dev-m"
    assert await world.old.get(cluster_id) is None
    assert await world.old.all() == []


async def test_the_same_again_is_no_work_and_other_workers_are_refused(world):
    first = await form(world, "dev-a")
    calls = list(world.site.calls)
    again = await form(world, "dev-a")
    assert (again.code, again.cluster.id) == ("0000", first.cluster.id)
    assert world.site.calls == calls
    with pytest.raises(Refusal) as refused:
        await form(world, "dev-b")
    assert refused.value.code == "0003"


async def test_two_calls_at_once_form_one(world):
    one, two = await asyncio.gather(form(world, "dev-a"), form(world, "dev-a"))
    assert (one.code, two.code) == ("0000", "0000")
    assert one.cluster.id == two.cluster.id
    assert [call for call in world.site.calls if call[0] == "init"] == [("init", "dev-m")]


async def test_a_host_twice_or_in_another_cluster_is_refused(world):
    for wids in (["dev-m"], ["dev-a", "dev-a"]):
        with pytest.raises(Refusal) as refused:
            await form(world, *wids)
        assert refused.value.code == "0003"
    await form(world, "dev-a")
    with pytest.raises(Refusal) as refused:
        await form(world, "dev-a", mid="dev-b")
    assert refused.value.code == "0003"


async def test_a_worker_that_fails_undoes_no_other_and_is_added_by_the_same_call(world):
    world.site.refuse("dev-b", "kubeadm join", "kubelet is dead")
    outcome = await form(world, "dev-a", "dev-b")
    assert outcome.code == "0014"
    assert codes(outcome) == {"dev-m": "0000", "dev-a": "0000", "dev-b": "0014"}
    (bad,) = [node for node in outcome.nodes if node.code != "0000"]
    assert "kubelet is dead" in bad.detail.ko + bad.detail.en
    again = await form(world, "dev-a", "dev-b")
    assert (again.code, again.cluster.id) == ("0000", outcome.cluster.id)
    assert set((await world.old.get(outcome.cluster.id)).wids) == {"dev-a", "dev-b"}


async def test_findings_are_told_host_by_host_and_nothing_is_changed(world):
    world.site.work.findings_of = [
        HostFinding("dev-a", "alpha", "swap_on", "error", SwapOn.code, {"host": "alpha"})
    ]
    outcome = await form(world, "dev-a", "dev-b")
    assert outcome.code == "0014"
    assert codes(outcome) == {"dev-m": "0000", "dev-a": "0014", "dev-b": "0000"}
    assert world.site.calls == []
    assert await world.old.all() == []


async def test_check_asks_the_api(world):
    outcome = await form(world, "dev-a")
    kube = world.site.kubes.of(outcome.cluster.id)
    kube.nodes_by_name.pop("alpha")
    nodes = {node.device_id: node for node in await world.old.check(outcome.cluster.id)}
    assert (nodes["dev-m"].code, nodes["dev-a"].code) == ("0000", "0014")
    kube.down = True
    assert {node.code for node in await world.old.check(outcome.cluster.id)} == {"0014"}


async def test_what_a_vms_named_before_gives_its_ids_over(world):
    recorded = await world.old.record("dev-m", ["dev-a"], name="정문", by=SYSTEM)
    async with world.db.write() as tx:
        await world.inventory.add_alias(tx, "cluster", "0xc1", recorded.id)
    assert {node.code for node in await world.old.check(recorded.id)} == {"0014"}
    outcome = await form(world, "dev-a")
    assert await world.inventory.resolve("cluster", "0xc1") == outcome.cluster.id
    assert [one.id for one in await world.old.all()] == [outcome.cluster.id]
    assert await world.recorded.all() == []
    same = await world.old.record("dev-m", ["dev-a"], name="정문", by=SYSTEM)
    assert same.id == outcome.cluster.id


async def test_two_clusters_may_be_called_the_same(world):
    world.site.host("dev-n", name="other")
    first = await form(world, "dev-a")
    second = await form(world, "dev-b", mid="dev-n")
    assert (second.code, second.cluster.id != first.cluster.id) == ("0000", True)


async def test_an_unreachable_host_is_told_until_it_was_seen_again_and_cleaned(world):
    outcome = await form(world, "dev-a", "dev-b")
    cluster_id = outcome.cluster.id
    world.site.hosts.turn_off("dev-a")
    gone = await world.old.delete(cluster_id, by=SYSTEM)
    assert (gone.code, codes(gone)) == (
        "0014",
        {"dev-a": "0014", "dev-b": "0000", "dev-m": "0000"},
    )
    # The call may be repeated: it is still not clean.
    assert (await world.old.get(cluster_id)).mid == "dev-m"
    assert await world.old.all() == []
    again = await world.old.delete(cluster_id, by=SYSTEM)
    assert (again.code, codes(again)) == ("0014", {"dev-a": "0014"})
    assert again.detail.ko
    world.site.hosts.turn_on("dev-a")
    view = await world.clusters.book.get(cluster_id)
    (member,) = [one for one in view.members if one.device_id == "dev-a"]
    assert await world.clusters.cleaning.clean(member, lambda _: None)
    assert await world.old.get(cluster_id) is None
    with pytest.raises(Refusal) as unknown:
        await world.old.delete(cluster_id, by=SYSTEM)
    assert unknown.value.code == "0004"
