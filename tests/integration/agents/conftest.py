"""A real agents service on a real control DB, with real credentials and inventory."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from haechi.core.access import SYSTEM
from haechi.core.bus import Bus
from haechi.core.clock import SystemClock, to_ms
from haechi.core.db import Database
from haechi.core.pki import SiteCa
from haechi.core.secrets import Keyring
from haechi.core.tasks import Tasks
from haechi.domains.agents.directory import InventoryDirectory
from haechi.domains.agents.service import Agents
from haechi.domains.audit.service import Audit
from haechi.domains.auth.authenticator import Authenticator
from haechi.domains.auth.machines import Machines
from haechi.domains.inventory.service import Inventory
from haechi.settings import AgentsSettings
from haechi.testing.agent_link import PairedSocket, ScriptedAgent

SERVER_ID = "sit-aaaaaaaaaaaaaaaa"


@dataclass
class Site:
    db: Database
    bus: Bus
    inventory: Inventory
    agents: Agents
    machines: Machines
    authenticator: Authenticator
    ca: SiteCa
    path: Path
    rebuild: Callable[..., Agents]
    tasks: Tasks = field(default_factory=lambda: Tasks("site"))
    links: list[ScriptedAgent] = field(default_factory=list)

    async def device(self, name: str) -> str:
        return (await self.inventory.devices.create({"name": name}, by=SYSTEM)).id

    async def connect(self, device_id: str, **hello) -> ScriptedAgent:
        """A scripted agent over an in-memory socket, welcomed or refused."""
        return await self.dial(device_id, device_id, **hello)

    async def dial(self, certificate: str, claimed: str, **hello) -> ScriptedAgent:
        server_end, agent_end = PairedSocket.pair()
        agent = ScriptedAgent(agent_end, claimed, **hello)
        self.tasks.spawn("serve", self.agents.serve(certificate, server_end, "10.0.0.9"))
        await agent.start()
        self.links.append(agent)
        return agent


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    clock = SystemClock()
    db = Database(tmp_path / "control.db")
    await db.create_all()
    bus = Bus(lambda: to_ms(clock.now()))
    audit = Audit(db=db, clock=clock)
    keyring = Keyring.open(tmp_path / "keys")
    inventory = Inventory(db=db, bus=bus, clock=clock, keyring=keyring, audit=audit)
    ca = SiteCa.open(tmp_path / "ca", server_id=SERVER_ID, keyring=keyring, clock=clock)
    authenticator = Authenticator(db=db, clock=clock, audit=audit, session_hours=1)
    machines = Machines(clock=clock, audit=audit, ca=ca, authenticator=authenticator)

    def build(silent_after_s: float = 0.6, dead_after_s: float = 1.2) -> Agents:
        return Agents(
            db=db,
            bus=bus,
            clock=clock,
            audit=audit,
            machines=machines,
            directory=InventoryDirectory(inventory, clock),
            settings=AgentsSettings(silent_after_s=silent_after_s, dead_after_s=dead_after_s),
            server_id=SERVER_ID,
            ca_pem=ca.pem,
            ca_fingerprint=ca.fingerprint,
            address=lambda: "127.0.0.1:8421",
        )

    agents = build()
    made = Site(db, bus, inventory, agents, machines, authenticator, ca, tmp_path, build)
    yield made
    for link in made.links:
        await link.close()
    await made.agents.close()
    await made.tasks.close()
    await db.close()
