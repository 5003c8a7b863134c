"""ONNX files byte by byte, without the onnx package: small networks that OpenCV and onnxruntime open as real ones."""

import struct

import numpy as np


def _number(value):
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _field(key, value):
    """One field of protobuf: a whole number, or bytes (text, message)."""
    if isinstance(value, int):
        return _number(key << 3) + _number(value)
    if isinstance(value, float):
        return _number(key << 3 | 5) + struct.pack("<f", value)
    content = value.encode() if isinstance(value, str) else value
    return _number(key << 3 | 2) + _number(len(content)) + content


def _attribute(name, value):
    if isinstance(value, (list, tuple)):
        return _field(1, name) + b"".join(_field(8, one) for one in value) + _field(20, 7)
    if isinstance(value, float):
        return _field(1, name) + _field(2, value) + _field(20, 1)
    return _field(1, name) + _field(3, value) + _field(20, 2)


def node(kind, inputs, outputs, **attributes):
    """One operation."""
    content = b"".join(_field(1, one) for one in inputs) + b"".join(_field(2, one) for one in outputs)
    content += _field(3, outputs[0]) + _field(4, kind)
    return content + b"".join(_field(5, _attribute(name, value)) for name, value in attributes.items())


def tensor(name, values):
    """A constant of float32 or int64."""
    form = 7 if values.dtype == np.int64 else 1
    dims = b"".join(_field(1, size) for size in values.shape)
    return dims + _field(2, form) + _field(8, name) + _field(9, np.ascontiguousarray(values).tobytes())


def _value(name, shape):
    dims = b"".join(_field(1, _field(1, size) if isinstance(size, int) else _field(2, size)) for size in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, dims)))


def model(nodes, constants, entry, exits):
    """A whole file's bytes; entry and exits are (name, shape)."""
    graph = b"".join(_field(1, one) for one in nodes) + _field(2, "net")
    graph += b"".join(_field(5, tensor(name, values)) for name, values in constants.items())
    graph += _field(11, _value(*entry)) + b"".join(_field(12, _value(*one)) for one in exits)
    return _field(1, 8) + _field(8, _field(1, "") + _field(2, 13)) + _field(7, graph)


def face_network(size=16, seed=0, side=112):
    """Describe a crop by a random convolution and the colours of 4x4 fields: stands for SFace and ArcFace."""
    rng = np.random.default_rng(seed)
    cell = side // 4
    constants = {
        "kernel": rng.standard_normal((8, 3, cell, cell)).astype(np.float32) / cell,
        "matrix": rng.standard_normal((8 * 16, size)).astype(np.float32) / 8,
        "bias": np.zeros(size, np.float32),
    }
    nodes = [
        node("Conv", ["data", "kernel"], ["seen"], kernel_shape=[cell, cell], strides=[cell, cell]),
        node("Relu", ["seen"], ["lit"]),
        node("Flatten", ["lit"], ["flat"], axis=1),
        node("Gemm", ["flat", "matrix", "bias"], ["fc1"], alpha=1.0, beta=1.0),
    ]
    return model(nodes, constants, ("data", (1, 3, side, side)), [("fc1", (1, size))])


def yunet_network():
    """Take the bright cells of 32 px for faces, with YuNet's twelve outputs.

    A cell's score is 1 where its mean is above 200 and 0 where it is below; the two finer grids see nothing. Its box is
    as large as the cell; the five points lie at fixed shifts from the cell's corner.
    """
    constants, nodes = {}, []
    shifts = np.array([0.3, 0.3, 0.7, 0.3, 0.5, 0.5, 0.35, 0.7, 0.65, 0.7], np.float32)
    for stride in (8, 16, 32):
        bright = np.full((1, 3, stride, stride), 1 / (3 * stride * stride), np.float32)
        for name, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            weights = np.zeros((width, 3, stride, stride), np.float32)
            bias = np.zeros(width, np.float32)
            if width == 1:
                weights[0], bias[0] = bright[0] * (1.0 if stride == 32 else 0.0), -200.0
            elif width == 4:
                bias[:2] = 0.5
            else:
                bias[:] = shifts
            key = f"{name}_{stride}"
            constants[f"w_{key}"], constants[f"b_{key}"] = weights, bias
            constants[f"s_{key}"] = np.array([1, -1, width], np.int64)
            nodes += [
                node(
                    "Conv",
                    ["input", f"w_{key}", f"b_{key}"],
                    [f"c_{key}"],
                    kernel_shape=[stride, stride],
                    strides=[stride, stride],
                ),
                node("Transpose", [f"c_{key}"], [f"t_{key}"], perm=[0, 2, 3, 1]),
                node("Reshape", [f"t_{key}", f"s_{key}"], [f"r_{key}" if width == 1 else key]),
            ]
            if width == 1:
                nodes.append(node("Sigmoid", [f"r_{key}"], [key]))
    widths = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
    exits = [(f"{name}_{stride}", (1, "n", width)) for name, width in widths.items() for stride in (8, 16, 32)]
    return model(nodes, constants, ("input", (1, 3, 640, 640)), exits)
