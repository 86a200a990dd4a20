"""Sample: one second of a device (CONTRACTS 4); ratios are of the device's own limits."""

from msgspec import Struct


class Gpu(Struct, omit_defaults=True):
    use_ratio: float
    memory_used_bytes: int


class Net(Struct, omit_defaults=True):
    """Counters since boot; radio facts where there is a radio."""

    rx_bytes: int
    tx_bytes: int
    wifi_dbm: float | None = None
    loss_ratio: float | None = None
    rtt_ms: float | None = None


class ContainerSample(Struct, omit_defaults=True):
    deployment_id: str
    cpu_ratio: float
    """Of the device's CPU capacity."""
    memory_bytes: int
    restarts: int = 0
    frame_lag_ms: float | None = None
    """now − `captured_at` of the AI's newest result."""


class Sample(Struct, omit_defaults=True):
    """`device_id` is the link's, never the body's, so it is not repeated here."""

    boot_id: str
    seq: int
    at_ms: int
    monotonic_ms: int
    cpu_ratio: float
    memory_used_bytes: int
    memory_total_bytes: int
    disk_free_bytes: int
    cpu_per_core: list[float] = []
    temperature_c: float | None = None
    throttled: bool | None = None
    gpu: Gpu | None = None
    net: Net | None = None
    containers: list[ContainerSample] = []
