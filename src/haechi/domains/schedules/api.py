"""REST face of schedules and maintenance hours."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AwareDatetime, Field

from haechi.core.access import Role, requires
from haechi.core.operations.model import error_text
from haechi.domains.deployments.api import DeployIn
from haechi.domains.schedules.model import Hours, Maintenance, Schedule, ScheduleRun, shown
from haechi.domains.schedules.service import Schedules
from haechi.errors import Language
from haechi.rest import Caller, In, Lang, Out, PageOut, PageQuery, UtcTime, check_etag, etag_of

Id = Annotated[str, Field(min_length=1, max_length=128)]
Name = Annotated[str, Field(min_length=1, max_length=128)]
CatchUp = Annotated[int, Field(ge=0, le=7 * 86400)]
Moment = Annotated[AwareDatetime, Field(strict=False)]


class DeployPackageIn(DeployIn):
    """Deploy this version to these devices and the group's members of that day."""

    type: Literal["deploy_package"]

    def arguments(self) -> dict[str, Any]:
        return {
            "version_id": self.version_id,
            "device_ids": self.device_ids,
            "group_id": self.group_id,
            "cluster_id": self.cluster_id,
            "control_planes": self.control_planes,
            "wishes": self.wishes().as_json(),
        }


class RemovePackageIn(In):
    """Remove whatever runs of the package there."""

    type: Literal["remove_package"]
    package_id: Id
    device_ids: list[Id] = Field(default_factory=list, max_length=1000)
    group_id: Id | None = None
    cluster_id: Id | None = None
    """Every worker of this cluster."""
    control_planes: bool = False
    """The cluster's control planes too."""

    def arguments(self) -> dict[str, Any]:
        return self.model_dump(exclude={"type"})


class BackUpClusterIn(In):
    """Back the cluster up."""

    type: Literal["back_up_cluster"]
    cluster_id: Id

    def arguments(self) -> dict[str, Any]:
        return self.model_dump(exclude={"type"})


ActionIn = Annotated[
    DeployPackageIn | RemovePackageIn | BackUpClusterIn, Field(discriminator="type")
]


class ScheduleIn(In):
    name: Name
    action: ActionIn
    at: Moment | None = None
    """Once, at this time. Either this or `cron`."""
    cron: Annotated[str, Field(max_length=200)] | None = None
    """Minute, hour, day, month, weekday."""
    timezone: Annotated[str, Field(max_length=64)] | None = None
    """Of the cron expression and of maintenance hours; absent: the site's."""
    catch_up_s: CatchUp = 3600
    """So late it is still done where the server was away."""
    enabled: bool = True


class ScheduleEditIn(In):
    """The action's kind stays; `at` or `cron` takes the other's place."""

    name: Name | None = None
    action: ActionIn | None = None
    at: Moment | None = None
    cron: Annotated[str, Field(max_length=200)] | None = None
    timezone: Annotated[str, Field(max_length=64)] | None = None
    catch_up_s: CatchUp | None = None
    enabled: bool | None = None

    def changes(self) -> dict[str, Any]:
        given = self.model_dump(exclude_none=True, exclude={"action"})
        if self.action is not None:
            given["arguments"] = self.action.arguments()
        return given


class ScheduleOut(Out):
    id: str
    name: str
    action: str
    arguments: dict[str, Any]
    at: UtcTime | None
    cron: str | None
    timezone: str
    catch_up_s: int
    enabled: bool
    next_at: UtcTime | None
    message: str
    created_by: str
    created_at: UtcTime


class ScheduleRunOut(Out):
    id: str
    schedule_id: str
    due_at: UtcTime
    state: Literal["waiting", "running", "succeeded", "failed", "missed", "skipped"]
    waiting: list[str]
    """Devices whose maintenance hours have not come yet."""
    operations: list[str]
    errors: list[dict[str, Any]]
    """Problems in the caller's language, each with its `device_ids`."""
    started_at: UtcTime | None
    ended_at: UtcTime | None


class HoursIn(In):
    days: Annotated[
        list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]], Field(max_length=7)
    ]
    start: Annotated[str, Field(pattern=r"^[0-2][0-9]:[0-5][0-9]$")]
    """HH:MM of the site."""
    end: Annotated[str, Field(pattern=r"^[0-2][0-9]:[0-5][0-9]$")]
    """Not after the start: on the next day."""


class MaintenanceIn(In):
    hours: Annotated[list[HoursIn], Field(max_length=50)]
    """Empty: at any time."""


class HoursOut(Out):
    days: list[str]
    start: str
    end: str


class MaintenanceOut(Out):
    device_id: str
    hours: list[HoursOut]


def router(schedules: Schedules) -> APIRouter:
    api = APIRouter(tags=["schedules"])
    _schedule_routes(api, schedules)
    _maintenance_routes(api, schedules)
    return api


