"""What the parts of the deployments domain share, and small acts they all do."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.bus import Bus
from haechi.core.clock import Clock, from_ms, to_text
from haechi.core.db import Database
from haechi.core.operations import Temporary
from haechi.core.secrets import Keyring, Secret
from haechi.domains.deployments import store
from haechi.domains.deployments.assignments import Assignments
from haechi.domains.deployments.heard import Heard
from haechi.domains.deployments.model import (
    KEPT_BY_AGENT,
    WITHOUT_AGENT,
    Deployment,
    DeploymentState,
)
from haechi.domains.deployments.ports import Devices, Engine, Images, Places, Tokens, Versions
from haechi.errors import AppError, Unavailable
from haechi.protocol.commands import LogLine
from haechi.protocol.desired import ContainerStatus

TAIL_LINES: Final = 200
SHOWN_LINES: Final = 20


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things may take; tests turn it down."""

    retry_s: float = 2.0
    away_s: float = 30.0
    """An engine that does not answer before anything was begun is asked again for so long."""
    poll_s: float = 0.5
    uptime_s: float = 10.0
    within_s: float = 60.0
    link_s: float = 120.0
    """A device that is cut off while its AI proves itself is waited for so long: a cluster's API
    that was away for a minute is followed by nodes that have to be seen again."""
    applied_s: float = 3.0
    """For the device to take up a desired state before a command that relies on it."""
    first_result_s: float = 8.0
    """For the new AI's first result before the old one's cameras are taken away."""
    fresh_s: float = 5.0
    """An old AI without a result for longer is not waited for."""
    keep_s: float = 5.0
    """How often engines that no agent keeps are looked at."""


@dataclass
class Context:
    db: Database
    bus: Bus
    clock: Clock
    keyring: Keyring
    engine: Engine
    versions: Versions
    images: Images
    places: Places
    tokens: Tokens
    devices: Devices
    assignments: Assignments
    server_url: Callable[[], str]
    log_dir: Path
    pace: Pace = field(default_factory=Pace)
    heard: Heard = field(default_factory=Heard)

    def announce(self, deployments: Iterable[Deployment], state: DeploymentState) -> None:
        """After commit: devices and screens are told."""
        for one in deployments:
            data: dict[str, Any] = {
                "kind": "deployment",
                "id": one.id,
                "device_id": one.device_id,
                "state": state.value,
            }
            self.bus.publish("states", data)
            self.devices.changed(one.device_id)

    async def set_state(
        self, deployments: Sequence[Deployment], state: DeploymentState, **values: Any
    ) -> None:
        ids = [one.id for one in deployments]
        async with self.db.write() as tx:
            if state == DeploymentState.GONE:
                await self.end(tx, ids, **values)
            else:
                await store.change_deployments(tx, ids, state=state.value, **values)
        self.announce(deployments, state)

    async def end(self, tx: AsyncSession, deployment_ids: Sequence[str], **values: Any) -> None:
        """They are gone: from now on nobody speaks in their name. What their device still has to
        tell of them is known by the deployment, not by its token.
        """
        await store.change_deployments(
            tx, deployment_ids, state=DeploymentState.GONE.value, token=None, **values
        )
        for deployment_id in deployment_ids:
            await self.tokens.revoke_deployment_token(tx, deployment_id)

    async def settle(self, device_id: str) -> None:
        """Send the desired state and give the device a moment to take it up."""
        revision = await self.devices.push(device_id)
        if self.devices.is_connected(device_id):
            await self.devices.wait_applied(device_id, revision, self.pace.applied_s)

    async def token_of(self, tx: AsyncSession, deployment: Deployment) -> Secret:
        """The deployment's token; made the first time, the same again after a crash."""
        row = await store.deployment_row(tx, deployment.id)
        if row.token is not None:
            return self.keyring.decrypt(row.token, f"{row.id}:token")
        secret, digest = await self.tokens.issue_deployment_token(
            tx,
            deployment_id=row.id,
            device_id=row.device_id,
            facts={
                "package_id": row.package_id,
                "package_name": row.package_name,
                "version_id": row.version_id,
                "version": row.version,
                "image_digest": row.image_digest,
            },
            direct=row.engine == WITHOUT_AGENT,
        )
        row.token_digest = digest
        row.token = self.keyring.encrypt(secret, f"{row.id}:token")
        await tx.flush()
        return secret

    async def status(
        self, device_id: str, deployment_ids: Sequence[str], *, engine: str
    ) -> list[ContainerStatus]:
        """The engine's word, with what is known of the AI itself where the engine cannot know."""
        statuses = await self.engine.status(device_id, deployment_ids)
        if engine == KEPT_BY_AGENT:
            return statuses
        state = self.devices.observed(device_id)
        told = {one.deployment_id: one for one in (state.deployments if state else ())}
        return [self.heard.complete(one, told.get(one.deployment_id)) for one in statuses]

    def log_path(self, deployment_id: str) -> Path:
        return self.log_dir / f"{deployment_id}.log"

    async def keep_log(self, deployment_id: str, lines: list[LogLine]) -> None:
        """The last words of a container that goes; an earlier, longer tail is not cut."""
        if lines:
            text = "".join(f"{render_line(line)}\n" for line in lines)
            await asyncio.to_thread(self._write_log, self.log_path(deployment_id), text)

    def _write_log(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.stat().st_size <= len(text.encode()):
            path.write_text(text, encoding="utf-8")

    async def tail(self, deployment: Deployment) -> list[LogLine]:
        """The container's last lines, kept in a file too; none where they cannot be had."""
        lines: list[LogLine] = []
        try:
            async with asyncio.timeout(10):
                async for piece in self.engine.logs(
                    deployment.device_id, deployment.id, tail=TAIL_LINES
                ):
                    lines += piece.lines
        except (AppError, TimeoutError):
            return lines
        await self.keep_log(deployment.id, lines[-TAIL_LINES:])
        return lines


def render_line(line: LogLine) -> str:
    return f"{to_text(from_ms(line.at_ms))} {line.text}"


@contextmanager
def reaching(retry_s: float) -> Iterator[None]:
    """What cannot be reached now may be later."""
    try:
        yield
    except Unavailable as error:
        raise Temporary(retry_s, error) from error
