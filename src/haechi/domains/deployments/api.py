"""REST face of deployments and assignments."""

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import Field

from haechi.core.access import Principal, Role, requires
from haechi.domains.deployments.model import MAX_WAIT_S, Assignment, Deployment, Wishes
from haechi.domains.deployments.ports import Places
from haechi.domains.deployments.service import Deployments
from haechi.errors import NotFound
from haechi.rest import AcceptedOut, Caller, In, Out, PageOut, PageQuery, UtcTime, accepted

HIDDEN = "***"
Id = Annotated[str, Field(min_length=1, max_length=128)]
WaitS = Annotated[float, Field(ge=0, le=MAX_WAIT_S)]
DEFAULT_WAIT_S = 3600.0
Fps = Annotated[float, Field(gt=0, le=60)]
EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
EnvironmentValue = Annotated[str, Field(max_length=10_000)]


class ResourcesIn(In):
    """Limits of the container; absent: what the package asks for."""

    cpu: Annotated[float, Field(gt=0, le=1024)] | None = None
    """Cores."""
    memory_bytes: Annotated[int, Field(ge=8 * 1024**2)] | None = None


class CamerasIn(In):
    """How cameras are handed to it, where the package takes cameras."""

    assign: bool = True
    """Hand over the device's cameras where nothing is replaced."""
    camera_ids: Annotated[list[Id], Field(max_length=200)] | None = None
    """These cameras instead."""
    mode: Literal["watch", "focus", "precise", "standby"] = "watch"
    fps: Fps = 5.0
    stream: Literal["main", "sub"] = "main"


class DeployIn(In):
    version_id: Id
    device_ids: list[Id] = Field(default_factory=list, max_length=1000)
    group_id: Id | None = None
    cluster_id: Id | None = None
    """Every worker of this cluster."""
    control_planes: bool = False
    """The cluster's control planes too."""
    strategy: Literal["overlap", "recreate"] | None = None
    """Absent: the package's, else chosen by what fits."""
    environment: dict[EnvironmentName, EnvironmentValue] = Field(
        default_factory=dict, max_length=200
    )
    resources: ResourcesIn = ResourcesIn()
    allow: list[Literal["internet", "privileged"]] = Field(default_factory=list, max_length=2)
    """Your agreement to what the package asks for."""
    cameras: CamerasIn = CamerasIn()
    wait_s: WaitS = DEFAULT_WAIT_S
    """A device that is away is waited for so long, in seconds; the operation can be cancelled."""

    def wishes(self) -> Wishes:
        return Wishes(
            strategy=self.strategy,
            environment=dict(self.environment),
            cpu=self.resources.cpu,
            memory_bytes=self.resources.memory_bytes,
            allow=sorted(set(self.allow)),
            assign=self.cameras.assign,
            camera_ids=self.cameras.camera_ids,
            mode=self.cameras.mode,
            fps=self.cameras.fps,
            stream=self.cameras.stream,
        )


class DeploymentOut(Out):
    id: str
    package_id: str
    package_name: str
    version_id: str
    version: str
    device_id: str
    device_name: str
    engine: str
    image: str
    image_digest: str
    name: str
    """Of the container."""
    strategy: str
    camera: Literal["none", "one", "many"]
    camera_id: str | None
    environment: dict[str, str]
    """A viewer sees the names; the values are `***`, as they may be secrets."""
    cpu: float | None
    memory_bytes: int | None
    generation: int
    desired_state: Literal["running", "stopped"]
    state: Literal["planned", "starting", "running", "stopping", "gone"]
    outcome: Literal["", "failed", "replaced", "removed"]
    observed_state: str
    """What the device says of the container; `unknown` while it has said nothing."""
    restarts: int
    results: int
    """Given since the container started."""
    message: str
    previous_version: str | None
    """Where a rollback would lead."""
    operation_id: str | None
    created_by: str
    created_at: UtcTime
    started_at: UtcTime | None
    """When it was proven."""
    ended_at: UtcTime | None


class AssignIn(In):
    camera_id: Id
    deployment_id: Id
    mode: Literal["watch", "focus", "precise", "standby"] = "watch"
    fps: Fps = 5.0
    stream: Literal["main", "sub"] = "main"


class MoveIn(In):
    deployment_id: Id


