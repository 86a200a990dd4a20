"""Hosts with everything that can be wrong with them: all of it is found at once, in one look."""

import asyncio

from lab import faults, images, leftovers

from .hosting import options, work


async def report(reach, bundle, host, role="worker"):
    async with await reach.shell(host) as shell:
        return await work(bundle).report(shell, host.name, role)


def told(found) -> dict[str, set[str]]:
    by_host: dict[str, set[str]] = {}
    for one in found:
        by_host.setdefault(one.host, set()).add(one.name)
    return by_host


# One kernel and one disk for all hosts of a machine: what is short there is short for all.
SHARED = {"disk_nearly_full", "memory_scarce"}


async def test_a_bare_host_is_fit(bare_host, reach, bundle):
    found = await report(reach, bundle, bare_host, "control_plane")
    assert found.machine_id == bare_host.machine_id
    assert found.address == bare_host.address
    assert found.platform == bundle.platform
    told_of = told(work(bundle).findings([found], options())).get(bare_host.name, set())
    assert told_of <= SHARED
    # Options for containers are not the product's defaults.
    if found.facts["cgroup"] == 1:
        from haechi.domains.clusters.model import FormOptions

        plain = told(work(bundle).findings([found], FormOptions()))
        assert "cgroup_v1" in plain[bare_host.name]


async def test_every_fault_is_found_at_once(site, reach, bundle):
    twin_id = "0123456789abcdef0123456789abcdef"
    async with asyncio.TaskGroup() as group:
        made = [
            group.create_task(site.host("swapping")),
            group.create_task(site.host("small-disk", small_disks={"/var/lib/containerd": "64m"})),
            group.create_task(site.host("left", machine_id=twin_id, hostname="same")),
            group.create_task(site.host("docker", image=images.docker(), machine_id=twin_id)),
            group.create_task(site.host("clock", hostname="same")),
        ]
    swapping, small_disk, left, docker, clock = hosts = [one.result() for one in made]
    await faults.swap_on(swapping)
    await faults.take_port(swapping, 6443)
    await leftovers.of_a_cluster(left)
    await docker.until("docker info > /dev/null", "Docker runs")
    await faults.shift_clock(clock, 3600)
    await faults.shrink_memory(clock, 512)

    reports = await asyncio.gather(
        *(
            report(reach, bundle, host, "control_plane" if host is swapping else "worker")
            for host in hosts
        )
    )
    findings = work(bundle).findings(reports, options())
    found = {name: codes - SHARED for name, codes in told(findings).items()}
    assert found == {
        swapping.name: {"swap_on", "port_taken"},
        small_disk.name: {"disk_too_small"},
        left.name: {"leftovers", "same_machine_id", "same_host_name"},
        docker.name: {"other_runtime", "same_machine_id"},
        clock.name: {"clock_wrong", "little_memory", "same_host_name"},
    }
    for one in findings:
        assert one.data["host"] == one.host
    clean = told(work(bundle).findings(reports, options(clean_leftovers=True)))
    assert "leftovers" not in clean[left.name]


async def test_only_kubelets_old_keys(bare_host, reach, bundle):
    """What lets a join end in `Unauthorized`."""
    await leftovers.kubelet_keys(bare_host)
    found = work(bundle).findings([await report(reach, bundle, bare_host)], options())
    (one,) = [one for one in found if one.name == "leftovers"]
    assert "/var/lib/kubelet/pki/kubelet-client-current.pem" in one.data["items"]


async def test_a_prepared_host_is_no_node_and_can_be_formed_of(prepared_hosts, reach, bundle):
    """Enabled, its kubelet waits for kubeadm; one that fails again and again is no sign either."""
    (host,) = await prepared_hosts(1)
    await host.until("systemctl is-active containerd", "containerd runs")
    assert (await host.shell("systemctl is-enabled kubelet")).strip() == "enabled"
    assert not await host.holds("systemctl is-active kubelet")
    assert await host.shell("systemctl show -p NRestarts --value kubelet") == "0"

    async def hinders() -> set[str]:
        found = await report(reach, bundle, host, "control_plane")
        told_of = told(work(bundle).findings([found], options())).get(host.name, set())
        return told_of - SHARED

    assert await hinders() == set()
    fails = "/usr/local/bin/kubelet --config=/var/lib/kubelet/config.yaml"
    await host.shell(f"systemd-run --quiet --unit=stray -p Restart=always {fails}")
    try:
        assert "existing_cluster" not in await hinders()
    finally:
        await host.shell("systemctl stop stray")
