"""A real server process with inventory and packages only; everyone is an operator.

python serve.py DATA_DIR [SETTING=VALUE …]     prints its port, then serves until it is killed
"""

import asyncio
import json
import socket
import sys
from pathlib import Path

import uvicorn
from starlette.requests import HTTPConnection

from haechi.core.access import Principal, Role
from haechi.core.bus import Bus
from haechi.core.clock import SystemClock, to_ms
from haechi.core.db import Database
from haechi.core.secrets import Keyring
from haechi.domains.audit.service import Audit
from haechi.domains.inventory import Inventory
from haechi.domains.inventory import api as inventory_api
from haechi.domains.packages import Packages
from haechi.domains.packages import api as packages_api
from haechi.settings import PackagesSettings
from haechi.web.app import create_api

BY = Principal(kind="user", id="usr-aaaaaaaaaaaaaaaa", name="kim", role=Role.OPERATOR)


async def everyone_is_an_operator(connection: HTTPConnection) -> None:
    connection.state.principal = BY


async def main(data_dir: Path, settings: dict[str, int]) -> None:
    clock = SystemClock()
    db = Database(data_dir / "control.db")
    await db.create_all()
    bus = Bus(lambda: to_ms(clock.now()))
    audit = Audit(db=db, clock=clock)
    inventory = Inventory(
        db=db, bus=bus, clock=clock, keyring=Keyring.open(data_dir / "key"), audit=audit
    )
    packages = Packages(
        db=db,
        bus=bus,
        clock=clock,
        audit=audit,
        folder=data_dir / "packages",
        settings=PackagesSettings(**{"min_free_bytes": 0, **settings}),
    )
    await packages.start()
    api = create_api(
        routers=[inventory_api.router(inventory), packages_api.router(packages)],
        root_routers=[],
        guard=everyone_is_an_operator,
        bus=bus,
        default_language="ko",
        static_dir=None,
    )
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    server = uvicorn.Server(uvicorn.Config(api, log_level="warning", lifespan="off"))
    await server.serve(sockets=[listener])


if __name__ == "__main__":
    pairs = [argument.partition("=") for argument in sys.argv[2:]]
    asyncio.run(main(Path(sys.argv[1]), {key: json.loads(value) for key, _, value in pairs}))
