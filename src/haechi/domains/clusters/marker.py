"""A file on each host that says whose node it is, for whoever comes after an interruption."""

import json
from dataclasses import dataclass
from typing import Final

from haechi.domains.clusters.host.ports import Shell
from haechi.domains.clusters.kubeadm import FOLDER
from haechi.domains.clusters.model import Member

MARKER: Final = f"{FOLDER}/node.json"


@dataclass(frozen=True, slots=True)
class Marker:
    """`joined` is written only when kubeadm has ended well: what is less is begun anew."""

    cluster_id: str
    device_id: str
    role: str
    node_name: str
    joined: bool


async def read(shell: Shell) -> Marker | None:
    ran = await shell.run(["cat", MARKER], root=True, timeout_s=30, check=False)
    try:
        saved = json.loads(ran.stdout)
        return Marker(**saved)
    except (ValueError, TypeError):
        return None


async def write(shell: Shell, member: Member, *, joined: bool) -> None:
    marker = {
        "cluster_id": member.cluster_id,
        "device_id": member.device_id,
        "role": member.role,
        "node_name": member.node_name,
        "joined": joined,
    }
    await shell.write(MARKER, json.dumps(marker, indent=1) + "\n", mode=0o644, root=True)
