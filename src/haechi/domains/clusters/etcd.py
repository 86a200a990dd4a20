"""etcd on the control planes: its members, snapshots of it, and how one is brought back.

etcd's own tools are taken out of the image that the host runs etcd from, so that they fit its
version and nothing needs to be installed. Calls go to a control plane that lives, never to the
Kubernetes API: they work while that one is away.
"""

import asyncio
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

from haechi.domains.clusters.etcd_errors import EtcdFailed, EtcdQuorumLost
from haechi.domains.clusters.host.errors import CommandFailed, CommandTimedOut
from haechi.domains.clusters.host.ports import Ran, Shell

T = TypeVar("T")
PEER_PORT: Final = 2380
CLIENT_PORT: Final = 2379
DATA_DIR: Final = "/var/lib/etcd"
RESTING_FILE: Final = f"{DATA_DIR}/member/snap/db"
"""All that etcd holds, complete once it has ended in order."""
MANIFEST: Final = "/etc/kubernetes/manifests/etcd.yaml"
PKI: Final = "/etc/kubernetes/pki/etcd"
BUMP_REVISION: Final = 1_000_000_000
"""A restored etcd goes on with revisions beyond any that a watcher may have seen."""

Tool = Literal["etcdctl", "etcdutl"]

TOOL_SCRIPT: Final = """\
set -eu
tool=$1; shift
image=
if [ -f %(manifest)s ]; then
  image=$(sed -n 's/^ *image: *//p' %(manifest)s | head -n 1)
fi
if [ -z "$image" ]; then
  image=$(ctr -n k8s.io images ls -q | grep -E '/etcd:[^@]+$' | sort -V | tail -n 1)
fi
[ -n "$image" ] || { echo 'no etcd image on this host' >&2; exit 69; }
at=$(mktemp -d /run/haechi-etcd.XXXXXX)
leave() {
  ctr -n k8s.io images unmount --rm "$at" >/dev/null 2>&1 || umount "$at" || :
  rmdir "$at" || :
}
trap leave EXIT
ctr -n k8s.io images mount "$image" "$at" >/dev/null
program=$(find "$at" -maxdepth 4 -type f -name "$tool" | head -n 1)
[ -n "$program" ] || { echo "no $tool in $image" >&2; exit 69; }
"$program" "$@"
""" % {"manifest": MANIFEST}  # noqa: UP031 - braces and % of the shell would both need doubling
"""Runs one of etcd's tools from the image that this host's etcd is of."""


@dataclass(frozen=True, slots=True)
class EtcdMember:
    id: str
    """Hexadecimal, as etcdctl takes it."""
    name: str
    """The node's name; empty while it was added and has never started."""
    peer_urls: tuple[str, ...]
    learner: bool

    def is_at(self, address: str) -> bool:
        return peer_url(address) in self.peer_urls

    @property
    def address(self) -> str:
        return urlsplit(self.peer_urls[0]).hostname or ""


@dataclass(frozen=True, slots=True)
class Voters:
    """Who decides in an etcd, and who of them does not answer (by node name)."""

    count: int
    silent: tuple[str, ...]

    @property
    def decide(self) -> bool:
        return self.count - len(self.silent) > self.count // 2


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    revision: int
    total_keys: int
    size_bytes: int


def peer_url(address: str) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"https://{host}:{PEER_PORT}"


def client_arguments(
    endpoints: Sequence[str] = ("127.0.0.1",), *, timeout_s: int = 20
) -> list[str]:
    """How etcdctl reaches etcd with the files that kubeadm made for health checks."""
    urls = ",".join(
        f"https://[{host}]:{CLIENT_PORT}" if ":" in host else f"https://{host}:{CLIENT_PORT}"
        for host in endpoints
    )
    return [
        f"--endpoints={urls}",
        f"--cacert={PKI}/ca.crt",
        f"--cert={PKI}/healthcheck-client.crt",
        f"--key={PKI}/healthcheck-client.key",
        "--dial-timeout=5s",
        f"--command-timeout={timeout_s}s",
    ]


