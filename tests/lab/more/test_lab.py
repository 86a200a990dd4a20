"""The lab itself: hosts are real, each fault is one, and nothing of it stays."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import asyncssh
import pytest

from haechi.domains.clusters.host import runtime
from haechi.testing.waiting import eventually
from lab import Host, Site, engine, faults, leftovers

ROOT = Path(__file__).parents[3]
LIMIT_S = 120


async def by_password(host: Host, password: str | None = None) -> asyncssh.SSHClientConnection:
    return await asyncssh.connect(
        host.address,
        username=host.keeper.user,
        password=password or host.keeper.password,
        client_keys=None,
        known_hosts=None,
        login_timeout=LIMIT_S,
        connect_timeout=LIMIT_S,
    )


async def by_key(host: Host, **settings) -> asyncssh.SSHClientConnection:
    return await asyncssh.connect(
        host.address,
        username=host.robot.user,
        client_keys=[str(host.robot.key_file)],
        known_hosts=None,
        login_timeout=LIMIT_S,
        connect_timeout=LIMIT_S,
        **settings,
    )


async def test_four_bare_hosts_take_both_logins_and_sudo(bare_hosts):
    hosts = await bare_hosts(4)

    for host in hosts:
        async with await by_password(host) as ssh:
            refused = await ssh.run("sudo -n id -un")
            asked = await ssh.run("sudo -S -p '' id -un", input=f"{host.keeper.password}\n")
        async with await by_key(host) as ssh:
            unasked = await ssh.run("sudo -n id -un && hostname")

        assert refused.exit_status != 0
        assert asked.stdout.strip() == "root"
        assert unasked.stdout.split() == ["root", host.name]
    ids = [await host.shell("cat /etc/machine-id") for host in hosts]
    keys = [await host.host_key() for host in hosts]
    assert ids == [host.machine_id for host in hosts]
    assert len(set(ids)) == len(set(keys)) == 4


async def test_a_bare_host_has_nothing_of_a_cluster(bare_host):
    absent = ["containerd", "runc", "docker", "kubelet", "kubeadm", "iptables", "conntrack"]
    for program in absent:
        assert not await bare_host.holds(f"command -v {program}"), program
    assert await bare_host.shell("cat /proc/sys/net/ipv4/ip_forward") == "0"
    assert await bare_host.shell("ip route show default") != ""
    assert await bare_host.shell("systemctl is-system-running --wait") == "running"


async def test_hosts_of_a_site_meet_and_nothing_leads_further(site, bare_hosts):
    first, second = await bare_hosts(2)
    async with Site() as other:
        stranger = await other.host("stranger")

        assert await first.holds(f"ping -c 1 -W 5 {second.address}")
        assert await first.holds(f"ping -c 1 -W 5 {site.gateway}")
        assert not await first.holds(f"ping -c 1 -W 2 {stranger.address}")
        assert not await first.holds("ping -c 1 -W 2 192.0.2.1")


async def test_a_host_without_link_is_silent_and_comes_back_as_it_was(bare_host):
    async with await by_key(bare_host) as ssh:
        async with faults.unplugged(bare_host):
            assert not await bare_host.greets()
            assert "NO-CARRIER" in await bare_host.shell("ip link show eth0")

        await bare_host.await_ssh()
        assert (await ssh.run("id -un")).stdout.strip() == "robot"


async def test_a_flapping_link_is_up_at_the_end(bare_host):
    await faults.flap(bare_host, times=3, down_s=0.1, up_s=0.1)
    await bare_host.await_ssh()


async def test_lost_packets_are_lost_both_ways_and_can_be_had_again(site, bare_host):
    await faults.lose(bare_host, 30)
    pings = await bare_host.tries(f"ping -i 0.01 -c 300 -W 1 {site.gateway}")
    lost = float(pings.out.partition("% packet loss")[0].rpartition(" ")[2])
    assert 30 < lost < 70  # 51 % are expected, there and back
    await faults.lose(bare_host, 100)
    assert not await bare_host.greets()

    await faults.lose(bare_host, 0)

    await bare_host.await_ssh()


async def test_two_hosts_cut_off_from_each_other_are_still_reached(bare_hosts):
    first, second = await bare_hosts(2)

    await faults.partition(first, second.address)

    assert not await second.holds(f"ping -c 1 -W 1 {first.address}")
    assert await first.greets(within_s=LIMIT_S)
    await faults.partition(first)
    assert await second.holds(f"ping -c 1 -W 5 {first.address}")


async def test_power_loss_keeps_the_disk_and_loses_what_runs(bare_host):
    await bare_host.shell("echo kept > /var/lib/containerd/x; sync; echo gone > /run/x")

    await bare_host.kill()
    assert not await bare_host.running()
    await bare_host.start()

    assert await bare_host.shell("cat /var/lib/containerd/x") == "kept"
    assert not await bare_host.holds("test -e /run/x")
    async with await by_key(bare_host) as ssh:
        assert (await ssh.run("id -un")).stdout.strip() == "robot"


async def test_a_reboot_keeps_name_key_and_identity(bare_host):
    before = (
        await bare_host.shell("hostname; cat /etc/machine-id /etc/hosts"),
        (await bare_host.host_key()),
    )

    await bare_host.reboot()

    after = (
        await bare_host.shell("hostname; cat /etc/machine-id /etc/hosts"),
        (await bare_host.host_key()),
    )
    assert after == before


async def test_a_frozen_host_leaves_its_connections_half_open(bare_host):
    async with await by_key(bare_host) as ssh:
        await bare_host.pause()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await ssh.run("id -un")
        # TCP is still taken by its kernel; sshd says nothing.
        _, writer = await asyncio.open_connection(bare_host.address, 22)
        writer.close()
        assert not await bare_host.greets(within_s=1)

        await bare_host.resume()

        assert (await ssh.run("id -un")).stdout.strip() == "robot"


async def test_a_keepalive_notices_a_frozen_host(bare_host):
    ssh = await by_key(bare_host, keepalive_interval=0.2, keepalive_count_max=2)
    await bare_host.pause()
    async with asyncio.timeout(LIMIT_S):
        await ssh.wait_closed()


async def test_another_address_and_the_same_host(site, bare_host):
    old, key = bare_host.address, await bare_host.host_key()

    new = await faults.readdress(site, bare_host)
    await bare_host.await_ssh()

    assert new != old
    async with await by_key(bare_host) as ssh:
        shown = await ssh.run("ip -4 -o addr show eth0; ip route show default")
    assert new in shown.stdout
    assert old not in shown.stdout
    assert "default via" in shown.stdout
    assert await bare_host.host_key() == key
    await bare_host.reboot()
    assert await bare_host.greets(within_s=LIMIT_S)


async def test_an_address_changed_while_the_host_was_off(site, bare_host):
    old = bare_host.address
    await bare_host.stop()
    new = await faults.readdress(site, bare_host)
    await bare_host.start()
    assert new != old
    assert await bare_host.greets(within_s=LIMIT_S)


async def test_a_small_disk_is_full_and_has_room_again(site):
    host = await site.host("small", small_disks={"/var/lib/containerd": "64m"})
    await faults.fill(host, "/var/lib/containerd")
    full = await host.tries("head -c 65536 /dev/zero > /var/lib/containerd/x")
    assert "No space left" in full.err

    await faults.empty(host, "/var/lib/containerd")

    assert await host.holds("head -c 65536 /dev/zero > /var/lib/containerd/x")


async def test_a_wrong_password_and_a_changed_one(bare_host):
    with pytest.raises(asyncssh.PermissionDenied):
        await by_password(bare_host, "not-it")

    await faults.change_password(bare_host, "another-one")

    with pytest.raises(asyncssh.PermissionDenied):
        await by_password(bare_host)
    async with await by_password(bare_host, "another-one") as ssh:
        assert (await ssh.run("id -un")).stdout.strip() == "keeper"


async def test_a_sudo_that_asks_all_at_once(bare_host):
    await faults.make_sudo_ask(bare_host)
    async with await by_key(bare_host) as ssh:
        said = await ssh.run("sudo -n true")
    assert said.exit_status != 0
    assert "password is required" in said.stderr


async def test_no_sshd_and_a_session_cut_in_the_middle(bare_host):
    ssh = await by_key(bare_host)
    running = await ssh.create_process("sleep 600")
    assert await faults.cut_ssh(bare_host) > 0
    async with asyncio.timeout(LIMIT_S):
        await running.wait()
        await ssh.wait_closed()
    assert running.exit_status != 0

    await faults.refuse_ssh(bare_host)
    with pytest.raises(ConnectionRefusedError):
        await by_key(bare_host)
    await faults.accept_ssh(bare_host)
    async with await by_key(bare_host) as again:
        assert (await again.run("id -un")).stdout.strip() == "robot"


async def test_another_host_key_is_noticed_by_who_pinned_it(bare_host):
    pinned = asyncssh.import_known_hosts(f"{bare_host.address} {await bare_host.host_key()}\n")
    settings = {"username": "robot", "client_keys": [str(bare_host.robot.key_file)]}
    async with asyncssh.connect(bare_host.address, known_hosts=pinned, **settings):
        pass

    await faults.change_host_key(bare_host)

    with pytest.raises(asyncssh.HostKeyNotVerifiable):
        await asyncssh.connect(bare_host.address, known_hosts=pinned, **settings)


async def test_the_clock_swap_and_memory_that_its_programs_see(bare_host):
    async with await by_key(bare_host) as ssh:
        await faults.shift_clock(bare_host, 3600)
        there = int((await ssh.run("date +%s")).stdout)
        here = int((await engine.run(["date", "+%s"])).out)
        assert 3600 <= there - here + 60 < 3600 + 120
        assert (await ssh.run("date -u -d @0 +%Y")).stdout.strip() == "1970"
        await faults.shift_clock(bare_host, 0)

        await faults.swap_on(bare_host)
        assert "/swapfile" in (await ssh.run("cat /proc/swaps; /sbin/swapon --show")).stdout
        await ssh.run("sudo -n swapoff -a", check=True)
        assert "/swapfile" not in (await ssh.run("cat /proc/swaps")).stdout

        await faults.shrink_memory(bare_host, 512)
        assert "524288 kB" in (await ssh.run("grep MemTotal /proc/meminfo")).stdout


async def test_a_taken_port_is_free_again(bare_host):
    await faults.take_port(bare_host, 6443)
    assert await bare_host.holds("ss -Hltn 'sport = :6443' | grep -q .")
    await faults.free_port(bare_host, 6443)
    assert not await bare_host.holds("ss -Hltn 'sport = :6443' | grep -q .")


async def test_twins_with_one_machine_id_and_one_name(site):
    twin = "0123456789abcdef0123456789abcdef"
    hosts = [await site.host(name, machine_id=twin, hostname="edge") for name in ("a", "b")]
    for host in hosts:
        assert (await host.shell("cat /etc/machine-id; hostname")).split() == [twin, "edge"]


async def test_leftovers_of_a_cluster_lie_where_one_leaves_them(bare_host):
    await leftovers.of_a_cluster(bare_host)
    async with await by_key(bare_host) as ssh:
        seen = await ssh.run(
            "sudo find /etc/kubernetes /var/lib/kubelet /var/lib/etcd /etc/cni /home/keeper/.kube"
            " -type f; ip -o link"
        )
    for trace in (
        "admin.conf",
        "pki/kubelet-client",
        "member/snap/db",
        "10-flannel",
        ".kube/config",
    ):
        assert trace in seen.stdout
    assert "cni0" in seen.stdout
    assert "flannel.1" in seen.stdout


async def test_a_host_with_limits_has_no_more(site):
    host = await site.host("small", cpus=0.5, memory="256m")
    quota = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/memory/memory.limit_in_bytes"
    assert (await host.shell(quota)).split() == ["50000", str(256 * 1024**2)]


async def test_docker_runs_a_container_on_a_docker_host(docker_host):
    await docker_host.shell(
        "mkdir -p /tmp/i && cd /tmp/i && tar -chf root.tar -C / bin/true"
        " lib64/ld-linux-x86-64.so.2 lib/x86_64-linux-gnu/libc.so.6\n"
        "docker import root.tar t && docker run --rm t /bin/true",
        timeout_s=300,
    )
    assert await docker_host.shell("docker info -f '{{.Driver}}'") == "overlay2"


KILLED = """
import asyncio
from lab import Site
async def main():
    async with Site("orphan") as site:
        await site.host("left")
        print("up", flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""


async def test_what_a_killed_run_left_is_swept_by_the_next():
    run = subprocess.Popen(
        [sys.executable, "-c", KILLED], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert run.stdout is not None
        assert await asyncio.to_thread(run.stdout.readline) == "up\n"
        mark = f"haechi-lab-{run.pid}-orphan"
        assert await _kinds(mark) == {"host", "network", "fence"}
    finally:
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        run.stdout.close()

    async def swept() -> bool:
        async with Site():  # or another test's at the same time
            return not await _kinds(mark)

    await eventually(swept, LIMIT_S)


async def _kinds(mark: str) -> set[str]:
    return {thing.kind for thing in await engine.things() if thing.name.startswith(mark)}


async def test_the_one_kernel_is_as_kubelets_want_it_before_there_is_one(site):
    """Else one host's proof of deletion shows what another's kubelet did."""
    names = {name.replace("/", "."): value for name, value in engine.KUBELETS_SYSCTLS.items()}
    of_the_host = {"net.ipv4.conf.all.route_localnet"}  # each network has its own
    assert set(names) | of_the_host == set(runtime.KUBELET_SYSCTLS)
    for name, value in engine.KUBELETS_SYSCTLS.items():
        assert int(Path(f"/proc/sys/{name}").read_text()) == value, name


async def test_a_host_that_fails_to_start_leaves_nothing(site):
    with pytest.raises(engine.LabError):
        await site.host("bad", image="localhost/haechi-lab/none:x")
    assert not engine.memory_of(site.hosts["bad"].container).exists()
    await site.down()
    assert not [thing for thing in await engine.things() if thing.site == site.name]
