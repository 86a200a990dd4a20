"""GET /audit: admins only."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime

from haechi.core.access import Role, requires
from haechi.domains.audit.service import Audit
from haechi.rest import Out, PageOut, PageQuery, UtcTime


class AuditEntryOut(Out):
    id: str
    at: UtcTime
    by_kind: str
    """`user`, `token`, `device`, `deployment` or `system`."""
    by_id: str
    by_name: str
    action: str
    """Verb and noun, as in the API: `create_device`, `deploy_package`…"""
    subject: str
    details: dict[str, Any]


def router(audit: Audit) -> APIRouter:
    api = APIRouter(tags=["audit"])

    @api.get("/audit")
    @requires(Role.ADMIN)
    async def list_audit(
        page: Annotated[PageQuery, Depends()],
        action: Annotated[str | None, Query(max_length=64)] = None,
        subject: Annotated[str | None, Query(max_length=200)] = None,
        by_id: Annotated[str | None, Query(max_length=64)] = None,
        since: Annotated[AwareDatetime | None, Query(alias="from")] = None,
        until: Annotated[AwareDatetime | None, Query(alias="to")] = None,
    ) -> PageOut[AuditEntryOut]:
        """Who changed what and when; newest first."""
        found = await audit.find(
            action=action,
            subject=subject,
            by_id=by_id,
            since=since,
            until=until,
            limit=page.limit,
            cursor=page.cursor,
        )
        return PageOut[AuditEntryOut](
            items=[AuditEntryOut.model_validate(entry) for entry in found.items],
            next_cursor=found.next_cursor,
        )

    return api
