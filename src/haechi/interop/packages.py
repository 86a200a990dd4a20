"""INTERFACES 4.3, 4.4 and /download: AI packages are uploaded, edited, removed, handed out."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from haechi.domains.packages.model import PackageVersion
from haechi.domains.packages.problems import StillDeployed
from haechi.errors import AppError, Busy, Text
from haechi.interop import fields as f
from haechi.interop.codes import Refusal, reply
from haechi.interop.endpoint import Answer, Call, Endpoint
from haechi.interop.fields import Field, read_fields
from haechi.interop.held import HeldCalls, Progress, key_of
from haechi.interop.inventory import zip_name
from haechi.interop.lookups import Lookups
from haechi.interop.multipart import Reader
from haechi.interop.problems import to_refusal
from haechi.interop.services import Services
from haechi.interop.uploads import Uploads, Wanted

MAX_FILE_BYTES: Final = 2 * 1024**3
"""The packages domain has a limit of its own; this one guards the temporary file."""
SENT_PREFIX: Final = ".sent-"
"""Folders of zips that came with a request, beside those that were laid in the inbox."""
_PIECE_BYTES: Final = 256 * 1024

VERSION_FIELD: Final = Field(
    ("version",), f.VERSION, Text("버전 = 이미지 태그", "version = image tag"), required=True
)
FILE_FIELD: Final = Field(
    ("filename",), f.FILE_NAME, Text("zip 파일 이름", "zip file name"), required=True
)
URL_FIELD: Final = Field(
    ("fileUrl", "fileURL"),
    f.URL,
    Text("filename 대신: 마지막 경로 조각", "instead of filename: its last path segment"),
)
UPLOAD_FIELDS: Final = (replace(FILE_FIELD, required=False), URL_FIELD, VERSION_FIELD)
AI_FIELD: Final = Field(("id", "aid", "sid"), f.ID, Text("AI ID", "AI id"), required=True)


class PackageCalls:
    def __init__(
        self, services: Services, lookups: Lookups, held: HeldCalls, uploads: Uploads
    ) -> None:
        self._s = services
        self._lookups = lookups
        self._held = held
        self._uploads = uploads

    async def upload(self, call: Call) -> Answer:
        if call.stream is not None:
            return await self._upload_sent(call)
        name = call.get("filename") or file_of_url(call.get("fileUrl"))
        return Answer(await self._run(call, Wanted((zip_name(name),), call.values["version"])))

    async def _run(self, call: Call, wanted: Wanted, sha256: str = "") -> dict[str, object]:
        async def work(progress: Progress) -> dict[str, object]:
            try:
                _, done = await self._uploads.take_in(wanted, call.caller.by, progress)
                return done
            finally:
                await _discard(wanted)

        asked = {"wanted": wanted.candidates, "version": wanted.version, "sha256": sha256}
        key = key_of("upload", asked)
        return await self._held.run(key, [wanted.subject], work, disconnected=call.disconnected)

    async def _upload_sent(self, call: Call) -> Answer:
        """multipart: `file` and `version`; the file's own name counts unless `filename` is sent."""
        folder = Path(tempfile.mkdtemp(dir=self._s.inbox, prefix=SENT_PREFIX))
        wanted = None
        try:
            target = folder / "sent.zip"
            reader = Reader(call.content_type, target, max_file_bytes=MAX_FILE_BYTES)
            assert call.stream is not None
            form = await reader.read(call.stream())
            body = {**form.fields, "filename": form.fields.get("filename") or form.file_name}
            values = read_fields((FILE_FIELD, VERSION_FIELD), body, strict=False)
            if not form.has_file:
                raise Refusal("0020", "file이 없습니다.", "There is no part named file.")
            wanted = Wanted((zip_name(values["filename"]),), values["version"], sent=target)
            return Answer(await self._run(call, wanted, form.sha256))
        finally:
            # The work that uses the file removes it, also long after this call was answered.
            if wanted is None or not self._held.is_running(wanted.subject):
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def remove(self, call: Call) -> Answer:
        version = await self._lookups.ai(call.values["id"])
        return Answer(await self.remove_version(call, version))

    async def remove_version(self, call: Call, version: PackageVersion) -> dict[str, object]:
        async def work(progress: Progress) -> dict[str, object]:
            try:
                await self._s.packages.delete_version(
                    version.package_id, version.id, by=call.caller.by
                )
            except StillDeployed as error:
                raise await self._still_deployed(error) from error
            done = reply("0000", state="done")
            operation_id = await self._collect(call)
            if operation_id:
                progress.operation(operation_id)
                done["operation_id"] = operation_id
            return done

        key = key_of("remove_ai", {"id": version.id})
        subjects = [f"package/{version.package_name}", f"version/{version.id}"]
        return await self._held.run(key, subjects, work, disconnected=call.disconnected)

    async def _still_deployed(self, error: StillDeployed) -> Refusal:
        refusal = to_refusal(error)
        shown = await self._lookups.shown_devices()
        refusal.more["nodes"] = [
            {
                "id": shown(row["device_id"]) if "device_id" in row else row.get("id", ""),
                "name": row.get("name", ""),
                "version": row.get("version", ""),
            }
            for row in sorted(error.data["where"], key=lambda row: str(row.get("name")))
        ]
        return refusal

    async def _collect(self, call: Call) -> str:
        """The registry forgets its images; a collection that runs already sees to it too."""
        try:
            operation = await self._s.registry.collect(by=call.caller.by)
        except Busy as busy:
            return str(busy.data["operation_id"])
        await self._s.operations.wait(operation.id)
        return operation.id

    async def download(self, call: Call) -> Answer:
        name = call.values["filename"]
        versions = await self._lookups.versions_of_file(name)
        for version in versions:
            try:
                path = await self._s.packages.zip_path(version.id)
            except AppError:
                continue
            size_bytes = (await asyncio.to_thread(path.stat)).st_size
            headers = {
                "Content-Length": str(size_bytes),
                "Content-Disposition": f"attachment; filename*=UTF-8''{quote(zip_name(name))}",
            }
            return Answer(_file(path), 200, "application/zip", headers)
        raise Refusal(
            "0020", f"zip '{name}'이(가) 없습니다.", f"There is no zip '{name}'.", status=404
        )


