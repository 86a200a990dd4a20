"""A small client of the Docker Engine API, for the server's builds and for the agent.

Answers are the Engine's own JSON: what they mean is the caller's business. It knows no domain,
holds no connection between calls, and imports little, because the agent has 40 MB in all. The
socket may be a local one or the local end of an SSH forwarding.

Promises: every call has a time limit; errors are AppErrors of `docker_errors`; repeated calls are
safe (starting what runs, stopping what stopped, removing what is gone are no errors); leaving or
cancelling a call stops it at the Engine.
"""

import asyncio
import base64
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from haechi.adapters.docker_calls import DockerCalls, Json, json_lines
from haechi.adapters.docker_errors import (
    EngineConflict,
    EngineFailed,
    EngineObjectNotFound,
    EngineTimedOut,
    from_transfer,
)
from haechi.adapters.docker_logs import LogLine, decode_lines, next_since
from haechi.adapters.docker_wire import Body
from haechi.core.secrets import Secret
from haechi.errors import Unavailable

log = logging.getLogger(__name__)

TRANSFER_TIMEOUT_S: Final = 3600.0
TRANSFER_IDLE_S: Final = 300.0
"""A pull or push that says nothing for so long is stuck."""

OnLine = Callable[[Json], None]


@dataclass(frozen=True, slots=True)
class RegistryLogin:
    name: str
    password: Secret

    def header(self) -> str:
        """The value of X-Registry-Auth."""
        login = {"username": self.name, "password": self.password.reveal()}
        return base64.urlsafe_b64encode(json.dumps(login).encode()).decode()


