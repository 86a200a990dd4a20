"""A deployment's container in a Docker Engine: find it, make it, say where it stands.

What the agent does on its device and the server does over SSH alike. Idempotent by deployment id,
a label; a container whose body is another than wanted is made anew. Holds nothing between calls.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from haechi.adapters import docker_errors
from haechi.adapters.docker_api import DockerApi
from haechi.adapters.docker_bodies import LABEL_DEPLOYMENT, LABEL_DEVICE, LABEL_SPEC
from haechi.adapters.docker_states import seen
from haechi.protocol.desired import ContainerSpec
from haechi.protocol.problems import ImageMissing

log = logging.getLogger(__name__)

Prepare = Callable[[str], Awaitable[None]]
"""Called with the id of a container that was just made and has not been started."""


async def find_container(engine: DockerApi, device_id: str, deployment_id: str) -> str:
    """Its id; "" where there is none."""
    labels = [f"{LABEL_DEVICE}={device_id}", f"{LABEL_DEPLOYMENT}={deployment_id}"]
    listed = await engine.containers(labels=labels)
    return str(listed[0]["Id"]) if listed else ""


async def inspect_container(engine: DockerApi, container_id: str) -> dict[str, Any] | None:
    """None where there is none, or it has just gone."""
    if not container_id:
        return None
    try:
        return await engine.container(container_id)
    except docker_errors.EngineObjectNotFound:
        return None


def runs_as_wanted(inspected: dict[str, Any] | None, body: dict[str, Any]) -> bool:
    return (
        inspected is not None
        and _is_of(inspected, body)
        and seen(inspected).state in {"running", "restarting"}
    )


async def make_container(
    engine: DockerApi,
    device_id: str,
    spec: ContainerSpec,
    body: dict[str, Any],
    inspected: dict[str, Any] | None,
    prepare: Prepare,
) -> str:
    """The id of a container of that body, to be started: the one there is, or a new one. One that
    never began goes: who made it may have been cut off before it was prepared. Raises ImageMissing.
    """
    if inspected is not None:
        container_id = str(inspected["Id"])
        if _is_of(inspected, body) and seen(inspected).state not in {"starting", "failed"}:
            return container_id
        log.info("container of %s is made anew", spec.deployment_id)
        await engine.stop_container(container_id, grace_s=spec.stop_grace_s)
        await engine.remove_container(container_id, force=True)
    if not await engine.has_image(spec.image):
        raise ImageMissing(image=spec.image)
    container_id = await _create(engine, device_id, spec.name, body)
    await prepare(container_id)
    return container_id


async def _create(engine: DockerApi, device_id: str, name: str, body: dict[str, Any]) -> str:
    try:
        return await engine.create_container(name, body)
    except docker_errors.EngineConflict:
        # The name is taken: by a leftover of this device it is ours to replace.
        other = await engine.container(name)
        labels = other["Config"].get("Labels") or {}
        if labels.get(LABEL_DEVICE) != device_id or other["State"].get("Running"):
            raise
        await engine.remove_container(str(other["Id"]), force=True)
        return await engine.create_container(name, body)


def _is_of(inspected: dict[str, Any], body: dict[str, Any]) -> bool:
    labels = inspected["Config"].get("Labels") or {}
    return bool(labels.get(LABEL_SPEC) == body["Labels"][LABEL_SPEC])
