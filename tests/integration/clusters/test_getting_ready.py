"""What keeps a node from getting ready is told of the host that it is on, and held against no other."""

from haechi.core.access import SYSTEM
from haechi.testing.waiting import eventually


async def test_what_is_wrong_on_another_node_is_named_and_keeps_nobody_out(world):
    cluster_id = await world.formed(workers=("dev-a",))
    kube = world.site.kubes.of(cluster_id)
    kube.ailing["kube-proxy-alpha"] = "CrashLoopBackOff"
    added = await world.ended(await world.clusters.add_node(cluster_id, ["dev-b"], by=SYSTEM))
    log = await world.log(added)
    assert (added.state, (await world.states(cluster_id))["dev-b"]) == ("succeeded", "ready"), log
    (line,) = [one for one in log.splitlines() if "services_down" in one]
    assert "node alpha" in line
    assert "(kube-proxy-alpha)" in line
    assert "CrashLoopBackOff" in line


async def test_names_that_are_down_already_keep_nobody_out_either(world):
    """A new node may be what they wait for."""
    cluster_id = await world.formed(workers=("dev-a",))
    kube = world.site.kubes.of(cluster_id)
    kube.ailing |= {"coredns-1": "Unschedulable", "coredns-2": "Unschedulable"}
    added = await world.ended(await world.clusters.add_node(cluster_id, ["dev-b"], by=SYSTEM))
    log = await world.log(added)
    assert added.state == "succeeded", log
    assert "clusters.names_down" in log
    assert "coredns-1 (master): Unschedulable" in log


async def test_of_several_new_ones_only_that_is_put_out_whose_pods_do_not_run(world):
    world.site.host("dev-c", name="gamma")
    cluster_id = await world.formed(workers=("dev-a",))
    world.site.kubes.of(cluster_id).ailing["kube-flannel-ds-gamma"] = "ImagePullBackOff"
    adding = await world.clusters.add_node(cluster_id, ["dev-b", "dev-c"], by=SYSTEM)
    added = await world.ended(adding)
    states = await world.states(cluster_id)
    assert (states["dev-b"], states["dev-c"]) == ("ready", "failed")
    error = added.ctx["result"]["hosts"]["dev-c"]["error"]
    assert error["code"] == "clusters.pod_network_down"
    assert error["data"] == {
        "host": "gamma",
        "pod": "kube-flannel-ds-gamma",
        "namespace": "kube-flannel",
        "reason": "ImagePullBackOff",
    }
    assert "error" not in added.ctx["result"]["hosts"]["dev-b"]


async def test_a_cluster_without_names_or_services_of_its_control_plane_is_not_formed(world):
    for name, code in (
        ("kube-proxy-master", "clusters.services_down"),
        ("coredns-1", "clusters.names_down"),
    ):
        operation = await world.form(name=name, workers=())
        world.site.kubes.of(operation.subject).ailing[name] = "ImagePullBackOff"
        ended = await world.ended(operation)
        assert (ended.state, ended.error["code"]) == ("failed", code), await world.log(ended)
        assert await world.state(operation.subject) == "failed"


async def test_a_node_that_waits_for_its_pods_network_says_what_keeps_that(world):
    cluster_id = await world.formed(workers=("dev-a",))
    kube = world.site.kubes.of(cluster_id)
    kube.not_ready.add("beta")
    kube.ailing["kube-flannel-ds-beta"] = "ImagePullBackOff"
    added = await world.ended(await world.clusters.add_node(cluster_id, ["dev-b"], by=SYSTEM))
    assert added.error["code"] == "clusters.node_not_ready"
    assert "kube-flannel-ds-beta: ImagePullBackOff" in added.error["data"]["reason"]


async def test_a_cluster_is_formed_once_all_answer_for_names_and_with_one_in_the_end(world):
    operation = await world.form()
    kube = world.site.kubes.of(operation.subject)
    kube.ailing["coredns-2"] = "ContainerCreating"
    await eventually(lambda: kube.listed["kube-system"] > 1)
    assert not (await world.operations.get(operation.id)).state.ended
    assert (await world.ended(operation)).state == "succeeded"
