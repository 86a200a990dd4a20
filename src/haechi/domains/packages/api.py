"""REST of packages. The upload's body is the zip itself, read as it comes."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal, cast
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import Field
from starlette.requests import ClientDisconnect

from haechi.core.access import Role, requires
from haechi.domains.packages.inspection import Note
from haechi.domains.packages.manifest import Manifest
from haechi.domains.packages.model import (
    BuildFacts,
    BuildState,
    PackageSummary,
    PackageVersion,
)
from haechi.domains.packages.notes import text_of
from haechi.domains.packages.problems import Incomplete
from haechi.domains.packages.service import PackageFields, Packages
from haechi.errors import Language
from haechi.rest import (
    Caller,
    In,
    Lang,
    Out,
    PageOut,
    PageQuery,
    UtcTime,
    check_etag,
    etag_of,
)

Line = Annotated[str, Field(max_length=128)]
Long = Annotated[str, Field(max_length=2000)]
Paging = Annotated[PageQuery, Depends()]
_ZIP_BODY: Final = {
    "required": True,
    "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
}


class PackageOut(Out):
    id: str
    name: str
    """DNS label, used for images and containers."""
    original_name: str
    title_ko: str
    title_en: str
    description: str
    author: str
    classes: list[str]
    latest_version: str | None
    version_count: int
    revision: int
    created_at: UtcTime
    updated_at: UtcTime

    @classmethod
    def of(cls, summary: PackageSummary) -> "PackageOut":
        package = summary.package
        values = {name: getattr(package, name) for name in type(package).__slots__}
        return cls(
            **values, latest_version=summary.latest_version, version_count=summary.version_count
        )


class PackageEditIn(In):
    title_ko: Line = Field(default_factory=str)
    title_en: Line = Field(default_factory=str)
    description: Long = Field(default_factory=str)
    author: Line = Field(default_factory=str)
    classes: Annotated[list[Line], Field(max_length=1000)] = Field(default_factory=list)

    def fields(self) -> PackageFields:
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return cast("PackageFields", given)


class NoteOut(Out):
    code: str
    text: str
    data: dict[str, Any]


class ImageUseOut(Out):
    reference: str
    kind: Literal["from", "copy", "mount"]
    line: int
    resolved: bool
    """False: it holds variables that only the build knows."""


class VersionOut(Out):
    id: str
    package_id: str
    package_name: str
    version: str
    revision: int
    """How often its content was set; above 1 it was replaced and has a history."""
    file_name: str
    size_bytes: int
    unpacked_bytes: int
    zip_sha256: str
    manifest: dict[str, Any]
    has_manifest: bool
    images: list[ImageUseOut]
    """What its Dockerfile needs from outside."""
    notes: list[NoteOut]
    description: str
    build_state: BuildState
    image_digest: str | None
    platforms: list[str]
    created_at: UtcTime
    created_by: str
    updated_at: UtcTime


class VersionEditIn(In):
    description: Long


class RevisionOut(Out):
    number: int
    zip_sha256: str
    size_bytes: int
    file_name: str
    created_at: UtcTime
    created_by: str


def router(packages: Packages) -> APIRouter:
    api = APIRouter(tags=["packages"])
    _package_routes(api, packages)
    _version_routes(api, packages)
    return api


def _shown(version: PackageVersion, facts: BuildFacts | None, language: Language) -> VersionOut:
    built = facts or BuildFacts()
    values = {
        name: getattr(version, name)
        for name in VersionOut.model_fields
        if name in PackageVersion.__slots__ and name not in {"manifest", "notes"}
    }
    return VersionOut(
        **values,
        manifest=_manifest(version.manifest),
        images=[ImageUseOut(**image) for image in version.dockerfile["images"]],
        notes=[_note(note, language) for note in version.notes],
        build_state=built.state,
        image_digest=built.image_digest,
        platforms=built.platforms,
    )


async def _pieces(request: Request, expected_bytes: int | None) -> AsyncIterator[bytes]:
    """The body as it comes; a caller who goes away ends it with Incomplete."""
    received = 0
    try:
        async for piece in request.stream():
            received += len(piece)
            yield piece
    except ClientDisconnect as error:
        raise Incomplete(expected_bytes=expected_bytes or "?", received_bytes=received) from error


def _manifest(manifest: Manifest) -> dict[str, Any]:
    return manifest.as_json()


def _note(note: Note, language: Language) -> NoteOut:
    return NoteOut(code=note.code, text=text_of(note, language), data=note.data)


def _package_routes(api: APIRouter, packages: Packages) -> None:
    @api.post(
        "/packages/upload",
        status_code=201,
        responses={200: {"model": VersionOut}},
        openapi_extra={"requestBody": _ZIP_BODY},
    )
    @requires(Role.OPERATOR)
    async def upload_package(
        request: Request,
        response: Response,
        by: Caller,
        language: Lang,
        filename: Annotated[str, Query(min_length=1, max_length=255)],
        version: Annotated[str, Query(min_length=1, max_length=200)],
        name: Annotated[str, Query(max_length=128)] = "",
        replace: bool = False,
    ) -> VersionOut:
        """The body is the zip. 201: taken; 200: these bytes were there already, or replaced the
        version's content (`replace`). 409: the version has other content. 422 lists every problem.
        """
        length = request.headers.get("content-length", "")
        expected_bytes = int(length) if length.isdigit() else None
        uploaded = await packages.upload(
            _pieces(request, expected_bytes),
            file_name=filename,
            version=version,
            by=by,
            name=name,
            replace=replace,
            expected_bytes=expected_bytes,
        )
        taken = uploaded.version
        if uploaded.change != "created":
            response.status_code = 200
        response.headers["Location"] = (
            f"/api/v1/packages/{taken.package_id}/versions/{taken.version}"
        )
        facts = await packages.build_facts([taken.id])
        return _shown(taken, facts.get(taken.id), language)

    @api.get("/packages")
    @requires(Role.VIEWER)
    async def list_packages(
        page: Paging, name: Annotated[str | None, Query(max_length=128)] = None
    ) -> PageOut[PackageOut]:
        """By name."""
        found = await packages.find(name=name, limit=page.limit, cursor=page.cursor)
        items = [PackageOut.of(summary) for summary in found.items]
        return PageOut[PackageOut](items=items, next_cursor=found.next_cursor)

    @api.get("/packages/{package_id}")
    @requires(Role.VIEWER)
    async def get_package(package_id: str, response: Response) -> PackageOut:
        """By id or name."""
        summary = await packages.get(package_id)
        response.headers["ETag"] = etag_of(summary.package.id, summary.package.revision)
        return PackageOut.of(summary)

    @api.patch("/packages/{package_id}")
    @requires(Role.OPERATOR)
    async def edit_package(
        package_id: str, body: PackageEditIn, request: Request, response: Response, by: Caller
    ) -> PackageOut:
        """What is set here is not overwritten by the manifest of a later upload."""
        known = (await packages.get(package_id)).package
        check_etag(request, etag_of(known.id, known.revision))
        await packages.edit(known.id, body.fields(), by=by, revision=known.revision)
        summary = await packages.get(known.id)
        response.headers["ETag"] = etag_of(summary.package.id, summary.package.revision)
        return PackageOut.of(summary)

    @api.delete("/packages/{package_id}", status_code=204)
    @requires(Role.OPERATOR)
    async def delete_package(package_id: str, by: Caller, force: bool = False) -> None:
        """With all its versions. 409 names where one is deployed."""
        await packages.delete(package_id, by=by, force=force)


def _version_routes(api: APIRouter, packages: Packages) -> None:
    @api.get("/packages/{package_id}/versions")
    @requires(Role.VIEWER)
    async def list_versions(package_id: str, page: Paging, language: Lang) -> PageOut[VersionOut]:
        """Newest first."""
        found = await packages.versions(package_id, limit=page.limit, cursor=page.cursor)
        facts = await packages.build_facts([version.id for version in found.items])
        items = [_shown(version, facts.get(version.id), language) for version in found.items]
        return PageOut[VersionOut](items=items, next_cursor=found.next_cursor)

    @api.get("/packages/{package_id}/versions/{version}")
    @requires(Role.VIEWER)
    async def get_version(
        package_id: str, version: str, response: Response, language: Lang
    ) -> VersionOut:
        """By version text or id."""
        found = await packages.get_version(package_id, version)
        response.headers["ETag"] = etag_of(found.id, found.updated_at)
        facts = await packages.build_facts([found.id])
        return _shown(found, facts.get(found.id), language)

    @api.patch("/packages/{package_id}/versions/{version}")
    @requires(Role.OPERATOR)
    async def edit_version(
        package_id: str,
        version: str,
        body: VersionEditIn,
        request: Request,
        response: Response,
        by: Caller,
        language: Lang,
    ) -> VersionOut:
        """Its description; its content is replaced by an upload with `replace`."""
        known = await packages.get_version(package_id, version)
        check_etag(request, etag_of(known.id, known.updated_at))
        any_revision = request.headers.get("if-match", "").strip() == "*"
        await packages.edit_version(
            known.id,
            body.description,
            by=by,
            known_at=None if any_revision else known.updated_at,
        )
        found = await packages.version(known.id)
        response.headers["ETag"] = etag_of(found.id, found.updated_at)
        facts = await packages.build_facts([found.id])
        return _shown(found, facts.get(found.id), language)

    @api.delete("/packages/{package_id}/versions/{version}", status_code=204)
    @requires(Role.OPERATOR)
    async def delete_version(
        package_id: str, version: str, by: Caller, force: bool = False
    ) -> None:
        """409 names where it is deployed."""
        await packages.delete_version(package_id, version, by=by, force=force)

    @api.get("/packages/{package_id}/versions/{version}/revisions")
    @requires(Role.VIEWER)
    async def list_revisions(package_id: str, version: str) -> PageOut[RevisionOut]:
        """Every content the version had, the current one first."""
        found = await packages.get_version(package_id, version)
        revisions = await packages.revisions(found.id)
        items = [RevisionOut.model_validate(revision) for revision in revisions]
        return PageOut[RevisionOut](items=items, next_cursor=None)

    @api.get(
        "/packages/{package_id}/versions/{version}/zip",
        response_class=FileResponse,
        responses={200: {"content": {"application/zip": {}}}},
    )
    @requires(Role.VIEWER)
    async def download_version(
        package_id: str,
        version: str,
        revision: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    ) -> FileResponse:
        """The zip as it was uploaded; ranges are answered."""
        found = await packages.get_version(package_id, version)
        path = await packages.zip_path(found.id, revision=revision)
        file_name = f"{found.package_name}-{found.version}.zip"
        return FileResponse(
            path,
            media_type="application/zip",
            headers={
                "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file_name)}",
                "ETag": f'"{path.stem}"',
                "X-Content-Type-Options": "nosniff",
            },
        )
