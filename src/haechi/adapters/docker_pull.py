"""Pulling an image from the site registry, with a device's own credential and in its own words.

The same for the agent and over SSH: whatever the Engine says becomes an error of a device's
engine (`protocol.problems`).
"""

import asyncio
from typing import Any, Final

from haechi.adapters import docker_errors
from haechi.adapters.docker_api import DockerApi, OnLine, RegistryLogin
from haechi.adapters.docker_states import platform_of
from haechi.core.secrets import Secret
from haechi.errors import DiskFull
from haechi.protocol.commands import PulledImage, RegistryAccess
from haechi.protocol.problems import (
    DeviceDiskFull,
    ImageNotFound,
    RegistryRefused,
    RegistryUnreachable,
)

NAME_RETRY_S: Final = 2.0
NAME_RETRIES: Final = 4
"""dockerd asks again for a name that was unknown a moment ago only after 5 s."""


async def find_image(engine: DockerApi, image: str) -> dict[str, Any] | None:
    try:
        return await engine.image(image)
    except docker_errors.EngineObjectNotFound:
        return None


async def pull_image(
    engine: DockerApi, image: str, access: RegistryAccess | None, on_line: OnLine
) -> None:
    """Raises ImageNotFound, RegistryRefused, RegistryUnreachable, DeviceDiskFull."""
    login = None
    if access is not None and access.user:
        login = RegistryLogin(access.user, Secret(access.password))
    address = access.address if access else image.partition("/")[0]
    for attempt in range(NAME_RETRIES + 1):
        try:
            await engine.pull(image, login=login, on_line=on_line)
        except docker_errors.ImageNotFound as error:
            raise ImageNotFound(image=image) from error
        except docker_errors.RegistryDenied as error:
            detail = str(error.data.get("message", ""))
            raise RegistryRefused(address=address, detail=detail) from error
        except docker_errors.RegistryUnreachable as error:
            detail = str(error.data.get("message", ""))
            if "no such host" in detail and attempt < NAME_RETRIES:
                await asyncio.sleep(NAME_RETRY_S)
                continue
            raise RegistryUnreachable(address=address, detail=detail) from error
        except DiskFull as error:
            raise DeviceDiskFull(needed_bytes=0, free_bytes=0) from error
        else:
            return


def pulled(image: dict[str, Any], *, now: bool) -> PulledImage:
    """`now`: it was pulled just now; else it was there."""
    return PulledImage(
        image_id=str(image["Id"]),
        size_bytes=int(image.get("Size") or 0),
        platform=platform_of(image),
        pulled=now,
    )
