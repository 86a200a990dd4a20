"""Who may pull: what the registry reads is what was decided last."""

import asyncio
import contextlib

from haechi.core.bus import Bus
from haechi.core.clock import SystemClock, to_ms
from haechi.core.db import Database
from haechi.core.operations import Operations
from haechi.core.secrets import Keyring
from haechi.domains.audit.service import Audit
from haechi.domains.builds.ports import RegistryNames
from haechi.domains.builds.registry import SiteRegistry
from haechi.testing.builds import FakeRegistry


class Process:
    """Its first write takes until a second one is done, or as long as there is none."""

    def __init__(self):
        self.logins = {}
        self.writes = 0
        self._second = asyncio.Event()

    async def write_logins(self, pull):
        self.writes += 1
        if self.writes == 1:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._second.wait(), 0.3)
        self.logins = dict(pull)
        if self.writes == 2:
            self._second.set()


async def test_two_devices_at_once_may_both_pull(tmp_path):
    clock = SystemClock()
    db = Database(tmp_path / "control.db")
    await db.create_all()
    bus = Bus(lambda: to_ms(clock.now()))
    process = Process()
    registry = SiteRegistry(
        db=db,
        bus=bus,
        clock=clock,
        audit=Audit(db=db, clock=clock),
        operations=Operations(db, bus, clock, tmp_path / "operations"),
        registry=FakeRegistry(),
        process=process,
        names=RegistryNames("pull.test:1", "push.test:2"),
        keyring=Keyring.open(tmp_path / "keys"),
        hash_password=lambda secret: "hashed",
        new_secret=lambda: "secret",
    )
    await asyncio.gather(registry.pull_login("dev-a"), registry.pull_login("dev-b"))
    assert set(process.logins) == {"dev-a", "dev-b"}
    await db.close()
