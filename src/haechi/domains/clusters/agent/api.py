"""REST face of agents on hosts."""

from fastapi import APIRouter, Response

from haechi.core.access import Role, requires
from haechi.domains.clusters.agent.service import HostAgents
from haechi.rest import AcceptedOut, Caller, accepted


def router(agents: HostAgents) -> APIRouter:
    api = APIRouter()

    @api.post("/devices/{device_id}/agent", status_code=202, tags=["agents"])
    @requires(Role.OPERATOR)
    async def install_agent(device_id: str, by: Caller, response: Response) -> AcceptedOut:
        """Bring the agent to the device's host over SSH, start and enrol it, and see it call in."""
        return accepted(response, await agents.install_agent(device_id, by=by))

    @api.post("/devices/{device_id}/agent/update", status_code=202, tags=["agents"])
    @requires(Role.OPERATOR)
    async def update_agent(device_id: str, by: Caller, response: Response) -> AcceptedOut:
        """Replace the agent by the newest one: stopped, started, and back where it does not call
        in. AIs go on running.
        """
        return accepted(response, await agents.update_agent(device_id, by=by))

    @api.delete("/devices/{device_id}/agent", status_code=202, tags=["agents"])
    @requires(Role.OPERATOR)
    async def remove_agent(device_id: str, by: Caller, response: Response) -> AcceptedOut:
        """Take agent, data and image from the host; its certificates count no more."""
        return accepted(response, await agents.remove_agent(device_id, by=by))

    @api.post("/clusters/{cluster_id}/agents/update", status_code=202, tags=["clusters"])
    @requires(Role.OPERATOR)
    async def update_agents(cluster_id: str, by: Caller, response: Response) -> AcceptedOut:
        """Replace the agents of all nodes, one after the other; the first failure stops it."""
        return accepted(response, await agents.update_agents(cluster_id, by=by))

    return api
