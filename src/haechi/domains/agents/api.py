"""REST face of agents: invite and revoke a device, see its agent."""

from typing import Any, Literal

from fastapi import APIRouter, Response

from haechi.core.access import Role, requires
from haechi.domains.agents.model import Agent, Enrolment
from haechi.domains.agents.service import Agents
from haechi.errors import Language, catalogue
from haechi.rest import Caller, Lang, Out, UtcTime


class EnrolmentOut(Out):
    """Shown once; a new one makes it void."""

    device_id: str
    token: str
    command: str
    """To be run on the device."""
    server: str
    ca_fingerprint: str
    expires_at: UtcTime


class StreamOut(Out):
    camera_id: str
    online: bool
    error: str
    detail: str
    codec: str
    width: int | None
    height: int | None
    fps: float | None


class AgentOut(Out):
    """A device as seen through its agent."""

    device_id: str
    presence: Literal["new", "ok", "silent", "dead"]
    presence_reason: str
    presence_since: UtcTime
    connected: bool
    last_seen_at: UtcTime | None
    agent_version: str
    protocol: int | None
    host_name: str
    remote: str
    addresses: list[str]
    capacity: dict[str, Any]
    clock: Literal["ok", "uncertain"]
    clock_offset_ms: float | None
    rtt_ms: float | None
    desired_revision: int
    applied_revision: int
    media_running: bool
    streams: list[StreamOut]
    refusal: dict[str, Any] | None
    """The last caller with this device's certificate that was turned away, as a problem."""


def router(agents: Agents) -> APIRouter:
    api = APIRouter(tags=["agents"])

    @api.post("/devices/{device_id}/enrolment", status_code=201)
    @requires(Role.OPERATOR)
    async def invite_device(device_id: str, by: Caller, response: Response) -> EnrolmentOut:
        """A one-time token, good for an hour, with the command to run on the device."""
        response.headers["Cache-Control"] = "no-store"  # nor kept for a repeated request
        return _enrolment_out(await agents.invite_device(device_id, by))

    @api.post("/devices/{device_id}/revoke", status_code=204)
    @requires(Role.OPERATOR)
    async def revoke_device(device_id: str, by: Caller) -> None:
        """Its certificates and tokens count no more; it must be enrolled again."""
        await agents.revoke_device(device_id, by)

    @api.get("/devices/{device_id}/agent")
    @requires(Role.VIEWER)
    async def get_agent(device_id: str, lang: Lang) -> AgentOut:
        return _agent_out(await agents.find_agent(device_id), lang)

    return api


def _enrolment_out(enrolment: Enrolment) -> EnrolmentOut:
    return EnrolmentOut(
        device_id=enrolment.device_id,
        token=enrolment.token.reveal(),
        command=enrolment.command.reveal(),
        server=enrolment.server,
        ca_fingerprint=enrolment.ca_fingerprint,
        expires_at=enrolment.expires_at,
    )


def _agent_out(agent: Agent, lang: Language) -> AgentOut:
    media = agent.observed.media if agent.observed else None
    values = {
        name: getattr(agent, name)
        for name in AgentOut.model_fields
        if name not in {"media_running", "streams", "refusal"}
    }
    return AgentOut(
        **values,
        media_running=media.running if media else False,
        streams=[StreamOut.model_validate(stream) for stream in (media.streams if media else [])],
        refusal=_refusal_out(agent.refusal, lang),
    )


def _refusal_out(refusal: dict[str, Any] | None, lang: Language) -> dict[str, Any] | None:
    if refusal is None:
        return None
    cls = catalogue().get(refusal["code"])
    shown = cls(**refusal["data"]).problem(lang) if cls else {"code": refusal["code"]}
    return {**shown, "at": refusal["at"]}
