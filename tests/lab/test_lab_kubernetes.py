"""Lab hosts run real Kubernetes: from the offline bundle, by hand, without the product."""

from lab import Site, byhand


async def test_prepared_hosts_form_a_cluster_and_do_not_share_what_they_write(
    bundle, flannel, installed_hosts
):
    control, worker = await installed_hosts(2)
    assert control.machine_id != worker.machine_id
    assert await control.host_key() != await worker.host_key()
    assert "kube-apiserver" in await worker.shell("ctr -n k8s.io images ls -q")

    await byhand.form(control, [worker], flannel, bundle.kubernetes)

    pods = await control.shell(f"{byhand.KUBECTL} get pods -A -o wide --no-headers")
    assert worker.address in pods
    await worker.shell("ctr -n k8s.io images rm $(ctr -n k8s.io images ls -q)", timeout_s=120)
    async with Site() as other:
        (fresh,) = await installed_hosts(1, other)
        assert "kube-apiserver" in await fresh.shell("ctr -n k8s.io images ls -q")


async def test_a_node_that_lost_its_power_comes_back_to_its_cluster(
    bundle, flannel, installed_hosts
):
    control, worker = await installed_hosts(2)
    await byhand.form(control, [worker], flannel, bundle.kubernetes)

    await worker.kill()
    await worker.start()

    restarts = "{.items[*].status.containerStatuses[*].restartCount}"
    await control.until(
        f"{byhand.KUBECTL} get pods -n kube-system -l k8s-app=kube-proxy -o jsonpath='{restarts}'"
        " --field-selector spec.nodeName=host-2 | grep -q '[1-9]'",
        "the worker's pods were started again",
        timeout_s=600,
    )
    await byhand.until_ready(control, 2)
