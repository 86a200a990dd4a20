"""A whole haechi server inside the test's loop, on free loopback ports, with real sockets."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Any, Final

import httpx2

from haechi.app import Haechi, create
from haechi.core.clock import SystemClock
from haechi.core.tasks import Tasks
from haechi.testing.waiting import eventually
from haechi.web.server import Servers

ADMIN_PASSWORD: Final = "integration-password"  # noqa: S105 - of a server that lives for a test


@dataclass
class RunningServer:
    haechi: Haechi
    url: str
    agents_address: str
    client: httpx2.AsyncClient
    """Signed in as the administrator."""
    servers: Servers

    trust: SSLContext | bool
    """What the server's certificate is checked with, where it has one."""

    def anonymous(self, **headers: str) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            base_url=f"{self.url}/api/v1",
            headers=headers,
            verify=self.trust,
            timeout=30,
            trust_env=False,
        )


@asynccontextmanager
async def running_server(
    data_dir: Path, flags: Mapping[str, Any] | None = None
) -> AsyncIterator[RunningServer]:
    """Start everything as `haechi serve` does; ends it in the same order."""
    given = {
        "server.data_dir": data_dir,
        "server.listen": "127.0.0.1:0",
        "agents.listen": "127.0.0.1:0",
        "registry.listen": "127.0.0.1:0",
        **(flags or {}),
    }
    async with AsyncExitStack() as stack:
        haechi = await create(flags=given, file=None, environment={}, clock=SystemClock())
        stack.push_async_callback(haechi.db.close)
        stack.push_async_callback(haechi.close)
        servers = Servers(haechi.listeners(), stopping=haechi.bus.close)
        await haechi.start({"HAECHI_ADMIN_PASSWORD": ADMIN_PASSWORD})
        tasks = Tasks("test-server")
        running = tasks.spawn("servers", servers.run())

        async def stop() -> None:
            servers.stop()
            await running

        stack.push_async_callback(stop)
        await eventually(lambda: servers.started)
        (host, port), (agents_host, agents_port) = servers.addresses[:2]
        https = given.get("server.tls") == "on"
        url = f"{'https' if https else 'http'}://{host}:{port}"
        trust = create_default_context(cadata=haechi.ca.pem) if https else True
        client = httpx2.AsyncClient(
            base_url=f"{url}/api/v1", verify=trust, timeout=30, trust_env=False
        )
        await stack.enter_async_context(client)
        login = {"name": "admin", "password": ADMIN_PASSWORD}
        (await client.post("/session", json=login)).raise_for_status()
        yield RunningServer(haechi, url, f"{agents_host}:{agents_port}", client, servers, trust)
