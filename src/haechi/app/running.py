"""How a server is made, run until a signal, and described without running."""

import asyncio
import logging
import os
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from haechi import migrations, settings
from haechi.app.server import Haechi
from haechi.core import memory
from haechi.core.clock import Clock, SystemClock
from haechi.core.db import Database, ProcessLock
from haechi.core.secrets import Keyring
from haechi.web import settings as settings_api
from haechi.web.server import Servers, StopSignals

log = logging.getLogger(__name__)


async def create(
    *, flags: Mapping[str, Any], file: Path | None, environment: Mapping[str, str], clock: Clock
) -> Haechi:
    """Open the stores, take up what was set in the dashboard, and build everything."""
    first = settings.load(flags=flags, file=file, environment=environment)
    data_dir = first.settings.server.data_dir
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    db = Database(data_dir / "control.db")
    try:
        await migrations.upgrade(db)
        async with db.read() as tx:
            saved = await settings_api.saved(tx)
        loaded = settings.load(flags=flags, file=file, environment=environment, dashboard=saved)
        # A key made anew would fit nothing that is there already.
        fresh = not (data_dir / "pki" / "ca.key").exists()
        keyring = Keyring.open(data_dir / "keyring", create=fresh)
        server_id = await settings_api.server_id(db, clock)
        return Haechi(loaded, clock=clock, db=db, keyring=keyring, server_id=server_id)
    except BaseException:
        await db.close()
        raise


async def run(*, flags: Mapping[str, Any], file: Path | None) -> None:
    """`haechi serve`: until a signal."""
    environment = dict(os.environ)
    os.environ.pop("HAECHI_ADMIN_PASSWORD", None)  # children must not inherit it
    os.umask(0o077)
    first = settings.load(flags=flags, file=file, environment=environment)
    lock = ProcessLock(first.settings.server.data_dir / "lock")
    lock.acquire()
    async with AsyncExitStack() as stack:
        stack.callback(lock.release)
        signals = stack.enter_context(StopSignals())  # until all is closed
        haechi = await create(flags=flags, file=file, environment=environment, clock=SystemClock())
        stack.push_async_callback(haechi.db.close)
        stack.push_async_callback(haechi.close)
        servers = Servers(haechi.listeners(), stopping=haechi.bus.close)
        stack.callback(servers.close)
        signals.then(servers.stop)  # one that came while it was made counts too
        await haechi.start(environment)
        scheme = "https" if servers.secure[0] else "http"
        host, port = servers.addresses[0]
        memory.settle()
        await servers.run(ready=lambda: log.info("haechi is ready: %s://%s:%d", scheme, host, port))


def describe_api() -> dict[str, Any]:
    """The OpenAPI document, made in a scratch folder without starting anything."""

    async def describe() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            haechi = await create(
                flags={"server.data_dir": Path(folder)},
                file=None,
                environment={},
                clock=SystemClock(),
            )
            try:
                return haechi.api.openapi()
            finally:
                await haechi.close()
                await haechi.db.close()

    return asyncio.run(describe())
