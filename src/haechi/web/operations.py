"""REST face of core.operations, which itself knows no web framework."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import PlainTextResponse

from haechi.core.access import Role, requires
from haechi.core.operations import Operation, Operations, State
from haechi.core.operations.model import error_text, result_texts
from haechi.errors import Language
from haechi.rest import AcceptedOut, Lang, Out, PageOut, PageQuery, UtcTime, accepted, text_so_far

StateName = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]


class StepOut(Out):
    name: str
    title: str
    state: Literal["done", "running", "waiting"]


class OperationOut(Out):
    id: str
    kind: str
    title: str
    """In the caller's language."""
    subject: str
    state: StateName
    step: str | None
    steps: list[StepOut]
    progress_ratio: float | None
    progress_text: str
    error: dict[str, Any] | None
    """The problem that ended it, in the caller's language."""
    result: dict[str, Any]
    """What the operation's kind gives as its outcome (e.g. per-device results); errors in it
    are problems too."""
    requested_by: str
    parent_id: str | None
    created_at: UtcTime
    started_at: UtcTime | None
    ended_at: UtcTime | None


def router(operations: Operations) -> APIRouter:
    api = APIRouter(tags=["operations"])

    def to_out(operation: Operation, lang: Language) -> OperationOut:
        definition = operations.definition(operation.kind)
        steps = []
        for step in definition.steps if definition else []:
            running = operation.step == step.name and not operation.state.ended
            done = step.name in operation.done
            steps.append(
                StepOut(
                    name=step.name,
                    title=step.title.render(lang, {}),
                    state="done" if done else "running" if running else "waiting",
                )
            )
        return OperationOut(
            id=operation.id,
            kind=operation.kind,
            title=definition.title.render(lang, {}) if definition else operation.kind,
            subject=operation.subject,
            state=operation.state.value,
            step=operation.step,
            steps=steps,
            progress_ratio=operation.progress_ratio,
            progress_text=operation.progress_text,
            error=error_text(operation.error, lang),
            result=result_texts(operation.ctx.get("result", {}), lang),
            requested_by=operation.requested_by,
            parent_id=operation.parent_id,
            created_at=operation.created_at,
            started_at=operation.started_at,
            ended_at=operation.ended_at,
        )

    @api.get("/operations")
    @requires(Role.VIEWER)
    async def list_operations(
        lang: Lang,
        page: Annotated[PageQuery, Depends()],
        subject: Annotated[str | None, Query(max_length=128)] = None,
        state: StateName | None = None,
        parent_id: Annotated[str | None, Query(max_length=32)] = None,
    ) -> PageOut[OperationOut]:
        found = await operations.find(
            subject=subject,
            state=State(state) if state else None,
            parent_id=parent_id,
            limit=page.limit,
            cursor=page.cursor,
        )
        return PageOut(
            items=[to_out(operation, lang) for operation in found.items],
            next_cursor=found.next_cursor,
        )

    @api.get("/operations/{operation_id}")
    @requires(Role.VIEWER)
    async def get_operation(operation_id: str, lang: Lang) -> OperationOut:
        return to_out(await operations.get(operation_id), lang)

    @api.get("/operations/{operation_id}/log", response_class=PlainTextResponse)
    @requires(Role.VIEWER)
    async def get_operation_log(operation_id: str) -> Response:
        """The whole log so far; follow it live on the stream's topic `log:<operation id>`."""
        operation = await operations.get(operation_id)
        await operations.flush_log(operation.id)
        return text_so_far(operations.log_path(operation.id))

    @api.post("/operations/{operation_id}/cancel", status_code=202)
    @requires(Role.OPERATOR)
    async def cancel_operation(operation_id: str, response: Response) -> AcceptedOut:
        return accepted(response, await operations.cancel(operation_id))

    return api
