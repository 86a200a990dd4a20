"""Does a converted NanoDet really see? Runs it on frames of the footage and counts people.

A converter can produce a model that loads and answers nonsense; this is the proof that it does not.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnxruntime  # type: ignore[import-untyped]

SIZE = 416
STRIDES = (8, 16, 32)
MEAN_BGR = np.array([103.53, 116.28, 123.675], np.float32)
SCALE_BGR = np.array([57.375, 57.12, 58.395], np.float32)
PERSON = 0
THRESHOLD = 0.4
Array = np.ndarray[Any, Any]


def frames(footage: Path, every: int) -> list[Array]:
    with av.open(str(footage)) as container:
        return [
            frame.reformat(width=SIZE, height=SIZE, format="bgr24").to_ndarray()
            for index, frame in enumerate(container.decode(video=0))
            if index % every == 0
        ]


def people(session: onnxruntime.InferenceSession, image: Array) -> Array:
    """Boxes (left, top, right, bottom in pixels of 416) of people, overlaps removed."""
    blob = ((image.astype(np.float32) - MEAN_BGR) / SCALE_BGR).transpose(2, 0, 1)[None]
    outputs = [o.name for o in session.get_outputs()]
    answers = session.run(outputs, {session.get_inputs()[0].name: blob})
    by_shape = {answer.shape[1:]: answer[0] for answer in answers}
    boxes, scores = [], []
    for stride in STRIDES:
        cells = -(-SIZE // stride)
        certain = by_shape[cells * cells, 80][:, PERSON]
        spread = by_shape[cells * cells, 44].reshape(-1, 4, 11)
        weight = np.exp(spread - spread.max(axis=2, keepdims=True))
        weight /= weight.sum(axis=2, keepdims=True)
        edges = (weight * np.arange(11)).sum(axis=2) * stride
        at = (np.arange(cells) + 0.5) * stride
        x, y = np.tile(at, cells), np.repeat(at, cells)
        corners = [x - edges[:, 0], y - edges[:, 1], x + edges[:, 2], y + edges[:, 3]]
        seen = certain > THRESHOLD
        boxes.append(np.stack(corners, axis=1)[seen])
        scores.append(certain[seen])
    return _without_overlaps(np.concatenate(boxes), np.concatenate(scores))


def _without_overlaps(boxes: Array, scores: Array) -> Array:
    kept: list[Array] = []
    for index in np.argsort(-scores):
        box = boxes[index]
        if all(_overlap(box, other) < 0.5 for other in kept):
            kept.append(box)
    return np.array(kept)


def _overlap(a: Array, b: Array) -> float:
    both = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(np.clip(both, 0, None)))
    return shared / float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("footage", type=Path)
    arguments = parser.parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(arguments.model), options)
    counts = [len(people(session, image)) for image in frames(arguments.footage, every=100)]
    print(f"people found in {len(counts)} frames of the footage: {counts}")
    if min(counts) < 1 or sum(counts) < 2 * len(counts):
        sys.exit("The footage shows 3 to 9 people in each frame: the model does not see them.")


if __name__ == "__main__":
    main()
