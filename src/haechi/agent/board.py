"""The assignments each AI holds: which cameras, under which revision, at which local address.

From the desired state (and, until that names a deployment, from its `container.start`). An AI
polls with the revision it knows and is answered when its own list changes. Addresses are of this
device's media and may come later than the assignment, which then waits: an AI is never handed a
camera it cannot open. Knows no HTTP.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from haechi.agent import boot
from haechi.protocol.assignments import Assignment, AssignmentList

UrlOf = Callable[[Assignment], str]
"""The local address of an assignment's camera; "" while there is none."""

_FIRST_REVISION: Final = 1


class Board:
    def __init__(self) -> None:
        self._lists: dict[str, AssignmentList] = {}
        self._changed = asyncio.Condition()
        # A restart of the agent must not repeat a revision with another meaning.
        self._next = max(_FIRST_REVISION, boot.wall_ms())

    def of(self, deployment_id: str) -> AssignmentList:
        known = self._lists.get(deployment_id)
        return known or AssignmentList(revision=0, assignments=[])

    @property
    def handed_out(self) -> list[str]:
        return [one.id for listed in self._lists.values() for one in listed.assignments]

    def only_camera(self, deployment_id: str) -> str | None:
        cameras = {one.camera_id for one in self.of(deployment_id).assignments}
        return cameras.pop() if len(cameras) == 1 else None

    def find(
        self, deployment_id: str, *, assignment_id: str | None, camera_id: str | None
    ) -> Assignment | None:
        for one in self.of(deployment_id).assignments:
            if one.id == assignment_id or (assignment_id is None and one.camera_id == camera_id):
                return one
        return None

    async def put(self, assignments: Iterable[Assignment], url_of: UrlOf) -> bool:
        """Make these the assignments of the device; True where any AI's list changed."""
        lists: dict[str, list[Assignment]] = {}
        for one in _highest_epochs(assignments):
            filled = msgspec.structs.replace(one, url=url_of(one))
            if filled.url:
                lists.setdefault(one.deployment_id, []).append(filled)
        changed = False
        for deployment_id in lists.keys() | self._lists.keys():
            new = sorted(lists.get(deployment_id, []), key=lambda one: one.id)
            known = self._lists.get(deployment_id)
            if known is not None and known.assignments == new:
                continue
            self._next += 1
            self._lists[deployment_id] = AssignmentList(revision=self._next, assignments=new)
            changed = True
        if changed:
            async with self._changed:
                self._changed.notify_all()
        return changed

    async def wait(self, deployment_id: str, revision: str, wait_s: float) -> AssignmentList | None:
        """The list once its revision differs from the one known, None where time ran out."""

        def differs() -> bool:
            return not revision or str(self.of(deployment_id).revision) != revision

        try:
            async with asyncio.timeout(wait_s), self._changed:
                _ = await self._changed.wait_for(differs)
        except TimeoutError:
            if not differs():
                return None
        return self.of(deployment_id)


def _highest_epochs(assignments: Iterable[Assignment]) -> list[Assignment]:
    """One per (deployment, camera): the highest epoch, of equal ones the lower id."""
    best: dict[tuple[str, str], Assignment] = {}
    for one in assignments:
        key = (one.deployment_id, one.camera_id)
        known = best.get(key)
        if known is None or (one.epoch, known.id) > (known.epoch, one.id):
            best[key] = one
    return list(best.values())
