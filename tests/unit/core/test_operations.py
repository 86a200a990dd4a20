"""The promises of core.operations, on a real SQLite file."""

import asyncio

import pytest

from haechi.core.bus import Bus
from haechi.core.clock import SystemClock
from haechi.core.db import Database
from haechi.core.operations import (
    Definition,
    Operations,
    Permanent,
    State,
    Step,
    Temporary,
    store,
)
from haechi.errors import Busy, Text, TimedOut

T = Text("단계", "step")


class Steps:
    """Records what ran; `fail` maps a step's name to an exception or an event to wait on."""

    def __init__(self):
        self.calls = []
        self.behave = {}

    def step(self, name, **kw):
        async def do(run):
            self.calls.append(name)
            what = self.behave.get(name)
            if isinstance(what, list):
                what = what.pop(0) if what else None
            if isinstance(what, Exception):
                raise what
            if isinstance(what, asyncio.Event):
                await what.wait()
            run.ctx[name] = True
            run.log(f"did {name}")

        async def undo(run):
            self.calls.append(f"undo {name}")

        return Step(name, T, do, undo, **kw)


@pytest.fixture
async def db(tmp_path):
    database = Database(tmp_path / "control.db")
    await database.create_all()
    yield database
    await database.close()


def make_engine(db, tmp_path, *definitions):
    engine = Operations(db, Bus(lambda: 1), SystemClock(), tmp_path / "logs")
    for definition in definitions:
        engine.register(definition)
    return engine


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def test_steps_run_in_order_and_log_is_kept(db, tmp_path):
    steps = Steps()
    engine = make_engine(db, tmp_path, Definition("k", T, [steps.step("a"), steps.step("b")]))
    started = await engine.start("k", "dev-1", {"x": 1}, requested_by="kim")
    ended = await engine.wait(started.id)
    assert ended.state == State.SUCCEEDED
    assert steps.calls == ["a", "b"]
    assert ended.ctx == {"x": 1, "a": True, "b": True}
    assert "did b" in engine.log_path(started.id).read_text()
    await engine.close()


async def test_permanent_failure_undoes_in_reverse(db, tmp_path):
    steps = Steps()
    steps.behave["b"] = Permanent(TimedOut(what="x", timeout_s=1))
    engine = make_engine(
        db, tmp_path, Definition("k", T, [steps.step("a"), steps.step("b"), steps.step("c")])
    )
    ended = await engine.wait((await engine.start("k", "s", {}, requested_by="kim")).id)
    assert ended.state == State.FAILED
    assert ended.error["code"] == "core.timed_out"
    assert steps.calls == ["a", "b", "undo b", "undo a"]
    await engine.close()


async def test_temporary_runs_the_step_again(db, tmp_path):
    steps = Steps()
    steps.behave["a"] = [Temporary(0, TimedOut(what="x", timeout_s=1)), None]
    engine = make_engine(db, tmp_path, Definition("k", T, [steps.step("a")]))
    ended = await engine.wait((await engine.start("k", "s", {}, requested_by="kim")).id)
    assert ended.state == State.SUCCEEDED
    assert steps.calls == ["a", "a"]
    await engine.close()


async def test_temporary_has_a_limit(db, tmp_path):
    steps = Steps()
    steps.behave["a"] = Temporary(0, TimedOut(what="x", timeout_s=1))
    engine = make_engine(db, tmp_path, Definition("k", T, [steps.step("a", temporary_limit=2)]))
    ended = await engine.wait((await engine.start("k", "s", {}, requested_by="kim")).id)
    assert ended.state == State.FAILED
    assert steps.calls == ["a", "a", "a", "undo a"]
    await engine.close()


async def test_subject_is_exclusive_and_the_holder_is_named(db, tmp_path):
    steps = Steps()
    steps.behave["a"] = gate = asyncio.Event()
    engine = make_engine(db, tmp_path, Definition("k", T, [steps.step("a")]))
    first = await engine.start("k", "s", {}, requested_by="kim")
    with pytest.raises(Busy) as caught:
        await engine.start("k", "s", {}, requested_by="lee")
    assert caught.value.data["operation_id"] == first.id
    gate.set()
    await engine.wait(first.id)
    again = await engine.start("k", "s", {}, requested_by="lee")
    assert (await engine.wait(again.id)).state == State.SUCCEEDED
    await engine.close()


