"""Turn a TensorFlow.js graph model into ONNX.

Why: the detector's weights are published as a tfjs graph model, and the edge runs onnxruntime. Only
the operations that such a detector uses are known here; anything else is refused by name, so that a
wrong translation can never pass silently. Needs numpy and onnx (dependency group `demo`), nothing
of haechi.

TensorFlow lays images out as NHWC and ONNX as NCHW: every convolution is therefore wrapped in two
transposes, which onnxruntime folds away when it loads the model.
"""

from __future__ import annotations

import argparse
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
Node = dict[str, Any]

OPSET = 13
TO_NCHW = [0, 3, 1, 2]
TO_NHWC = [0, 2, 3, 1]
DTYPES = {"float32": "f4", "int32": "i4", "bool": "u1"}


class Untranslatable(Exception):
    """The model uses something that this converter does not know."""


def read_weights(model: Path, manifest: list[dict[str, Any]]) -> dict[str, Array]:
    """All weights by name, dequantized; integers become int64, as ONNX wants shapes."""
    weights: dict[str, Array] = {}
    for group in manifest:
        blob = b"".join((model.parent / path).read_bytes() for path in group["paths"])
        offset = 0
        for entry in group["weights"]:
            count = int(np.prod(entry["shape"])) if entry["shape"] else 1
            packed = entry.get("quantization")
            if packed and packed["dtype"] == "float16":
                kind = np.dtype(np.float16)
            elif packed:
                kind = np.dtype(packed["dtype"])
            else:
                kind = np.dtype(DTYPES[entry["dtype"]])
            values = np.frombuffer(blob, kind, count, offset)
            offset += count * kind.itemsize
            if packed and packed["dtype"] != "float16":
                values = values.astype(np.float32) * packed["scale"] + packed["min"]
            elif kind.kind == "f":
                values = values.astype(np.float32)
            elif kind == np.dtype("i4"):
                values = values.astype(np.int64)
            weights[entry["name"]] = values.reshape(entry["shape"])
    return weights


def _text(node: Node, key: str) -> str:
    """A string attribute: exporters write it as base64, as a list of bytes or as it is."""
    value = node["attr"][key]["s"]
    if isinstance(value, list):
        return bytes(value).decode()
    return value if value in {"SAME", "VALID", "NHWC"} else base64.b64decode(value).decode()


def _numbers(node: Node, key: str, default: list[int]) -> list[int]:
    values = node.get("attr", {}).get(key, {}).get("list", {}).get("i")
    return [int(v) for v in values] if values else default


class Graph:
    """The ONNX graph while it grows. Names of TensorFlow nodes are kept as names of tensors."""

    def __init__(self, nodes: list[Node], weights: dict[str, Array]) -> None:
        self.source = {node["name"]: node for node in nodes}
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}
        self._done: set[str] = set()
        self._serial = 0

    def mark_input(self, name: str) -> None:
        self._done.add(name)

    def add(self, op: str, inputs: list[str], output: str | list[str] = "", **attr: Any) -> str:
        self._serial += 1
        outputs = [output or f"{op}_{self._serial}"] if isinstance(output, str) else output
        self.nodes.append(helper.make_node(op, inputs, outputs, **attr))
        return outputs[0]

    def constant(self, values: Any) -> str:
        self._serial += 1
        name = f"constant_{self._serial}"
        self.constants[name] = np.asarray(values)
        return name

    def value(self, name: str) -> Array:
        """What a tensor holds, where that is known before the model runs."""
        name = name.split(":", maxsplit=1)[0]
        node = self.source[name]
        if name not in self.weights and node["op"] == "SparseToDense":
            self.weights[name] = self._scatter(node)
        if name not in self.weights:
            raise Untranslatable(f"{name} ({node['op']}) has to be a constant")
        return self.weights[name]

    def tensor(self, reference: str) -> str:
        """Name of the ONNX tensor for a TensorFlow input such as `node` or `node:1`."""
        name, _, port = reference.partition(":")
        self.translate(name)
        return name if port in {"", "0"} else f"{name}:{port}"

    def translate(self, output: str) -> None:
        """Translate a node after everything that it reads (its own stack: graphs are deep)."""
        pending = [output]
        while pending:
            name = pending[-1]
            inputs = [i.split(":")[0].lstrip("^") for i in self.source[name].get("input", [])]
            missing = [] if name in self.weights else [i for i in inputs if i not in self._done]
            if missing:
                pending.extend(missing)
                continue
            pending.pop()
            if name not in self._done:
                self._done.add(name)
                self._emit(self.source[name])

    def _emit(self, node: Node) -> None:
        name, op = node["name"], node["op"]
        if name in self.weights:
            self.constants[name] = self.weights[name]
        elif op == "SparseToDense":
            self.constants[name] = self.value(name)
        elif op in TRANSLATIONS:
            inputs = [i for i in node.get("input", []) if not i.startswith("^")]
            TRANSLATIONS[op](self, node, inputs)
        else:
            raise Untranslatable(f"operation {op} of {name} is not known")

    def _scatter(self, node: Node) -> Array:
        where, shape, values, default = (self.value(i) for i in node["input"])
        dense = np.full([int(n) for n in np.atleast_1d(shape)], default, dtype=values.dtype)
        for row, index in enumerate(where.reshape(-1, dense.ndim)):
            dense[tuple(index)] = values if values.ndim == 0 else values[row]
        return dense


