"""Has a new container proven that it works? Pure: statuses in, a verdict out.

Proven: the SDK's `ready()`, or a first result, or so many seconds up without a restart; a manifest
may insist on one of them. Any exit or restart before that is a failure, at once: a container that
ends by itself is no AI.
"""

from dataclasses import dataclass
from typing import Final, Literal

from haechi.domains.deployments.model import ReadyBy
from haechi.protocol.desired import ContainerStatus

UPTIME_S: Final = 10.0
WITHIN_S: Final = 60.0

Verdict = Literal["proven", "failed", "waiting"]


@dataclass(slots=True)
class Proof:
    """Follows one container; times are the server's monotonic seconds."""

    ready: ReadyBy | None
    within_s: float = WITHIN_S
    uptime_s: float = UPTIME_S
    began_s: float | None = None
    up_since_s: float | None = None
    reason: str = ""

    def judge(self, status: ContainerStatus, now_s: float) -> Verdict:
        if self.began_s is None:
            self.began_s = now_s
        if status.oom_killed:
            return self._failed("out_of_memory")
        if status.state in {"exited", "failed"}:
            code = "" if status.exit_code is None else f" {status.exit_code}"
            return self._failed(status.error or f"exited{code}")
        # A container that restarted before the first look has restarts > 0 as well.
        if status.restarts > 0 or status.state == "restarting":
            code = "" if status.exit_code is None else f", exit {status.exit_code}"
            return self._failed(status.error or f"restarted{code}")
        if status.state == "running":
            if self.up_since_s is None:
                self.up_since_s = now_s
            how = self._how(status, now_s)
            if how:
                self.reason = how
                return "proven"
        if now_s - self.began_s >= self.within_s:
            waited = self.ready or "sdk|result|uptime"
            return self._failed(f"no {waited} within {self.within_s:g} s")
        return "waiting"

    def _how(self, status: ContainerStatus, now_s: float) -> str:
        if self.ready in {None, "sdk"} and status.ready_ms is not None:
            return "sdk"
        if self.ready in {None, "result"} and status.first_result_ms is not None:
            return "result"
        up_s = now_s - (self.up_since_s if self.up_since_s is not None else now_s)
        if self.ready in {None, "uptime"} and up_s >= self.uptime_s:
            return "uptime"
        return ""

    def _failed(self, reason: str) -> Verdict:
        self.reason = reason[:200]
        return "failed"