class DockerApi(DockerCalls):
    # --- engine

    async def ping(self, *, timeout_s: float = 5.0) -> None:
        """Raises EngineUnreachable or EngineTimedOut unless the Engine answers."""
        await self.negotiate(timeout_s)

    async def version(self) -> Json:
        return await self._object("GET", "/version")

    async def info(self) -> Json:
        return await self._object("GET", "/info")

    async def disk_usage(self) -> Json:
        return await self._object("GET", "/system/df", timeout_s=120)

    async def events(
        self, filters: Mapping[str, list[str]], *, since_s: float | None = None
    ) -> AsyncIterator[Json]:
        """Follow the Engine's events for ever; ends when the daemon goes away."""
        query = {"filters": _filters(filters)}
        if since_s is not None:
            query["since"] = f"{since_s:.9f}"
        async with self.stream("GET", "/events", query) as response:
            async for line in json_lines(response.chunks()):
                yield line

    # --- images

    async def image(self, reference: str) -> Json:
        """Raises EngineObjectNotFound where the Engine does not hold it."""
        return await self._object("GET", f"/images/{_path(reference)}/json")

    async def has_image(self, reference: str) -> bool:
        try:
            await self.image(reference)
        except EngineObjectNotFound:
            return False
        return True

    async def images(self, filters: Mapping[str, list[str]] | None = None) -> list[Json]:
        query = {"filters": _filters(filters or {})}
        images: list[Json] = await self._json("GET", "/images/json", query)
        return images

    async def pull(
        self,
        reference: str,
        *,
        platform: str = "",
        login: RegistryLogin | None = None,
        on_line: OnLine | None = None,
        timeout_s: float = TRANSFER_TIMEOUT_S,
    ) -> None:
        """Pull `name:tag` or `name@sha256:…`. `on_line` sees the Engine's progress lines.

        Raises ImageNotFound, RegistryDenied, RegistryUnreachable, DiskFull, EngineFailed.
        """
        query = {"fromImage": reference, "platform": platform}
        await self._transfer("/images/create", query, reference, login, on_line, timeout_s)

    async def push(
        self,
        reference: str,
        *,
        login: RegistryLogin | None = None,
        on_line: OnLine | None = None,
        timeout_s: float = TRANSFER_TIMEOUT_S,
    ) -> str:
        """Push `name:tag`; returns the manifest's digest, by which deployments pin it."""
        name, _, tag = reference.rpartition(":")
        digests: list[str] = []

        def see(line: Json) -> None:
            aux = line.get("aux")
            if isinstance(aux, dict) and "Digest" in aux:
                digests.append(str(aux["Digest"]))
            if on_line is not None:
                on_line(line)

        target = f"/images/{_path(name)}/push"
        await self._transfer(target, {"tag": tag}, reference, login, see, timeout_s)
        if not digests:
            raise EngineFailed(message=f"push of {reference} ended without a digest")
        return digests[-1]

    async def tag(self, source: str, name: str, tag: str) -> None:
        await self._done("POST", f"/images/{_path(source)}/tag", {"repo": name, "tag": tag})

    async def remove_image(self, reference: str, *, force: bool = False) -> None:
        """Untag it, and delete what nothing else uses; an image that is gone is no error."""
        query = {"force": "1" if force else "0"}
        with contextlib.suppress(EngineObjectNotFound):
            await self._done("DELETE", f"/images/{_path(reference)}", query, timeout_s=120)

    async def prune_images(self, filters: Mapping[str, list[str]] | None = None) -> int:
        """Delete untagged, unused images; returns the bytes freed."""
        query = {"filters": _filters({"dangling": ["true"], **(filters or {})})}
        answer = await self._json("POST", "/images/prune", query, timeout_s=300)
        return int(answer.get("SpaceReclaimed") or 0)

    async def prune_build_cache(self, *, keep_bytes: int) -> int:
        """Shrink BuildKit's cache to about `keep_bytes`; returns the bytes freed."""
        query = {"keep-storage": str(keep_bytes), "all": "1"}
        answer = await self._json("POST", "/build/prune", query, timeout_s=300)
        return int(answer.get("SpaceReclaimed") or 0)

    @contextlib.asynccontextmanager
    async def build(
        self,
        query: Mapping[str, str],
        context: Body,
        *,
        head_timeout_s: float | None = TRANSFER_IDLE_S,
    ) -> AsyncIterator[AsyncIterator[Json]]:
        """Build the tar `context`; yields the Engine's lines. Leaving the context cancels it."""
        headers = {"Content-Type": "application/x-tar"}
        async with self.stream(
            "POST", "/build", query, body=context, headers=headers, head_timeout_s=head_timeout_s
        ) as response:
            yield json_lines(response.chunks())

    # --- containers

    async def containers(
        self, *, labels: Iterable[str] = (), running_only: bool = False
    ) -> list[Json]:
        """List by labels: `name` or `name=value`, all of them must fit."""
        query = {"all": "0" if running_only else "1", "filters": _filters({"label": [*labels]})}
        containers: list[Json] = await self._json("GET", "/containers/json", query)
        return containers

    async def create_container(self, name: str, config: Json) -> str:
        """Returns the container's id. Raises EngineConflict where the name is taken."""
        answer = await self._json(
            "POST", "/containers/create", {"name": name}, payload=config, timeout_s=120
        )
        return str(answer["Id"])

    async def start_container(self, container: str) -> None:
        await self._done("POST", f"/containers/{_path(container)}/start", timeout_s=120)

    async def stop_container(self, container: str, *, grace_s: float = 10.0) -> None:
        """SIGTERM, and SIGKILL after the grace; one that is stopped or gone is no error."""
        query = {"t": str(max(0, round(grace_s)))}
        with contextlib.suppress(EngineObjectNotFound):
            await self._done(
                "POST", f"/containers/{_path(container)}/stop", query, timeout_s=grace_s + 60
            )

    async def kill_container(self, container: str, signal: str = "SIGKILL") -> None:
        with contextlib.suppress(EngineObjectNotFound, EngineConflict):
            await self._done("POST", f"/containers/{_path(container)}/kill", {"signal": signal})

    async def remove_container(self, container: str, *, force: bool = False) -> None:
        """Remove it with its anonymous volumes; one that is gone or going is no error."""
        query = {"force": "1" if force else "0", "v": "1"}
        try:
            await self._done("DELETE", f"/containers/{_path(container)}", query, timeout_s=120)
        except EngineObjectNotFound:
            return
        except EngineConflict as error:
            if "already in progress" not in str(error.data.get("message", "")):
                raise

    async def container(self, container: str) -> Json:
        return await self._object("GET", f"/containers/{_path(container)}/json")

    async def update_container(self, container: str, limits: Json) -> None:
        await self._done("POST", f"/containers/{_path(container)}/update", payload=limits)

    async def rename_container(self, container: str, name: str) -> None:
        await self._done("POST", f"/containers/{_path(container)}/rename", {"name": name})

    async def container_stats(self, container: str) -> Json:
        """One sample, at once: counters since start, so two of them make a rate."""
        query = {"stream": "0", "one-shot": "1"}
        return await self._object("GET", f"/containers/{_path(container)}/stats", query)

    async def wait_container(self, container: str, *, timeout_s: float | None) -> int:
        """Wait until it is not running; returns its exit code. Raises EngineTimedOut."""
        answer = await self._json(
            "POST", f"/containers/{_path(container)}/wait", timeout_s=timeout_s
        )
        return int(answer["StatusCode"])

    async def container_logs(
        self,
        container: str,
        *,
        follow: bool = False,
        since: str = "",
        tail: int | None = None,
    ) -> AsyncGenerator[LogLine, None]:
        """One request's worth of log. `since` is `<unix>.<nanoseconds>` and inclusive.

        The end of a followed stream proves nothing: use `follow_logs` for that.
        """
        inspected = await self.container(container)
        query = {
            "stdout": "1",
            "stderr": "1",
            "timestamps": "1",
            "follow": "1" if follow else "0",
            "since": since or "0",
            "tail": "all" if tail is None else str(tail),
        }
        path = f"/containers/{_path(container)}/logs"
        async with self.stream("GET", path, query) as response:
            tty = bool(inspected["Config"].get("Tty"))
            async for line in decode_lines(response.chunks(), tty=tty):
                yield line

    async def follow_logs(
        self, container: str, *, tail: int | None = None, retry_s: float = 1.0
    ) -> AsyncGenerator[LogLine, None]:
        """Every line until the container has really ended, also across daemon restarts."""
        last: LogLine | None = None
        ended = False
        while True:
            try:
                since, newest = next_since(last), last.at if last else ""
                # A follow may end a moment before the last lines are written, so what an ended
                # container said is read once more, without following.
                lines = self.container_logs(
                    container, follow=not ended, since=since, tail=None if last else tail
                )
                async with contextlib.aclosing(lines):
                    async for line in lines:
                        if line.at > newest:
                            last = line
                            yield line
                if ended:
                    return
                state = (await self.container(container))["State"]
                ended = not state.get("Running") and not state.get("Restarting")
                if ended:
                    continue
            except EngineObjectNotFound:
                if last is None:
                    raise
                return
            except Unavailable:
                if last is None:
                    raise
            await asyncio.sleep(retry_s)

    # --- networks

    async def network(self, name: str) -> Json:
        return await self._object("GET", f"/networks/{_path(name)}")

    async def ensure_bridge(
        self, name: str, *, internal: bool = True, labels: Mapping[str, str] | None = None
    ) -> Json:
        """The bridge network of that name, made where it is missing, on which containers do not
        reach each other unless the kernel has no br_netfilter; see `gateway_of`.
        """
        try:
            return await self.network(name)
        except EngineObjectNotFound:
            config = {
                "Name": name,
                "Driver": "bridge",
                "Internal": internal,
                "CheckDuplicate": True,
                "EnableIPv6": False,
                "Options": {"com.docker.network.bridge.enable_icc": "false"},
                "Labels": dict(labels or {}),
            }
            try:
                await self._make_network(config)
            except EngineFailed as error:
                if "inter-container communication" not in str(error):
                    raise
                log.error("containers of %s can reach each other: %s", name, error)  # noqa: TRY400
                await self._make_network({**config, "Options": {}})
            return await self.network(name)

    async def _make_network(self, config: Json) -> None:
        with contextlib.suppress(EngineConflict):
            await self._json("POST", "/networks/create", payload=config)

    async def connect_network(
        self, network: str, container: str, endpoint: Json | None = None
    ) -> None:
        payload = {"Container": container, "EndpointConfig": endpoint or {}}
        await self._done("POST", f"/networks/{_path(network)}/connect", payload=payload)

    async def disconnect_network(self, network: str, container: str) -> None:
        payload = {"Container": container, "Force": True}
        with contextlib.suppress(EngineObjectNotFound):
            await self._done("POST", f"/networks/{_path(network)}/disconnect", payload=payload)

    async def remove_network(self, name: str) -> None:
        with contextlib.suppress(EngineObjectNotFound):
            await self._done("DELETE", f"/networks/{_path(name)}")

    # --- plumbing

    async def _transfer(
        self,
        path: str,
        query: Mapping[str, str],
        reference: str,
        login: RegistryLogin | None,
        on_line: OnLine | None,
        timeout_s: float,
    ) -> None:
        headers = {"X-Registry-Auth": login.header() if login else "e30="}
        try:
            async with (
                asyncio.timeout(timeout_s),
                self.stream(
                    "POST", path, query, headers=headers, head_timeout_s=TRANSFER_IDLE_S
                ) as response,
            ):
                async for line in json_lines(response.chunks(idle_timeout_s=TRANSFER_IDLE_S)):
                    if "error" in line:
                        raise from_transfer(reference, str(line["error"]))
                    if on_line is not None:
                        on_line(line)
        except TimeoutError as error:
            raise EngineTimedOut(what=f"{path} {reference}", timeout_s=timeout_s) from error
        except (EngineFailed, EngineObjectNotFound) as error:
            # The head of the answer may carry what otherwise comes as an error line.
            raise from_transfer(reference, str(error.data.get("message", ""))) from error


def gateway_of(network: Json) -> str:
    """The host's address on a bridge network: where its containers reach the agent."""
    for config in network.get("IPAM", {}).get("Config") or []:
        if config.get("Gateway"):
            return str(config["Gateway"]).partition("/")[0]
    raise EngineFailed(message=f"network {network.get('Name')} has no gateway")


def interface_of(network: Json) -> str:
    """The host's end of a bridge network; the engine names it by the network's id."""
    named = (network.get("Options") or {}).get("com.docker.network.bridge.name")
    return str(named or f"br-{network['Id'][:12]}")


def _filters(filters: Mapping[str, list[str]]) -> str:
    return json.dumps(dict(filters))


def _path(name: str) -> str:
    return quote(name, safe="/:@")
