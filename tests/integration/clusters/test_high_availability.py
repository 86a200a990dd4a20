"""Three control planes of which one is away, leaves or comes back."""

from dataclasses import replace

import pytest

from haechi.core.access import SYSTEM
from haechi.domains.clusters.errors import KubeUnreachable
from haechi.domains.clusters.model import MemberState
from haechi.domains.clusters.proxy import CONFIG_PATH, proxy_backends

THREE = ("dev-m", "dev-n", "dev-o")


def shell_of(world, device_id):
    return world.site.hosts.hosts[device_id]


def address(world, device_id):
    return shell_of(world, device_id).host.address


async def done(world, operation):
    ended = await world.ended(operation)
    assert ended.state == "succeeded", await world.log(ended)
    return ended


# --- joining and leaving


@pytest.mark.parametrize("away", THREE)
async def test_one_joins_though_another_is_away(world, three, away):
    world.site.hosts.turn_off(away)
    world.site.host("dev-p", name="cp-p")
    await done(
        world, await world.clusters.add_node(three, ["dev-p"], role="control_plane", by=SYSTEM)
    )
    assert world.site.kubes.of(three).nodes_by_name["cp-p"].control_plane


async def test_one_whose_going_would_end_the_majority_stays_as_it_is(world, three):
    world.site.hosts.turn_off("dev-m")
    ended = await world.ended(await world.clusters.remove_node(three, "dev-n", by=SYSTEM))
    assert ended.error["code"] == "clusters.etcd_majority_needed"
    assert (ended.error["data"]["host"], ended.error["data"]["away"]) == ("cp-n", "master")
    assert (await world.states(three))["dev-n"] == MemberState.READY
    kube = world.site.kubes.of(three)
    assert kube.drained == []
    assert set(kube.nodes_by_name) == {"master", "cp-n", "cp-o", "alpha", "beta"}
    # The one that is away may go.
    await done(world, await world.clusters.remove_node(three, "dev-m", by=SYSTEM))
    assert (await world.states(three))["dev-m"] == MemberState.CLEANING


async def test_one_that_etcd_does_not_let_go_takes_work_again(world, three):
    for device_id in ("dev-m", "dev-o"):
        shell_of(world, device_id).on(
            lambda line: "member remove" in line,
            status=1,
            stderr="Error: etcdserver: too many learners\n",
        )
    ended = await world.ended(await world.clusters.remove_node(three, "dev-n", by=SYSTEM))
    assert ended.error["code"] == "clusters.etcd_failed"
    assert (await world.states(three))["dev-n"] == MemberState.READY
    node = world.site.kubes.of(three).nodes_by_name["cp-n"]
    assert not node.unschedulable


async def test_a_host_that_waits_to_be_cleaned_is_told_nothing(world, three):
    world.site.hosts.turn_off("dev-m")
    await done(world, await world.clusters.remove_node(three, "dev-m", by=SYSTEM))
    world.site.hosts.turn_on("dev-m")
    before = shell_of(world, "dev-m").text(CONFIG_PATH)
    world.site.host("dev-p", name="cp-p")
    await done(
        world, await world.clusters.add_node(three, ["dev-p"], role="control_plane", by=SYSTEM)
    )
    await done(world, await world.clusters.remove_node(three, "dev-n", by=SYSTEM))
    assert shell_of(world, "dev-m").text(CONFIG_PATH) == before
    told = proxy_backends(shell_of(world, "dev-a").text(CONFIG_PATH))
    assert set(told) == {address(world, "dev-o"), address(world, "dev-p")}


async def test_deleting_needs_no_majority(world, three):
    """Those that go at once must not wait for each other."""
    await done(world, await world.clusters.delete_cluster(three, by=SYSTEM))
    for device_id in THREE:
        (reset,) = [one for one in shell_of(world, device_id).commands() if "kubeadm reset" in one]
        assert "--kubeconfig /dev/null" in reset


# --- restoring


async def restored(world, cluster_id):
    return await world.ended(await world.upkeep.restore_cluster(cluster_id, by=SYSTEM))


