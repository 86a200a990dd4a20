"""What happens to hosts in the field, done to a lab host for real, or said how it is faked.

Real: link loss, packet loss, a new address, power loss (`Host.kill`), half-open connections
(`Host.pause`), a full disk, a taken port, a changed host key, no sshd, sudo that asks.
As the host's own programs see it only: the clock (one clock for the whole machine), swap and memory
(one kernel for all hosts). Everything done here can be undone, and is gone with the host anyway.
"""

import asyncio
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lab import engine
from lab.engine import LabError
from lab.host import Host
from lab.site import Site

TABLE = "haechi_lab"


# --- the radio ---


async def _far_end(host: Host) -> str:
    """The machine's end of the host's cable."""
    said = await host.on_its_network("ip", "-o", "link", "show", "eth0")
    index = said.out.split("@if", 1)[1].split(":", 1)[0]
    links = await engine.run(["ip", "-o", "link"])
    for line in links.out.splitlines():
        number, name, *_ = line.split(": ")
        if number == index:
            return name.split("@")[0]
    raise LabError(f"{host.name} has no cable")


async def unplug(host: Host) -> None:
    """Its link goes down: no carrier, address and routes stay (a cable pulled, Wi-Fi lost)."""
    await engine.run(["ip", "link", "set", await _far_end(host), "down"])


async def plug(host: Host) -> None:
    await engine.run(["ip", "link", "set", await _far_end(host), "up"])


@asynccontextmanager
async def unplugged(host: Host) -> AsyncIterator[None]:
    await unplug(host)
    try:
        yield
    finally:
        await plug(host)


async def flap(host: Host, times: int, down_s: float, up_s: float) -> None:
    """The link goes down and comes up so many times; it is up at the end."""
    for _ in range(times):
        async with unplugged(host):
            await asyncio.sleep(down_s)
        await asyncio.sleep(up_s)


async def lose(host: Host, percent: int) -> None:
    """That share of all packets to and from the host is dropped; 0 ends it, 100 is silence."""
    await host.on_its_network("nft", "delete", "table", "inet", TABLE, check=False)
    if percent == 0:
        return
    chance = f"numgen random mod 100 < {percent}" if percent < 100 else ""
    drop = f"eth0 {chance} drop"
    rules = (
        f"table inet {TABLE} {{\n"
        f" chain in {{ type filter hook prerouting priority -300; iifname {drop}; }}\n"
        f" chain out {{ type filter hook postrouting priority 300; oifname {drop}; }}\n"
        "}\n"
    )
    await host.on_its_network("nft", "-f", "-", stdin=rules.encode())


async def partition(host: Host, *others: str) -> None:
    """Packets to and from these addresses are dropped; all else goes on. No address: heals."""
    await host.on_its_network("nft", "delete", "table", "inet", f"{TABLE}_cut", check=False)
    if not others:
        return
    those = f"{{ {', '.join(others)} }}"
    rules = (
        f"table inet {TABLE}_cut {{\n"
        f" chain in {{ type filter hook prerouting priority -300; ip saddr {those} drop; }}\n"
        f" chain out {{ type filter hook postrouting priority 300; ip daddr {those} drop; }}\n"
        "}\n"
    )
    await host.on_its_network("nft", "-f", "-", stdin=rules.encode())


async def end_connections(host: Host, address: str, port: int) -> None:
    """Of the host's programs to that server: without them they would wait on one that is cut for as
    long as they have patience, with them they try to reach it anew.
    """
    # What it says of the last one, which is gone then, is no error.
    kill = ("ss", "--kill", "dst", address, "dport", "=", f":{port}")
    await host.on_its_network(*kill, check=False)


async def readdress(site: Site, host: Host, address: str | None = None) -> str:
    """It gets another address, as by DHCP: its interface goes and comes. Returns the new one."""
    new = address or site.free_address()
    await engine.podman("network", "disconnect", host.network, host.container)
    await engine.podman("network", "connect", "--ip", new, host.network, host.container)
    host.address = new
    return new


@asynccontextmanager
async def second_address(site: Site) -> AsyncIterator[str]:
    """This machine has another address on the site too: the one to which a server moves."""
    listed = await engine.run(["ip", "-o", "-4", "address"])
    bridge = next(
        line.split()[1] for line in listed.out.splitlines() if f" {site.gateway}/" in line
    )
    address = site.free_address()
    await engine.run(["ip", "address", "add", f"{address}/32", "dev", bridge])
    try:
        yield address
    finally:
        # With the site's last host the bridge is gone, and all of its addresses.
        await engine.run(["ip", "address", "delete", f"{address}/32", "dev", bridge], check=False)


# --- its disk, clock, memory ---