def restore_arguments(
    snapshot: str, data_dir: str, name: str, peers: Mapping[str, str], token: str
) -> list[str]:
    """`peers`: node name → address of every control plane of the restored cluster."""
    cluster = ",".join(f"{node}={peer_url(address)}" for node, address in sorted(peers.items()))
    return [
        "snapshot",
        "restore",
        snapshot,
        f"--data-dir={data_dir}",
        f"--name={name}",
        f"--initial-cluster={cluster}",
        f"--initial-cluster-token={token}",
        f"--initial-advertise-peer-urls={peer_url(peers[name])}",
        f"--bump-revision={BUMP_REVISION}",
        "--mark-compacted",
    ]


def read_members(stdout: str) -> list[EtcdMember]:
    """What `etcdctl member list -w json` prints."""
    document = _document(stdout)
    return [
        EtcdMember(
            id=format(int(one["ID"]), "x"),
            name=str(one.get("name", "")),
            peer_urls=tuple(one.get("peerURLs") or ()),
            learner=bool(one.get("isLearner", False)),
        )
        for one in document.get("members") or ()
    ]


def read_facts(stdout: str) -> SnapshotFacts:
    """What `etcdutl snapshot status -w json` prints."""
    document = _document(stdout)
    return SnapshotFacts(
        revision=int(document["revision"]),
        total_keys=int(document["totalKey"]),
        size_bytes=int(document["totalSize"]),
    )


def _document(stdout: str) -> dict[str, Any]:
    """The JSON line among what else a tool may print."""
    for line in reversed(stdout.splitlines()):
        if line.startswith("{"):
            document = json.loads(line)
            if isinstance(document, dict):
                return document
    raise ValueError("no JSON in what the tool printed")


# --- on a control plane


async def run_tool(
    shell: Shell, tool: Tool, arguments: Sequence[str], *, timeout_s: float = 60
) -> Ran:
    """Raises EtcdFailed with the tool's own words; HostAway errors pass."""
    argv = ["sh", "-c", TOOL_SCRIPT, "haechi-etcd", tool, *arguments]
    ran = await shell.run(argv, root=True, timeout_s=timeout_s, check=False)
    if ran.status != 0:
        raise _failure(shell, tool, arguments, ran)
    return ran


async def members(shell: Shell) -> list[EtcdMember]:
    ran = await run_tool(shell, "etcdctl", [*client_arguments(), "member", "list", "-w", "json"])
    return _read(shell, "member list", read_members, ran)


async def forget_member(shell: Shell, *, name: str, address: str) -> bool:
    """Take a member out that is leaving, dead, or was added and never came up. `shell`: another
    control plane. False where there is none of that name or address. Raises EtcdQuorumLost.
    """
    gone = [one for one in await members(shell) if one.name == name or one.is_at(address)]
    for one in gone:
        await run_tool(shell, "etcdctl", [*client_arguments(), "member", "remove", one.id])
    return bool(gone)


async def move_member(shell: Shell, *, name: str, address: str) -> bool:
    """Tell the others where a member is to be found from now on. False where they know."""
    for one in await members(shell):
        if one.name == name and not one.is_at(address):
            update = ["member", "update", one.id, f"--peer-urls={peer_url(address)}"]
            await run_tool(shell, "etcdctl", [*client_arguments(), *update])
            return True
    return False


async def is_healthy(shell: Shell, *, address: str = "127.0.0.1") -> bool:
    """Does the etcd at `address` answer a linearised read? Then there is a majority too."""
    arguments = [*client_arguments([address], timeout_s=10), "endpoint", "health"]
    try:
        await run_tool(shell, "etcdctl", arguments, timeout_s=30)
    except (EtcdFailed, CommandTimedOut):
        return False
    return True


async def answers(shell: Shell) -> bool:
    """Does etcd on this host answer for itself, with or without a majority?"""
    arguments = [*client_arguments(timeout_s=10), "endpoint", "status"]
    try:
        await run_tool(shell, "etcdctl", arguments, timeout_s=30)
    except (EtcdFailed, CommandTimedOut):
        return False
    return True


async def voters(shell: Shell, *, without: str) -> Voters:
    """Those that stay when the one of this node name goes. Raises EtcdQuorumLost."""
    found = await members(shell)
    staying = [one for one in found if one.name and one.name != without and not one.learner]
    healthy = await asyncio.gather(*(is_healthy(shell, address=one.address) for one in staying))
    silent = [one.name for one, answers in zip(staying, healthy, strict=True) if not answers]
    return Voters(len(staying), tuple(silent))


