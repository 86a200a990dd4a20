"""Pictures of cameras for people: stills now, live view and recordings later.

Pictures stay on the devices: this domain asks the device that has the camera, over its agent, and
passes the answer on. Knows no camera address, no password and no media path.
"""

from haechi.domains.video.service import Video

__all__ = ["Video"]
