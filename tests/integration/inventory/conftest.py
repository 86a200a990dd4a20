import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.access import Principal, Role
from haechi.core.bus import Bus
from haechi.core.clock import SystemClock, to_ms
from haechi.core.db import Database
from haechi.core.secrets import Keyring
from haechi.domains.inventory import Inventory

from ..packages.conftest import Server  # noqa: TID252 - tests are no package to import from

BY = Principal(kind="user", id="usr-aaaaaaaaaaaaaaaa", name="kim", role=Role.OPERATOR)


class KeptAudit:
    def __init__(self) -> None:
        self.rows: list[tuple[str, str, dict[str, Any] | None]] = []

    async def record(
        self,
        tx: AsyncSession,
        by: Principal,
        action: str,
        subject: str,
        details: dict[str, Any] | None = None,
    ) -> None:
        self.rows.append((action, subject, details))


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "control.db")
    await database.create_all()
    yield database
    await database.close()


@pytest.fixture
def bus() -> Bus:
    return Bus(lambda: to_ms(SystemClock().now()))


@pytest.fixture
def audit() -> KeptAudit:
    return KeptAudit()


@pytest.fixture
def inventory(db: Database, bus: Bus, audit: KeptAudit) -> Inventory:
    keyring = Keyring([os.urandom(32)])
    return Inventory(db=db, bus=bus, clock=SystemClock(), keyring=keyring, audit=audit)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("inventory"))
    yield server
    server.kill()
