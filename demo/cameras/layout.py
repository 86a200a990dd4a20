"""The four cameras of the demo site: which part of the recording each of them sees.

People walk along the path from the left edge to the right; the views follow it and overlap a
little, so that whoever leaves one camera's picture enters its neighbour's. A preset is a place the
camera can turn to later; `home` is where it looks when nobody has turned it.

Standard library only: both the preparation (project environment) and the simulator (Debian's own
Python) read it.
"""

from dataclasses import dataclass

SOURCE_FPS = 10
VIEW_WIDTH, VIEW_HEIGHT = 288, 216
MAIN_WIDTH, MAIN_HEIGHT = 640, 480
SUB_WIDTH, SUB_HEIGHT = MAIN_WIDTH // 2, MAIN_HEIGHT // 2


@dataclass(frozen=True)
class View:
    """One camera: the left upper corner of what it sees of the 768x576 recording."""

    name: str
    left: int
    top: int


VIEWS = (
    View("gate", 0, 110),
    View("path", 160, 116),
    View("square", 320, 140),
    View("corner", 480, 190),
)
NEIGHBOURS = (("gate", "path"), ("path", "square"), ("square", "corner"))


def mount(stream: str) -> str:
    """RTSP path of a stream, as AXIS cameras have it."""
    return {"main": "/axis-media/media.amp", "sub": "/axis-media/sub.amp"}[stream]
