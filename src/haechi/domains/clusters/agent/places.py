"""How an agent runs on a host: as a container of its Docker, or as a static pod of its kubelet.

Every command that brings, starts or ends an agent is here. All of them are idempotent, and the one
before is always ended before the next begins: two agents would want the same data folder.
"""

import json
from typing import Final, Protocol

import msgspec

from haechi.domains.clusters import static_pods
from haechi.domains.clusters.agent.pod import DATA, GRACE_S, NAME, NAMESPACE, agent_pod, image_of
from haechi.domains.clusters.agent.ports import AgentImage, Invitation
from haechi.domains.clusters.host.errors import FileMissing
from haechi.domains.clusters.host.ports import OnSent, Ran, Shell
from haechi.protocol.desired import NODE_AGENT_ADDRESS

ARCHIVE: Final = "/var/lib/haechi-agent-image.tar.gz"
INVITATION: Final = f"{DATA}/invitation.json"
MANIFEST: Final = f"{static_pods.FOLDER}/{NAME}.yaml"
IMPORT_S: Final = 900
COMMAND_S: Final = 120
LOG_LINES: Final = 30
PINNED: Final = "io.cri-containerd.pinned=pinned"
"""The kubelet's image collection leaves it alone."""
_MACHINES: Final = {"x86_64": "linux/amd64", "aarch64": "linux/arm64", "armv7l": "linux/arm"}


class Place(Protocol):
    kind: str

    async def deliver(self, shell: Shell, image: AgentImage, on_sent: OnSent | None) -> None: ...

    async def start(self, shell: Shell, reference: str) -> None: ...

    async def stop(self, shell: Shell) -> None:
        """Ended when it returns; none is fine."""

    async def current(self, shell: Shell) -> str:
        """The image of the agent that is set to run; "" where there is none."""

    async def last_words(self, shell: Shell) -> list[str]: ...

    async def drop_image(self, shell: Shell, reference: str) -> None: ...

    async def images(self, shell: Shell, repository: str) -> list[str]:
        """References of that repository which the host has."""


class DockerPlace:
    kind = "docker"

    async def deliver(self, shell: Shell, image: AgentImage, on_sent: OnSent | None) -> None:
        there = ["docker", "image", "inspect", "--format", "{{.Id}}", image.reference]
        if (await _root(shell, *there, check=False)).status == 0:
            return
        await _send(shell, image, on_sent)
        await _root(shell, "docker", "load", "--quiet", "--input", ARCHIVE, timeout_s=IMPORT_S)
        await _root(shell, "rm", "-f", ARCHIVE)

    async def start(self, shell: Shell, reference: str) -> None:
        await _root(shell, *docker_run(reference))

    async def stop(self, shell: Shell) -> None:
        stop = ["docker", "stop", "--time", str(GRACE_S), NAME]
        await _root(shell, *stop, check=False, timeout_s=GRACE_S + 60)
        await _root(shell, "docker", "rm", "--force", NAME, check=False)

    async def current(self, shell: Shell) -> str:
        look = ["docker", "inspect", "--type", "container", "--format", "{{.Config.Image}}", NAME]
        ran = await _root(shell, *look, check=False)
        return ran.stdout.strip() if ran.status == 0 else ""

    async def last_words(self, shell: Shell) -> list[str]:
        ran = await _root(shell, "docker", "logs", "--tail", str(LOG_LINES), NAME, check=False)
        return [*ran.stdout.splitlines(), *ran.stderr.splitlines()][-LOG_LINES:]

    async def drop_image(self, shell: Shell, reference: str) -> None:
        await _root(shell, "docker", "image", "rm", reference, check=False)

    async def images(self, shell: Shell, repository: str) -> list[str]:
        listing = ["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", repository]
        return (await _root(shell, *listing, check=False)).stdout.split()