class AssignmentOut(Out):
    id: str
    camera_id: str
    deployment_id: str
    package_id: str
    device_id: str
    mode: Literal["watch", "focus", "precise", "standby"]
    fps: float
    stream: Literal["main", "sub"]
    epoch: int
    state: Literal["trial", "active", "ended"]
    replaces: str | None
    until: UtcTime | None
    reason: dict[str, str]
    created_at: UtcTime
    effective_at: UtcTime | None
    ended_at: UtcTime | None


def router(deployments: Deployments, places: Places) -> APIRouter:
    api = APIRouter()
    _deployment_routes(api, deployments, places)
    _assignment_routes(api, deployments)
    return api


def _deployment_routes(api: APIRouter, deployments: Deployments, places: Places) -> None:
    book = deployments.book

    async def to_outs(found: Sequence[Deployment], by: Principal) -> list[DeploymentOut]:
        hide = by.role is None or by.role < Role.OPERATOR
        names: dict[str, str] = {}
        for one in found:
            if one.device_id not in names:
                try:
                    names[one.device_id] = (await places.device(one.device_id)).name
                except NotFound:
                    names[one.device_id] = one.device_id
        outs = [_out(one, names[one.device_id], await book.previous_version(one)) for one in found]
        for out in outs if hide else ():
            out.environment = dict.fromkeys(out.environment, HIDDEN)
        return outs

    @api.post("/deployments", status_code=202, tags=["deployments"])
    @requires(Role.OPERATOR)
    async def deploy_package(body: DeployIn, by: Caller, response: Response) -> AcceptedOut:
        """Deploy a package version to devices, a group or a cluster, replacing what runs there of
        the same package. The outcome of each device is in the operation's result.
        """
        operation = await deployments.deploy_package(
            body.version_id,
            body.device_ids,
            group_id=body.group_id,
            cluster_id=body.cluster_id,
            control_planes=body.control_planes,
            by=by,
            wishes=body.wishes(),
            wait_s=body.wait_s,
        )
        return accepted(response, operation)

    @api.get("/deployments", tags=["deployments"])
    @requires(Role.VIEWER)
    async def list_deployments(
        by: Caller,
        page: Annotated[PageQuery, Depends()],
        device_id: Annotated[str | None, Query(max_length=64)] = None,
        package_id: Annotated[str | None, Query(max_length=64)] = None,
        version_id: Annotated[str | None, Query(max_length=64)] = None,
        include_removed: bool = False,
    ) -> PageOut[DeploymentOut]:
        """Newest first; with `include_removed` the past ones too."""
        found = await book.find(
            device_id=device_id,
            package_id=package_id,
            version_id=version_id,
            include_removed=include_removed,
            limit=page.limit,
            cursor=page.cursor,
        )
        return PageOut(items=await to_outs(found.items, by), next_cursor=found.next_cursor)

    @api.get("/deployments/{deployment_id}", tags=["deployments"])
    @requires(Role.VIEWER)
    async def get_deployment(deployment_id: str, by: Caller) -> DeploymentOut:
        return (await to_outs([await book.get(deployment_id)], by))[0]

    @api.delete("/deployments/{deployment_id}", status_code=202, tags=["deployments"])
    @requires(Role.OPERATOR)
    async def remove_deployment(deployment_id: str, by: Caller, response: Response) -> AcceptedOut:
        """Stop and remove it. A device that is away does so when it returns."""
        return accepted(response, await deployments.remove_deployment(deployment_id, by=by))

    @api.post("/deployments/{deployment_id}/rollback", status_code=202, tags=["deployments"])
    @requires(Role.OPERATOR)
    async def rollback_deployment(
        deployment_id: str,
        by: Caller,
        response: Response,
        wait_s: Annotated[WaitS, Query()] = DEFAULT_WAIT_S,
    ) -> AcceptedOut:
        """Back to the version that ran there before, with its image and settings. A device that
        is away is waited for `wait_s` seconds.
        """
        operation = await deployments.rollback_deployment(deployment_id, by=by, wait_s=wait_s)
        return accepted(response, operation)

    @api.get(
        "/deployments/{deployment_id}/logs",
        response_class=PlainTextResponse,
        tags=["deployments"],
    )
    @requires(Role.VIEWER)
    async def read_deployment_logs(
        deployment_id: str,
        follow: bool = False,
        tail: Annotated[int | None, Query(ge=1, le=100_000)] = None,
    ) -> StreamingResponse:
        """`<time> <line>` each; of a container that is gone, its last lines."""
        lines = book.logs(deployment_id, follow=follow, tail=tail)
        return StreamingResponse(
            await _begun(lines),
            media_type="text/plain; charset=utf-8",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )


