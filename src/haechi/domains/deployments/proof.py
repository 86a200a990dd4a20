"""Has a new container proven that it works? Pure: statuses in, a verdict out.

Proven: the SDK's `ready()`, or a first result, or so many seconds up without a restart; a manifest
may insist on one of them. Any exit or restart before that is a failure, at once: a container that
ends by itself is no AI. Unless its host was cut off: it may have ended with the host's power.
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
    _excused: bool = False
    _restarts: int = 0
    """So many are not held against it."""
    _trouble: str = ""

    def interrupt(self) -> None:
        """Its host was cut off: how it ended meanwhile is not its doing. From here on it has to
        stay up anew after each end, and only the time limit disproves it.
        """
        self._excused = True
        self.up_since_s = None

    def judge(self, status: ContainerStatus, now_s: float) -> Verdict:
        if self.began_s is None:
            self.began_s = now_s
        if status.oom_killed:
            return self._failed("out_of_memory")
        trouble = self._trouble_of(status)
        if trouble and not self._excused:
            return self._failed(trouble)
        if trouble:
            self._trouble, self._restarts, self.up_since_s = trouble, status.restarts, None
        elif status.state == "running":
            if self.up_since_s is None:
                self.up_since_s = now_s
            how = self._how(status, now_s)
            if how:
                self.reason = how
                return "proven"
        if now_s - self.began_s >= self.within_s:
            waited = self.ready or "sdk|result|uptime"
            last = f" ({self._trouble})" if self._trouble else ""
            return self._failed(f"no {waited} within {self.within_s:g} s{last}")
        return "waiting"

    def _trouble_of(self, status: ContainerStatus) -> str:
        if status.state in {"exited", "failed"}:
            code = "" if status.exit_code is None else f" {status.exit_code}"
            return status.error or f"exited{code}"
        # A container that restarted before the first look has restarts as well.
        if status.restarts > self._restarts or status.state == "restarting":
            code = "" if status.exit_code is None else f", exit {status.exit_code}"
            return status.error or f"restarted{code}"
        return ""

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
