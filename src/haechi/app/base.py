"""The ground floor: stores, keys, operations, and the domains that know no other."""

from typing import Final

from haechi.core.bus import Bus
from haechi.core.clock import Clock, to_ms
from haechi.core.db import Database
from haechi.core.operations import Operations
from haechi.core.pki import SiteCa
from haechi.core.secrets import Keyring
from haechi.core.tasks import Tasks
from haechi.domains.agents.directory import InventoryDirectory
from haechi.domains.agents.service import Agents
from haechi.domains.audit.service import Audit
from haechi.domains.auth.service import Auth
from haechi.domains.inventory import Inventory
from haechi.domains.packages import Packages
from haechi.settings import Loaded
from haechi.web.security import Gate
from haechi.web.server import split_address
from haechi.web.tls import (
    local_addresses,
)

_LOOPBACK: Final = ("127.", "localhost:", "[::1]:")


class Base:
    """What every part above uses: stores and the lowest domains."""

    def __init__(
        self, loaded: Loaded, *, clock: Clock, db: Database, keyring: Keyring, server_id: str
    ) -> None:
        s = loaded.settings
        data_dir = s.server.data_dir
        self.settings = s
        self.clock = clock
        self.db = db
        self.tasks = Tasks("server")
        self.bus = Bus(lambda: to_ms(clock.now()))
        self.ca = SiteCa.open(data_dir / "pki", server_id=server_id, keyring=keyring, clock=clock)
        self.operations = Operations(db, self.bus, clock, data_dir / "operations")

        self.audit = Audit(db=db, clock=clock)
        self.auth = Auth(
            db=db,
            clock=clock,
            audit=self.audit,
            ca=self.ca,
            data_dir=data_dir,
            session_hours=s.auth.session_hours,
            max_failures=s.auth.max_failures,
        )
        self.inventory = Inventory(
            db=db, bus=self.bus, clock=clock, keyring=keyring, audit=self.audit
        )
        self.packages = Packages(
            db=db,
            bus=self.bus,
            clock=clock,
            audit=self.audit,
            folder=data_dir / "packages",
            settings=s.packages,
        )
        self.agents = Agents(
            db=db,
            bus=self.bus,
            clock=clock,
            audit=self.audit,
            machines=self.auth.machines,
            directory=InventoryDirectory(self.inventory, clock),
            settings=s.agents,
            server_id=server_id,
            ca_pem=self.ca.pem,
            ca_fingerprint=self.ca.fingerprint,
            address=lambda: s.agents.address or s.agents.listen,
        )
        self.keyring = keyring
        self.gate = Gate(
            authenticator=self.auth.authenticator, allowed_origins=s.server.allowed_origins
        )

    @property
    def _https(self) -> bool:
        s = self.settings.server
        return s.tls == "on" or (s.tls == "auto" and not s.listen.startswith(_LOOPBACK))

    def _server_url(self) -> str:
        """Where a client beside the server calls: HAECHI_MASTER_URL of AI containers."""
        listen = self.settings.server.listen
        host, port = split_address(listen)
        if host in {"0.0.0.0", "::"}:  # noqa: S104 - recognised, not bound
            listen = f"{next(iter(local_addresses()), '127.0.0.1')}:{port}"
        return f"{'https' if self._https else 'http'}://{listen}"
