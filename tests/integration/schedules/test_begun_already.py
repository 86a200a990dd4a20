"""What an action began before the server died is found again: it is no other work in the way."""

import asyncio
from types import SimpleNamespace

import pytest

from haechi.core.access import Principal, Role
from haechi.core.bus import Bus
from haechi.core.clock import SystemClock, to_ms
from haechi.core.db import Database
from haechi.core.operations import Definition, Operations, Step
from haechi.core.pages import Page
from haechi.domains.schedules.neighbours import BackUpCluster, RemovePackage
from haechi.errors import Busy, Text

BY = Principal(kind="system", id="sch-a", name="nightly", role=Role.OPERATOR)
WORDS = Text("일", "work")


@pytest.fixture
async def operations(tmp_path):
    """Of both kinds, and another; none of them ends."""
    db = Database(tmp_path / "control.db")
    await db.create_all()
    clock = SystemClock()
    made = Operations(db, Bus(lambda: to_ms(clock.now())), clock, tmp_path / "operations")

    async def act(_run):
        await asyncio.Event().wait()

    for kind in ("remove_deployment", "back_up_cluster", "rollback_deployment"):
        made.register(Definition(kind, WORDS, [Step("act", WORDS, act)]))
    yield made
    await made.close()
    await db.close()


class Deployments:
    """Two containers of the package on each device, each with a subject of its own."""

    def __init__(self, operations):
        self._operations = operations
        self.book = self

    async def find(self, *, device_id, package_id, limit):
        ids = [f"{device_id}/{package_id}-{n}" for n in (1, 2)]
        return Page([SimpleNamespace(id=one) for one in ids], None)

    async def remove_deployment(self, deployment_id, *, by):
        ctx = {"deployment_id": deployment_id}
        return await self._operations.start(
            "remove_deployment", deployment_id, ctx, requested_by=by.name
        )


class Upkeep:
    def __init__(self, operations):
        self._operations = operations

    async def back_up_cluster(self, cluster_id, *, by):
        return await self._operations.start("back_up_cluster", cluster_id, {}, requested_by=by.name)


async def test_removals(operations):
    action = RemovePackage(Deployments(operations), None, None, operations)
    arguments = {"package_id": "pkg"}
    begun = [one.id for one in await action.begin(arguments, ["dev-a", "dev-b"], BY)]
    assert len(begun) == 4
    again = await action.begin(arguments, ["dev-a", "dev-b"], BY)
    assert [one.id for one in again] == begun


async def test_a_removal_that_other_work_hinders_is_told_beside_those_begun(operations):
    action = RemovePackage(Deployments(operations), None, None, operations)
    other = await operations.start("rollback_deployment", "dev-a/pkg-1", {}, requested_by="kim")
    with pytest.raises(Busy) as caught:
        await action.begin({"package_id": "pkg"}, ["dev-a"], BY)
    assert caught.value.data["operation_id"] == other.id
    assert await operations.active_on("dev-a/pkg-2") is not None


async def test_a_backup(operations):
    action = BackUpCluster(None, Upkeep(operations), operations)
    (begun,) = await action.begin({"cluster_id": "clu-a"}, [], BY)
    (again,) = await action.begin({"cluster_id": "clu-a"}, [], BY)
    assert again.id == begun.id
    other = await operations.start("rollback_deployment", "clu-b", {}, requested_by="kim")
    with pytest.raises(Busy) as caught:
        await action.begin({"cluster_id": "clu-b"}, [], BY)
    assert caught.value.data["operation_id"] == other.id
