"""REST of builds, base images and the site registry."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import Field

from haechi.core.access import Role, requires
from haechi.core.operations.model import error_text
from haechi.domains.builds.model import Build, BuildState
from haechi.domains.builds.registry import SiteRegistry
from haechi.domains.builds.service import Builds
from haechi.domains.packages.service import Packages
from haechi.errors import Language
from haechi.rest import (
    AcceptedOut,
    Caller,
    In,
    Lang,
    Out,
    PageOut,
    PageQuery,
    UtcTime,
    accepted,
    text_so_far,
)

StateName = Literal["queued", "building", "pushing", "succeeded", "failed", "cancelled"]
Reference = Annotated[str, Field(min_length=1, max_length=300)]


class BuildIn(In):
    platforms: Annotated[list[str], Field(max_length=8)] = Field(default_factory=list)
    """Such as `linux/arm64`; none: the server's own."""
    no_cache: bool = False
    """Build anew even where the same content was built before."""


class BaseUseOut(Out):
    source: str
    """As the Dockerfile names it."""
    used: str
    """What was taken for it by the base-image map."""
    platform: str
    line: int
    image_id: str


class BuildOut(Out):
    id: str
    package_id: str
    version_id: str
    platform: str
    state: StateName
    operation_id: str | None
    reused_from: str | None
    """The equal build whose image was taken over."""
    base_images: list[BaseUseOut]
    image: str
    """Pinned by digest; empty until it is in the registry."""
    digest: str
    size_bytes: int
    error: dict[str, Any] | None
    """The problem that ended it, in the caller's language."""
    created_at: UtcTime
    started_at: UtcTime | None
    ended_at: UtcTime | None
    duration_s: float | None


class BaseImageIn(In):
    source: Reference
    """What Dockerfiles say, such as `python:3.11-slim`."""
    target: Reference
    """What is taken instead: an image that the builder has or can pull."""


class BaseImageOut(Out):
    source: str
    target: str
    changed_at: UtcTime


class MappedImageOut(BaseImageOut):
    operation_id: str | None
    """Stores `target` in the site registry ahead of the builds; builds need not wait for it."""


class RegistryTagOut(Out):
    tag: str
    digest: str
    size_bytes: int
    platforms: list[str]


class RegistryRepositoryOut(Out):
    name: str
    size_bytes: int
    """Each layer once, though several versions share it."""
    tags: list[RegistryTagOut]


class RegistryOut(Out):
    reference: str
    running: bool
    read_only: bool
    """Space is being freed: pulls work, pushes wait."""
    repositories: list[RegistryRepositoryOut]
    used_bytes: int
    disk_free_bytes: int
    disk_total_bytes: int


def router(builds: Builds, registry: SiteRegistry, packages: Packages) -> APIRouter:
    api = APIRouter(tags=["builds"])
    _build_routes(api, builds, packages)
    _base_image_routes(api, builds)
    _registry_routes(api, registry)
    return api


def _shown(build: Build, language: Language) -> BuildOut:
    values = {name: getattr(build, name) for name in BuildOut.model_fields if name != "error"}
    values["base_images"] = [BaseUseOut.model_validate(use) for use in build.base_images]
    values["state"] = build.state.value
    return BuildOut(**values, error=error_text(build.error, language))


def _build_routes(api: APIRouter, builds: Builds, packages: Packages) -> None:
    @api.post("/packages/{package_id}/versions/{version}/build", status_code=202)
    @requires(Role.OPERATOR)
    async def build_version(
        package_id: str,
        version: str,
        response: Response,
        by: Caller,
        body: BuildIn | None = None,
    ) -> AcceptedOut:
        """Build it into the site registry. 409 `builds.no_builder_for_platform` where nothing
        here can build for a platform, `core.busy` while it is being built.
        """
        found = await packages.get_version(package_id, version)
        wanted = body or BuildIn()
        operation = await builds.build_version(
            found.id, wanted.platforms, by=by, no_cache=wanted.no_cache
        )
        return accepted(response, operation)

    @api.get("/builds")
    @requires(Role.VIEWER)
    async def list_builds(
        page: Annotated[PageQuery, Depends()],
        language: Lang,
        version_id: Annotated[str | None, Query(max_length=32)] = None,
        package_id: Annotated[str | None, Query(max_length=32)] = None,
        state: StateName | None = None,
    ) -> PageOut[BuildOut]:
        """Newest first."""
        found = await builds.find(
            version_id=version_id,
            package_id=package_id,
            state=BuildState(state) if state else None,
            limit=page.limit,
            cursor=page.cursor,
        )
        items = [_shown(build, language) for build in found.items]
        return PageOut[BuildOut](items=items, next_cursor=found.next_cursor)

    @api.get("/builds/{build_id}")
    @requires(Role.VIEWER)
    async def get_build(build_id: str, language: Lang) -> BuildOut:
        return _shown(await builds.get(build_id), language)

    @api.get(
        "/builds/{build_id}/log",
        response_class=PlainTextResponse,
        responses={200: {"content": {"text/plain": {}}}},
    )
    @requires(Role.VIEWER)
    async def get_build_log(build_id: str, follow: bool = False) -> Response:
        """The log so far, or with `follow` as it is written until the build has ended."""
        path = await builds.log_path(build_id)
        if follow:
            return StreamingResponse(
                builds.follow_log(build_id), media_type="text/plain; charset=utf-8"
            )
        return PlainTextResponse("") if path is None else text_so_far(path)


def _base_image_routes(api: APIRouter, builds: Builds) -> None:
    @api.get("/base-images")
    @requires(Role.VIEWER)
    async def list_base_images() -> PageOut[BaseImageOut]:
        """The map that is applied to every FROM, COPY --from and RUN --mount from."""
        entries = await builds.base_images()
        items = [BaseImageOut.model_validate(entry) for entry in entries]
        return PageOut[BaseImageOut](items=items, next_cursor=None)

    @api.put("/base-images")
    @requires(Role.OPERATOR)
    async def map_base_image(body: BaseImageIn, by: Caller) -> MappedImageOut:
        """Builds from now on take `target` for `source`."""
        entry, operation = await builds.map_base_image(body.source, body.target, by=by)
        return MappedImageOut(
            source=entry.source,
            target=entry.target,
            changed_at=entry.changed_at,
            operation_id=operation.id if operation else None,
        )

    @api.delete("/base-images", status_code=204)
    @requires(Role.OPERATOR)
    async def unmap_base_image(
        source: Annotated[str, Query(min_length=1, max_length=300)], by: Caller
    ) -> None:
        await builds.unmap_base_image(source, by=by)


def _registry_routes(api: APIRouter, registry: SiteRegistry) -> None:
    @api.get("/registry")
    @requires(Role.VIEWER)
    async def get_registry() -> RegistryOut:
        """What the site registry holds, and the space it takes."""
        return RegistryOut.model_validate(await registry.state())

    @api.post("/registry/collect", status_code=202)
    @requires(Role.OPERATOR)
    async def collect_registry(response: Response, by: Caller) -> AcceptedOut:
        """Delete images of deleted versions and free space; runs by itself after deletions."""
        return accepted(response, await registry.collect(by=by))