async def save_snapshot(shell: Shell, path: str) -> SnapshotFacts:
    """A consistent copy of all data into a file on the host."""
    await run_tool(shell, "etcdctl", [*client_arguments(), "snapshot", "save", path], timeout_s=600)
    ran = await run_tool(shell, "etcdutl", ["snapshot", "status", path, "-w", "json"])
    return _read(shell, "snapshot status", read_facts, ran)


async def resting_facts(shell: Shell) -> SnapshotFacts:
    """Of the data of an etcd that does not run."""
    argv = ["snapshot", "status", RESTING_FILE, "-w", "json"]
    ran = await run_tool(shell, "etcdutl", argv, timeout_s=600)
    return _read(shell, "snapshot status", read_facts, ran)


def add_digest(copy: Path) -> None:
    """Make a snapshot of a copy of RESTING_FILE: `snapshot save` ends one with the SHA-256 of all
    before it, and `snapshot restore` takes none without (etcd: api `Maintenance.Snapshot`).
    """
    with copy.open("r+b") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        _ = file.seek(0, os.SEEK_END)
        _ = file.write(digest)


async def restore_snapshot(
    shell: Shell, snapshot: str, *, name: str, peers: Mapping[str, str], token: str
) -> None:
    """Make this host's etcd data anew from a snapshot; etcd must not run. What was there is kept
    beside it until the cluster lives (`DATA_DIR.before-restore`), in the name of `token`.
    """
    made = f"{DATA_DIR}/.haechi-restored"
    await shell.run(["rm", "-rf", made], root=True)
    await run_tool(
        shell, "etcdutl", restore_arguments(snapshot, made, name, peers, token), timeout_s=600
    )
    await shell.run(["sh", "-c", SWAP_SCRIPT, "haechi-swap", DATA_DIR, made, token], root=True)


SWAP_SCRIPT: Final = """\
set -eu
data=$1; made=$2; of=$3; kept=$data.before-restore
# What an earlier restore left, whose end did not reach this host.
[ "$(cat "$kept/of" 2>/dev/null)" = "$of" ] || rm -rf "$kept"
if [ -d "$data/member" ] && [ ! -d "$kept" ]; then
  rm -rf "$kept.part"
  mkdir -m 700 "$kept.part"
  cp -a "$data/member" "$kept.part/"
  printf %s "$of" >"$kept.part/of"
  mv "$kept.part" "$kept"
fi
rm -rf "$data/member"
mv "$made/member" "$data/member"
rm -rf "$made"
chmod 700 "$data"
"""
"""The data folder itself stays: it may be a disk of its own."""


def _read(shell: Shell, what: str, read: Callable[[str], T], ran: Ran) -> T:
    try:
        return read(ran.stdout)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"it printed something else: {type(error).__name__}: {error}"
        raise EtcdFailed(host=shell.host.name, what=what, reason=reason[:300]) from error


def _failure(shell: Shell, tool: Tool, arguments: Sequence[str], ran: Ran) -> Exception:
    words = f"{ran.stderr}\n{ran.stdout}"
    verb = " ".join(word for word in arguments if not word.startswith("-"))[:100]
    cause = CommandFailed(
        host=shell.host.name, command=f"{tool} {verb}", status=ran.status, message=ran.last_line
    )
    quorum = any(
        mark in words
        for mark in ("etcdserver: no leader", "deadline exceeded", "re-configuration failed")
    )
    kind = EtcdQuorumLost if quorum else EtcdFailed
    error = kind(host=shell.host.name, what=verb, reason=_reason(ran))
    error.__cause__ = cause
    return error


def _reason(ran: Ran) -> str:
    """The tools log JSON lines; their `error` says most."""
    for line in reversed(ran.stderr.splitlines()):
        if line.startswith("{"):
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if said.get("error"):
                return str(said["error"])[:300]
        elif line.startswith("Error: "):
            return line.removeprefix("Error: ")[:300]
    return ran.last_line[:300]
