"""People and vehicle detector for haechi: one container, any number of cameras."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from haechi_sdk import Haechi
from nanodet import SIDE_PX, NanoDet
from watcher import Watcher

if TYPE_CHECKING:
    from haechi_sdk import Change

log = logging.getLogger("detector")

_NO_CAMERA_S = 1.0
_NO_STREAM_S = 10.0
_HEARTBEAT_S = 5.0


class Detector:
    """Keeps one watcher per assigned camera and tells haechi that it works."""

    def __init__(self, haechi: Haechi, model: NanoDet) -> None:
        self._haechi = haechi
        self._model = model
        self._watchers: dict[str, Watcher] = {}
        self._assigned = threading.Event()
        self._looked = threading.Event()
        self._proven = threading.Event()

    def run(self) -> None:
        for what in (self._prove, self._heartbeat):
            threading.Thread(target=what, name=what.__name__, daemon=True).start()
        for change in self._haechi.assignments():
            self._apply(change)
        for watcher in self._watchers.values():
            watcher.stop()
        self._haechi.close()

    def _apply(self, change: Change) -> None:
        camera_id, assignment = change.assignment.camera_id, change.assignment
        log.info("%s %s: %s, %.1f fps", camera_id, change.kind, assignment.mode, assignment.fps)
        watcher = self._watchers.get(camera_id)
        if change.kind == "stopped":
            if watcher is not None:
                self._watchers.pop(camera_id).stop()
        elif watcher is not None:
            watcher.update(assignment)
        else:
            self._watchers[camera_id] = Watcher(
                self._haechi, self._model, assignment, self._on_look
            )
            self._assigned.set()

    def _on_look(self) -> None:
        self._looked.set()
        if not self._proven.is_set():
            self._proven.set()
            self._haechi.ready()

    def _prove(self) -> None:
        """Without a camera the loaded model is proof enough; so it is when a camera is away."""
        if self._assigned.wait(_NO_CAMERA_S):
            self._proven.wait(_NO_STREAM_S)
        if not self._proven.is_set():
            self._proven.set()
            self._haechi.ready()

    def _heartbeat(self) -> None:
        while not self._haechi.wait(_HEARTBEAT_S):
            if not self._looked.is_set():
                self._haechi.result(attributes={"heartbeat": True, "cameras": len(self._watchers)})
            self._looked.clear()


def main() -> None:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    names = frozenset(filter(None, os.environ.get("DETECTOR_CLASSES", "").split(",")))
    threshold = float(os.environ.get("DETECTOR_THRESHOLD") or 0.35)
    model = NanoDet(
        Path(__file__).with_name("nanodet.onnx"), threshold=threshold, names=names or None
    )
    model.detect(np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8))
    log.info("model loaded, threshold %.2f", threshold)
    Detector(Haechi(), model).run()


if __name__ == "__main__":
    main()