@pytest.fixture
async def backed_up(world, three):
    await done(world, await world.upkeep.back_up_cluster(three, by=SYSTEM))
    return three


async def test_a_control_plane_that_the_backup_does_not_know_is_one_again(world, backed_up):
    """Its kubelet registers it without label and taint."""
    kube = world.site.kubes.of(backed_up)
    known = kube.nodes_by_name.pop("cp-o")
    marked = []

    def register(_call):
        kube.nodes_by_name["cp-o"] = replace(known, control_plane=False)

    def mark(_call):
        documents = world.site.documents(shell_of(world, "dev-o"))
        registration = documents["InitConfiguration"]["nodeRegistration"]
        marked.append((registration["name"], "cp-o" in kube.nodes_by_name))
        assert registration["taints"][0]["key"] == "node-role.kubernetes.io/control-plane"

    shell_of(world, "dev-o").on("systemctl restart kubelet", do=register)
    shell_of(world, "dev-o").on(lambda line: "phase mark-control-plane" in line, do=mark)
    assert (await restored(world, backed_up)).state == "succeeded"
    assert marked == [("cp-o", True)]
    for device_id in ("dev-m", "dev-n", "dev-a"):
        assert not [one for one in shell_of(world, device_id).commands() if "mark-control" in one]


async def test_an_etcd_that_does_not_come_back_is_named(world, backed_up):
    shell_of(world, "dev-n").on(
        lambda line: "endpoint health" in line, status=1, stderr="Error: unhealthy cluster"
    )
    ended = await restored(world, backed_up)
    assert (ended.state, ended.error["code"]) == ("failed", "clusters.etcd_not_back")
    assert ended.error["data"]["host"] == "cp-n"
    # The others live with the restored data: nothing is put back.
    for device_id in THREE:
        assert not [one for one in shell_of(world, device_id).commands() if "put-back" in one]


async def test_an_api_that_is_away_for_a_moment_ends_no_restore(world, backed_up, monkeypatch):
    kube = world.site.kubes.of(backed_up)
    answer, failures = kube.nodes, [1, 2]

    async def nodes():
        if failures:
            failures.pop()
            raise KubeUnreachable(cluster_id=backed_up, reason="etcdserver: leader changed")
        return await answer()

    monkeypatch.setattr(kube, "nodes", nodes)
    assert (await restored(world, backed_up)).state == "succeeded"


async def test_those_that_are_lost_are_left_out_where_the_caller_says_so(world, lab, backed_up):
    """Two of three: etcd decides nothing any more, so they cannot be removed either."""
    for device_id in ("dev-m", "dev-o"):
        world.site.hosts.turn_off(device_id)
    refused = await restored(world, backed_up)
    assert refused.error["code"] == "clusters.control_planes_away"
    operation = await world.upkeep.restore_cluster(backed_up, leave_out_away=True, by=SYSTEM)
    await done(world, operation)
    assert set(lab.restored) == {"dev-n"}
    address_n = address(world, "dev-n")
    assert f"--initial-cluster=cp-n=https://{address_n}:2380" in lab.restored["dev-n"]
    states = await world.states(backed_up)
    assert [states[one] for one in THREE] == ["cleaning", "ready", "cleaning"]
    assert set(world.site.kubes.of(backed_up).nodes_by_name) == {"cp-n", "alpha", "beta"}
    for device_id in ("dev-n", "dev-a", "dev-b"):
        assert proxy_backends(shell_of(world, device_id).text(CONFIG_PATH)) == [address_n]


async def test_where_all_are_away_there_is_nothing_to_restore_on(world, backed_up):
    for device_id in THREE:
        world.site.hosts.turn_off(device_id)
    operation = await world.upkeep.restore_cluster(backed_up, leave_out_away=True, by=SYSTEM)
    ended = await world.ended(operation)
    assert ended.error["code"] == "clusters.control_planes_away"
    assert set((await world.states(backed_up)).values()) == {"ready"}
