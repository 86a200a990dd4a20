"""What the agent knows of each deployment on its device: kept spec and token, and what it does.

The kept part (`containers/dep-….json`, 0600) outlives reboots, so that a container that was lost
can be made again without the server. The observed part is told by the engine (reconcile.py) and by
the AI itself (intake.py). Knows no engine and no link; whoever wants to hear of changes sets
`on_change`.
"""

import hashlib
import ipaddress
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from msgspec import Struct

from haechi.agent import boot
from haechi.agent.home import Home, read_json, remove_file, write_json
from haechi.protocol.assignments import Assignment
from haechi.protocol.bounds import cut
from haechi.protocol.desired import ContainerSpec, ContainerState, ContainerStatus


class Kept(Struct, omit_defaults=True):
    """`containers/dep-….json`."""

    spec: ContainerSpec
    token: str = ""
    wanted: bool = True
    """False after `container.stop`: stays stopped until `container.start`."""
    assignments: list[Assignment] = []
    """Told with `container.start`; the desired state overrules them once it names any."""
    ready_ms: int | None = None
    ready_container: str = ""
    """The container that said ready: a new one must say so itself."""


@dataclass
class Deployment:
    kept: Kept
    state: ContainerState = "absent"
    container_id: str = ""
    image: str = ""
    pid: int = 0
    addresses: tuple[str, ...] = ()
    started_ms: int | None = None
    restarts: int = 0
    remade: int = 0
    """Times the agent itself started it again (drift)."""
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""
    first_result_ms: int | None = None
    last_result_ms: int | None = None
    results: int = 0
    newest_captured_ms: int | None = None
    instance: str = field(default_factory=lambda: f"ins-agt{secrets.token_hex(8)}")
    """For plain clients that send none."""
    seq: int = 0
    served: bool = False
    """Another engine runs it (a pod): nothing is kept, nothing started or stopped here."""
    busy: bool = False
    """A command is at work on it: the reconciler keeps its hands off."""

    @property
    def id(self) -> str:
        return self.kept.spec.deployment_id

    @property
    def ready_ms(self) -> int | None:
        if self.container_id and self.kept.ready_container == self.container_id:
            return self.kept.ready_ms
        return None

    def status(self) -> ContainerStatus:
        return ContainerStatus(
            deployment_id=self.id,
            state=self.state,
            container_id=self.container_id,
            image=cut(self.image or self.kept.spec.image),
            started_ms=self.started_ms,
            ready_ms=self.ready_ms,
            first_result_ms=self.first_result_ms,
            last_result_ms=self.last_result_ms,
            results=self.results,
            restarts=self.restarts + self.remade,
            exit_code=self.exit_code,
            oom_killed=self.oom_killed,
            error=cut(self.error),
        )

    def frame_lag_ms(self, now_ms: int) -> float | None:
        if self.newest_captured_ms is None:
            return None
        return float(max(0, now_ms - self.newest_captured_ms))

    def begin_life(self, container_id: str, started_ms: int | None) -> None:
        """A new container, or the same one started anew: what its last life said is past."""
        if (container_id, started_ms) == (self.container_id, self.started_ms):
            return
        self.container_id, self.started_ms = container_id, started_ms
        self.first_result_ms = None
        self.newest_captured_ms = None
        self.instance = f"ins-agt{secrets.token_hex(8)}"
        self.seq = 0


class Deployments:
    def __init__(self, home: Home) -> None:
        self._home = home
        self._all: dict[str, Deployment] = {}
        self._by_digest: dict[str, str] = {}
        self._by_address: dict[str, str] = {}
        self.on_change: Callable[[], None] = lambda: None

    def load(self) -> None:
        """Read what is kept; a file that cannot be read is put aside."""
        for path in sorted(self._home.containers.glob("*.json")):
            kept = read_json(path, Kept)
            if kept is not None:
                self._all[kept.spec.deployment_id] = Deployment(kept)
        self._index()

    def __iter__(self) -> Iterator[Deployment]:
        return iter(list(self._all.values()))

    def get(self, deployment_id: str) -> Deployment | None:
        return self._all.get(deployment_id)

    def keep(self, kept: Kept) -> Deployment:
        """Remember a spec and token durably, whether new or changed."""
        known = self._all.get(kept.spec.deployment_id)
        if known is None:
            known = self._all[kept.spec.deployment_id] = Deployment(kept)
        known.kept = kept
        self.save(known)
        self._index()
        return known

    def serve(self, specs: Iterable[ContainerSpec]) -> None:
        """Exactly these are run by another engine; the desired state on disk says who they are."""
        wanted = {spec.deployment_id: spec for spec in specs}
        for gone in [one.id for one in self if one.served and one.id not in wanted]:
            del self._all[gone]
        for spec in wanted.values():
            known = self._all.get(spec.deployment_id)
            if known is None:
                known = self._all[spec.deployment_id] = Deployment(Kept(spec=spec), served=True)
            elif known.served:
                known.kept.spec = spec
        self._index()

    def save(self, deployment: Deployment) -> None:
        if deployment.served:
            return
        write_json(self._home.containers / f"{deployment.id}.json", deployment.kept)

    def forget(self, deployment_id: str) -> None:
        if self._all.pop(deployment_id, None) is not None:
            remove_file(self._home.containers / f"{deployment_id}.json")
            self._index()
            self.on_change()

    def placed(self, deployment: Deployment, addresses: tuple[str, ...]) -> None:
        """Its container's addresses on the agent's network, by which plain clients are known."""
        if deployment.addresses != addresses:
            deployment.addresses = addresses
            self._index()

    def said_ready(self, deployment: Deployment) -> None:
        if deployment.ready_ms is None:
            deployment.kept.ready_ms = boot.wall_ms()
            deployment.kept.ready_container = deployment.container_id
            self.save(deployment)
            self.on_change()

    def stored(self, deployment: Deployment, count: int, captured_ms: int | None) -> None:
        """Results of it were stored just now."""
        now_ms = boot.wall_ms()
        deployment.results += count
        deployment.last_result_ms = now_ms
        if captured_ms is not None and captured_ms <= now_ms + 60_000:
            newest = deployment.newest_captured_ms
            deployment.newest_captured_ms = max(newest or captured_ms, captured_ms)
        if deployment.first_result_ms is None:
            deployment.first_result_ms = now_ms
            self.on_change()

    # -- who is calling -----------------------------------------------------------------------

    def by_token(self, token: str) -> Deployment | None:
        digest = hashlib.sha256(token.encode()).hexdigest()
        return self._all.get(self._by_digest.get(digest, ""))

    def by_address(self, address: str) -> Deployment | None:
        return self._all.get(self._by_address.get(_plain(address), ""))

    def _index(self) -> None:
        self._by_digest = {}
        self._by_address = {}
        for one in self._all.values():
            kept = one.kept
            if kept.token:
                digest = hashlib.sha256(kept.token.encode()).hexdigest()
                self._by_digest[digest] = one.id
            if kept.spec.token_digest:
                self._by_digest[kept.spec.token_digest] = one.id
            for address in one.addresses:
                self._by_address[address] = one.id


def _plain(address: str) -> str:
    """An IPv4 address mapped into IPv6 as plain IPv4."""
    if address.startswith("::ffff:"):
        return str(ipaddress.ip_address(address).ipv4_mapped or address)  # type: ignore[union-attr]
    return address
