"""The model: one picture in, objects with boxes out. Knows nothing of streams or haechi."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

SIDE_PX = 416
_STRIDES_PX = (8, 16, 32)
_CLASSES = 80
# Of the 80 COCO classes those that matter to a CCTV site; the rest is noise on such pictures.
NAMES = {
    0: "person",
    1: "bicycle",
    2: "car",
    3: "motorcycle",
    5: "bus",
    7: "truck",
    15: "cat",
    16: "dog",
}
_CANDIDATES = 200


@dataclass(frozen=True)
class Found:
    name: str
    prob: float
    box: tuple[float, float, float, float]
    """x, y, width, height as parts of the frame, origin top left."""


class NanoDet:
    """Thread-safe: ONNX Runtime sessions may be used from several threads at once."""

    def __init__(
        self,
        weights: Path,
        *,
        threshold: float = 0.35,
        overlap: float = 0.5,
        names: frozenset[str] | None = None,
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(weights), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._threshold = threshold
        self._overlap = overlap
        wanted = [(number, name) for number, name in NAMES.items() if not names or name in names]
        self._columns = np.array([number for number, _ in wanted])
        self._names = [name for _, name in wanted]
        self._anchors = [_anchors(stride) for stride in _STRIDES_PX]

    def detect(self, picture: npt.NDArray[np.uint8]) -> list[Found]:
        """`picture`: 416 x 416 x 3, RGB; squeezed to that shape from whatever the frame had."""
        planes = np.empty((1, 3, SIDE_PX, SIDE_PX), np.float32)
        np.multiply(picture.transpose(2, 0, 1), np.float32(1 / 255), out=planes[0])
        outputs = self._session.run(None, {self._input: planes})
        by_shape = {(out.shape[1], out.shape[2] == _CLASSES): out[0] for out in outputs}
        boxes, probs, classes = [], [], []
        for stride, anchors in zip(_STRIDES_PX, self._anchors, strict=True):
            scores = by_shape[len(anchors), True][:, self._columns]
            best = scores.max(axis=1)
            rows = np.flatnonzero(best >= self._threshold)
            if rows.size:
                edges = by_shape[len(anchors), False][rows]
                boxes.append(_boxes(edges, anchors[rows], stride))
                probs.append(best[rows])
                classes.append(scores[rows].argmax(axis=1))
        if not boxes:
            return []
        corners, prob, kind = np.concatenate(boxes), np.concatenate(probs), np.concatenate(classes)
        return [
            Found(self._names[kind[i]], float(prob[i]), _part_of_frame(corners[i]))
            for i in _suppress(corners, prob, kind, self._overlap)
        ]


def _anchors(stride: int) -> npt.NDArray[np.float32]:
    """Centre of every cell of one output grid, in pixels of the input."""
    cells = SIDE_PX // stride
    centres = (np.arange(cells, dtype=np.float32) + 0.5) * stride
    x, y = np.meshgrid(centres, centres)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _boxes(
    edges: npt.NDArray[np.float32], centres: npt.NDArray[np.float32], stride: int
) -> npt.NDArray[np.float32]:
    """Each edge's distance is a distribution over whole strides: its mean is the distance."""
    bins = edges.reshape(len(edges), 4, -1)
    weights = np.exp(bins - bins.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    distance = weights @ np.arange(bins.shape[2], dtype=np.float32) * stride
    return np.concatenate([centres - distance[:, :2], centres + distance[:, 2:]], axis=1)


def _suppress(
    corners: npt.NDArray[np.float32],
    prob: npt.NDArray[np.float32],
    kind: npt.NDArray[np.int64],
    overlap: float,
) -> list[int]:
    """Keep the best of boxes of one class that cover each other; classes do not compete."""
    moved = corners + kind[:, None] * np.float32(2 * SIDE_PX)
    area = (moved[:, 2] - moved[:, 0]) * (moved[:, 3] - moved[:, 1])
    left = np.argsort(-prob)[:_CANDIDATES]
    kept: list[int] = []
    while left.size:
        best, left = left[0], left[1:]
        kept.append(int(best))
        top_left = np.maximum(moved[best, :2], moved[left, :2])
        bottom_right = np.minimum(moved[best, 2:], moved[left, 2:])
        common = np.clip(bottom_right - top_left, 0, None).prod(axis=1)
        left = left[common / (area[best] + area[left] - common) < overlap]
    return kept


def _part_of_frame(corners: npt.NDArray[np.float32]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(v) for v in np.clip(corners / SIDE_PX, 0.0, 1.0))
    return x1, y1, x2 - x1, y2 - y1
