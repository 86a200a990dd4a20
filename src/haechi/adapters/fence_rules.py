"""What a host's firewall is told so that AIs reach where they are served, and nobody else.

The same whether an agent lays it on its device or the server does over SSH.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from haechi.adapters.iptables import PREFIX, Argv

_REFUSED: Final = ("-j", "REJECT", "--reject-with", "icmp-admin-prohibited")


class Door(NamedTuple):
    """Where AIs are served: IPv4, TCP."""

    address: str
    port: int


def chain_name(device_id: str, *, over_ssh: bool = False) -> str:
    """Two names: whoever lays the one knows nothing of the other."""
    return f"{PREFIX}{'OUT' if over_ssh else 'AI'}-{device_id[-16:].upper()}"


def rules(chain: str, doors: Iterable[Door], fenced: Sequence[Argv]) -> list[Argv]:
    """The chain's content. To these ports and no further, for a host serves what it serves (its
    sshd, kubelet, API) at a door's address too. `fenced` are where AIs call from, as matches of
    iptables: `-i BRIDGE` or `-s ADDRESS`.
    """
    to = [
        ("-d", f"{one.address}/32", "-p", "tcp", "--dport", str(one.port), "-j", "RETURN")
        for one in sorted(doors)
    ]
    return [["-A", chain, *source, *rule] for source in fenced for rule in (*to, _REFUSED)]
