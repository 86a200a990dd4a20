"""REST of results: queries here; `POST /results` is served by web.ingest and described here."""

from dataclasses import fields
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field

from haechi.core.access import Role, requires
from haechi.core.clock import to_ms
from haechi.domains.results.model import (
    MAX_BODY_BYTES,
    AllRefused,
    BodyTooLarge,
    Bucket,
    Filter,
    Source,
    StoredResult,
)
from haechi.domains.results.service import Results
from haechi.errors import BadRequest
from haechi.protocol.results import MAX_BATCH, Result
from haechi.rest import Caller, Out, PageOut, PageQuery, UtcTime


class ObjectOut(Out):
    box: tuple[float, float, float, float]
    """x, y, width, height of the frame, 0-1, origin top left."""
    class_: str = Field(alias="class")
    class_prob: float
    track: str | int | None = None


class ResultOut(Out):
    id: str
    camera_id: str | None
    device_id: str
    """The device that computed it."""
    deployment_id: str
    package_id: str
    package_name: str
    version_id: str
    version: str
    image_digest: str
    assignment_id: str | None
    epoch: int | None
    instance: str | None
    seq: int | None
    captured_at: UtcTime
    received_at: UtcTime
    """When the agent had it."""
    stored_at: UtcTime
    """When the server had it."""
    clock: Literal["ok", "uncertain"]
    captured_at_is_arrival: bool
    authoritative: bool
    """False: meanwhile the camera was another device's."""
    class_: str | None = Field(alias="class")
    class_prob: float | None
    took_ms: float | None
    objects: list[ObjectOut]
    attributes: dict[str, Any]
    claimed: dict[str, str]
    """Identities the body gave for itself; shown, never believed."""

    @classmethod
    def of(cls, row: StoredResult) -> "ResultOut":
        source = {field.name: getattr(row.source, field.name) for field in fields(Source)}
        own = {field.name: getattr(row, field.name) for field in fields(row)}
        objects = [
            {"box": o.box, "class": o.class_, "class_prob": o.class_prob, "track": o.track}
            for o in row.objects
        ]
        return cls.model_validate({**source, **own, "class": row.class_, "objects": objects})


class BucketOut(Out):
    at: UtcTime
    """Begin of the bucket."""
    count: int
    """Frames looked at; with a class asked for: frames in which it was seen."""
    by_class: dict[str, int]
    """Objects seen per class; a class of the whole frame counts as one."""

    @classmethod
    def of(cls, bucket: Bucket) -> "BucketOut":
        return cls(at=bucket.at, count=bucket.count, by_class=bucket.by_class)


class RefusedOut(Out):
    index: int
    """Place in the list that was sent."""
    problem: str


class OutcomeOut(Out):
    accepted: int
    repeated: int
    """Known already by `instance` and `seq`."""
    refused: list[RefusedOut]


def _body_schema() -> dict[str, Any]:
    """OpenAPI of the POST body, from the type that decodes it; written out, without references."""
    _, parts = msgspec.json.schema_components([Result], ref_template="{name}")
    one = parts["Result"]
    one["properties"]["objects"]["items"] = parts["DetectedObject"]
    many = {"type": "array", "minItems": 1, "maxItems": MAX_BATCH, "items": one}
    schema = {"oneOf": [one, many]}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


Ref = Annotated[str | None, Query(max_length=64)]
Moment = Annotated[datetime | None, Query()]


def _filter(
    camera_id: Ref = None,
    device_id: Ref = None,
    deployment_id: Ref = None,
    package_id: Ref = None,
    class_: Annotated[str | None, Query(alias="class", max_length=128)] = None,
    from_: Annotated[
        datetime | None, Query(alias="from", description="Captured at or after this time.")
    ] = None,
    to: Annotated[datetime | None, Query(description="Captured before this time.")] = None,
) -> Filter:
    return Filter(
        camera_id=camera_id,
        device_id=device_id,
        deployment_id=deployment_id,
        package_id=package_id,
        class_=class_,
        from_ms=_ms(from_, "from"),
        to_ms=_ms(to, "to"),
    )


def _ms(at: datetime | None, name: str) -> int | None:
    if at is None:
        return None
    if at.tzinfo is None:
        raise BadRequest(reason=f"{name}: no time zone")
    return max(to_ms(at), 0)


def router(results: Results) -> APIRouter:
    api = APIRouter(tags=["results"])

    @api.get("/results")
    @requires(Role.VIEWER)
    async def list_results(
        page: Annotated[PageQuery, Depends()], asked: Annotated[Filter, Depends(_filter)]
    ) -> PageOut[ResultOut]:
        """What the AIs said, newest first."""
        found = await results.find(asked, limit=page.limit, cursor=page.cursor)
        items = [ResultOut.of(row) for row in found.items]
        return PageOut[ResultOut](items=items, next_cursor=found.next_cursor)

    @api.post("/results", openapi_extra=_body_schema())
    @requires(Role.OPERATOR, also={"deployment"})
    async def post_results(request: Request, by: Caller) -> OutcomeOut:
        """For AIs without an agent: one result or a list of up to 1,000, durable when answered.

        A row that is refused does not hold up the others; 422 where every row is refused, 503
        with Retry-After under overload. Who says it comes from the token: identities in the body
        are kept as `claimed`.
        """
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY_BYTES:
                raise BodyTooLarge(limit_bytes=MAX_BODY_BYTES)
        outcome = await results.ingest_body(bytes(body), by)
        refused = [RefusedOut.model_validate(row) for row in outcome.refused]
        if refused and not outcome.accepted and not outcome.repeated:
            told = [row.model_dump() for row in refused]
            raise AllRefused(first=refused[0].problem, refused=told)
        return OutcomeOut(accepted=outcome.accepted, repeated=outcome.repeated, refused=refused)

    @api.get("/results/summary")
    @requires(Role.VIEWER)
    async def summarise_results(
        asked: Annotated[Filter, Depends(_filter)],
        bucket_s: Annotated[int, Query(ge=1, le=86_400)] = 60,
    ) -> PageOut[BucketOut]:
        """Counts per bucket of time, oldest first; without `from` and `to`, the last 60 buckets."""
        buckets = await results.summary(asked, bucket_s=bucket_s)
        items = [BucketOut.of(bucket) for bucket in buckets]
        return PageOut[BucketOut](items=items, next_cursor=None)

    return api
