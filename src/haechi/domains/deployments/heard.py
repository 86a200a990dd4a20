"""What is known of containers that no agent keeps: what the engine said last, and what came here.

Results may come straight to the server, or through the agent of a node whose pods it serves; the
engine itself knows neither. In memory: after a restart everything is asked for and heard again.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from haechi.protocol.desired import ContainerStatus


@dataclass(slots=True)
class _Results:
    first_ms: int
    last_ms: int
    count: int


@dataclass(slots=True)
class Heard:
    _results: dict[str, _Results] = field(default_factory=dict)
    _observed: dict[str, ContainerStatus] = field(default_factory=dict)

    def results(self, deployment_id: str, count: int, now_ms: int) -> None:
        """Some came straight to the server and are stored."""
        known = self._results.get(deployment_id)
        if known is None:
            self._results[deployment_id] = _Results(now_ms, now_ms, count)
            return
        known.last_ms = now_ms
        known.count += count

    def observe(self, status: ContainerStatus) -> bool:
        """Take down what the engine says; True where the state is another than before."""
        before = self._observed.get(status.deployment_id)
        self._observed[status.deployment_id] = status
        return before is None or (before.state, before.restarts, before.error) != (
            status.state,
            status.restarts,
            status.error,
        )

    def observed(self, deployment_id: str) -> ContainerStatus | None:
        status = self._observed.get(deployment_id)
        return None if status is None else self.complete(status, None)

    def complete(
        self, status: ContainerStatus, from_agent: ContainerStatus | None
    ) -> ContainerStatus:
        """The engine's word, with what the AI gave: to its node's agent, or here."""
        known = self._results.get(status.deployment_id)
        told: dict[str, int | None] = {}
        if from_agent is not None and _same_life(status, from_agent):
            told = {
                "ready_ms": from_agent.ready_ms,
                "first_result_ms": from_agent.first_result_ms,
                "last_result_ms": from_agent.last_result_ms,
                "results": from_agent.results,
            }
        if known is not None:
            first_ms = told.get("first_result_ms") or status.first_result_ms
            told["first_result_ms"] = first_ms or known.first_ms
            told["last_result_ms"] = max(told.get("last_result_ms") or 0, known.last_ms)
            told["results"] = max(status.results, (told.get("results") or 0) + known.count)
        return msgspec.structs.replace(
            status, **{name: value for name, value in told.items() if value is not None}
        )

    def forget(self, deployment_ids: Iterable[str]) -> None:
        for one in deployment_ids:
            self._results.pop(one, None)
            self._observed.pop(one, None)


def _same_life(status: ContainerStatus, from_agent: ContainerStatus) -> bool:
    """Of a container that started anew, the agent may not have heard yet."""
    if status.started_ms is None or from_agent.started_ms is None:
        return True
    return from_agent.started_ms >= status.started_ms - 2000