@pytest.mark.parametrize("subject", ["dev-1", "dev-1/pkg-1"])
async def test_what_an_operation_claims_is_nobody_elses_either_way(db, tmp_path, subject):
    steps = Steps()
    steps.behave["a"] = gate = asyncio.Event()
    engine = make_engine(db, tmp_path, Definition("k", T, [steps.step("a")]))

    async def refused(*words, **more):
        with pytest.raises(Busy) as caught:
            await engine.start("k", *words, {}, requested_by="lee", **more)
        return caught.value.data

    # Somebody is at work there: it cannot be claimed.
    first = await engine.start("k", subject, {}, requested_by="kim")
    said = await refused("cluster", claims=["dev-0", "dev-1"])
    assert said == {"subject": "dev-1", "operation_id": first.id, "kind": "k"}
    assert await engine.active_on("cluster") is None
    near = await engine.start("k", "near", {}, requested_by="kim", claims=["dev-2", "dev"])
    gate.set()
    await engine.wait(first.id)
    await engine.wait(near.id)
    # It is claimed: nobody begins there, nor claims it too. Others go on.
    gate.clear()
    claimer = await engine.start("k", "cluster", {}, requested_by="kim", claims=["dev-0", "dev-1"])
    assert (await refused(subject))["operation_id"] == claimer.id
    assert (await refused("other", claims=["dev-1"]))["subject"] == "dev-1"
    assert (await engine.at_work_on(subject)).id == claimer.id
    assert await engine.at_work_on("dev-12") is None
    other = await engine.start("k", "dev-12", {}, requested_by="kim")
    gate.set()
    await engine.wait(claimer.id)
    await engine.wait(other.id)
    assert await engine.at_work_on(subject) is None
    again = await engine.start("k", subject, {}, requested_by="lee")
    assert (await engine.wait(again.id)).state == State.SUCCEEDED
    await engine.close()


async def test_an_operation_claims_more_on_its_way_once_nobody_is_at_work_there(db, tmp_path):
    steps = Steps()
    steps.behave["a"] = gate = asyncio.Event()
    engine = make_engine(db, tmp_path, Definition("k", T, [steps.step("a")]))
    first = await engine.start("k", "dev-1/pkg-1", {}, requested_by="kim")
    claimer = await engine.start("k", "cluster", {}, requested_by="lee", claims=["dev-0"])
    with pytest.raises(Busy) as caught:
        await engine.claim(claimer.id, ["dev-1"])
    assert caught.value.data == {"subject": "dev-1", "operation_id": first.id, "kind": "k"}
    await engine.cancel(first.id)
    await engine.wait(first.id)
    for _ in range(2):  # a step may run again
        await engine.claim(claimer.id, ["dev-1"])
    for subject in ("dev-0", "dev-1", "dev-1/pkg-1"):
        with pytest.raises(Busy):
            await engine.start("k", subject, {}, requested_by="kim")
    assert (await engine.get(claimer.id)).claims == ["dev-0", "dev-1"]
    gate.set()
    await engine.wait(claimer.id)
    assert await engine.at_work_on("dev-1") is None
    await engine.close()


async def test_claims_outlive_the_server(db, tmp_path):
    steps = Steps()
    steps.behave["a"] = asyncio.Event()
    definition = Definition("k", T, [steps.step("a")])
    engine = make_engine(db, tmp_path, definition)
    await engine.start("k", "cluster", {}, requested_by="kim", claims=["dev-1"])
    await engine.close()
    engine = make_engine(db, tmp_path, definition)
    await engine.start_engine()
    with pytest.raises(Busy):
        await engine.start("k", "dev-1", {}, requested_by="lee")
    await engine.close()


async def test_work_that_gives_way_hinders_no_claim(db, tmp_path):
    """Whoever claims cancels it; the other way round it is refused like all others."""
    steps = Steps()
    steps.behave["a"] = asyncio.Event()
    gives_way = Definition("little", T, [steps.step("a")], gives_way=True)
    engine = make_engine(db, tmp_path, Definition("k", T, [steps.step("b")]), gives_way)
    little = await engine.start("little", "dev-1", {}, requested_by="system")
    assert (await engine.at_work_on("dev-1")).id == little.id
    assert await engine.at_work_on("dev-1", hindering=True) is None
    steps.behave["b"] = asyncio.Event()
    await engine.start("k", "cluster", {}, requested_by="kim", claims=["dev-1"])
    await engine.cancel(little.id)
    await engine.wait(little.id)
    assert (await engine.at_work_on("dev-1")).kind == "k"
    with pytest.raises(Busy):
        await engine.start("little", "dev-1", {}, requested_by="system")
    await engine.close()


