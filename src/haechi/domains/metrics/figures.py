"""The figures that metrics add to `/metrics`: the newest sample of every device, and the store."""

from collections.abc import Callable

from haechi.core.clock import Clock, to_ms
from haechi.core.telemetry import Telemetry
from haechi.domains.metrics.exposition import Exposition, Rows
from haechi.domains.metrics.service import STALE_MS, Metrics
from haechi.protocol.samples import Sample


def register(
    exposition: Exposition, *, metrics: Metrics, telemetry: Telemetry, clock: Clock
) -> None:
    def of_devices(pick: Callable[[Sample], float | None]) -> Callable[[], Rows]:
        def read() -> Rows:
            now_ms = to_ms(clock.now())
            for device_id, (at_ms, row) in list(metrics.newest().items()):
                value = pick(row)
                if value is not None and now_ms - at_ms <= STALE_MS:
                    yield (device_id,), value

        return read

    def ages() -> Rows:
        now_ms = to_ms(clock.now())
        for device_id, (at_ms, _) in list(metrics.newest().items()):
            yield (device_id,), (now_ms - at_ms) / 1000

    def of_containers(pick: Callable[[Sample], list[tuple[str, float]]]) -> Callable[[], Rows]:
        def read() -> Rows:
            now_ms = to_ms(clock.now())
            for device_id, (at_ms, row) in list(metrics.newest().items()):
                if now_ms - at_ms <= STALE_MS:
                    for deployment_id, value in pick(row):
                        yield (device_id, deployment_id), value

        return read

    device = ("device_id",)
    gauge = exposition.gauge
    gauge(
        "haechi_device_cpu_ratio",
        "CPU use of a device, of its own limit.",
        device,
        of_devices(lambda row: row.cpu_ratio),
    )
    gauge(
        "haechi_device_memory_used_bytes",
        "Memory in use on a device.",
        device,
        of_devices(lambda row: row.memory_used_bytes),
    )
    gauge(
        "haechi_device_memory_total_bytes",
        "Memory of a device, its own limit.",
        device,
        of_devices(lambda row: row.memory_total_bytes),
    )
    gauge(
        "haechi_device_disk_free_bytes",
        "Free disk space of a device.",
        device,
        of_devices(lambda row: row.disk_free_bytes),
    )
    gauge(
        "haechi_device_temperature_celsius",
        "Temperature of a device.",
        device,
        of_devices(lambda row: row.temperature_c),
    )
    gauge(
        "haechi_device_wifi_dbm",
        "Wi-Fi signal of a device.",
        device,
        of_devices(lambda row: row.net.wifi_dbm if row.net else None),
    )
    gauge("haechi_device_sample_age_seconds", "Age of a device's newest sample.", device, ages)
    both = ("device_id", "deployment_id")
    gauge(
        "haechi_container_cpu_ratio",
        "CPU use of an AI container, of its device's CPU.",
        both,
        of_containers(lambda row: [(c.deployment_id, c.cpu_ratio) for c in row.containers]),
    )
    gauge(
        "haechi_container_memory_bytes",
        "Memory in use by an AI container.",
        both,
        of_containers(lambda row: [(c.deployment_id, c.memory_bytes) for c in row.containers]),
    )
    gauge(
        "haechi_container_frame_lag_seconds",
        "How old the newest frame is that the AI has looked at.",
        both,
        of_containers(
            lambda row: [
                (c.deployment_id, c.frame_lag_ms / 1000)
                for c in row.containers
                if c.frame_lag_ms is not None
            ]
        ),
    )
    exposition.counter(
        "haechi_samples_accepted",
        "Samples taken in.",
        (),
        lambda: [((), metrics.accepted)],
    )
    exposition.counter(
        "haechi_samples_dropped",
        "Samples given up under overload.",
        (),
        lambda: [((), metrics.dropped)],
    )
    gauge(
        "haechi_telemetry_queue_rows",
        "Rows accepted but not yet committed.",
        (),
        lambda: [((), telemetry.queued_rows)],
    )
    exposition.counter(
        "haechi_telemetry_commits",
        "Group commits of the telemetry DB.",
        (),
        lambda: [((), telemetry.commits)],
    )
    exposition.counter(
        "haechi_telemetry_overloads",
        "Callers sent away because the telemetry DB could not keep up.",
        (),
        lambda: [((), telemetry.overloads)],
    )
