"""Cut the recording into the cameras' H.264 streams, once; the simulator then only sends them.

Every stream is a file of access units and an index of their sizes: the simulator needs no parser
and no encoder. Runs in the project's environment (PyAV); about 10 s, cached by its settings.

  .venv/bin/python demo/cameras/prepare.py [--fps 10]      prints the folder
"""

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.filter import Graph

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "tools")]

import layout  # noqa: E402 - after the path is known
from provision import cache  # noqa: E402

REVISION = "1"
X264 = {
    "preset": "veryfast",
    "crf": "24",
    "profile": "main",
    "x264-params": "bframes=0:scenecut=0:repeat-headers=1:threads=1:rc-lookahead=0",
}
SIZES = {
    "main": (layout.MAIN_WIDTH, layout.MAIN_HEIGHT),
    "sub": (layout.SUB_WIDTH, layout.SUB_HEIGHT),
}


class _Writer:
    """Encodes one stream and remembers the size of each access unit."""

    def __init__(self, folder: Path, name: str, size: tuple[int, int], fps: int) -> None:
        self._size, self._fps = size, fps
        self._codec: Any = av.CodecContext.create("libx264", "w")
        self._codec.width, self._codec.height = size
        self._codec.pix_fmt = "yuv420p"
        self._codec.time_base = Fraction(1, fps)
        self._codec.framerate = Fraction(fps, 1)
        self._codec.gop_size = fps
        self._codec.options = {**X264, "keyint_min": str(fps)}
        self._base = folder / name
        self._out = self._base.with_suffix(".h264").open("wb")
        self._sizes: list[int] = []
        self._keys: list[int] = []

    def write(self, frame: Any) -> None:
        self._take(self._codec.encode(frame))

    def close(self) -> None:
        self._take(self._codec.encode(None))
        self._out.close()
        width, height = self._size
        index: dict[str, int | list[int]] = {"fps": self._fps, "width": width, "height": height}
        index |= {"sizes": self._sizes, "keys": self._keys}
        self._base.with_suffix(".json").write_text(json.dumps(index))

    def _take(self, packets: list[Any]) -> None:
        for packet in packets:
            if packet.is_keyframe:
                self._keys.append(len(self._sizes))
            self._sizes.append(packet.size)
            self._out.write(bytes(packet))


def _crop(view: layout.View, template: Any) -> Graph:
    graph = Graph()
    source = graph.add_buffer(template=template)
    width, height = layout.VIEW_WIDTH, layout.VIEW_HEIGHT
    crop = graph.add("crop", f"{width}:{height}:{view.left}:{view.top}")
    source.link_to(crop)
    crop.link_to(graph.add("buffersink"))
    graph.configure()
    return graph


def _frames(footage: Path, fps: int) -> Iterator[Any]:
    """Pictures at the wanted rate and the recording's own speed (some come twice above 10 fps)."""
    with av.open(str(footage)) as container:
        sent = 0
        for number, frame in enumerate(container.decode(video=0), start=1):
            while sent * layout.SOURCE_FPS < number * fps:
                yield frame
                sent += 1


def prepare(fps: int = layout.SOURCE_FPS, footage: Path | None = None) -> Path:
    """The folder with every camera's streams, made now if it is not there yet."""
    footage = footage or cache.path("footage")
    settings = repr((REVISION, fps, X264, SIZES, layout.VIEWS, cache.FOOTAGE_SHA256))
    folder = cache.path("cameras") / hashlib.sha256(settings.encode()).hexdigest()[:12]
    if folder.is_dir():
        return folder
    if not footage.is_file():
        sys.exit("The footage is missing: run `python3 tools/setup.py --only footage`.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".cameras-", dir=folder.parent))
    try:
        _encode(scratch, footage, fps)
        if not folder.is_dir():  # another process may have been faster
            scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _encode(folder: Path, footage: Path, fps: int) -> None:
    with av.open(str(footage)) as container:
        template = container.streams.video[0]
        graphs = {view.name: _crop(view, template) for view in layout.VIEWS}
    writers = {
        (view.name, stream): _Writer(folder, f"{view.name}-{stream}", size, fps)
        for view in layout.VIEWS
        for stream, size in SIZES.items()
    }
    for number, frame in enumerate(_frames(footage, fps)):
        for name, graph in graphs.items():
            graph.push(frame)
            view: Any = graph.pull()
            for stream, (width, height) in SIZES.items():
                picture: Any = view.reformat(width=width, height=height, format="yuv420p")
                picture.pts, picture.time_base = number, Fraction(1, fps)
                picture.pict_type = 0  # the encoder decides, not the recording
                writers[name, stream].write(picture)
    for writer in writers.values():
        writer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fps", type=int, default=layout.SOURCE_FPS)
    print(prepare(parser.parse_args().fps))