async def test_twenty_starts_at_once_give_one_operation(db, tmp_path):
    steps = Steps()
    steps.behave["a"] = gate = asyncio.Event()
    engine = make_engine(db, tmp_path, Definition("k", T, [steps.step("a")]))
    results = await asyncio.gather(
        *(engine.start("k", "s", {}, requested_by="kim") for _ in range(20)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Busy) for result in results) == 19
    gate.set()
    await engine.close()


async def test_cancel_keeps_the_subject_until_undone(db, tmp_path):
    steps = Steps()
    steps.behave["b"] = asyncio.Event()
    engine = make_engine(db, tmp_path, Definition("k", T, [steps.step("a"), steps.step("b")]))
    operation = await engine.start("k", "s", {}, requested_by="kim")
    await until(lambda: "b" in steps.calls)
    assert (await engine.cancel(operation.id)).state == State.CANCELLING
    ended = await engine.wait(operation.id)
    assert ended.state == State.CANCELLED
    assert steps.calls == ["a", "b", "undo b", "undo a"]
    await engine.close()


async def test_cancel_before_its_turn(db, tmp_path):
    steps = Steps()
    steps.behave["a"] = gate = asyncio.Event()
    engine = make_engine(db, tmp_path, Definition("k", T, [steps.step("a")], parallel=1))
    first = await engine.start("k", "s1", {}, requested_by="kim")
    await until(lambda: steps.calls == ["a"])
    second = await engine.start("k", "s2", {}, requested_by="kim")
    await engine.cancel(second.id)
    assert (await engine.wait(second.id)).state == State.CANCELLED
    gate.set()
    assert (await engine.wait(first.id)).state == State.SUCCEEDED
    assert steps.calls == ["a"]
    await engine.close()


async def test_resumes_after_shutdown_without_repeating_done_steps(db, tmp_path):
    steps = Steps()
    steps.behave["b"] = asyncio.Event()
    definition = Definition("k", T, [steps.step("a"), steps.step("b")])
    engine = make_engine(db, tmp_path, definition)
    operation = await engine.start("k", "s", {}, requested_by="kim")
    await until(lambda: "b" in steps.calls)
    await engine.close()
    assert steps.calls == ["a", "b"]

    steps.behave.clear()
    second = make_engine(db, tmp_path, definition)
    await second.start_engine()
    ended = await second.wait(operation.id)
    assert ended.state == State.SUCCEEDED
    assert ended.attempts == 1
    assert steps.calls == ["a", "b", "b"]
    await second.close()


async def test_a_newer_release_finishes_what_an_older_one_began(db, tmp_path):
    """Steps are found by name: one renamed, one dropped, one new."""
    old = Steps()
    old.behave["wait"] = asyncio.Event()
    engine = make_engine(
        db, tmp_path, Definition("k", T, [old.step("fetch"), old.step("gone"), old.step("wait")])
    )
    operation = await engine.start("k", "s", {}, requested_by="kim")
    await until(lambda: "wait" in old.calls)
    await engine.close()

    new = Steps()
    newer = Definition(
        "k",
        T,
        [new.step("download"), new.step("check"), new.step("wait")],
        renamed={"fetch": "download"},
    )
    second = make_engine(db, tmp_path, newer)
    await second.start_engine()
    assert (await second.wait(operation.id)).state == State.SUCCEEDED
    assert new.calls == ["check", "wait"]
    await second.close()


async def test_unknown_kind_is_left_for_a_release_that_knows_it(db, tmp_path):
    steps = Steps()
    steps.behave["a"] = asyncio.Event()
    engine = make_engine(db, tmp_path, Definition("new-kind", T, [steps.step("a")]))
    operation = await engine.start("new-kind", "s", {}, requested_by="kim")
    await until(lambda: steps.calls == ["a"])
    await engine.close()
    older = make_engine(db, tmp_path)
    await older.start_engine()
    assert (await older.get(operation.id)).state == State.RUNNING
    await older.close()