class NodePlace:
    kind = "node"

    async def deliver(self, shell: Shell, image: AgentImage, on_sent: OnSent | None) -> None:
        listed = await _root(shell, *_CTR, "images", "ls", "-q")
        if image.reference in listed.stdout.split():
            return
        await _send(shell, image, on_sent)
        await _root(shell, "sh", "-c", _IMPORT, "sh", ARCHIVE, timeout_s=IMPORT_S)
        await _root(shell, *_CTR, "images", "label", image.reference, PINNED)
        await _root(shell, "rm", "-f", ARCHIVE)

    async def start(self, shell: Shell, reference: str) -> None:
        manifest = json.dumps(agent_pod(reference), indent=1) + "\n"
        await shell.write(MANIFEST, manifest, mode=0o600, root=True)

    async def stop(self, shell: Shell) -> None:
        await static_pods.hold(shell, [NAME])
        await _root(shell, "rm", "-f", f"{static_pods.HELD_FOLDER}/{NAME}.yaml")
        await static_pods.release(shell, [NAME])

    async def current(self, shell: Shell) -> str:
        try:
            text = await shell.read(MANIFEST, root=True)
            return image_of(json.loads(text))
        except (FileMissing, ValueError):
            return ""

    async def last_words(self, shell: Shell) -> list[str]:
        pattern = f"/var/log/pods/{NAMESPACE}_{NAME}-*/agent/*.log"
        script = f"tail -q -n {LOG_LINES} $(ls -t {pattern} | head -n 1)"
        ran = await _root(shell, "sh", "-c", script, check=False)
        return ran.stdout.splitlines()[-LOG_LINES:]

    async def drop_image(self, shell: Shell, reference: str) -> None:
        await _root(shell, *_CTR, "images", "rm", reference, check=False)

    async def images(self, shell: Shell, repository: str) -> list[str]:
        listed = await _root(shell, *_CTR, "images", "ls", "-q", check=False)
        return [one for one in listed.stdout.split() if one.startswith(f"{repository}:")]


_CTR: Final = ("ctr", "-n", "k8s.io")
_LO: Final = ("dev", "lo")
_IMPORT: Final = 'gzip -dcf "$1" | ctr -n k8s.io images import --local -'
"""It takes no gzipped archive; gzip lets through what is none."""


_FORGET_RULES: Final = r"""
for table in nat filter; do
  for chain in $(iptables -w 5 -t $table -S 2>/dev/null | sed -n 's/^-N \(HAECHI-\)/\1/p'); do
    for jump in PREROUTING INPUT FORWARD; do
      while iptables -w 5 -t $table -D $jump -j $chain 2>/dev/null; do :; done
    done
    iptables -w 5 -t $table -F $chain && iptables -w 5 -t $table -X $chain
  done
done
"""
"""The agent's own chains: it leaves them when it stops, so that nothing opens then."""


def docker_run(reference: str) -> list[str]:
    """The agent of a Docker host; packaging/agent/README.md says what each part is for."""
    mounts = (
        f"{DATA}:/data",
        "/var/run/docker.sock:/var/run/docker.sock",
        "/sys/fs/cgroup:/sys/fs/cgroup:ro",
        "/etc/machine-id:/host/machine-id:ro",
        "/etc/hosts:/host/hosts",
        "/etc/docker:/host/docker",
    )
    capabilities = ("DAC_OVERRIDE", "NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE")
    return [
        *("docker", "run", "--detach", "--name", NAME, "--restart", "unless-stopped"),
        *("--stop-timeout", str(GRACE_S), "--network", "host", "--pid", "host"),
        *("--cgroupns", "host", "--security-opt", "apparmor=unconfined", "--cap-drop", "ALL"),
        *(part for name in capabilities for part in ("--cap-add", name)),
        *(part for mount in mounts for part in ("--volume", mount)),
        reference,
    ]


async def platform_of(shell: Shell) -> str:
    ran = await shell.run(["uname", "-m"], timeout_s=COMMAND_S)
    machine = ran.stdout.strip()
    return _MACHINES.get(machine, f"linux/{machine}")


async def has_docker(shell: Shell) -> bool:
    ran = await _root(shell, "docker", "version", "--format", "{{.Server.Version}}", check=False)
    return ran.status == 0


async def lay_invitation(shell: Shell, invitation: Invitation) -> None:
    """For the agent's next start. Holds the one-time token: root's alone, and used up at once."""
    await _root(shell, "install", "-d", "-m", "0700", DATA)
    content = msgspec.json.encode(
        {
            "server": invitation.server,
            "token": invitation.token.reveal(),
            "ca_fingerprint": invitation.ca_fingerprint,
        }
    )
    await shell.write(INVITATION, content, mode=0o600, root=True)


async def is_enrolled(shell: Shell) -> bool:
    """Whether a device's identity lies in the data folder."""
    ran = await _root(shell, "test", "-s", f"{DATA}/device.json", check=False)
    return ran.status == 0


async def forget(shell: Shell) -> None:
    await _root(shell, "rm", "-rf", DATA, ARCHIVE)
    # Given to the node by its agent, for pods to find it at.
    await _root(shell, "ip", "address", "delete", f"{NODE_AGENT_ADDRESS}/32", *_LO, check=False)
    await _root(shell, "sh", "-c", _FORGET_RULES, check=False)


async def _send(shell: Shell, image: AgentImage, on_sent: OnSent | None) -> None:
    await shell.send(
        image.archive, ARCHIVE, mode=0o600, root=True, digest=image.sha256, on_sent=on_sent
    )


async def _root(shell: Shell, *argv: str, check: bool = True, timeout_s: float = COMMAND_S) -> Ran:
    return await shell.run(list(argv), root=True, check=check, timeout_s=timeout_s)
