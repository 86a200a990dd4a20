"""What is known of each device's agent: in memory, saved in batches.

A thousand agents say something every second; the control DB hears of it every few seconds in one
transaction.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.db import Database
from haechi.domains.agents import store
from haechi.domains.agents.clocks import Clocks
from haechi.domains.agents.model import Presence
from haechi.protocol.desired import ObservedState
from haechi.protocol.frames import Hello


@dataclass(slots=True)
class Record:
    device_id: str
    machine_id: str = ""
    boot_id: str = ""
    agent_version: str = ""
    protocol: int | None = None
    host_name: str = ""
    remote: str = ""
    addresses: list[str] = field(default_factory=list)
    capacity: dict[str, Any] = field(default_factory=dict)
    observed: ObservedState | None = None
    refusal: dict[str, Any] | None = None
    last_seen_at: datetime | None = None
    last_word_s: float | None = None
    runtime: bool | None = None
    """Of a node: whether its container runtime ran when its agent looked last."""
    presence: Presence = "new"
    reason: str = "never_called"
    since_ms: int = 0

    def heard(self, hello: Hello, remote: str) -> None:
        self.boot_id = hello.boot_id
        self.agent_version = hello.agent_version
        self.protocol = hello.protocol
        self.host_name = hello.host_name
        self.remote = remote
        self.addresses = list(hello.addresses)
        if hello.capacity is not None:
            self.capacity = msgspec.to_builtins(hello.capacity)


class Records:
    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self._records: dict[str, Record] = {}
        self._dirty: set[str] = set()

    def __iter__(self) -> Any:
        return iter(self._records.values())

    def get(self, device_id: str) -> Record | None:
        return self._records.get(device_id)

    def of(self, device_id: str) -> Record:
        return self._records.setdefault(device_id, Record(device_id))

    def touch(self, device_id: str) -> None:
        """To be saved with the next batch."""
        self._dirty.add(device_id)

    def agent_gone(self, device_id: str) -> None:
        """It has no agent until one calls again: what is heard of it otherwise counts."""
        record = self._records.get(device_id)
        if record is not None:
            record.agent_version = ""
            record.last_word_s = None
            self.touch(device_id)

    def forget(self, device_id: str) -> None:
        self._records.pop(device_id, None)
        self._dirty.discard(device_id)

    async def load(self, tx: AsyncSession, now_s: float, now_ms: int) -> None:
        for row in await store.load_agents(tx):
            record = self.of(row.device_id)
            for name in (
                "machine_id",
                "boot_id",
                "agent_version",
                "protocol",
                "host_name",
                "remote",
                "addresses",
                "capacity",
                "refusal",
                "last_seen_at",
            ):
                setattr(record, name, getattr(row, name))
            if row.observed is not None:
                try:
                    record.observed = msgspec.convert(row.observed, ObservedState)
                except msgspec.ValidationError:
                    record.observed = None  # of another release; the agent will say it again
            self._clocks.load(row.device_id, row.boots)
            # Of one without an agent, whoever asks it otherwise will tell; perhaps nobody does.
            if row.agent_version and row.last_seen_at is not None:
                record.last_word_s = now_s
                record.presence, record.reason = "silent", "server_start"
                record.since_ms = now_ms

    async def save(self, db: Database) -> None:
        """In a transaction of its own; what was not saved is saved the next time."""
        dirty, self._dirty = self._dirty, set()
        try:
            async with db.write() as tx:
                await self._save(tx, dirty)
        except BaseException:
            self._dirty |= dirty
            raise

    async def _save(self, tx: AsyncSession, dirty: set[str]) -> None:
        rows = []
        for device_id in sorted(dirty):
            record = self._records.get(device_id)
            if record is None:
                continue
            rows.append(
                {
                    "device_id": device_id,
                    "machine_id": record.machine_id,
                    "boot_id": record.boot_id,
                    "agent_version": record.agent_version[:64],
                    "protocol": record.protocol,
                    "host_name": record.host_name[:255],
                    "remote": record.remote[:64],
                    "addresses": record.addresses,
                    "capacity": record.capacity,
                    "boots": self._clocks.dump(device_id),
                    "observed": msgspec.to_builtins(record.observed),
                    "refusal": record.refusal,
                    "last_seen_at": record.last_seen_at,
                }
            )
        await store.save_agents(tx, rows)