async def test_an_operation_that_kills_the_process_is_given_up(db, tmp_path):
    steps = Steps()
    definition = Definition("k", T, [steps.step("a")])
    operation_id = None
    for attempt in range(6):
        steps.behave["a"] = asyncio.Event()
        steps.calls.clear()
        engine = make_engine(db, tmp_path, definition)
        if operation_id is None:
            operation_id = (await engine.start("k", "s", {}, requested_by="kim")).id
        else:
            await engine.start_engine()
        if attempt == 5:
            ended = await engine.wait(operation_id)
            assert ended.state == State.FAILED
            assert ended.error["code"] == "operations.crashed_repeatedly"
        else:
            await until(lambda: steps.calls == ["a"])
            await engine._tasks.close()  # as a crash: nothing is said any more
        await engine.close()


async def test_orderly_restarts_are_not_held_against_it(db, tmp_path):
    steps = Steps()
    definition = Definition("k", T, [steps.step("a")])
    engine = make_engine(db, tmp_path, definition)
    steps.behave["a"] = asyncio.Event()
    operation = await engine.start("k", "s", {}, requested_by="kim")
    for _ in range(8):
        await until(lambda: steps.calls == ["a"])
        await engine.close()
        steps.calls.clear()
        engine = make_engine(db, tmp_path, definition)
        await engine.start_engine()
    steps.behave["a"].set()
    assert (await engine.wait(operation.id)).state == State.SUCCEEDED
    await engine.close()


async def test_a_step_has_a_time_limit(db, tmp_path):
    steps = Steps()
    steps.behave["a"] = asyncio.Event()
    engine = make_engine(db, tmp_path, Definition("k", T, [steps.step("a", timeout_s=0.01)]))
    ended = await engine.wait((await engine.start("k", "s", {}, requested_by="kim")).id)
    assert ended.error["code"] == "operations.step_timed_out"
    await engine.close()


async def test_a_bug_shows_an_id_and_no_text(db, tmp_path):
    steps = Steps()
    steps.behave["a"] = ValueError("the password is hunter2")
    engine = make_engine(db, tmp_path, Definition("k", T, [steps.step("a")]))
    operation = await engine.start("k", "s", {}, requested_by="kim")
    ended = await engine.wait(operation.id)
    assert ended.error["code"] == "core.internal"
    assert "hunter2" not in str(ended.error)
    assert "hunter2" not in engine.log_path(operation.id).read_text()
    await engine.close()


async def test_retention_deletes_ended_operations_and_logs(db, tmp_path):
    from datetime import timedelta

    steps = Steps()
    engine = make_engine(db, tmp_path, Definition("k", T, [steps.step("a")]))
    operation = await engine.wait((await engine.start("k", "s", {}, requested_by="kim")).id)
    assert await engine.forget_ended(older_than=timedelta(days=1)) == 0
    assert await engine.forget_ended(older_than=timedelta(seconds=-1)) == 1
    assert not engine.log_path(operation.id).exists()
    await engine.close()


async def test_a_log_that_cannot_be_written_holds_nothing_up(db, tmp_path):
    (tmp_path / "logs").write_text("not a folder: as bad as a full disk")
    steps = Steps()
    engine = make_engine(db, tmp_path, Definition("k", T, [steps.step("a")]))
    started = await engine.start("k", "s", {}, requested_by="kim")
    async with asyncio.timeout(60):
        assert (await engine.wait(started.id)).state == State.SUCCEEDED
    assert (await engine.start("k", "s", {}, requested_by="kim")).subject == "s"
    await engine.close()


