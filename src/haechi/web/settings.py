"""Settings changed in the dashboard: the layer above the default, below file and environment."""

from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter
from pydantic import ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from haechi.core import ids
from haechi.core.access import Principal, Role, requires
from haechi.core.clock import Clock
from haechi.core.db import Base, Database, Json, UtcDateTime
from haechi.domains.audit.service import Audit
from haechi.errors import Forbidden, ObjectNotFound, Text
from haechi.rest import Caller, In, Out
from haechi.settings import DASHBOARD_KEYS, Loaded, load


class NotChangeable(Forbidden):
    code = "settings.not_changeable"
    detail = Text(
        "'{key}' 설정은 대시보드에서 바꿀 수 없습니다.",
        "The setting '{key}' cannot be changed in the dashboard.",
    )
    remedy = Text(
        "설정 파일, 환경 변수 또는 명령줄에서 바꾸세요.",
        "Change it in the file, the environment or on the command line.",
    )


class SettingRow(Base):
    __tablename__ = "settings"

    key: Mapped[str] = mapped_column(sa.String(128), primary_key=True)
    value: Mapped[Any] = mapped_column(Json)
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime)


_SERVER_ID = "_server_id"


async def server_id(db: Database, clock: Clock) -> str:
    """This server's own id, made at the first start: agents know the server by it for ever."""
    async with db.write() as tx:
        row = await tx.get(SettingRow, _SERVER_ID)
        if row is None:
            row = SettingRow(key=_SERVER_ID, value=ids.new_id("server"), changed_at=clock.now())
            tx.add(row)
        return str(row.value)


async def saved(tx: AsyncSession) -> dict[str, Any]:
    """Dotted key → value, as changed in the dashboard."""
    rows = await tx.scalars(sa.select(SettingRow).where(SettingRow.key != _SERVER_ID))
    return {row.key: row.value for row in rows}


class SettingOut(Out):
    key: str
    value: Any
    """As in force since the last start."""
    origin: Literal["flag", "environment", "file", "dashboard", "default"]
    description: str
    changeable: bool
    pending: Any = None
    """Changed in the dashboard and taken up at the next start."""


class SettingsOut(Out):
    items: list[SettingOut]


class SettingsIn(In):
    """Dotted key → new value; null returns to the layers below."""

    model_config = ConfigDict(strict=True, extra="forbid")
    values: dict[str, str | int | float | bool | None]


class SettingsStore:
    def __init__(self, *, db: Database, clock: Clock, audit: Audit, loaded: Loaded) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self._loaded = loaded

    async def show(self) -> list[SettingOut]:
        async with self._db.read() as tx:
            changed = await saved(tx)
        items = []
        for key, value, origin, description in self._loaded.rows():
            plain = value if isinstance(value, (str, int, float, bool, list)) else str(value)
            pending = changed.get(key)
            items.append(
                SettingOut(
                    key=key,
                    value=None if value is None else plain,
                    origin=origin,
                    description=description,
                    changeable=key in DASHBOARD_KEYS,
                    pending=pending if pending != plain else None,
                )
            )
        return items

    async def change(self, values: dict[str, Any], by: Principal) -> None:
        """Check all, then save all. Raises ObjectNotFound, NotChangeable or BadSettings."""
        known = {key for key, *_ in self._loaded.rows()}
        for key in values:
            if key not in known:
                raise ObjectNotFound(kind="setting", id=key[:200])
            if key not in DASHBOARD_KEYS:
                raise NotChangeable(key=key)
        async with self._db.write() as tx:
            merged = {**await saved(tx), **values}
            kept = {key: value for key, value in merged.items() if value is not None}
            load(environment={}, dashboard=kept)
            for key, value in values.items():
                await tx.execute(sa.delete(SettingRow).where(SettingRow.key == key))
                if value is not None:
                    tx.add(SettingRow(key=key, value=value, changed_at=self._clock.now()))
            await self._audit.record(tx, by, "change_settings", "settings", {"values": values})


def router(settings: SettingsStore) -> APIRouter:
    api = APIRouter(tags=["settings"])

    @api.get("/settings")
    @requires(Role.ADMIN)
    async def list_settings() -> SettingsOut:
        """Every setting with its value and where it comes from."""
        return SettingsOut(items=await settings.show())

    @api.patch("/settings")
    @requires(Role.ADMIN)
    async def change_settings(body: SettingsIn, by: Caller) -> SettingsOut:
        await settings.change(body.values, by)
        return SettingsOut(items=await settings.show())

    return api
