"""Desired state: gathers the sections of higher domains into one revisioned document per device.

A change is announced with `changed(device_id)`; shortly after, the document is made anew and, where
it differs, gets the next revision and goes to the agent. Revisions never go back, not even over
a restart: only a digest of the document is stored, for it holds camera logins.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from haechi.core.db import Database
from haechi.core.tasks import Tasks
from haechi.domains.agents import store
from haechi.domains.agents.ports import SectionProvider
from haechi.protocol.desired import DesiredState

log = logging.getLogger(__name__)

_DEBOUNCE_S: Final = 0.02
SECTIONS: Final = frozenset(DesiredState.__struct_fields__) - {"revision"}


@dataclass(slots=True)
class _Entry:
    revision: int = 0
    digest: str = ""
    applied: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiters: list[tuple[int, asyncio.Future[None]]] = field(default_factory=list)


class DesiredStates:
    """`push(device_id, state)` hands a document to the link, where there is one."""

    def __init__(self, *, db: Database, push: Callable[[str, DesiredState], None]) -> None:
        self._db = db
        self._push = push
        self._providers: dict[str, SectionProvider] = {}
        self._entries: dict[str, _Entry] = {}
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()
        self._tasks = Tasks("desired")

    def register_section(self, name: str, provider: SectionProvider) -> None:
        if name not in SECTIONS or name in self._providers:
            raise ValueError(f"desired section {name}")
        self._providers[name] = provider

    async def start(self) -> None:
        async with self._db.read() as tx:
            saved = await store.load_desired(tx)
        for device_id, (revision, digest) in saved.items():
            self._entries[device_id] = _Entry(revision, digest)
        self._tasks.forever("push", self._push_forever)

    async def close(self) -> None:
        await self._tasks.close()

    def revision(self, device_id: str) -> int:
        return self._entry(device_id).revision

    def applied(self, device_id: str) -> int:
        return self._entry(device_id).applied

    def changed(self, device_id: str) -> None:
        """Something the document is made of has changed (and is committed)."""
        self._dirty.add(device_id)
        self._wake.set()

    async def refresh(self, device_id: str) -> DesiredState:
        """Make the document now; a new revision is saved and pushed. Returns it."""
        entry = self._entry(device_id)
        async with entry.lock:
            self._dirty.discard(device_id)
            sections: dict[str, Any] = {
                name: list(await provider(device_id)) for name, provider in self._providers.items()
            }
            state = DesiredState(revision=0, **sections)
            digest = hashlib.sha256(msgspec.msgpack.encode(state)).hexdigest()
            if digest == entry.digest and entry.revision:
                state.revision = entry.revision
                return state
            state.revision = entry.revision + 1
            async with self._db.write() as tx:
                await store.save_desired(tx, device_id, state.revision, digest)
            entry.revision, entry.digest = state.revision, digest
            self._push(device_id, state)
            return state

    def reported(self, device_id: str, revision: int) -> None:
        """The agent has applied this revision. (A lower one: its disk was replaced.)"""
        entry = self._entry(device_id)
        entry.applied = revision
        for wanted, future in entry.waiters[:]:
            if wanted <= revision and not future.done():
                future.set_result(None)

    async def wait_applied(self, device_id: str, revision: int, timeout_s: float) -> bool:
        """Has the agent applied this revision (or a later one) within the time?"""
        entry = self._entry(device_id)
        if entry.applied >= revision:
            return True
        waiter = (revision, asyncio.get_running_loop().create_future())
        entry.waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter[1]
        except TimeoutError:
            return False
        finally:
            entry.waiters.remove(waiter)
        return True

    def forget(self, device_id: str) -> None:
        self._entries.pop(device_id, None)
        self._dirty.discard(device_id)

    def _entry(self, device_id: str) -> _Entry:
        return self._entries.setdefault(device_id, _Entry())

    async def _push_forever(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(_DEBOUNCE_S)
            self._wake.clear()
            for device_id in sorted(self._dirty):
                try:
                    await self.refresh(device_id)
                except Exception:
                    self._dirty.add(device_id)
                    log.exception("desired state of %s", device_id)
                    self._wake.set()
                    await asyncio.sleep(1)
