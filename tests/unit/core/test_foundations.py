"""Small promises of errors, ids, secrets, settings, bus, pages, access and the control DB."""

import asyncio
import base64
import json
import os
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from sqlalchemy.orm import Mapped, mapped_column

from haechi import errors, settings
from haechi.core import clock, ids, pages
from haechi.core.access import NotAllowed, NotSignedIn, Principal, Role, access_of, public, requires
from haechi.core.bus import Bus
from haechi.core.db import AlreadyServed, Base, Database, ProcessLock, UtcDateTime
from haechi.core.secrets import Keyring, Secret
from haechi.core.tasks import Tasks
from haechi.domains.deployments.model import NoRoom


class _CounterRow(Base):
    __tablename__ = "test_counters"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]
    at: Mapped[datetime | None] = mapped_column(UtcDateTime)


@pytest.fixture
async def db(tmp_path):
    database = Database(tmp_path / "control.db")
    await database.create_all()
    yield database
    await database.close()


# --- errors


def test_every_error_has_both_languages_and_a_remedy():
    for code, cls in errors.catalogue().items():
        assert "." in code
        for text in (cls.title, cls.detail):
            assert text.ko and text.en, code
        if cls.http_status < 500 or cls.http_status in {502, 503, 504, 507}:
            assert cls.remedy.ko and cls.remedy.en, code


def test_a_code_belongs_to_one_class():
    with pytest.raises(TypeError):
        type("Other", (errors.NotFound,), {"code": "core.not_found"})


def test_missing_data_does_not_break_the_report():
    problem = errors.Busy(subject="dev-1").problem("en")
    assert "{operation_id}" in problem["detail"]


# --- ids, clock


def test_ids_are_dns_labels_and_distinct():
    made = {ids.new_id("device") for _ in range(1000)}
    assert len(made) == 1000
    assert all(ids.is_id(one, "device") and not ids.is_id(one, "camera") for one in made)


def test_time_is_utc_with_milliseconds_and_never_naive():
    seoul = timezone(timedelta(hours=9))
    at = datetime(2026, 1, 2, 9, 0, 0, 123456, tzinfo=seoul)
    assert clock.to_text(at) == "2026-01-02T00:00:00.123Z"
    assert clock.from_text("2026-01-02T09:00:00+09:00") == datetime(2026, 1, 2, tzinfo=UTC)
    with pytest.raises(ValueError):
        clock.to_text(datetime(2026, 1, 2))
    with pytest.raises(ValueError):
        clock.from_text("2026-01-02T09:00:00")


# --- secrets


def test_a_secret_does_not_show():
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret!r} {secret} {[secret]}"


def test_a_keyring_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    """A crash while it is made leaves no file that looks like one."""
    path = tmp_path / "keys"

    def crash(*_args):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", crash)
        with pytest.raises(KeyboardInterrupt):
            Keyring.open(path)
    assert not path.exists()
    blob = Keyring.open(path).encrypt(Secret("root"), "a")
    assert Keyring.open(path).decrypt(blob, "a").reveal() == "root"
    assert [one.name for one in tmp_path.iterdir()] == ["keys"]


def test_a_ciphertext_belongs_to_its_row(tmp_path):
    keyring = Keyring.open(tmp_path / "keys")
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o600
    blob = keyring.encrypt(Secret("root"), "cam-1:password")
    assert Keyring.open(tmp_path / "keys").decrypt(blob, "cam-1:password").reveal() == "root"
    with pytest.raises(InvalidTag):
        keyring.decrypt(blob, "cam-2:password")


def test_an_old_key_still_reads(tmp_path):
    old, new = b"o" * 32, b"n" * 32
    blob = Keyring([old]).encrypt(Secret("x"), "a")
    assert Keyring([new, old]).decrypt(blob, "a").reveal() == "x"


# --- settings


def test_layers_win_in_order_and_origin_is_kept(tmp_path):
    file = tmp_path / "haechi.toml"
    file.write_text('[server]\nlisten = "file:1"\ntls = "on"\n[builds]\nparallel = 4\n')
    loaded = settings.load(
        flags={"server.listen": "flag:1", "server.data_dir": None},
        environment={"HAECHI_SERVER__LISTEN": "env:1", "HAECHI_BUILDS__PARALLEL": "3"},
        file=file,
        dashboard={"server.tls": "off", "agents.dead_after_s": 5.0},
    )
    assert loaded.settings.server.listen == "flag:1"
    assert loaded.settings.builds.parallel == 3
    assert loaded.settings.server.tls == "on"
    assert loaded.settings.agents.dead_after_s == 5.0
    assert loaded.origins["server.listen"] == "flag"
    assert loaded.origins["builds.parallel"] == "environment"
    assert loaded.origins["server.tls"] == "file"
    assert loaded.origins["agents.dead_after_s"] == "dashboard"


@pytest.mark.parametrize(
    "environment",
    [
        {"HAECHI_SERVER__NO_SUCH": "1"},
        {"HAECHI_NOWHERE__X": "1"},
        {"HAECHI_BUILDS__PARALLEL": "many"},
        {"HAECHI_BUILDS__PARALLEL": "0"},
    ],
)
def test_a_wrong_setting_is_named(environment):
    with pytest.raises(settings.BadSettings) as caught:
        settings.load(environment=environment)
    key = next(iter(environment)).removeprefix("HAECHI_").lower().partition("__")[0]
    assert key in caught.value.data["reason"]


