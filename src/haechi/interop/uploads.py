"""INTERFACES 4.3: an AI package comes in, freshest first, is built, and only then is ready.

Where the zip is looked for: in the request, in the inbox folder, at the VMS, among what is stored
here. Which bytes win is the order's business; what is wrong with them is the packages domain's.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from haechi.core.access import Principal
from haechi.core.operations import Operation, State
from haechi.domains.builds.model import PlatformRefused
from haechi.domains.packages.model import PackageVersion, Uploaded
from haechi.errors import AppError, Busy
from haechi.interop.codes import Refusal, reply
from haechi.interop.held import Progress
from haechi.interop.lookups import Lookups
from haechi.interop.problems import of_saved, to_refusal
from haechi.interop.services import Services

log = logging.getLogger(__name__)

_PIECE_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Wanted:
    """`candidates`: zip file names, the first that is found counts. `name` "" is the file's."""

    candidates: tuple[str, ...]
    version: str
    name: str = ""
    sent: Path | None = None
    """The zip that came with the request."""

    @property
    def subject(self) -> str:
        return f"package/{self.name or self.candidates[0]}"


class Uploads:
    def __init__(self, services: Services, lookups: Lookups) -> None:
        self._s = services
        self._lookups = lookups

    async def take_in(
        self, wanted: Wanted, by: Principal, progress: Progress
    ) -> tuple[PackageVersion, dict[str, Any]]:
        """Find, store, build. The version and the standard reply. Raises Refusal, AppError."""
        uploaded = await self._find(wanted, by)
        version = uploaded.version
        done = reply("0000", id=version.id)
        refused = await self._build(uploaded, by, progress, done)
        facts = (await self._s.packages.build_facts([version.id])).get(version.id)
        done |= {"digest": facts.image_digest if facts else None, "state": "done"}
        if refused:
            done["detail"] = refused
        return version, done

    # --- find

    async def _find(self, wanted: Wanted, by: Principal) -> Uploaded:
        if wanted.sent is not None:
            return await self._store(_pieces(wanted.sent), wanted.candidates[0], wanted, by)
        for name in wanted.candidates:
            waiting = await asyncio.to_thread(_inbox_file, self._s.inbox, name)
            if waiting is not None:
                uploaded = await self._store(_pieces(waiting), name, wanted, by)
                await asyncio.to_thread(waiting.unlink, missing_ok=True)
                return uploaded
        if self._s.vms is not None:
            for name in wanted.candidates:
                pieces = await self._s.vms.download(name)
                if pieces is not None:
                    return await self._store(pieces, name, wanted, by)
        for name in wanted.candidates:
            uploaded_before = await self._stored(name, wanted, by)
            if uploaded_before is not None:
                return uploaded_before
        shown = ", ".join(wanted.candidates)
        raise Refusal(
            "0020",
            f"zip을 찾을 수 없습니다: {shown}. 요청에 넣거나 inbox 폴더에 두세요.",
            f"There is no zip {shown}; send it with the call or lay it in the inbox folder.",
        )

    async def _stored(self, name: str, wanted: Wanted, by: Principal) -> Uploaded | None:
        versions = await self._lookups.versions_of_file(name)
        same = next((one for one in versions if one.version == wanted.version), None)
        if same is not None:
            return Uploaded(same, "unchanged")
        if not versions:
            return None
        path = await self._s.packages.zip_path(versions[0].id)
        return await self._store(_pieces(path), name, wanted, by)

    async def _store(
        self, pieces: AsyncIterator[bytes], file_name: str, wanted: Wanted, by: Principal
    ) -> Uploaded:
        """Other bytes under a known version are an edit: history is kept."""
        return await self._s.packages.upload(
            pieces,
            file_name=file_name,
            version=wanted.version,
            by=by,
            name=wanted.name or file_name.removesuffix(".zip").removesuffix(".ZIP"),
            replace=True,
        )

    # --- build

    async def _build(
        self, uploaded: Uploaded, by: Principal, progress: Progress, done: dict[str, Any]
    ) -> str:
        """Returns what could not be built for, where something else could."""
        version_id = uploaded.version.id
        platforms = await self._platforms()
        facts = (await self._s.packages.build_facts([version_id])).get(version_id)
        built = set(facts.platforms) if facts else set()
        wanted = [one for one in platforms if one not in built]
        if built and not wanted:
            past = await self._s.operations.find(subject=version_id, limit=1)
            if past.items:  # the one that built it
                done["operation_id"] = past.items[0].id
            return ""
        refused: list[str] = []
        operation: Operation | None = None
        while operation is None:
            try:
                operation = await self._start(version_id, wanted, by)
            except PlatformRefused as error:
                platform = str(error.data.get("platform", ""))
                if platform not in wanted or (len(wanted) == 1 and not built):
                    raise
                wanted.remove(platform)
                refused.append(platform)
                if not wanted:
                    break
        if operation is not None:
            progress.operation(operation.id)
            done["operation_id"] = operation.id
            await self._wait(operation)
        if not refused:
            return ""
        return f"{', '.join(refused)}: 이 서버에서 빌드할 수 없는 플랫폼 (no builder)"

    async def _start(self, version_id: str, platforms: list[str], by: Principal) -> Operation:
        """A build of the version that is under way is waited for, then begun anew."""
        while True:
            try:
                return await self._s.builds.build_version(version_id, platforms, by=by)
            except Busy as busy:
                await self._s.operations.wait(str(busy.data["operation_id"]))

    async def _wait(self, operation: Operation) -> None:
        ended = await self._s.operations.wait(operation.id)
        if ended.state != State.SUCCEEDED:
            raise failure_of(ended)

    async def _platforms(self) -> list[str]:
        """Those of the devices; none known: the server's own."""
        devices = await self._s.inventory.devices.all()
        return sorted({one.platform for one in devices if one.platform and one.role != "server"})


def failure_of(operation: Operation) -> Refusal:
    """Why an operation did not succeed, for an old caller."""
    error: AppError | None = of_saved(operation.error)
    if error is None:
        refusal = Refusal(
            "0014",
            f"작업 {operation.id}이(가) 끝나지 못했습니다 ({operation.state}).",
            f"Operation {operation.id} did not succeed ({operation.state}).",
        )
    else:
        refusal = to_refusal(error)
    refusal.more |= {"operation_id": operation.id, "state": "failed"}
    return refusal


def _inbox_file(inbox: Path, name: str) -> Path | None:
    """A plain file of that name; links and folders do not count."""
    path = inbox / name
    with contextlib.suppress(OSError, ValueError):
        if path.parent == inbox and path.is_file() and not path.is_symlink():
            return path
    return None


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    try:
        file = await asyncio.to_thread(path.open, "rb")
    except OSError as error:
        raise Refusal("0020", "zip을 읽을 수 없습니다.", "The zip cannot be read.") from error
    with file:
        while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
            yield piece
