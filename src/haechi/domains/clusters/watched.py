"""What watching keeps of each node and each cluster's API, and what it needs from outside."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, Protocol

from haechi.domains.agents.model import Presence
from haechi.domains.clusters.judging import Answer, Channel, Judgement, NodeWord
from haechi.domains.clusters.model import Member
from haechi.domains.clusters.ports import Node
from haechi.domains.clusters.reasons import Reason

SSH_ASK_S: Final = 1.25
"""Between two questions whether an SSH server answers. From OpenSSH 9.8 on sshd adds a second of
penalty for each connection without a login, takes one away each second, and refuses an address that
has some 15 s of it. Two questions lie within the 3 s to silent, so that one that is lost does not
make a host silent.
"""


class Probe(Protocol):
    """Each question is bounded in time."""

    async def ssh(self, address: str, port: int) -> Answer: ...

    async def kubelet(self, address: str) -> Answer: ...

    def forget(self, address: str) -> None: ...


class AgentsView(Protocol):
    """The agents domain as watching uses it."""

    def is_connected(self, device_id: str) -> bool: ...

    def last_word_s(self, device_id: str) -> float | None: ...

    def note_word(self, device_id: str) -> None: ...

    def note_silence(self, device_id: str) -> None: ...

    def forget_word(self, device_id: str) -> None: ...

    def runtime_runs(self, device_id: str) -> bool | None: ...

    def device_presence(self, device_id: str) -> Presence: ...


class Neighbours(Protocol):
    """Asks other nodes whether they reach a silent one."""

    def word(self, device_id: str) -> bool | None: ...

    def ask(self, member: Member, others: list[Member], *, again_s: float) -> None:
        """Begin to, unless it is being asked already, or was less than `again_s` ago."""

    def forget(self, device_id: str) -> None: ...


ApiState = Literal["unknown", "ok", "away"]
NEW: Final = Judgement("new", "never_called")


@dataclass(slots=True)
class Watched:
    """One member and all that was seen of it."""

    member: Member
    ssh: Channel = field(default_factory=Channel)
    kubelet: Channel = field(default_factory=Channel)
    node: NodeWord | None = None
    not_ready_since_s: float | None = None
    runtime_down_since_s: float | None = None
    judgement: Judgement = NEW
    since: datetime | None = None
    away_since_s: float | None = None
    began_s: float | None = None
    """Since when it is watched."""

    @property
    def key(self) -> tuple[str, str]:
        return self.member.cluster_id, self.member.device_id


@dataclass(slots=True)
class WatchedApi:
    """One cluster's API."""

    last_word_s: float | None = None
    state: ApiState = "unknown"
    since: datetime | None = None
    error: str = ""
    nodes: dict[str, Node] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeState:
    """How a node is, as shown."""

    cluster_id: str
    device_id: str
    node_name: str
    role: str
    address: str
    presence: Presence
    reason: Reason
    detail: str
    since: datetime | None
    ready: bool | None
    """As Kubernetes sees it; None where it has not said."""
    kubelet_version: str
    agent_connected: bool
