"""REST of pictures."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from haechi.core.access import Role, requires
from haechi.core.clock import to_text
from haechi.domains.video.service import Video


def router(video: Video) -> APIRouter:
    api = APIRouter(tags=["video"])

    @api.get(
        "/cameras/{camera_id}/still",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}, "description": "One picture, now."}},
    )
    @requires(Role.VIEWER)
    async def take_still(
        camera_id: str, width: Annotated[int | None, Query(ge=16, le=7680)] = None
    ) -> Response:
        """A JPEG about a second old at most, `width` pixels wide or as the camera sends it."""
        still = await video.take_still(camera_id, width)
        headers = {
            "Cache-Control": "private, no-store",
            "X-Captured-At": to_text(still.captured_at),
        }
        return Response(still.jpeg, media_type="image/jpeg", headers=headers)

    return api
