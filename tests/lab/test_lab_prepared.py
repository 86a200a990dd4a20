"""Hosts that haechi has prepared: each is its own, and nothing of the first one's secrets is left."""


async def test_prepared_hosts_are_ready_and_strangers_to_each_other(prepared_hosts, reach):
    first, second = await prepared_hosts(2)

    assert first.machine_id != second.machine_id
    assert await first.host_key() != await second.host_key()
    for host in (first, second):
        await host.until("systemctl is-active containerd", "containerd runs")
        images = await host.shell("ctr -n k8s.io images ls -q")
        assert "kube-apiserver" in images
        assert "flannel" in images
        assert await host.shell("cat /proc/sys/net/ipv4/ip_forward") == "1"
        async with await reach.shell(host, keeper=True) as shell:
            assert (await shell.run(["id", "-un"], root=True)).stdout.strip() == "root"
