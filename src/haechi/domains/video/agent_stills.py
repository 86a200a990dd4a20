"""Stills taken by a device's agent, over its link."""

from haechi.domains.agents.service import Agents
from haechi.protocol.commands import MEDIA_STILL, Still, TakeStill


class AgentStills:
    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    async def take(self, device_id: str, asked: TakeStill) -> Still:
        answer = await self._agents.command(device_id, MEDIA_STILL, asked)
        assert isinstance(answer, Still)
        return answer
