"""Per-host progress of one operation: live in its result, and line by line in its log.

`ctx["hosts"]` has an entry for each device: name, stage, ratio, and the error that put it out.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from haechi.core.operations import Run
from haechi.domains.clusters.model import Member
from haechi.errors import AppError, catalogue


class Board:
    def __init__(self, run: Run) -> None:
        self._run = run
        self._hosts: dict[str, dict[str, Any]] = run.ctx.setdefault("hosts", {})
        run.ctx.setdefault("result", {})["hosts"] = self._hosts

    async def stage(self, member: Member, stage: str, ratio: float | None = None) -> None:
        """Where a host is now: `checking`, `preparing`, `joining`, …, `ready`. `ratio` is of the
        whole operation.
        """
        entry = self.entry(member)
        entry["stage"] = stage
        self._run.progress(ratio, f"{member.node_name}: {stage}")
        await self._run.save()

    def stage_of(self, member: Member) -> str:
        return str(self._hosts.get(member.device_id, {}).get("stage", ""))

    def part(self, member: Member, ratio: float) -> None:
        """How far the stage itself is; not saved."""
        self.entry(member)["ratio"] = round(min(max(ratio, 0.0), 1.0), 3)

    def log(self, member: Member) -> Callable[[str], None]:
        name = member.node_name

        def line(text: str) -> None:
            self._run.log(f"[{name}] {text}")

        return line

    def failed(self, member: Member, error: AppError) -> None:
        """It is out of this operation; the others go on."""
        entry = self.entry(member)
        entry["stage"] = "failed"
        entry["error"] = {"code": error.code, "data": error.data}
        self._run.log(f"[{member.node_name}] !! {error}")

    def forgive(self, member: Member) -> None:
        self.entry(member).pop("error", None)

    def error_of(self, device_id: str) -> Mapping[str, Any] | None:
        return self._hosts.get(device_id, {}).get("error")

    def raised(self, member: Member) -> AppError | None:
        """The error that put it out, as it was raised."""
        saved = self.error_of(member.device_id)
        cls = catalogue().get(saved["code"]) if saved else None
        return None if cls is None or saved is None else cls(**saved["data"])

    def going_on(self, members: Sequence[Member]) -> list[Member]:
        return [one for one in members if self.error_of(one.device_id) is None]

    def out(self, members: Sequence[Member]) -> list[Member]:
        return [one for one in members if self.error_of(one.device_id) is not None]

    def entry(self, member: Member) -> dict[str, Any]:
        """What is told of a host; made where nothing was told of it yet."""
        return self._hosts.setdefault(
            member.device_id, {"name": member.node_name, "role": member.role}
        )
