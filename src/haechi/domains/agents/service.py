"""What the rest of haechi asks of agents: enrol, command, desired state, presence, time."""

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.access import SYSTEM, Principal
from haechi.core.bus import Bus
from haechi.core.clock import Clock, from_ms
from haechi.core.db import Database
from haechi.core.secrets import Secret
from haechi.domains.agents import store
from haechi.domains.agents.clocks import Clocks
from haechi.domains.agents.judging import Judging
from haechi.domains.agents.links import Links
from haechi.domains.agents.model import (
    Agent,
    CameraState,
    Enrolment,
    Presence,
    Revoked,
    Stamp,
)
from haechi.domains.agents.ports import (
    Directory,
    Machines,
    NeighbourWord,
    ReasonWord,
    ResultsHandler,
    ResultsListener,
    SamplesHandler,
    SectionProvider,
    Socket,
    StateHandler,
)
from haechi.domains.agents.presence import Limits
from haechi.domains.agents.records import Records
from haechi.domains.audit.ports import AuditTrail
from haechi.protocol.commands import Verb
from haechi.protocol.desired import ObservedState
from haechi.protocol.frames import EnrolIn, EnrolOut
from haechi.settings import AgentsSettings

log = logging.getLogger(__name__)


class Agents:
    """`address` is what agents are told to call; `ca_fingerprint` is shown with it."""

    def __init__(
        self,
        *,
        db: Database,
        bus: Bus,
        clock: Clock,
        audit: AuditTrail,
        machines: Machines,
        directory: Directory,
        settings: AgentsSettings,
        server_id: str,
        ca_pem: str,
        ca_fingerprint: str,
        address: Callable[[], str],
    ) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self._machines = machines
        self._directory = directory
        self._server_id = server_id
        self._address = address
        self.ca_pem = ca_pem
        self._ca_fingerprint = ca_fingerprint
        self._clocks = Clocks(clock)
        self._records = Records(self._clocks)
        self._judging = Judging(
            bus=bus,
            clock=clock,
            records=self._records,
            limits=Limits(settings.silent_after_s, settings.dead_after_s),
        )
        self._links = Links(
            db=db,
            bus=bus,
            clock=clock,
            directory=directory,
            records=self._records,
            clocks=self._clocks,
            judging=self._judging,
            server_id=server_id,
        )
        self._desired = self._links.desired
        self._revoked_hooks: list[Callable[[str], Awaitable[None]]] = []
        bus.on("states", self._on_change)

    async def start(self) -> None:
        """Register sections and handlers first."""
        async with self._db.read() as tx:
            await self._records.load(tx, self._clock.monotonic(), self._now_ms())
        await self._links.start()

    async def close(self) -> None:
        await self._links.close()

    # --- enrolment

    @property
    def server(self) -> str:
        """HOST:PORT that agents are told to call."""
        return self._address()

    async def invite_device(self, device_id: str, by: Principal) -> Enrolment:
        """A one-time token and the command to paste on the device."""
        async with self._db.write() as tx:
            await self._directory.check_device(tx, device_id)
            token = await self._machines.issue_enrolment_token(tx, device_id, by)
            await self._directory.note_enrolment(tx, device_id, "pending")
        server = self._address()
        command = (
            f"HAECHI_ENROL_TOKEN={token.secret.reveal()} haechi agent enrol --server {server} "
            f"--ca-fingerprint {self._ca_fingerprint} --data-dir /var/lib/haechi-agent"
        )
        return Enrolment(
            device_id=device_id,
            token=token.secret,
            command=Secret(command),
            server=server,
            ca_fingerprint=self._ca_fingerprint,
            expires_at=token.expires_at,
        )

    async def enrol_device(self, body: EnrolIn, remote: str) -> EnrolOut:
        """Trade token and CSR for a certificate; binds the device to this machine."""
        async with self._db.write() as tx:
            device_id = await self._machines.redeem_enrolment_token(tx, body.token)
            issued = await self._machines.issue_device_certificate(tx, device_id, body.csr_pem)
            await self._directory.note_enrolment(tx, device_id, "enrolled")
            await self._audit.record(
                tx,
                SYSTEM,
                "enrol_device",
                device_id,
                {"remote": remote, "host_name": body.host_name[:255]},
            )
        self._links.end(device_id, "enrolled_anew")
        record = self._records.of(device_id)
        record.machine_id = body.machine_id[:64]
        record.host_name = body.host_name[:255]
        record.refusal = None
        self._records.touch(device_id)
        await self._records.save(self._db)
        log.info("device %s enrolled from %s", device_id, remote)
        return EnrolOut(
            device_id=device_id,
            server_id=self._server_id,
            certificate_pem=issued.pem,
            ca_pem=self.ca_pem,
        )

    async def renew_certificate(self, device_id: str, csr_pem: str) -> EnrolOut:
        async with self._db.write() as tx:
            issued = await self._machines.renew_device_certificate(tx, device_id, csr_pem)
        return EnrolOut(
            device_id=device_id,
            server_id=self._server_id,
            certificate_pem=issued.pem,
            ca_pem=self.ca_pem,
        )

    async def revoke_device(self, device_id: str, by: Principal) -> None:
        """Its certificates count no more and its link ends."""
        async with self._db.write() as tx:
            await self._directory.check_device(tx, device_id)
            await self._machines.revoke_device(tx, device_id, by)
            await self._directory.note_enrolment(tx, device_id, "revoked")
        self._links.end(device_id, Revoked.code)
        self._judging.agent_gone(device_id)
        for hook in self._revoked_hooks:
            await hook(device_id)

    def on_revoked(self, hook: Callable[[str], Awaitable[None]]) -> None:
        """Call `hook(device_id)` once a device has been revoked: others hold credentials too."""
        self._revoked_hooks.append(hook)

    async def delete_device(self, tx: AsyncSession, device_id: str) -> None:
        """Part of the transaction that deletes the device."""
        await self._machines.revoke_device(tx, device_id, SYSTEM)
        await store.delete_device(tx, device_id)

    def _on_change(self, _topic: str, data: Any) -> None:
        if isinstance(data, dict) and (data.get("kind"), data.get("change")) == (
            "device",
            "delete",
        ):
            device_id = str(data["id"])
            self._links.end(device_id, "device_deleted")
            self._records.forget(device_id)
            self._clocks.forget(device_id)
            self._desired.forget(device_id)

    # --- links

    async def serve(self, device_id: str, socket: Socket, remote: str) -> None:
        """One accepted WebSocket, to its end; `device_id` comes from the client certificate."""
        await self._links.serve(device_id, socket, remote)

    async def command(
        self,
        device_id: str,
        verb: Verb,
        args: Struct,
        *,
        deadline_s: float | None = None,
        on_chunk: Callable[[Any], None] | None = None,
    ) -> Any:
        """A `verb.result`; `on_chunk` gets each `verb.chunk`. Raises NotConnected, LinkLost,
        DeadlinePassed or what the agent says."""
        return await self._links.link(device_id).command(
            verb, args, deadline_s=deadline_s or verb.deadline_s, on_chunk=on_chunk
        )

    def is_connected(self, device_id: str) -> bool:
        return self._links.is_connected(device_id)

    async def wait_connected(self, device_id: str, timeout_s: float) -> bool:
        return await self._links.wait_connected(device_id, timeout_s)

    # --- desired state

    def register_section(self, name: str, provider: SectionProvider) -> None:
        self._desired.register_section(name, provider)

    def changed(self, device_id: str) -> None:
        self._desired.changed(device_id)

    async def push(self, device_id: str) -> int:
        """Make and send the document now; returns its revision."""
        return (await self._desired.refresh(device_id)).revision

    async def wait_applied(self, device_id: str, revision: int, timeout_s: float) -> bool:
        return await self._desired.wait_applied(device_id, revision, timeout_s)

    # --- what agents send

    def on_samples(self, handler: SamplesHandler) -> None:
        self._links.samples_handler = handler

    def on_results(self, handler: ResultsHandler) -> None:
        self._links.results_handler = handler

    def listen_results(self, listener: ResultsListener) -> None:
        """Told of rows once they are stored."""
        self._links.results_listeners.append(listener)

    def on_state(self, handler: StateHandler) -> None:
        self._links.state_handlers.append(handler)

    def on_presence(self, handler: Callable[[str, str, str], None]) -> None:
        """`handler(device_id, presence, reason)` at each change."""
        self._judging.handlers.append(handler)

    def use_neighbour_word(self, word: NeighbourWord) -> None:
        self._judging.neighbour_word = word

    def use_reason_word(self, word: ReasonWord) -> None:
        """Who knows more of a silent device than that it is silent."""
        self._judging.reason_word = word

    def note_word(self, device_id: str) -> None:
        """It was heard of otherwise; counts for devices that have no agent."""
        self._judging.note_word(device_id)

    def note_silence(self, device_id: str) -> None:
        """It was asked otherwise and did not answer; counts for devices that have no agent."""
        self._judging.note_silence(device_id)

    def forget_word(self, device_id: str) -> None:
        """It is not asked otherwise any more."""
        self._judging.forget_word(device_id)

    def last_word_s(self, device_id: str) -> float | None:
        """When its agent was heard last (server monotonic); None where it never called."""
        record = self._records.get(device_id)
        return record.last_word_s if record and record.agent_version else None

    def runtime_runs(self, device_id: str) -> bool | None:
        """Whether a node's container runtime does, as its agent says now; None: nobody can say."""
        record = self._records.get(device_id)
        return record.runtime if record and self.is_connected(device_id) else None

    # --- what is known

    def agent(self, device_id: str) -> Agent:
        """As known now; a device that never called is `new`."""
        record = self._records.of(device_id)
        clock, offset_ms, rtt_ms = self._clocks.state(device_id)
        return Agent(
            device_id=device_id,
            presence=record.presence,
            presence_reason=record.reason,
            presence_since=from_ms(record.since_ms or self._now_ms()),
            connected=self.is_connected(device_id),
            last_seen_at=record.last_seen_at,
            agent_version=record.agent_version,
            protocol=record.protocol,
            boot_id=record.boot_id,
            machine_id=record.machine_id,
            host_name=record.host_name,
            remote=record.remote,
            addresses=list(record.addresses),
            capacity=dict(record.capacity),
            clock=clock,
            clock_offset_ms=offset_ms,
            rtt_ms=rtt_ms,
            desired_revision=self._desired.revision(device_id),
            applied_revision=self._desired.applied(device_id),
            refusal=record.refusal,
            observed=record.observed,
        )

    async def find_agent(self, device_id: str) -> Agent:
        """Raises ObjectNotFound where there is no such device."""
        async with self._db.read() as tx:
            await self._directory.check_device(tx, device_id)
        return self.agent(device_id)

    def observed(self, device_id: str) -> ObservedState | None:
        record = self._records.get(device_id)
        return record.observed if record else None

    def addresses(self, device_id: str) -> list[str]:
        """Where neighbours may reach the device: what it says, else from where it calls."""
        record = self._records.get(device_id)
        if record is None:
            return []
        return record.addresses or ([record.remote] if record.remote else [])

    def device_presence(self, device_id: str) -> Presence:
        record = self._records.get(device_id)
        return record.presence if record else "new"

    def device_last_seen_at(self, device_id: str) -> datetime | None:
        record = self._records.get(device_id)
        return record.last_seen_at if record else None

    def camera_state(self, camera_id: str, device_id: str | None) -> CameraState:
        """What the media of the camera's home device said of it last; `unknown` once that device
        is dead."""
        observed = self.observed(device_id) if device_id is not None else None
        streams = observed.media.streams if observed is not None else []
        status = next((one for one in streams if one.camera_id == camera_id), None)
        if device_id is None or status is None or self.device_presence(device_id) == "dead":
            return "unknown"
        if status.online:
            return "ok"
        return "unauthorized" if status.error == "wrong_password" else "offline"

    def stamp(self, device_id: str, boot_id: str, monotonic_ms: int, claimed_ms: int) -> Stamp:
        """Map a device's time to the server's (CONTRACTS 3)."""
        return self._clocks.stamp(device_id, boot_id, monotonic_ms, claimed_ms)

    def wall_of(self, device_id: str, boot_id: str, monotonic_ms: int) -> int | None:
        return self._clocks.wall_of(device_id, boot_id, monotonic_ms)

    def _now_ms(self) -> int:
        return round(self._clock.now().timestamp() * 1000)
