"""AXIS-like RTSP cameras that play prepared recordings live, with digest authentication.

Run with Debian's own Python (`/usr/bin/python3`, packages python3-gi and gir1.2-gst-rtsp-server):

  /usr/bin/python3 demo/cameras/simulator.py --folder F --camera gate=8554 --camera path=8555

Each camera has its port and the paths /axis-media/media.amp (main) and /axis-media/sub.amp. All
pictures follow the wall clock, so that every camera and stream shows the same moment, in every
process and after every restart. User and password come from HAECHI_CAMERA_USER and
HAECHI_CAMERA_PASSWORD (default root, root), never from the command line.

Prints JSON lines: `ready` once, then `play` and `close` for each session. Ends on SIGTERM, and with
`--while-stdin` when whoever started it is gone.
"""

import argparse
import json
import math
import os
import signal
import sys
import threading
import time
from pathlib import Path

import gi

sys.path.insert(0, str(Path(__file__).resolve().parent))
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")

import layout  # noqa: E402
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

DIGEST = 2  # GST_RTSP_AUTH_DIGEST: basic would send the password in the clear
ROLE = "viewer"
PIPELINE = (
    "( appsrc name=source is-live=true format=time do-timestamp=true max-bytes=0"
    " caps=video/x-h264,stream-format=byte-stream,alignment=au,framerate={fps}/1"
    " ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
)


def say(**line: object) -> None:
    print(json.dumps(line), flush=True)


class Recording:
    """The access units of one stream, cut to whole groups of pictures so that it can loop."""

    def __init__(self, folder: Path, name: str) -> None:
        index = json.loads((folder / f"{name}.json").read_text())
        self.fps, self.group = index["fps"], index["keys"][1]
        data = (folder / f"{name}.h264").read_bytes()
        self.units, at = [], 0
        for size in index["sizes"][: index["keys"][-1]]:
            self.units.append(data[at : at + size])
            at += size


class Feed:
    """One running pipeline: takes pictures from the next key picture on."""

    def __init__(self, recording: Recording, source: Gst.Element) -> None:
        self.recording, self.source, self.started = recording, source, False

    def push(self, tick: int) -> bool:
        """False once the pipeline has gone."""
        units = self.recording.units
        if not self.started and tick % self.recording.group:
            return True
        self.started = True
        buffer = Gst.Buffer.new_wrapped(units[tick % len(units)])
        return bool(self.source.emit("push-buffer", buffer) == Gst.FlowReturn.OK)


class Projector(threading.Thread):
    """Sends every feed the picture that the wall clock says."""

    def __init__(self, fps: int) -> None:
        super().__init__(daemon=True, name="projector")
        self.fps, self.lock = fps, threading.Lock()
        self.feeds: list[Feed] = []

    def add(self, feed: Feed) -> None:
        with self.lock:
            self.feeds.append(feed)

    def run(self) -> None:
        tick = math.ceil(time.time() * self.fps)
        while True:
            time.sleep(max(0.0, tick / self.fps - time.time()))
            with self.lock:
                self.feeds = [feed for feed in self.feeds if feed.push(tick)]
            # after a stall the missed pictures are sent at once; after a long one they are skipped
            late = time.time() * self.fps - tick
            tick = tick + 1 if late < self.fps else math.ceil(time.time() * self.fps)


class Stream(GstRtspServer.RTSPMediaFactory):  # type: ignore[misc]
    """One RTSP path: a pipeline that all its clients share."""

    def __init__(self, recording: Recording, projector: Projector) -> None:
        super().__init__()
        self.recording, self.projector = recording, projector
        self.set_shared(True)
        self.set_latency(0)
        allowed = GstRtspServer.RTSPPermissions()
        for right in ("media.factory.access", "media.factory.construct"):
            allowed.add_permission_for_role(ROLE, right, True)
        self.set_permissions(allowed)
        self.set_launch(PIPELINE.format(fps=recording.fps))
        self.connect("media-configure", self._configure)

    def _configure(
        self, _factory: GstRtspServer.RTSPMediaFactory, media: GstRtspServer.RTSPMedia
    ) -> None:
        source = media.get_element().get_child_by_name("source")
        self.projector.add(Feed(self.recording, source))


class Camera:
    def __init__(self, name: str, host: str, port: int, folder: Path, projector: Projector) -> None:
        self.name = name
        self.server = GstRtspServer.RTSPServer()
        self.server.set_address(host)
        self.server.set_service(str(port))
        self.server.set_auth(self._auth())
        self.server.connect("client-connected", self._connected)
        for stream in ("main", "sub"):
            recording = Recording(folder, f"{name}-{stream}")
            factory = Stream(recording, projector)
            self.server.get_mount_points().add_factory(layout.mount(stream), factory)
        if self.server.attach(None) == 0:
            sys.exit(f"port {port} of {host} is taken")

    @staticmethod
    def _auth() -> GstRtspServer.RTSPAuth:
        user = os.environ.get("HAECHI_CAMERA_USER", "root")
        password = os.environ.get("HAECHI_CAMERA_PASSWORD", "root")
        auth = GstRtspServer.RTSPAuth()
        auth.set_supported_methods(DIGEST)
        auth.set_realm("AXIS_HAECHI")
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", ROLE)
        auth.add_digest(user, password, token)
        return auth

    def _connected(
        self, _server: GstRtspServer.RTSPServer, client: GstRtspServer.RTSPClient
    ) -> None:
        playing: set[str] = set()

        def play(_client: GstRtspServer.RTSPClient, context: GstRtspServer.RTSPContext) -> None:
            path = context.uri.abspath
            playing.add(path)
            say(event="play", camera=self.name, path=path)

        def close(_client: GstRtspServer.RTSPClient) -> None:
            for path in playing:
                say(event="close", camera=self.name, path=path)

        client.connect("play-request", play)
        client.connect("closed", close)

    def describe(self, host: str) -> dict[str, object]:
        port = self.server.get_bound_port()
        urls = {s: f"rtsp://{host}:{port}{layout.mount(s)}" for s in ("main", "sub")}
        return {"name": self.name, "port": port, **urls}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="what prepare.py printed")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--camera", action="append", required=True, metavar="NAME=PORT")
    parser.add_argument("--while-stdin", action="store_true", help="end when stdin closes")
    arguments = parser.parse_args()
    Gst.init(None)
    wanted = [text.partition("=")[::2] for text in arguments.camera]
    first = json.loads((arguments.folder / f"{wanted[0][0]}-main.json").read_text())
    projector = Projector(first["fps"])
    cameras = [
        Camera(name, arguments.host, int(port or 0), arguments.folder, projector)
        for name, port in wanted
    ]
    projector.start()
    loop = GLib.MainLoop()
    for number in (signal.SIGTERM, signal.SIGINT):
        GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, number, loop.quit)
    if arguments.while_stdin:
        GLib.io_add_watch(sys.stdin.fileno(), GLib.IO_HUP, lambda *_: loop.quit())

    def forget_lost_sessions() -> bool:
        for camera in cameras:
            camera.server.get_session_pool().cleanup()
        return True

    GLib.timeout_add_seconds(5, forget_lost_sessions)
    say(event="ready", pid=os.getpid(), cameras=[c.describe(arguments.host) for c in cameras])
    loop.run()


if __name__ == "__main__":
    main()