def _assignment_routes(api: APIRouter, deployments: Deployments) -> None:
    assignments = deployments.assignments

    @api.get("/assignments", tags=["assignments"])
    @requires(Role.VIEWER)
    async def list_assignments(
        page: Annotated[PageQuery, Depends()],
        camera_id: Annotated[str | None, Query(max_length=64)] = None,
        deployment_id: Annotated[str | None, Query(max_length=64)] = None,
        device_id: Annotated[str | None, Query(max_length=64)] = None,
        include_ended: bool = False,
    ) -> PageOut[AssignmentOut]:
        found = await assignments.find(
            camera_id=camera_id,
            deployment_id=deployment_id,
            device_id=device_id,
            include_ended=include_ended,
            limit=page.limit,
            cursor=page.cursor,
        )
        return PageOut(
            items=[_assignment_out(one) for one in found.items], next_cursor=found.next_cursor
        )

    @api.post("/assignments", status_code=201, tags=["assignments"])
    @requires(Role.OPERATOR)
    async def assign_camera(body: AssignIn, by: Caller) -> AssignmentOut:
        """Hand a camera to a running deployment."""
        made = await assignments.assign_camera(
            body.camera_id,
            body.deployment_id,
            by=by,
            mode=body.mode,
            fps=body.fps,
            stream=body.stream,
        )
        return _assignment_out(made)

    @api.get("/assignments/{assignment_id}", tags=["assignments"])
    @requires(Role.VIEWER)
    async def get_assignment(assignment_id: str) -> AssignmentOut:
        return _assignment_out(await assignments.get(assignment_id))

    @api.post("/assignments/{assignment_id}/move", status_code=201, tags=["assignments"])
    @requires(Role.OPERATOR)
    async def move_assignment(assignment_id: str, body: MoveIn, by: Caller) -> AssignmentOut:
        """Hand the camera to another deployment of the package, on this device or another. The new
        assignment begins as `trial`; it becomes `active`, and the old one ends, with its first
        result.
        """
        return _assignment_out(
            await assignments.move_assignment(assignment_id, body.deployment_id, by=by)
        )

    @api.delete("/assignments/{assignment_id}", status_code=204, tags=["assignments"])
    @requires(Role.OPERATOR)
    async def end_assignment(assignment_id: str, by: Caller) -> None:
        await assignments.end_assignment(assignment_id, by=by)


async def _begun(lines: AsyncIterator[str]) -> AsyncIterator[bytes]:
    """Fetch the first line now, so that a failure is still an error answer."""
    try:
        first: str | None = await anext(lines)
    except StopAsyncIteration:
        first = None

    async def rest() -> AsyncIterator[bytes]:
        if first is not None:
            yield f"{first}\n".encode()
        async for line in lines:
            yield f"{line}\n".encode()

    return rest()


def _out(one: Deployment, device_name: str, previous: str | None) -> DeploymentOut:
    own: dict[str, Any] = {
        name: getattr(one, name)
        for name in DeploymentOut.model_fields
        if name in Deployment.__slots__ and name != "state"
    }
    return DeploymentOut(
        **own,
        device_name=device_name,
        environment=one.wishes.environment,
        cpu=one.wishes.cpu if one.wishes.cpu is not None else one.needs.get("cpu"),
        memory_bytes=one.wishes.memory_bytes or one.needs.get("memory_bytes"),
        desired_state=one.desired,
        state=one.state.value,
        observed_state=one.observed.state if one.observed else "unknown",
        restarts=one.observed.restarts if one.observed else 0,
        results=one.observed.results if one.observed else 0,
        previous_version=previous,
    )


def _assignment_out(one: Assignment) -> AssignmentOut:
    own = {name: getattr(one, name) for name in AssignmentOut.model_fields if name != "state"}
    return AssignmentOut(**own, state=one.state.value)
