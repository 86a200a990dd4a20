"""Groups of tasks: what a failed child must not leave behind."""

import asyncio
from pathlib import Path

import pytest

import haechi
from haechi.core.tasks import TaskGroup


class Broken(Exception):
    pass


async def fails():
    await asyncio.sleep(0)
    raise Broken


async def test_a_child_that_fails_leaves_its_parent_as_it_was():
    """Otherwise the next time limit that is over would end the whole task (Python 3.11.2)."""
    task = asyncio.current_task()
    for _ in range(2):
        with pytest.raises(ExceptionGroup):
            async with TaskGroup() as group:
                group.create_task(fails())
                group.create_task(asyncio.sleep(3600))
        assert task.cancelling() == 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await asyncio.sleep(3600)


async def test_one_that_fails_in_the_body_does_neither():
    task = asyncio.current_task()
    with pytest.raises(ExceptionGroup):
        async with TaskGroup() as group:
            group.create_task(fails())
            await asyncio.sleep(3600)
    assert task.cancelling() == 0


async def test_whoever_is_cancelled_from_outside_is_cancelled():
    async def works():
        async with TaskGroup() as group:
            group.create_task(asyncio.sleep(3600))

    task = asyncio.get_running_loop().create_task(works())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_time_limit_around_a_group_is_one():
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), TaskGroup() as group:
            group.create_task(asyncio.sleep(3600))


def test_no_other_group_is_used():
    folder = Path(haechi.__file__).parent
    own = folder / "core" / "tasks.py"
    users = [file for file in folder.rglob("*.py") if "asyncio.TaskGroup" in file.read_text()]
    assert users == [own]
