"""Hosts with everything that can be wrong with them: all of it is found at once, in one look."""

import asyncio

from lab import faults, images, leftovers
from lab.yard import ACCEPT, Yard

from .agents import PROFILE
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


NFTABLES = """\
table inet site {
  chain input {
    type filter hook input priority 0; policy drop;
    iifname "lo" accept
    ct state vmap { established : accept, related : accept, invalid : drop }
    ip protocol icmp accept
    tcp dport { 22, 10250 } accept
  }
}
"""
IPTABLES = """\
set -e
iptables -A INPUT -i lo -j ACCEPT
iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -A INPUT -p tcp -m multiport --dports 22,6443 -j ACCEPT
iptables -A INPUT -p udp -j REJECT
iptables -P INPUT DROP
"""


async def test_firewalls_that_keep_nodes_apart_are_told_by_host_with_a_remedy(
    site, prepared_hosts, tmp_path
):
    control_plane, worker, open_one = hosts = await prepared_hosts(3)
    async with Yard.open(site, tmp_path / "data") as made:
        for host in hosts:
            await made.device(host)
        wish = {
            "control_plane_ids": [made.devices[control_plane.name]],
            "worker_ids": [made.devices[worker.name], made.devices[open_one.name]],
            "options": {"accept": ACCEPT, "profile": PROFILE},
        }

        async def told(language: str = "en") -> tuple[bool, dict[str, str]]:
            """Whether the hosts are fit, and what is said of each firewall with its remedy."""
            answer = await made.server.client.post(
                "/clusters/check", json=wish, headers={"Accept-Language": language}
            )
            assert answer.status_code == 200, answer.text
            found = answer.json()
            about = [one for one in found["findings"] if one["name"] == "firewall_closed"]
            assert all(one["device_id"] == made.devices[one["host"]] for one in about)
            return found["fit"], {one["host"]: f"{one['detail']} {one['remedy']}" for one in about}

        assert await told() == (True, {})
        await control_plane.shell("nft -f -", stdin=NFTABLES.encode())
        await worker.shell(IPTABLES)
        fit, found = await told()
        assert not fit
        assert found.keys() == {control_plane.name, worker.name}
        for name, shut in (
            (control_plane.name, "6443/tcp (Kubernetes API), 8472/udp (flannel)"),
            (worker.name, "10250/tcp (kubelet), 8472/udp (flannel)"),
        ):
            assert name in found[name]
            assert f"use: {shut} " in found[name]
            assert "nftables: `tcp dport 6443 accept` before the rule" in found[name]
        _, korean = await told("ko")
        assert "방화벽" in korean[worker.name]
        assert "10250/tcp" in korean[worker.name]

        # As the remedy says: before the rule that drops.
        await control_plane.shell(
            "nft insert rule inet site input tcp dport 6443 accept;"
            " nft insert rule inet site input udp dport 8472 accept"
        )
        await worker.shell("iptables -I INPUT -p udp --dport 8472 -j ACCEPT")
        fit, found = await told()
        assert not fit
        assert list(found) == [worker.name]
        assert "use: 10250/tcp (kubelet) " in found[worker.name]
        # Where rules know who calls, nobody is blamed.
        await worker.shell("iptables -I INPUT -s 192.0.2.0/24 -j ACCEPT")
        assert await told() == (True, {})