async def test_asked_twice_to_cancel_it_is_undone_once_and_whole(db, tmp_path):
    hold, undoing, undone = asyncio.Event(), asyncio.Event(), asyncio.Event()
    calls = []

    async def do(run):
        if run.subject == "other":
            await hold.wait()

    async def undo(run):
        calls.append("begun")
        # Or a time limit in it that is over would end the operation instead (Python 3.11.2).
        assert asyncio.current_task().cancelling() == 0
        undoing.set()
        await undone.wait()
        calls.append("ended")

    definition = Definition("k", T, [Step("a", T, do, undo), Step("b", T, do)], parallel=1)
    old = make_engine(db, tmp_path, definition)
    other = await old.start("k", "other", {}, requested_by="kim")
    resumed = await old.start("k", "s", {}, requested_by="kim")
    await old.close()
    async with db.write() as tx:
        await store.update(tx, resumed.id, done=["a"], state=State.RUNNING)
    engine = make_engine(db, tmp_path, definition)
    await engine.start_engine()
    await until(lambda: engine._live.keys() == {other.id, resumed.id})
    await engine.cancel(resumed.id)  # while it waits for the other's turn to end
    await asyncio.wait_for(undoing.wait(), 60)
    await engine.cancel(resumed.id)
    undone.set()
    async with asyncio.timeout(60):
        assert (await engine.wait(resumed.id)).state == State.CANCELLED
    assert calls == ["begun", "ended"]
    assert engine._waiters == {}
    assert await engine.wait(resumed.id)
    assert engine._waiters == {}
    await engine.close()


async def test_asked_twice_to_cancel_its_step_still_ends_in_order(db, tmp_path):
    stopping, may_end, calls = asyncio.Event(), asyncio.Event(), []

    async def do(run):
        calls.append("do")
        try:
            await asyncio.Event().wait()
        finally:
            stopping.set()
            await may_end.wait()  # what it began on a host is ended there
            calls.append("ended")

    engine = make_engine(db, tmp_path, Definition("k", T, [Step("a", T, do)]))
    operation = await engine.start("k", "s", {}, requested_by="kim")
    await until(lambda: calls == ["do"])
    await engine.cancel(operation.id)
    await asyncio.wait_for(stopping.wait(), 60)
    assert (await engine.cancel(operation.id)).state == State.CANCELLING
    may_end.set()
    async with asyncio.timeout(60):
        assert (await engine.wait(operation.id)).state == State.CANCELLED
    assert calls == ["do", "ended"]
    await engine.close()


async def ends_as_a_fault(engine, started):
    async with asyncio.timeout(60):
        ended = await engine.wait(started.id)
    assert ended.state == State.FAILED
    assert ended.error["code"] == "core.internal"
    assert (await engine.get(started.id)).state == State.FAILED
    return ended


async def test_a_context_that_cannot_be_saved_ends_it(db, tmp_path):
    steps = Steps()

    async def spoil(run):
        steps.calls.append("spoil")
        run.ctx["no json"] = {1, 2}

    definition = Definition("k", T, [steps.step("a"), Step("spoil", T, spoil), steps.step("b")])
    engine = make_engine(db, tmp_path, definition)
    started = await engine.start("k", "s", {}, requested_by="kim")
    ended = await ends_as_a_fault(engine, started)
    assert steps.calls == ["a", "spoil", "undo a"]
    assert "no json" not in ended.ctx
    assert "no json" not in str(ended.error)
    _ = await engine.start("k", "s", {}, requested_by="kim")  # the subject is free again
    await engine.close()


async def test_what_fails_after_the_last_step_ends_it_without_undoing(db, tmp_path):
    steps, seen = Steps(), []

    async def on_end(operation):
        seen.append(operation.state)
        raise ValueError("the password is hunter2")

    definition = Definition("k", T, [steps.step("a")], on_end=on_end)
    engine = make_engine(db, tmp_path, definition)
    started = await engine.start("k", "s", {}, requested_by="kim")
    ended = await ends_as_a_fault(engine, started)
    assert steps.calls == ["a"], "its work is done and stays"
    assert seen == [State.SUCCEEDED, State.FAILED]
    assert "hunter2" not in str(ended.error)
    await engine.close()


async def test_a_database_that_fails_for_a_while_ends_it_later(db, tmp_path, monkeypatch):
    from haechi.core.operations import engine as module

    monkeypatch.setattr(module, "END_AGAIN_S", 0.0)
    steps = Steps()
    definition = Definition("k", T, [steps.step("a"), steps.step("b")])
    engine = make_engine(db, tmp_path, definition)
    save, failures = store.update, []

    async def update(tx, operation_id, **values):
        if steps.calls and len(failures) < 5:
            failures.append(values)
            raise OSError(28, "No space left on device")
        await save(tx, operation_id, **values)

    monkeypatch.setattr(store, "update", update)
    started = await engine.start("k", "s", {}, requested_by="kim")
    await ends_as_a_fault(engine, started)
    assert len(failures) == 5
    assert steps.calls == ["a", "undo a"]
    await engine.close()
