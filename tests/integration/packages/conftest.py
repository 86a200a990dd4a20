import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from haechi.core.access import Principal, Role
from haechi.core.bus import Bus
from haechi.core.clock import SystemClock, to_ms
from haechi.core.db import Database
from haechi.domains.audit.service import Audit
from haechi.domains.packages import Packages
from haechi.domains.packages.model import Uploaded
from haechi.settings import PackagesSettings

SERVE = Path(__file__).with_name("serve.py")


BY = Principal(kind="user", id="usr-aaaaaaaaaaaaaaaa", name="kim", role=Role.OPERATOR)
Upload = Callable[..., Awaitable[Uploaded]]


async def pieces(data: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def files_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


async def audited(db: Database) -> list[str]:
    async with db.read() as tx:
        return list(await tx.scalars(sa.text("select action from audit order by rowid")))


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "control.db")
    await database.create_all()
    yield database
    await database.close()


@pytest.fixture
def make(db: Database, tmp_path: Path) -> Callable[..., Packages]:
    clock = SystemClock()

    def build(folder: Path | None = None, **settings: Any) -> Packages:
        free = settings.pop("free", None)
        return Packages(
            db=db,
            bus=Bus(lambda: to_ms(clock.now())),
            clock=clock,
            audit=Audit(db=db, clock=clock),
            folder=folder or tmp_path / "packages",
            settings=PackagesSettings(**{"min_free_bytes": 0, **settings}),
            **({"free": free} if free else {}),
        )

    return build


@pytest.fixture
async def packages(make: Callable[..., Packages]) -> Packages:
    made = make()
    await made.start()
    return made


@pytest.fixture
def upload(packages: Packages) -> Upload:
    async def send(data: bytes, version: str = "1", **kwargs: Any) -> Uploaded:
        kwargs.setdefault("file_name", "person-detector.zip")
        return await packages.upload(pieces(data), version=version, by=BY, **kwargs)

    return send


class Server:
    """A server process on a folder; `kill` is SIGKILL, `start` begins again on the same folder."""

    def __init__(self, data_dir: Path, **settings: Any) -> None:
        self.data_dir = data_dir
        self._arguments = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
        self.log = data_dir / "server.log"
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SERVE), str(self.data_dir), *self._arguments],
            stdout=subprocess.PIPE,
            stderr=(log := self.log.open("ab")),
            text=True,
        )
        log.close()
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        assert port, "the server did not start"
        self.url = f"http://127.0.0.1:{port}"
        self.http = httpx2.Client(base_url=f"{self.url}/api/v1", timeout=30, trust_env=False)

    def kill(self) -> None:
        self.http.close()
        self._process.kill()
        self._process.wait(timeout=60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def upload(self, data: Any, version: str = "1", **params: Any) -> httpx2.Response:
        params = {"filename": "a.zip", "version": version, **params}
        return self.http.post("/packages/upload", params=params, content=data)

    def files(self) -> list[str]:
        folder = self.data_dir / "packages"
        return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def begin(data_dir: Path | None = None, **settings: Any) -> Server:
        folder = data_dir or tmp_path / f"data{len(servers)}"
        folder.mkdir(parents=True, exist_ok=True)
        servers.append(Server(folder, **settings))
        return servers[-1]

    yield begin
    for server in servers:
        server.kill()


@pytest.fixture
def server(serve: Callable[..., Server]) -> Server:
    return serve()
