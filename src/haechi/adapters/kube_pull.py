"""Bringing an image to a node before anything there is touched: by the node's own kubelet."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from haechi.adapters.kube_calls import Calls
from haechi.adapters.kube_errors import (
    KubeObjectMissing,
    KubeRefused,
    KubeUnreachable,
    NodeAway,
)
from haechi.adapters.kube_nodes import Seat, has_image, room_of, seen_node
from haechi.adapters.kube_shapes import why_waiting
from haechi.adapters.kube_specs import NAMESPACE, pull_pod
from haechi.adapters.kube_states import is_pulled, pull_error, pull_state
from haechi.errors import AppError
from haechi.protocol.commands import PulledImage, PullProgress
from haechi.protocol.problems import DeadlinePassed, EngineFailed

POLL_S: Final = 0.3
PULL_S: Final = 1800.0
SILENT_S: Final = 30.0
"""A kubelet that has not said anything about the pod for so long: is the node still there?"""


async def pull_image(
    calls: Calls,
    seat: Seat,
    image: str,
    *,
    address: str,
    progress: Callable[[PullProgress], None],
) -> PulledImage:
    """Raises NodeAway, RegistryUnreachable (worth another try), RegistryRefused, ImageNotFound,
    DeviceDiskFull, EngineFailed.
    """
    seen = await seen_node(calls, seat)
    room = room_of(seat, seen)
    if has_image(seen, image):
        return PulledImage(image, platform=room.platform, pulled=False)
    pod = pull_pod(room, image)
    name = pod["metadata"]["name"]
    await _clear(calls, name)
    try:
        async with asyncio.timeout(PULL_S):
            _ = await calls.apply(pod)
            image_id = await _follow(calls, seat, name, image, address, progress)
    except TimeoutError as error:
        raise DeadlinePassed(verb="image.pull") from error
    finally:
        # Left behind it would only lie about; the next pull of this image clears it away too.
        with contextlib.suppress(KubeUnreachable, KubeRefused):
            await _delete(calls, name)
    return PulledImage(image_id or image, platform=room.platform)


async def _follow(
    calls: Calls,
    seat: Seat,
    name: str,
    image: str,
    address: str,
    progress: Callable[[PullProgress], None],
) -> str:
    """Until the image is there; returns the id that the runtime gives it."""
    loop = asyncio.get_running_loop()
    began_s = heard_s = loop.time()
    while True:
        pod = await calls.get("v1", "Pod", name, NAMESPACE)
        state = pull_state(pod)
        if state is not None:
            heard_s = loop.time()
            if is_pulled(state):
                return _image_id(pod)
            error = pull_error(state, image=image, address=address)
            if error is not None:
                raise error
        elif loop.time() - heard_s > SILENT_S:
            raise await _why_silent(calls, seat, pod)
        progress(PullProgress(text=f"{loop.time() - began_s:.0f} s"))
        await asyncio.sleep(POLL_S)


async def _why_silent(calls: Calls, seat: Seat, pod: Mapping[str, Any]) -> AppError:
    """The API itself calls a node ready for most of a minute after its host has died."""
    _ = await seen_node(calls, seat)
    unfit = why_waiting(pod)
    if unfit:
        return EngineFailed(detail=unfit)
    reason = f"its kubelet has not taken up a pod for {SILENT_S:g} s"
    return NodeAway(cluster_id=seat.cluster_id, host=seat.host, node=seat.node, reason=reason)


def _image_id(pod: Mapping[str, Any]) -> str:
    statuses = pod["status"]["containerStatuses"]
    return str(statuses[0].get("imageID") or "")


async def _clear(calls: Calls, name: str) -> None:
    """An earlier pull of the same image, cut off in the middle."""
    await _delete(calls, name)
    loop = asyncio.get_running_loop()
    end = loop.time() + SILENT_S
    while loop.time() < end:
        try:
            _ = await calls.get("v1", "Pod", name, NAMESPACE)
        except KubeObjectMissing:
            return
        await asyncio.sleep(POLL_S)


async def _delete(calls: Calls, name: str) -> None:
    with contextlib.suppress(KubeObjectMissing):
        await calls.delete("v1", "Pod", name, NAMESPACE, grace_s=0)
