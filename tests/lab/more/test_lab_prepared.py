"""Hosts that haechi has prepared: each is its own, nothing of the first one's secrets is left, and
what one of them does with its images is not seen by the others.
"""

IMAGES = "ctr -n k8s.io images ls -q"


async def test_prepared_hosts_are_ready_and_strangers_to_each_other(prepared_hosts, reach):
    first, second = await prepared_hosts(2)

    assert first.machine_id != second.machine_id
    assert await first.host_key() != await second.host_key()
    for host in (first, second):
        await host.until("systemctl is-active containerd", "containerd runs")
        images = await host.shell(IMAGES)
        assert "kube-apiserver" in images
        assert "flannel" in images
        assert await host.shell("cat /proc/sys/net/ipv4/ip_forward") == "1"
        async with await reach.shell(host, keeper=True) as shell:
            assert (await shell.run(["id", "-un"], root=True)).stdout.strip() == "root"

    await first.shell(f"ctr -n k8s.io images rm --sync $({IMAGES})", timeout_s=120)
    (late,) = await prepared_hosts(1)
    await late.until("systemctl is-active containerd", "containerd runs")
    for host in (second, late):
        assert "kube-apiserver" in await host.shell(IMAGES)
