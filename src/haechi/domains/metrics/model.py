"""Samples as the server keeps and answers them (CONTRACTS 4)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from haechi.errors import Invalid, NotFound, Text

MINUTE_S: Final = 60
HOUR_S: Final = 3600
MAX_POINTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class ContainerPoint:
    """One AI container over one step: means, and the highest where it matters."""

    deployment_id: str
    cpu_ratio: float
    cpu_ratio_max: float
    memory_bytes: int
    restarts: int
    frame_lag_ms: float | None


@dataclass(frozen=True, slots=True)
class Point:
    """One step of a device: means over `count` samples; bytes of the network count from boot."""

    at: datetime
    """Begin of the step; of a raw sample: its own time."""
    count: int
    cpu_ratio: float
    cpu_ratio_max: float
    cpu_per_core: list[float]
    """Of raw samples only."""
    memory_used_bytes: int
    memory_total_bytes: int
    disk_free_bytes: int
    temperature_c: float | None
    throttled: bool | None
    gpu_use_ratio: float | None
    gpu_memory_used_bytes: int | None
    rx_bytes: int | None
    tx_bytes: int | None
    wifi_dbm: float | None
    loss_ratio: float | None
    rtt_ms: float | None
    containers: list[ContainerPoint]


@dataclass(frozen=True, slots=True)
class Series:
    device_id: str
    step_s: int
    """What was used: at least what was asked for, more where only rollups are left."""
    points: list[Point]


@dataclass(frozen=True, slots=True)
class BeforeAfter:
    """Mean CPU of a device in the time before and after a moment; None: no sample there."""

    before: float | None
    after: float | None
    before_count: int
    after_count: int


class TooManyPoints(Invalid):
    code = "metrics.too_many_points"
    detail = Text(
        "조회하면 점이 {points}개가 됩니다 (최대 {limit}개).",
        "This would be {points} points; at most {limit} are answered.",
    )
    remedy = Text("기간을 줄이거나 step_s를 늘리세요.", "Ask for less time, or a larger step_s.")


class BadPeriod(Invalid):
    code = "metrics.bad_period"
    detail = Text("조회 기간이 올바르지 않습니다.", "The period is not valid.")
    remedy = Text("from은 to보다 앞서야 합니다.", "`from` must be before `to`.")


class NoSampleYet(NotFound):
    code = "metrics.no_sample"
    detail = Text(
        "장치 {device_id}의 최신 측정값이 없습니다.", "Device {device_id} has no recent sample."
    )
    remedy = Text(
        "장치의 에이전트가 연결되어 있는지 확인하세요.",
        "Check that the device's agent is connected.",
    )