def _conv(g: Graph, node: Node, inputs: list[str]) -> None:
    kernel = g.value(inputs[1])
    attr: dict[str, Any] = {
        "strides": _numbers(node, "strides", [1] * 4)[1:3],
        "dilations": _numbers(node, "dilations", [1] * 4)[1:3],
    }
    if _text(node, "padding") == "SAME":
        attr["auto_pad"] = "SAME_UPPER"
    weights = g.constant(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1), dtype=np.float32))
    image = g.add("Transpose", [g.tensor(inputs[0])], perm=TO_NCHW)
    g.add("Transpose", [g.add("Conv", [image, weights], **attr)], node["name"], perm=TO_NHWC)


def _max_pool(g: Graph, node: Node, inputs: list[str]) -> None:
    attr: dict[str, Any] = {
        "kernel_shape": _numbers(node, "ksize", [1] * 4)[1:3],
        "strides": _numbers(node, "strides", [1] * 4)[1:3],
    }
    if _text(node, "padding") == "SAME":
        attr["auto_pad"] = "SAME_UPPER"
    image = g.add("Transpose", [g.tensor(inputs[0])], perm=TO_NCHW)
    g.add("Transpose", [g.add("MaxPool", [image], **attr)], node["name"], perm=TO_NHWC)


def _resize(g: Graph, node: Node, inputs: list[str]) -> None:
    half = node["attr"].get("half_pixel_centers", {}).get("b", False)
    aligned = node["attr"].get("align_corners", {}).get("b", False)
    mode = "align_corners" if aligned else "half_pixel" if half else "asymmetric"
    image = g.add("Transpose", [g.tensor(inputs[0])], perm=TO_NCHW)
    head = g.add("Slice", [g.add("Shape", [image]), g.constant([0]), g.constant([2])])
    size = g.constant(g.value(inputs[1]).astype(np.int64).flatten())
    sizes = g.add("Concat", [head, size], axis=0)
    resized = g.add(
        "Resize", [image, "", "", sizes], mode="linear", coordinate_transformation_mode=mode
    )
    g.add("Transpose", [resized], node["name"], perm=TO_NHWC)


def _pad(g: Graph, node: Node, inputs: list[str]) -> None:
    widths = g.value(inputs[1]).astype(np.int64)
    arguments = [g.tensor(inputs[0]), g.constant(np.concatenate([widths[:, 0], widths[:, 1]]))]
    if node["op"] == "PadV2":
        arguments.append(g.constant(np.float32(g.value(inputs[2]))))
    g.add("Pad", arguments, node["name"])


def _split(g: Graph, node: Node, inputs: list[str]) -> None:
    sizes = g.value(inputs[1]).astype(np.int64)
    outputs = [node["name"], *(f"{node['name']}:{port}" for port in range(1, len(sizes)))]
    axis = int(g.value(inputs[2]))
    g.add("Split", [g.tensor(inputs[0]), g.constant(sizes)], outputs, axis=axis)


def _concat(g: Graph, node: Node, inputs: list[str]) -> None:
    axis = int(g.value(inputs[-1]))
    g.add("Concat", [g.tensor(i) for i in inputs[:-1]], node["name"], axis=axis)


def _reshape(g: Graph, node: Node, inputs: list[str]) -> None:
    shape = g.add("Cast", [g.tensor(inputs[1])], to=TensorProto.INT64)
    g.add("Reshape", [g.tensor(inputs[0]), shape], node["name"])


def _transpose(g: Graph, node: Node, inputs: list[str]) -> None:
    order = [int(axis) for axis in g.value(inputs[1])]
    g.add("Transpose", [g.tensor(inputs[0])], node["name"], perm=order)


def _leaky_relu(g: Graph, node: Node, inputs: list[str]) -> None:
    g.add("LeakyRelu", [g.tensor(inputs[0])], node["name"], alpha=node["attr"]["alpha"]["f"])


def _same(op: str) -> Callable[[Graph, Node, list[str]], None]:
    def emit(g: Graph, node: Node, inputs: list[str]) -> None:
        g.add(op, [g.tensor(i) for i in inputs], node["name"])

    return emit


TRANSLATIONS: dict[str, Callable[[Graph, Node, list[str]], None]] = {
    "Add": _same("Add"),
    "AddV2": _same("Add"),
    "ConcatV2": _concat,
    "Conv2D": _conv,
    "Identity": _same("Identity"),
    "LeakyRelu": _leaky_relu,
    "MaxPool": _max_pool,
    "Pad": _pad,
    "PadV2": _pad,
    "Reshape": _reshape,
    "ResizeBilinear": _resize,
    "Sigmoid": _same("Sigmoid"),
    "SplitV": _split,
    "Transpose": _transpose,
}


def _signature(tensors: dict[str, Any]) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info(
            name.split(":")[0],
            TensorProto.FLOAT,
            [int(dim["size"]) for dim in tensors[name]["tensorShape"]["dim"]],
        )
        for name in sorted(tensors)
    ]


def convert(model: Path) -> onnx.ModelProto:
    """The ONNX model of a tfjs `model.json`; its weight files lie beside it."""
    document = json.loads(model.read_text())
    weights = read_weights(model, document["weightsManifest"])
    graph = Graph(document["modelTopology"]["node"], weights)
    inputs = _signature(document["signature"]["inputs"])
    outputs = _signature(document["signature"]["outputs"])
    for tensor in inputs:
        graph.mark_input(tensor.name)
    for tensor in outputs:
        graph.translate(tensor.name)
    used = {name for node in graph.nodes for name in node.input}
    initializers = [
        numpy_helper.from_array(values, name)
        for name, values in graph.constants.items()
        if name in used
    ]
    body = helper.make_graph(graph.nodes, model.stem, inputs, outputs, initializers)
    result = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(result)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="the tfjs model.json")
    parser.add_argument("target", type=Path, help="the .onnx file to write")
    arguments = parser.parse_args()
    onnx.save(convert(arguments.model), arguments.target)
    print(f"{arguments.target}: {arguments.target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