async def _discard(wanted: Wanted) -> None:
    if wanted.sent is not None:
        await asyncio.to_thread(shutil.rmtree, wanted.sent.parent, ignore_errors=True)


def file_of_url(url: str | None) -> str:
    """The last path segment. Raises Refusal 0015, 0019."""
    if not url:
        raise Refusal("0015", "필수 값이 없습니다: filename", "Missing: filename")
    try:
        name = unquote(urlsplit(url).path.rpartition("/")[2])
    except ValueError as error:
        raise Refusal("0019", "fileUrl을 읽을 수 없습니다.", "fileUrl is no URL.") from error
    checked = read_fields((FILE_FIELD,), {"filename": name}, strict=False)
    return str(checked["filename"])


async def _file(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    with file:
        while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
            yield piece


def endpoints(calls: PackageCalls) -> list[Endpoint]:
    removes = [
        Endpoint(
            "POST",
            path,
            calls.remove,
            section,
            Text("AI 버전 삭제 (2.5.4)", "Remove a version of an AI (2.5.4)"),
            (AI_FIELD,),
            ("nodes",),
            ("0004", "0014"),
            long=True,
        )
        for path, section in (
            ("/remove_uploadedEdgeAi", "4.4"),
            ("/remove_edgeAi", "7"),
            ("/remove_edgeAI", "7"),
            ("/request_remove_edgeAi", "7"),
        )
    ]
    return [
        Endpoint(
            "POST",
            "/upload_edgeAi",
            calls.upload,
            "4.3",
            Text("AI 추가·수정 (2.5.3, 2.5.5)", "Add or edit an AI (2.5.3, 2.5.5)"),
            UPLOAD_FIELDS,
            ("id", "digest"),
            ("0003", "0014", "0019", "0020"),
            multipart=True,
            long=True,
        ),
        *removes,
        Endpoint(
            "GET",
            "/download",
            calls.download,
            "3",
            Text("zip 내려받기 (최신 버전)", "Download a zip (newest version)"),
            (FILE_FIELD,),
            ("(zip)",),
            ("0020",),
            needs="look",
        ),
    ]