def test_every_setting_is_described():
    for key, _, _, description in settings.load(environment={}).rows():
        assert description, key
    known = {key for key, *_ in settings.load(environment={}).rows()}
    assert known >= settings.DASHBOARD_KEYS


# --- bus


async def test_a_slow_reader_loses_samples_silently_and_the_rest_with_a_count():
    bus = Bus(lambda: 1)
    with bus.subscribe({"samples:*", "events"}, limit=3) as reader:
        bus.publish("events", 1)
        bus.publish("samples:a", 1)
        bus.publish("events", 2)
        bus.publish("events", 3)
        assert [(await reader.get()).data for _ in range(3)] == [1, 2, 3]
        assert reader.take_lost() == 0
        for number in range(5):
            bus.publish("events", number)
        assert reader.take_lost() == 2


async def test_resume_by_cursor():
    bus = Bus(lambda: 1)
    bus.publish("events", "a")
    seen = bus.cursor
    bus.publish("events", "b")
    bus.publish("other", "c")
    with bus.subscribe({"events"}, after_cursor=seen) as reader:
        bus.publish("events", "d")
        assert [(await reader.get()).data for _ in range(2)] == ["b", "d"]
        bus.close()
        assert await reader.get() is None


# --- pages, access


def test_cursor_round_trip_and_foreign_cursor_refused():
    cursor = pages.encode_cursor(["2026", 5])
    assert pages.decode_cursor(cursor, 2) == ["2026", 5]
    for bad in ("!!", "e30", cursor[:-3], "한"):
        with pytest.raises(errors.BadRequest):
            pages.decode_cursor(bad, 2)


@pytest.mark.parametrize(
    "key", [["x", "y"], ["2026-01-01", "y"], [{}, "y"], [2**70, "y"], [True, "y"], ["x"], "xy"]
)
def test_a_forged_cursor_reaches_no_database(key):
    forged = base64.urlsafe_b64encode(json.dumps(key).encode()).decode()
    with pytest.raises(errors.BadRequest):
        pages.decode_moment_cursor(forged)


async def test_a_task_that_ends_as_foreseen_logs_no_traceback(caplog):
    async def refuse():
        raise errors.BadRequest(reason="no")

    async def fail():
        raise ValueError("a bug")

    tasks = Tasks("test")
    for work in (refuse(), fail()):
        await asyncio.gather(tasks.spawn("work", work), return_exceptions=True)
    told = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.exc_info is not None for record in told] == [True]


def test_access_is_ordered_and_unmarked_is_none():
    @requires(Role.OPERATOR, also={"device"})
    def endpoint(): ...

    access = access_of(endpoint)
    access.check(Principal("user", "u", "kim", Role.ADMIN))
    access.check(Principal("device", "d", "dev"))
    with pytest.raises(NotAllowed):
        access.check(Principal("user", "u", "kim", Role.VIEWER))
    with pytest.raises(NotSignedIn):
        access.check(None)
    assert access_of(lambda: None) is None
    assert access_of(public(lambda: None)).public


# --- control DB


async def test_read_then_write_never_loses_an_update(db):
    async with db.write() as tx:
        tx.add(_CounterRow(id=1, value=0, at=None))

    async def increment():
        async with db.write() as tx:
            row = await tx.get(_CounterRow, 1)
            await asyncio.sleep(0)
            row.value += 1

    await asyncio.gather(*(increment() for _ in range(20)))
    async with db.read() as tx:
        assert (await tx.get(_CounterRow, 1)).value == 20


async def test_reader_cannot_write_and_naive_time_is_refused(db):
    with pytest.raises(sa.exc.OperationalError):
        async with db.read() as tx:
            await tx.execute(sa.insert(_CounterRow).values(id=2, value=1))
    with pytest.raises(sa.exc.StatementError):
        async with db.write() as tx:
            await tx.execute(sa.insert(_CounterRow).values(id=2, value=1, at=datetime(2026, 1, 1)))


async def test_failed_write_rolls_back(db):
    with pytest.raises(RuntimeError):
        async with db.write() as tx:
            tx.add(_CounterRow(id=3, value=1, at=None))
            await tx.flush()
            raise RuntimeError
    async with db.read() as tx:
        assert await tx.get(_CounterRow, 3) is None


def test_one_process_per_data_folder(tmp_path):
    first, second = ProcessLock(tmp_path / "lock"), ProcessLock(tmp_path / "lock")
    first.acquire()
    with pytest.raises(AlreadyServed):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


def test_koreans_read_korean_nouns():
    error = errors.ObjectNotFound(kind="camera", id="cam-x")
    assert error.problem("ko")["detail"] == "카메라 'cam-x'을(를) 찾을 수 없습니다."
    assert error.problem("en")["detail"] == "There is no camera 'cam-x'."
    assert error.problem("ko")["data"] == {"kind": "camera", "id": "cam-x"}
    many = errors.ManyProblems.of([error]).problem("ko")["data"]["problems"]
    assert many[0]["detail"] == error.problem("ko")["detail"]
    room = NoRoom(device="gate", what="memory", needed_bytes=2, free_bytes=1)
    assert "메모리" in room.problem("ko")["detail"]
