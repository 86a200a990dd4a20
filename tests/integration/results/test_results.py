"""Results in the real file: who said it, never twice, found again, counted, let go."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from haechi.core.access import Principal
from haechi.core.bus import Bus
from haechi.core.clock import to_ms, to_text
from haechi.core.telemetry import Telemetry
from haechi.domains.results import Results
from haechi.domains.results.model import BadPeriod, Filter, Source
from haechi.domains.results.schema import CLASSES_A_DAY, OTHER_CLASS, SCHEMA
from haechi.protocol.results import AgentResult, DetectedObject, Result
from haechi.testing.clock import FakeClock

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NOW_MS = to_ms(NOW)
FACTS = {"package_id": "pkg-1", "package_name": "detector", "version_id": "ver-1"}
DEPLOYMENT = Principal(
    kind="deployment",
    id="dep-1",
    name="detector",
    device_id="dev-1",
    deployment_id="dep-1",
    facts={**FACTS, "image_digest": "sha256:abc"},
)


@dataclass
class Stamped:
    wall_ms: int
    clock: str = "ok"
    shift_ms: int = 0


class Known:
    def __init__(self) -> None:
        self.sources = {
            ("dep-1", "dev-1"): Source("dev-1", "dep-1", "pkg-1", "detector", "ver-1", "1", "d1"),
            ("dep-2", "dev-2"): Source("dev-2", "dep-2", "pkg-1", "detector", "ver-2", "2", "d2"),
            ("dep-3", "dev-1"): Source("dev-1", "dep-3", "pkg-2", "weather", "ver-3", "1", "d3"),
        }

    async def source_of(self, deployment_id: str, device_id: str) -> Source | None:
        return self.sources.get((deployment_id, device_id))


class Site:
    def __init__(self, path: Path) -> None:
        self.clock = FakeClock(NOW)
        self.bus = Bus(lambda: to_ms(self.clock.now()))
        self.telemetry = Telemetry(path / "t.db", schemas=[SCHEMA])
        self.shift_ms = 0
        self.clock_word = "ok"
        self.yields: set[str] = set()
        self.results = Results(
            telemetry=self.telemetry,
            bus=self.bus,
            clock=self.clock,
            sources=Known(),
            stamps=lambda _device, _boot, _mono, claimed: Stamped(
                claimed + self.shift_ms, self.clock_word, self.shift_ms
            ),
            only_camera={"dep-1": "cam-only"}.get,
            authority=lambda _camera, _package, _epoch, device, _ms: device not in self.yields,
            retention_days=30,
        )

    async def say(self, *rows: dict, by: Principal = DEPLOYMENT):
        return await self.results.ingest_body(json.dumps(list(rows)).encode(), by)

    async def found(self, limit: int = 100, **asked):
        return (await self.results.find(Filter(**asked), limit=limit, cursor=None)).items


@pytest.fixture
async def site(tmp_path: Path):
    site = Site(tmp_path)
    await site.telemetry.open()
    yield site
    await site.telemetry.close()


def seen(*classes: str, at: datetime = NOW, **more) -> dict:
    objects = [{"box": [0.1, 0.1, 0.2, 0.2], "class": c, "class_prob": 0.9} for c in classes]
    return {"objects": objects, "captured_at": to_text(at), "camera_id": "cam-1", **more}


async def test_everything_comes_back_as_it_was_said(site):
    row = seen("person", instance="i", seq=3, assignment_id="asg-1", epoch=4, took_ms=24.5)
    row |= {"class": "rain", "class_prob": 0.7, "attributes": {"lux": 3, "비": True}}
    outcome = await site.say(row)
    assert (outcome.accepted, outcome.repeated, outcome.refused) == (1, 0, [])
    (got,) = await site.found()
    assert got.source == Source("dev-1", "dep-1", "pkg-1", "detector", "ver-1", "", "sha256:abc")
    assert (got.camera_id, got.assignment_id, got.epoch) == ("cam-1", "asg-1", 4)
    assert (got.instance, got.seq, got.took_ms) == ("i", 3, 24.5)
    assert (got.class_, got.class_prob) == ("rain", 0.7)
    assert got.captured_at == got.received_at == got.stored_at == NOW
    assert (got.clock, got.captured_at_is_arrival, got.authoritative) == ("ok", False, True)
    assert [(o.class_, o.box) for o in got.objects] == [("person", (0.1, 0.1, 0.2, 0.2))]
    assert got.attributes == {"lux": 3, "비": True}
    assert got.claimed == {}


async def test_identity_comes_from_the_credential_alone(site):
    await site.say(seen(device_id="dev-9", deployment_id="dep-9", image_digest="sha256:evil"))
    (got,) = await site.found()
    assert (got.source.device_id, got.source.deployment_id) == ("dev-1", "dep-1")
    assert got.source.image_digest == "sha256:abc"
    assert got.claimed == {
        "device_id": "dev-9",
        "deployment_id": "dep-9",
        "image_digest": "sha256:evil",
    }


async def test_nothing_is_stored_twice_whatever_the_order(site):
    rows = [seen(instance="i", seq=seq) for seq in (1, 2, 5)]
    assert (await site.say(*rows)).accepted == 3
    again = await site.say(*rows, seen(instance="i", seq=3), seen(instance="i", seq=3))
    assert (again.accepted, again.repeated) == (1, 4)
    site.results._store.forget()
    assert (await site.say(*rows)).repeated == 3
    other = Principal(kind="deployment", id="x", name="x", device_id="d", deployment_id="dep-x")
    assert (await site.say(*rows, by=other)).accepted == 3
    assert len(await site.found()) == 7
    plain = [seen(), seen()]
    assert (await site.say(*plain)).accepted == 2


async def test_without_camera_or_time(site):
    await site.say({"class": "fog", "class_prob": 0.5, "captured_at": "a while ago"})
    (got,) = await site.found()
    assert got.camera_id == "cam-only"
    assert got.captured_at_is_arrival
    assert got.captured_at == NOW
    await site.say(seen(at=NOW + timedelta(days=400)))
    assert (await site.found(limit=1))[0].clock == "uncertain"


def queued(number: int, deployment_id: str = "dep-1", **more) -> AgentResult:
    at_ms = NOW_MS + number
    objects = [DetectedObject((0, 0, 0.1, 0.1), "person", 0.5)]
    result = Result(camera_id="cam-1", objects=objects, instance="i", seq=number)
    return AgentResult(result, deployment_id, at_ms, number, "boot", captured_ms=at_ms, **more)


async def test_an_agents_queue_is_stored_exactly_once(site):
    take = site.results.ingest_from_agent
    rows = [queued(n) for n in range(1, 6)]
    assert await take("dev-1", "q", 1, rows[:3]) == 3
    assert await take("dev-1", "q", 1, rows[:3]) == 3
    assert await take("dev-1", "q", 2, rows[1:]) == 5
    assert await take("dev-1", "q", 9, [queued(9)], lost=3) == 9
    assert len(await site.found()) == 6
    assert site.results.lost == 3
    assert await take("dev-1", "q", 1, rows) == 9
    assert len(await site.found()) == 6
    assert await take("dev-1", "fresh queue", 1, [queued(20)]) == 1
    assert len(await site.found()) == 7


async def test_a_bad_row_of_an_agent_does_not_stop_its_queue(site):
    bad = queued(2)
    bad.result.objects[0].box = (0.5, 0.5, 0.9, float("nan"))
    assert await site.results.ingest_from_agent("dev-1", "q", 1, [queued(1), bad, queued(3)]) == 3
    assert len(await site.found()) == 2
    assert site.results.refused == 1
    assert await site.results.ingest_from_agent("dev-1", "q", 3, [queued(3), queued(4)]) == 4
    assert len(await site.found()) == 3


async def test_a_deployment_that_is_not_the_devices_is_a_claim(site):
    await site.results.ingest_from_agent("dev-2", "q", 1, [queued(1, "dep-1")])
    (got,) = await site.found()
    assert got.source == Source(device_id="dev-2")
    assert got.claimed == {"deployment_id": "dep-1"}


async def test_wrong_clocks_are_mapped(site):
    site.shift_ms, site.clock_word = 3_600_000, "uncertain"
    await site.results.ingest_from_agent("dev-1", "q", 1, [queued(1)])
    (got,) = await site.found()
    assert got.captured_at == got.received_at == NOW + timedelta(hours=1, milliseconds=1)
    assert got.clock == "uncertain"


async def test_times_that_no_calendar_has_spoil_no_list(site):
    with site.bus.subscribe({"results:cam-1"}):
        for number, at_ms in enumerate((2**62, -(2**62)), start=1):
            row = AgentResult(
                Result(camera_id="cam-1"), "dep-1", at_ms, 1, "boot", captured_ms=at_ms
            )
            assert await site.results.ingest_from_agent("dev-1", "q", number, [row]) == number
    await site.say(seen())
    assert len(await site.found(camera_id="cam-1")) == 3


async def test_results_of_a_lower_epoch_are_kept_but_yield(site):
    site.yields = {"dev-1"}
    await site.say(seen())
    assert not (await site.found())[0].authoritative


async def fill(site):
    start = NOW - timedelta(minutes=30)
    rows = []
    for number in range(60):
        at = start + timedelta(seconds=30 * number)
        classes = ["person"] * (number % 3) + (["car"] if number % 10 == 0 else [])
        result = Result(
            camera_id=f"cam-{number % 4}",
            objects=[DetectedObject((0, 0, 0.1, 0.1), c, 0.5) for c in classes],
        )
        if number % 15 == 0:
            result.class_, result.class_prob = "rain", 0.6
        deployment = ("dep-1", "dep-2", "dep-3")[number % 3]
        row = AgentResult(result, deployment, to_ms(at), number, "boot", captured_ms=to_ms(at))
        rows.append((("dev-1", "dev-2", "dev-1")[number % 3], row))
    for device in ("dev-1", "dev-2"):
        mine = [row for owner, row in rows if owner == device]
        await site.results.ingest_from_agent(device, "q", 1, mine)
    return [row for _, row in rows]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, lambda n: True),
        ({"camera_id": "cam-1"}, lambda n: n % 4 == 1),
        ({"device_id": "dev-1"}, lambda n: n % 3 != 1),
        ({"deployment_id": "dep-2"}, lambda n: n % 3 == 1),
        ({"package_id": "pkg-1"}, lambda n: n % 3 != 2),
        ({"class_": "car"}, lambda n: n % 10 == 0),
        ({"class_": "rain"}, lambda n: n % 15 == 0),
        ({"class_": "person", "camera_id": "cam-2"}, lambda n: n % 3 > 0 and n % 4 == 2),
        ({"class_": "person", "device_id": "dev-2"}, lambda n: n % 3 == 1),
        ({"camera_id": "cam-3", "package_id": "pkg-2"}, lambda n: n % 4 == 3 and n % 3 == 2),
        ({"from_ms": NOW_MS - 600_000}, lambda n: n >= 40),
        ({"from_ms": NOW_MS - 600_000, "to_ms": NOW_MS - 300_000}, lambda n: 40 <= n < 50),
        ({"camera_id": "cam-0", "to_ms": NOW_MS - 1_500_000}, lambda n: n < 10 and n % 4 == 0),
        ({"device_id": "dev-2", "from_ms": NOW_MS - 600_000}, lambda n: n >= 40 and n % 3 == 1),
        ({"camera_id": "cam-none"}, lambda n: False),
        ({"class_": "elephant"}, lambda n: False),
        ({"device_id": "dev-none"}, lambda n: False),
    ],
)
async def test_found_by_every_condition_page_by_page(site, asked, expected):
    rows = await fill(site)
    times = [row.captured_ms for number, row in enumerate(rows) if expected(number)]
    got, cursor = [], None
    while True:
        page = await site.results.find(Filter(**asked), limit=7, cursor=cursor)
        got += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    assert [to_ms(row.captured_at) for row in got] == times[::-1]


@pytest.mark.parametrize(
    "asked", [{}, {"camera_id": "cam-2"}, {"device_id": "dev-1"}, {"class_": "person"}]
)
async def test_the_running_counts_agree_with_the_rows(site, asked):
    await fill(site)
    period = {"from_ms": NOW_MS - 1_800_000, "to_ms": NOW_MS}
    coarse = await site.results.summary(Filter(**asked, **period), bucket_s=60)
    fine = await site.results.summary(Filter(**asked, **period), bucket_s=30)
    merged: dict[datetime, tuple[int, dict[str, int]]] = {}
    for bucket in fine:
        minute = bucket.at.replace(second=0)
        count, classes = merged.get(minute, (0, {}))
        for name, number in bucket.by_class.items():
            classes[name] = classes.get(name, 0) + number
        merged[minute] = (count + bucket.count, classes)
    assert {b.at: (b.count, b.by_class) for b in coarse} == merged
    rows = await site.found(**asked)
    assert sum(b.count for b in coarse) == len(rows)


async def test_a_summary_is_bounded(site):
    with pytest.raises(BadPeriod):
        await site.results.summary(Filter(from_ms=NOW_MS - 86_400_000, to_ms=NOW_MS), bucket_s=1)
    with pytest.raises(BadPeriod):
        await site.results.summary(Filter(from_ms=NOW_MS, to_ms=NOW_MS), bucket_s=60)


async def test_whoever_watches_sees_what_is_new_and_not_what_is_late(site):
    with site.bus.subscribe({"results:*"}) as subscription:
        await site.say(seen("person", camera_id="cam-7", at=NOW - timedelta(seconds=1)))
        await site.say(seen("person", camera_id="cam-7", at=NOW - timedelta(hours=1)))
        site.bus.close()
        messages = [message async for message in subscription]
    (message,) = messages
    assert message.topic == "results:cam-7"
    assert message.data["objects"][0]["class"] == "person"
    (stored,) = await site.found(camera_id="cam-7", from_ms=NOW_MS - 60_000)
    assert message.data["id"] == stored.id


async def test_what_is_older_than_the_retention_time_is_let_go(site):
    await fill(site)
    await site.clock.advance(30 * 86_400 - 900)
    assert await site.results.delete_old() == 30
    assert len(await site.found()) == 30
    period = {"from_ms": NOW_MS - 3_600_000, "to_ms": NOW_MS}
    summary = await site.results.summary(Filter(**period), bucket_s=60)
    assert sum(bucket.count for bucket in summary) == 30
    assert len(await site.found(class_="car")) == 3


async def test_a_thousand_rows_of_one_moment_are_a_thousand(site):
    rows = [seen() for _ in range(1000)]
    assert (await site.say(*rows)).accepted == 1000
    assert len(await site.found(limit=1000)) == 1000


async def names(site) -> set[str]:
    return await site.telemetry.read(
        lambda connection: {text for (text,) in connection.execute("SELECT text FROM result_names")}
    )


async def test_names_go_with_the_last_row_that_used_them(site):
    await site.say(seen("unicorn", camera_id="cam-old", instance="i-old", seq=1))
    await site.say(seen("person", camera_id="cam-1", instance="i-new", seq=1))
    await site.clock.advance(20 * 86_400)
    now = site.clock.now()
    await site.say(seen("person", at=now, camera_id="cam-1", instance="i-new", seq=2))
    await site.clock.advance(20 * 86_400)
    assert await site.results.delete_old() == 2
    left = await names(site)
    assert "unicorn" not in left
    assert "cam-old" not in left
    assert "dep-1/i-old" not in left
    assert {"person", "cam-1", "dep-1/i-new"} <= left
    ranges = await site.telemetry.read(
        lambda connection: connection.execute("SELECT count(*) FROM result_seen").fetchone()[0]
    )
    assert ranges == 1, "what was known of the old instance went with it"
    again = await site.say(seen("person", at=now, camera_id="cam-1", instance="i-new", seq=2))
    assert again.repeated == 1
    [row] = await site.found(class_="person")
    assert (row.camera_id, row.instance) == ("cam-1", "i-new")
    await site.say(seen("unicorn", at=site.clock.now()))
    assert len(await site.found(class_="unicorn")) == 1


async def test_an_ai_that_makes_up_classes_fills_no_list(site):
    rows = [seen(f"c{i}", f"d{i}") for i in range(CLASSES_A_DAY)]
    assert (await site.say(*rows)).accepted == CLASSES_A_DAY
    made_up = [text for text in await names(site) if text[0] in "cd" and text[1:].isdigit()]
    assert len(made_up) == CLASSES_A_DAY
    others = await site.found(class_=OTHER_CLASS, limit=10_000)
    assert len(others) == CLASSES_A_DAY // 2
    last = (await site.found(limit=1, class_=OTHER_CLASS))[0]
    assert {o.class_ for o in last.objects} == {f"c{CLASSES_A_DAY - 1}", f"d{CLASSES_A_DAY - 1}"}
    await site.clock.advance(86_400)
    await site.say(seen("d900", at=site.clock.now()))
    assert len(await site.found(class_="d900")) == 1, "another day, another chance"