def _schedule_routes(api: APIRouter, schedules: Schedules) -> None:
    @api.get("/schedules")
    @requires(Role.VIEWER)
    async def list_schedules(
        page: Annotated[PageQuery, Depends()],
        name: Annotated[str | None, Query(max_length=128)] = None,
    ) -> PageOut[ScheduleOut]:
        """By name."""
        found = await schedules.find(name=name, limit=page.limit, cursor=page.cursor)
        return PageOut(items=[_out(one) for one in found.items], next_cursor=found.next_cursor)

    @api.post("/schedules", status_code=201)
    @requires(Role.OPERATOR)
    async def create_schedule(body: ScheduleIn, by: Caller, response: Response) -> ScheduleOut:
        """Do something at a time, once or again and again."""
        made = await schedules.create_schedule(
            body.name,
            body.action.type,
            body.action.arguments(),
            by=by,
            at=body.at,
            cron=body.cron,
            timezone=body.timezone,
            catch_up_s=body.catch_up_s,
            enabled=body.enabled,
        )
        return _shown(made, response)

    @api.get("/schedules/{schedule_id}")
    @requires(Role.VIEWER)
    async def get_schedule(schedule_id: str, response: Response) -> ScheduleOut:
        return _shown(await schedules.get(schedule_id), response)

    @api.patch("/schedules/{schedule_id}")
    @requires(Role.OPERATOR)
    async def edit_schedule(
        schedule_id: str, body: ScheduleEditIn, request: Request, response: Response, by: Caller
    ) -> ScheduleOut:
        known = await schedules.get(schedule_id)
        check_etag(request, _etag(known))
        changed = await schedules.edit_schedule(
            known.id, body.changes(), by=by, revision=known.revision
        )
        return _shown(changed, response)

    @api.delete("/schedules/{schedule_id}", status_code=204)
    @requires(Role.OPERATOR)
    async def delete_schedule(schedule_id: str, by: Caller) -> None:
        """What it has begun already goes on."""
        await schedules.delete_schedule(schedule_id, by=by)

    @api.post("/schedules/{schedule_id}/run", status_code=202)
    @requires(Role.OPERATOR)
    async def run_schedule(schedule_id: str, by: Caller, lang: Lang) -> ScheduleRunOut:
        """Now, whatever the maintenance hours."""
        return _run_out(await schedules.run_schedule(schedule_id, by=by), lang)

    @api.get("/schedules/{schedule_id}/runs")
    @requires(Role.VIEWER)
    async def list_schedule_runs(
        schedule_id: str, page: Annotated[PageQuery, Depends()], lang: Lang
    ) -> PageOut[ScheduleRunOut]:
        """Newest first."""
        found = await schedules.runs(schedule_id, limit=page.limit, cursor=page.cursor)
        items = [_run_out(one, lang) for one in found.items]
        return PageOut(items=items, next_cursor=found.next_cursor)


def _maintenance_routes(api: APIRouter, schedules: Schedules) -> None:
    @api.get("/devices/{device_id}/maintenance")
    @requires(Role.VIEWER)
    async def get_maintenance(device_id: str, response: Response) -> MaintenanceOut:
        """When schedules may disturb the device; no hours: at any time."""
        return _hours(await schedules.maintenance(device_id), response)

    @api.put("/devices/{device_id}/maintenance")
    @requires(Role.OPERATOR)
    async def set_maintenance(
        device_id: str, body: MaintenanceIn, request: Request, response: Response, by: Caller
    ) -> MaintenanceOut:
        known = await schedules.maintenance(device_id)
        check_etag(request, etag_of(known.device_id, known.revision))
        hours = [Hours(list(one.days), one.start, one.end) for one in body.hours]
        changed = await schedules.set_maintenance(
            known.device_id, hours, by=by, revision=known.revision
        )
        return _hours(changed, response)


def _etag(schedule: Schedule) -> str:
    return etag_of(schedule.id, schedule.revision)


def _shown(schedule: Schedule, response: Response) -> ScheduleOut:
    response.headers["ETag"] = _etag(schedule)
    return _out(schedule)


def _hours(maintenance: Maintenance, response: Response) -> MaintenanceOut:
    response.headers["ETag"] = etag_of(maintenance.device_id, maintenance.revision)
    return MaintenanceOut.model_validate(maintenance)


def _out(schedule: Schedule) -> ScheduleOut:
    out = ScheduleOut.model_validate(schedule)
    out.arguments = shown(out.arguments)
    return out


def _run_out(run: ScheduleRun, language: Language) -> ScheduleRunOut:
    out = ScheduleRunOut.model_validate(run)
    out.errors = [
        {**(error_text(one, language) or {}), "device_ids": one["device_ids"]} for one in run.errors
    ]
    return out
