"""Each node's own way to the API servers: haproxy on loopback under the cluster's API name.

Certificates and kubeconfigs carry `api.<cluster id>.haechi.internal`, which `/etc/hosts` of every
node leads to its own haproxy; that one alone knows the control planes' addresses. A control plane
that comes, goes or moves changes one file on each node and no certificate
(docs/decisions: haproxy on every node).

It is a unit of haechi's own beside whatever haproxy the host may run already.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

from haechi.domains.clusters.host.errors import FileMissing
from haechi.domains.clusters.host.hosts_file import lead
from haechi.domains.clusters.host.ports import Shell
from haechi.domains.clusters.model import API_PORT, API_PROXY_PORT, api_name

UNIT: Final = "haechi-api-proxy.service"
UNIT_PATH: Final = f"/etc/systemd/system/{UNIT}"
CONFIG_PATH: Final = "/etc/haechi/api-proxy.cfg"
STAMP_PATH: Final = "/etc/haechi/api-proxy.loaded"
STATS_SOCKET: Final = "/run/haechi-api-proxy.sock"
LOOPBACK: Final = "127.0.0.1"
_QUICK_S: Final = 30.0

UNIT_TEXT: Final = f"""\
[Unit]
Description=haechi: this node's way to the Kubernetes API servers
After=network.target
Before=kubelet.service
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStartPre=/usr/sbin/haproxy -c -q -f {CONFIG_PATH}
ExecStart=/usr/sbin/haproxy -Ws -f {CONFIG_PATH} -p /run/haechi-api-proxy.pid
ExecReload=/usr/sbin/haproxy -c -q -f {CONFIG_PATH}
ExecReload=/bin/kill -USR2 $MAINPID
KillMode=mixed
Restart=always
RestartSec=1
SuccessExitStatus=143

[Install]
WantedBy=multi-user.target
"""

_HEAD: Final = f"""\
# Written by haechi; changes are overwritten.
global
    maxconn 4096
    hard-stop-after 30s
    stats socket {STATS_SOCKET} mode 600 level admin

defaults
    mode tcp
    option redispatch 1
    option clitcpka
    option srvtcpka
    retries 3
    timeout connect 1s
    timeout check 700ms
    timeout client 1h
    timeout server 1h
    timeout client-fin 10s
    timeout server-fin 10s

frontend api
    bind {LOOPBACK}:{API_PROXY_PORT}
    default_backend control_planes

backend control_planes
    balance leastconn
"""

_CHECKED: Final = """\
    option httpchk GET /readyz
    http-check expect status 200,401,403
    default-server check check-ssl verify none inter 500ms fastinter 200ms fall 2 rise 1
    default-server on-marked-down shutdown-sessions
"""
"""A dead API server is left within 2 s, half-open connections with it: fall × (check + fastinter),
after at most one interval. 401 and 403: it answers, and tells strangers nothing."""


def proxy_config(addresses: Sequence[str]) -> str:
    """The configuration for control planes at these addresses, the same for any order.

    With a single one there is nothing to choose, so it is not checked. Of several, all are tried
    unchecked once no check succeeds: a loaded site may be slow to answer and still be alive.
    """
    known = sorted(set(addresses), key=_place)
    if not known:
        raise ValueError("a proxy needs a control plane")
    ends = [f"{_bracketed(address)}:{API_PORT}" for address in known]
    if len(ends) == 1:
        return f"{_HEAD}    server cp1 {ends[0]}\n"
    checked = "".join(f"    server cp{n} {end}\n" for n, end in enumerate(ends, 1))
    last = "".join(
        f"    server cp{n}-last {end} no-check backup\n" for n, end in enumerate(ends, 1)
    )
    return f"{_HEAD}{_CHECKED}{checked}    option allbackups\n{last}"


def proxy_backends(config: str) -> list[str]:
    """The control planes' addresses that a configuration of ours names."""
    found = []
    for line in config.splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == "server":
            found.append(words[2].rpartition(":")[0].strip("[]"))
    return found


async def install_proxy(shell: Shell, cluster_id: str, addresses: Sequence[str]) -> bool:
    """Have the node's proxy run for these control planes; call it before kubeadm's init or join,
    and again at each change of control planes or addresses. False where nothing was to be done.
    Needs haproxy on the host.
    """
    config = proxy_config(addresses)
    named = await lead(shell, api_name(cluster_id), LOOPBACK)
    unit_changed = await shell.write(UNIT_PATH, UNIT_TEXT, mode=0o644)
    _ = await shell.write(CONFIG_PATH, config, mode=0o644)
    # What runs is told by a stamp written last: whoever is interrupted before it does all again.
    stamp = hashlib.sha256((UNIT_TEXT + config).encode()).hexdigest()
    if await _runs(shell, stamp):
        return named
    await shell.run(["systemctl", "daemon-reload"], root=True, timeout_s=_QUICK_S)
    # It would reload once more.
    await shell.run(["systemctl", "enable", "--no-reload", UNIT], root=True, timeout_s=_QUICK_S)
    verb = "restart" if unit_changed else "reload-or-restart"
    await shell.run(["systemctl", verb, UNIT], root=True, timeout_s=_QUICK_S)
    _ = await shell.write(STAMP_PATH, stamp, mode=0o644)
    return True


async def _runs(shell: Shell, stamp: str) -> bool:
    try:
        loaded = await shell.read(STAMP_PATH)
    except FileMissing:
        return False
    active = await shell.run(
        ["systemctl", "is-active", "--quiet", UNIT], root=True, timeout_s=_QUICK_S, check=False
    )
    return loaded.decode() == stamp and active.status == 0


async def remove_proxy(shell: Shell, cluster_id: str) -> None:
    """Leave nothing of it; gone already is fine."""
    await shell.run(
        ["systemctl", "disable", "--now", UNIT], root=True, timeout_s=_QUICK_S, check=False
    )
    await shell.run(["rm", "-f", UNIT_PATH, CONFIG_PATH, STAMP_PATH, STATS_SOCKET], root=True)
    await shell.run(["rmdir", "--ignore-fail-on-non-empty", "/etc/haechi"], root=True, check=False)
    await shell.run(["systemctl", "daemon-reload"], root=True, timeout_s=_QUICK_S)
    await shell.run(["systemctl", "reset-failed", UNIT], root=True, check=False)
    await lead(shell, api_name(cluster_id), None)


def _place(address: str) -> tuple[int, tuple[int, ...], str]:
    """Numeric order of IPv4, then everything else as text."""
    parts = address.split(".")
    if len(parts) == 4 and all(part.isdecimal() for part in parts):
        return 0, tuple(int(part) for part in parts), ""
    return 1, (), address


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
