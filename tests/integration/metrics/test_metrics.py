"""Samples in the real file: each once, rolled up, back-filled, let go with age."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from haechi.core.bus import Bus
from haechi.core.clock import from_ms, to_ms
from haechi.core.telemetry import Telemetry
from haechi.domains.metrics import Metrics
from haechi.domains.metrics.exposition import Exposition
from haechi.domains.metrics.figures import register
from haechi.domains.metrics.model import HOUR_S, MINUTE_S, BadPeriod, NoSampleYet, TooManyPoints
from haechi.domains.metrics.schema import SCHEMA
from haechi.protocol.samples import ContainerSample, Gpu, Net, Sample
from haechi.testing.clock import FakeClock

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NOW_MS = to_ms(NOW)


@dataclass
class Stamped:
    wall_ms: int
    clock: str = "ok"


class Site:
    def __init__(self, path: Path) -> None:
        self.clock = FakeClock(NOW)
        self.bus = Bus(lambda: to_ms(self.clock.now()))
        self.telemetry = Telemetry(path / "t.db", schemas=[SCHEMA])
        self.shift_ms = 0
        self.metrics = Metrics(
            telemetry=self.telemetry,
            bus=self.bus,
            clock=self.clock,
            stamps=lambda _device, _boot, _mono, claimed: Stamped(claimed + self.shift_ms),
        )

    async def settle(self) -> None:
        """Everything handed over before this is committed after it."""
        await self.telemetry.write(lambda _connection, jobs: jobs, None)


@pytest.fixture
async def site(tmp_path: Path):
    site = Site(tmp_path)
    await site.telemetry.open()
    yield site
    await site.telemetry.close()


def sample(seq: int, at_ms: int | None = None, boot: str = "boot-1", **more) -> Sample:
    values = {
        "cpu_ratio": 0.5,
        "memory_used_bytes": 100,
        "memory_total_bytes": 1000,
        "disk_free_bytes": 5000,
    } | more
    at = NOW_MS - 600_000 + seq * 1000 if at_ms is None else at_ms
    return Sample(boot_id=boot, seq=seq, at_ms=at, monotonic_ms=seq * 1000, **values)


async def test_everything_comes_back(site):
    row = sample(
        1,
        cpu_ratio=0.25,
        cpu_per_core=[0.0, 0.5, 1.0],
        temperature_c=48.5,
        throttled=False,
        gpu=Gpu(0.5, 123),
        net=Net(10, 20, wifi_dbm=-60.0, loss_ratio=0.01, rtt_ms=3.5),
        containers=[ContainerSample("dep-1", 0.2, 50, 1, 80.0), ContainerSample("dep-2", 0.1, 10)],
    )
    site.metrics.ingest("dev-1", [row])
    await site.settle()
    series = await site.metrics.series("dev-1", from_ms=NOW_MS - 700_000)
    (point,) = series.points
    assert point.at == from_ms(row.at_ms)
    assert (point.cpu_ratio, point.cpu_per_core) == (0.25, [0.0, 0.5, 1.0])
    assert (point.temperature_c, point.throttled) == (48.5, False)
    assert (point.gpu_use_ratio, point.gpu_memory_used_bytes) == (0.5, 123)
    assert (point.rx_bytes, point.tx_bytes, point.wifi_dbm) == (10, 20, -60.0)
    assert (point.loss_ratio, point.rtt_ms) == (0.01, 3.5)
    one, two = sorted(point.containers, key=lambda c: c.deployment_id)
    assert (one.deployment_id, one.cpu_ratio, one.restarts, one.frame_lag_ms) == (
        "dep-1",
        0.2,
        1,
        80.0,
    )
    assert (two.memory_bytes, two.frame_lag_ms) == (10, None)


async def test_each_sample_counts_once_even_when_its_time_was_mapped_anew(site):
    rows = [sample(seq) for seq in range(10)]
    site.metrics.ingest("dev-1", rows)
    site.shift_ms = 7
    site.metrics.ingest("dev-1", rows, True)
    site.metrics.ingest("dev-2", rows)
    site.metrics.ingest("dev-1", [sample(0, NOW_MS, boot="boot-2")])
    await site.settle()
    assert len((await site.metrics.series("dev-1", from_ms=NOW_MS - 700_000)).points) == 11
    assert await site.metrics.count_rows() == 21


async def test_steps_and_rollups_agree_and_gaps_stay_gaps(site):
    rows = [
        sample(
            seq,
            cpu_ratio=seq / 1000,
            temperature_c=None if seq % 2 else 50.0,
            containers=[ContainerSample("dep-1", 0.1 if seq < 100 else 0.3, 50)],
        )
        for seq in range(300)
        if not 120 <= seq < 180
    ]
    site.metrics.ingest("dev-1", rows)
    await site.settle()
    await site.metrics.roll_up(MINUTE_S)
    period = {"from_ms": NOW_MS - 600_000, "to_ms_": NOW_MS - 300_000}
    minutes = (await site.metrics.series("dev-1", step_s=60, **period)).points
    fine = (await site.metrics.series("dev-1", step_s=30, **period)).points
    assert [p.count for p in minutes] == [60, 60, 60, 60]
    assert [(p.at.minute, p.at.second) for p in minutes] == [(50, 0), (51, 0), (53, 0), (54, 0)]
    for point in minutes:
        parts = [p for p in fine if p.at.minute == point.at.minute]
        assert point.cpu_ratio == pytest.approx(sum(p.cpu_ratio for p in parts) / len(parts))
        assert point.cpu_ratio_max == max(p.cpu_ratio_max for p in parts)
        assert point.temperature_c == 50.0
    assert minutes[0].containers[0].cpu_ratio == pytest.approx(0.1)
    assert minutes[1].containers[0].cpu_ratio == pytest.approx((40 * 0.1 + 20 * 0.3) / 60)
    await site.metrics.roll_up(HOUR_S)
    (hour,) = (
        await site.metrics.series("dev-1", step_s=3600, from_ms=NOW_MS - 3_600_000, to_ms_=NOW_MS)
    ).points
    assert hour.count == 240
    assert hour.cpu_ratio == pytest.approx(sum(p.cpu_ratio for p in minutes) / 4)
    two = (await site.metrics.series("dev-1", step_s=120, **period)).points
    assert sum(p.count for p in two) == 240


async def test_late_samples_mend_the_rollups(site):
    site.metrics.ingest("dev-1", [sample(seq) for seq in range(30)])
    await site.settle()
    await site.metrics.roll_up(MINUTE_S)
    site.metrics.ingest("dev-1", [sample(seq, cpu_ratio=1.0) for seq in range(30, 60)], True)
    await site.settle()
    await site.metrics.roll_up(MINUTE_S)
    (point,) = (await site.metrics.series("dev-1", step_s=60, from_ms=NOW_MS - 600_000)).points
    assert (point.count, point.cpu_ratio) == (60, pytest.approx(0.75))


async def test_a_restart_forgets_no_rollup(tmp_path):
    first = Site(tmp_path)
    await first.telemetry.open()
    first.metrics.ingest("dev-1", [sample(seq) for seq in range(60)])
    await first.telemetry.close()
    second = Site(tmp_path)
    await second.telemetry.open()
    await second.metrics.roll_up(MINUTE_S)
    points = (await second.metrics.series("dev-1", step_s=60, from_ms=NOW_MS - 600_000)).points
    await second.telemetry.close()
    assert [p.count for p in points] == [60]


async def test_what_is_new_is_shown_at_once_and_what_is_late_is_not(site):
    with site.bus.subscribe({"samples:dev-1"}) as subscription:
        site.metrics.ingest("dev-1", [sample(1)], True)
        site.metrics.ingest("dev-1", [sample(2, NOW_MS, cpu_per_core=[0.5])])
        site.bus.close()
        (message,) = [message async for message in subscription]
    assert message.data["at"] == "2026-03-01T12:00:00.000Z"
    assert message.data["device_id"] == "dev-1"
    assert message.data["cpu_per_core"] == [0.5]
    assert "monotonic_ms" not in message.data
    assert site.metrics.latest("dev-1") == message.data
    await site.clock.advance(6)
    with pytest.raises(NoSampleYet):
        site.metrics.latest("dev-1")


async def test_before_and_after_a_moment(site):
    rows = [sample(seq, cpu_ratio=0.1 if seq < 60 else 0.4) for seq in range(120)]
    site.metrics.ingest("dev-1", rows)
    await site.settle()
    at_ms = NOW_MS - 600_000 + 60_000
    found = await site.metrics.before_after("dev-1", at_ms)
    assert (found.before, found.after) == (pytest.approx(0.1), pytest.approx(0.4))
    assert (found.before_count, found.after_count) == (60, 60)
    nothing = await site.metrics.before_after("dev-none", at_ms)
    assert (nothing.before, nothing.after_count) == (None, 0)
    await site.metrics.roll_up(MINUTE_S)
    await site.clock.advance(49 * 3600)
    await site.metrics.delete_old()
    later = await site.metrics.before_after("dev-1", at_ms)
    assert (later.before, later.after) == (pytest.approx(0.1), pytest.approx(0.4))


async def test_with_age_only_coarser_steps_are_left(site):
    site.metrics.ingest("dev-1", [sample(seq) for seq in range(120)])
    await site.settle()
    await site.metrics.roll_up(MINUTE_S)
    await site.metrics.roll_up(HOUR_S)
    await site.clock.advance(49 * 3600)
    assert await site.metrics.delete_old() == 120
    period = {"from_ms": NOW_MS - 600_000, "to_ms_": NOW_MS}
    series = await site.metrics.series("dev-1", step_s=1, **period)
    assert (series.step_s, len(series.points)) == (60, 2)
    await site.clock.advance(31 * 86_400)
    await site.metrics.delete_old()
    period["from_ms"] = NOW_MS - 3_600_000
    series = await site.metrics.series("dev-1", step_s=1, **period)
    assert (series.step_s, len(series.points)) == (3600, 1)


async def test_questions_are_bounded(site):
    with pytest.raises(TooManyPoints):
        await site.metrics.series("dev-1", from_ms=NOW_MS - 86_400_000, step_s=1)
    with pytest.raises(BadPeriod):
        await site.metrics.series("dev-1", from_ms=NOW_MS, to_ms_=NOW_MS)
    assert (await site.metrics.series("dev-none")).points == []


async def test_overload_costs_samples_and_not_the_connection(tmp_path):
    site = Site(tmp_path)
    site.telemetry._max_rows = 5
    await site.telemetry.open()
    for seq in range(0, 20, 2):
        site.metrics.ingest("dev-1", [sample(seq), sample(seq + 1)])
    assert site.metrics.dropped > 0
    assert site.metrics.accepted + site.metrics.dropped == 20
    await site.telemetry.close()


async def test_prometheus_sees_the_newest_of_every_device(site):
    exposition = Exposition()
    register(exposition, metrics=site.metrics, telemetry=site.telemetry, clock=site.clock)
    exposition.counter(
        "haechi_results_stored", "Results.", ("device_id",), lambda: [(("dev-1",), 7)]
    )
    containers = [ContainerSample("dep-1", 0.2, 50, frame_lag_ms=120.0)]
    site.metrics.ingest("dev-1", [sample(1, NOW_MS, cpu_ratio=0.25, containers=containers)])
    site.metrics.ingest("dev-2", [sample(1, NOW_MS - 60_000)])
    text = exposition.render().decode()
    assert 'haechi_device_cpu_ratio{device_id="dev-1"} 0.25' in text
    assert 'haechi_device_cpu_ratio{device_id="dev-2"}' not in text
    assert 'haechi_device_sample_age_seconds{device_id="dev-2"} 60.0' in text
    assert (
        'haechi_container_frame_lag_seconds{deployment_id="dep-1",device_id="dev-1"} 0.12' in text
        or 'haechi_container_frame_lag_seconds{device_id="dev-1",deployment_id="dep-1"} 0.12'
        in text
    )
    assert 'haechi_results_stored_total{device_id="dev-1"} 7.0' in text
    assert "haechi_samples_accepted_total 2.0" in text
    assert "process_resident_memory_bytes" in text


async def test_a_device_with_a_mad_clock_is_shown_all_the_same(site):
    with site.bus.subscribe({"samples:dev-1"}) as screen:
        site.metrics.ingest("dev-1", [sample(1, at_ms=2**62)])
        site.metrics.ingest("dev-1", [sample(2, at_ms=-(2**62))])
        site.metrics.ingest("dev-1", [sample(3, at_ms=NOW_MS, cpu_ratio=0.75)])
        assert [(await screen.get()).data["seq"] for _ in range(3)] == [1, 2, 3]
    assert site.metrics.latest("dev-1")["cpu_ratio"] == 0.75
    await site.settle()


async def test_a_deleted_device_is_not_measured_any_more(site):
    site.metrics.ingest("dev-1", [sample(1, at_ms=NOW_MS)])
    assert "dev-1" in site.metrics.newest()
    site.bus.publish("states", {"kind": "device", "id": "dev-1", "change": "delete"})
    assert site.metrics.newest() == {}
