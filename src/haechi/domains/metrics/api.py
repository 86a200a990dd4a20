"""REST of metrics, and `/metrics` for Prometheus at the root."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from haechi.core.access import Role, requires
from haechi.core.clock import to_ms
from haechi.domains.metrics.exposition import CONTENT_TYPE, Exposition
from haechi.domains.metrics.model import ContainerPoint, Point
from haechi.domains.metrics.service import Metrics
from haechi.errors import BadRequest
from haechi.rest import Out, UtcTime


class ContainerSampleOut(Out):
    deployment_id: str
    cpu_ratio: float
    """Of the device's CPU capacity."""
    cpu_ratio_max: float
    memory_bytes: int
    restarts: int
    frame_lag_ms: float | None

    @classmethod
    def of(cls, point: ContainerPoint) -> "ContainerSampleOut":
        return cls.model_validate(point)


class GpuOut(Out):
    use_ratio: float
    memory_used_bytes: int


class NetOut(Out):
    rx_bytes: int
    """Counts from boot."""
    tx_bytes: int
    wifi_dbm: float | None
    loss_ratio: float | None
    rtt_ms: float | None


class SampleOut(Out):
    """One step of a device; ratios are of the device's own limits."""

    at: UtcTime
    count: int
    """How many one-second samples stand behind it."""
    cpu_ratio: float
    cpu_ratio_max: float
    cpu_per_core: list[float]
    """In one-second samples only."""
    memory_used_bytes: int
    memory_total_bytes: int
    disk_free_bytes: int
    temperature_c: float | None
    throttled: bool | None
    gpu: GpuOut | None
    net: NetOut | None
    containers: list[ContainerSampleOut]

    @classmethod
    def of(cls, point: Point) -> "SampleOut":
        gpu = net = None
        if point.gpu_use_ratio is not None:
            gpu = GpuOut(
                use_ratio=point.gpu_use_ratio, memory_used_bytes=point.gpu_memory_used_bytes or 0
            )
        if point.rx_bytes is not None:
            net = NetOut(
                rx_bytes=point.rx_bytes,
                tx_bytes=point.tx_bytes or 0,
                wifi_dbm=point.wifi_dbm,
                loss_ratio=point.loss_ratio,
                rtt_ms=point.rtt_ms,
            )
        return cls(
            at=point.at,
            count=point.count,
            cpu_ratio=point.cpu_ratio,
            cpu_ratio_max=point.cpu_ratio_max,
            cpu_per_core=point.cpu_per_core,
            memory_used_bytes=point.memory_used_bytes,
            memory_total_bytes=point.memory_total_bytes,
            disk_free_bytes=point.disk_free_bytes,
            temperature_c=point.temperature_c,
            throttled=point.throttled,
            gpu=gpu,
            net=net,
            containers=[ContainerSampleOut.of(one) for one in point.containers],
        )


class SamplesOut(Out):
    device_id: str
    step_s: int
    """At least what was asked for; more where only coarser ones are left."""
    items: list[SampleOut]


class BeforeAfterOut(Out):
    before: float | None
    """Mean CPU ratio; None where there is no sample."""
    after: float | None
    before_count: int
    after_count: int


Device = Annotated[str, Query(max_length=64)]


def router(metrics: Metrics) -> APIRouter:
    api = APIRouter(tags=["metrics"])

    @api.get("/metrics/samples")
    @requires(Role.VIEWER)
    async def list_samples(
        device_id: Device,
        from_: Annotated[datetime | None, Query(alias="from")] = None,
        to: datetime | None = None,
        step_s: Annotated[int, Query(ge=1, le=86_400)] = 1,
    ) -> SamplesOut:
        """A device's curve, oldest first; steps without a sample are left out.

        Without a period, the last 300 steps. One-second samples are kept for 48 hours, then
        minutes, then hours.
        """
        found = await metrics.series(
            device_id, from_ms=_ms(from_, "from"), to_ms_=_ms(to, "to"), step_s=step_s
        )
        items = [SampleOut.of(point) for point in found.points]
        return SamplesOut(device_id=found.device_id, step_s=found.step_s, items=items)

    @api.get("/metrics/latest")
    @requires(Role.VIEWER)
    async def get_latest_sample(device_id: Device) -> dict[str, Any]:
        """The newest sample of a device; 404 where it is older than 5 seconds."""
        return metrics.latest(device_id)

    @api.get("/metrics/before-after")
    @requires(Role.VIEWER)
    async def compare_before_after(
        device_id: Device,
        at: datetime,
        before_s: Annotated[int, Query(ge=1, le=86_400)] = 60,
        after_s: Annotated[int, Query(ge=1, le=86_400)] = 60,
    ) -> BeforeAfterOut:
        """Mean CPU of a device before and after a moment, such as a deployment."""
        at_ms = _ms(at, "at")
        assert at_ms is not None
        found = await metrics.before_after(device_id, at_ms, before_s=before_s, after_s=after_s)
        return BeforeAfterOut.model_validate(found)

    return api


def root_router(exposition: Exposition) -> APIRouter:
    api = APIRouter(tags=["metrics"])

    @api.get("/metrics", response_class=Response)
    @requires(Role.VIEWER)
    async def scrape() -> Response:
        """For Prometheus; give it an API token of a viewer."""
        return Response(exposition.render(), headers={"Content-Type": CONTENT_TYPE})

    return api


def _ms(at: datetime | None, name: str) -> int | None:
    if at is None:
        return None
    if at.tzinfo is None:
        raise BadRequest(reason=f"{name}: no time zone")
    return max(to_ms(at), 0)
