"""Sample: one second of a device (CONTRACTS 4); ratios are of the device's own limits."""

from typing import Annotated

from msgspec import Meta, Struct

from haechi.protocol.bounds import Id, Number


class Gpu(Struct, omit_defaults=True):
    use_ratio: float
    memory_used_bytes: Number


class Net(Struct, omit_defaults=True):
    """Counters since boot; radio facts where there is a radio."""

    rx_bytes: Number
    tx_bytes: Number
    wifi_dbm: float | None = None
    loss_ratio: float | None = None
    rtt_ms: float | None = None


class ContainerSample(Struct, omit_defaults=True):
    deployment_id: Id
    cpu_ratio: float
    """Of the device's CPU capacity."""
    memory_bytes: Number
    restarts: Number = 0
    frame_lag_ms: float | None = None
    """now − `captured_at` of the AI's newest result."""


class Sample(Struct, omit_defaults=True):
    """`device_id` is the link's, never the body's, so it is not repeated here."""

    boot_id: Id
    seq: Number
    at_ms: Number
    monotonic_ms: Number
    cpu_ratio: float
    memory_used_bytes: Number
    memory_total_bytes: Number
    disk_free_bytes: Number
    cpu_per_core: Annotated[list[float], Meta(max_length=1024)] = []
    temperature_c: float | None = None
    throttled: bool | None = None
    gpu: Gpu | None = None
    net: Net | None = None
    runtime: bool | None = None
    """Of a node: whether its container runtime runs. None: no node, or it cannot be told."""
    containers: Annotated[list[ContainerSample], Meta(max_length=1024)] = []
