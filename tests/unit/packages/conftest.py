from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.access import Principal, Role
from haechi.core.bus import Bus
from haechi.core.clock import SystemClock, to_ms
from haechi.core.db import Database
from haechi.domains.packages import Packages
from haechi.domains.packages.inspection import Inspection, Limits, inspect
from haechi.domains.packages.model import Uploaded
from haechi.errors import AppError
from haechi.settings import PackagesSettings

BY = Principal(kind="user", id="usr-aaaaaaaaaaaaaaaa", name="kim", role=Role.OPERATOR)
LIMITS = Limits(max_files=1000, max_unpacked_bytes=64 * 1024**2)


class KeptAudit:
    def __init__(self) -> None:
        self.actions: list[str] = []

    async def record(
        self,
        tx: AsyncSession,
        by: Principal,
        action: str,
        subject: str,
        details: dict[str, Any] | None = None,
    ) -> None:
        self.actions.append(action)


async def pieces(data: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


Upload = Callable[..., Awaitable[Uploaded]]
Look = Callable[[bytes], Inspection]
Problems = Callable[[bytes], list[str]]


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "control.db")
    await database.create_all()
    yield database
    await database.close()


@pytest.fixture
def audit() -> KeptAudit:
    return KeptAudit()


@pytest.fixture
def make(db: Database, tmp_path: Path, audit: KeptAudit) -> Callable[..., Packages]:
    def build(folder: Path | None = None, **settings: Any) -> Packages:
        free = settings.pop("free", None)
        return Packages(
            db=db,
            bus=Bus(lambda: to_ms(SystemClock().now())),
            clock=SystemClock(),
            audit=audit,
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


@pytest.fixture
def look(tmp_path: Path) -> Look:
    def at(data: bytes) -> Inspection:
        path = tmp_path / "looked-at.zip"
        path.write_bytes(data)
        return inspect(path, LIMITS)

    return at


def codes(error: AppError) -> list[str]:
    """The codes of all problems that the error names."""
    return [part["code"] for part in error.problem("ko")["data"]["problems"]]


@pytest.fixture
def problems(look: Look) -> Problems:
    def of(data: bytes) -> list[str]:
        with pytest.raises(AppError) as caught:
            look(data)
        return codes(caught.value)

    return of


def files_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