async def fill(host: Host, path: str, leave_mb: int = 0) -> None:
    """Take all room on the disk at `path` but so much. Give the host a small disk there first."""
    await host.shell(
        f"free=$(($(stat -f -c '%a * %S' {path}) / 1048576 - {leave_mb}))\n"
        f"test $free -le 0 || fallocate -l ${{free}}M {path}/.haechi-lab-full\n"
        f"test {leave_mb} -gt 0 || dd if=/dev/zero of={path}/.haechi-lab-rest bs=4k 2>/dev/null"
        " || true",
        timeout_s=300,
    )


async def empty(host: Host, path: str) -> None:
    """Give the room back."""
    await host.shell(f"rm -f {path}/.haechi-lab-full {path}/.haechi-lab-rest")


async def shift_clock(host: Host, offset_s: int) -> None:
    """`date` tells a time so many seconds off; 0 ends it. The kernel's clock stays right."""
    if offset_s == 0:
        await host.shell("rm -f /usr/local/bin/date")
        return
    # With an own -d or -s the caller means another time than now.
    script = (
        "#!/bin/sh\n"
        'for word; do case $word in -d*|--date*|-s*|--set*|-r*|-f*) exec /bin/date "$@";;'
        " esac; done\n"
        f'exec /bin/date --date="{offset_s:+d} seconds" "$@"\n'
    )
    await host.shell("install -m 755 /dev/stdin /usr/local/bin/date", stdin=script.encode())


async def swap_on(host: Host, size_mb: int = 2048) -> None:
    """/proc/swaps lists a swap file and `swapoff -a` ends it. Nothing is swapped."""
    listed = (
        "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
        f"/swapfile                               file\t\t{size_mb * 1024}\t\t0\t\t-2\n"
    )
    off = "#!/bin/sh\n# Stands in for the kernel: the list is a file laid over /proc/swaps.\n"
    off += "mountpoint -q /proc/swaps && umount /proc/swaps\nexit 0\n"
    await host.shell("cat > /run/lab-swaps", stdin=listed.encode())
    await host.shell("install -m 755 /dev/stdin /usr/local/sbin/swapoff", stdin=off.encode())
    await host.shell(
        "mount --bind /run/lab-swaps /proc/swaps\n"
        "grep -q ^/swapfile /etc/fstab 2>/dev/null"
        " || echo '/swapfile none swap sw 0 0' >> /etc/fstab"
    )


async def shrink_memory(host: Host, total_mb: int) -> None:
    """/proc/meminfo tells so much memory. To really limit it: `site.host(memory=…)`."""
    await host.shell(
        f"sed -e 's/^MemTotal:.*/MemTotal: {total_mb * 1024} kB/'"
        f" -e 's/^MemAvailable:.*/MemAvailable: {total_mb * 512} kB/'"
        f" -e 's/^MemFree:.*/MemFree: {total_mb * 512} kB/' /proc/meminfo > /run/lab-meminfo\n"
        "mount --bind /run/lab-meminfo /proc/meminfo"
    )


# --- its services ---


async def take_port(host: Host, port: int) -> None:
    """Another program listens there on all addresses; it stays until `free_port` or a restart."""
    program = (
        "import socket,signal\n"
        "s=socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
        f"s.bind(('0.0.0.0', {port})); s.listen(8); signal.pause()"
    )
    unit = f"lab-port-{port}"
    await host.shell(f"systemd-run -q --unit {unit} python3 -c {shlex.quote(program)}")
    await host.until(f"ss -Hltn 'sport = :{port}' | grep -q .", f"port {port} is taken")


async def free_port(host: Host, port: int) -> None:
    await host.shell(f"systemctl stop lab-port-{port}")


async def refuse_ssh(host: Host) -> None:
    """Its sshd is off: connections are refused. Sessions that are open go on."""
    await host.shell("systemctl stop ssh")


async def accept_ssh(host: Host) -> None:
    await host.shell("systemctl start ssh")
    await host.await_ssh()


async def cut_ssh(host: Host) -> int:
    """End all SSH sessions in the middle of what they do; how many there were."""
    said = await host.shell(
        "pgrep -f '^sshd: [^/]' | tee /run/lab-cut | wc -l; xargs -r kill < /run/lab-cut || true"
    )
    return int(said.split()[0])


async def change_host_key(host: Host) -> str:
    """Its SSH host key is another one, as after a reinstallation. Returns the new one."""
    await host.shell("rm -f /etc/ssh/ssh_host_*; systemctl restart ssh")
    await host.await_ssh()
    return await host.host_key()


async def change_password(host: Host, password: str) -> None:
    """The keeper's password is another one now; the login that haechi knows is wrong."""
    await host.shell("chpasswd", stdin=f"{host.keeper.user}:{password}\n".encode())


async def make_sudo_ask(host: Host) -> None:
    """The robot's sudo asks for a password, although none was expected."""
    await host.shell("sed -i 's/NOPASSWD: //' /etc/sudoers.d/lab")
