"""Write ONNX models: only the part of the format that this package's graphs need.

The `onnx` package would add 34 MB to the installation. The tests check the written models with `onnx.checker`. The
field numbers are from onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto), and the encoding is that of
protocol buffers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.generic]

DEFAULT_OPSET = 23
PORTABLE_OPSET = 20
_IR_VERSIONS = {20: 9, 21: 10, 22: 10, 23: 11}  # the oldest IR version for each opset

_ELEMENT_TYPES = {
    np.dtype(np.float32): 1,
    np.dtype(np.uint8): 2,
    np.dtype(np.int8): 3,
    np.dtype(np.int32): 6,
    np.dtype(np.int64): 7,
    np.dtype(np.bool_): 9,
}


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _int(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    if isinstance(value, str):
        value = value.encode()
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)


def _tensor(name: str, array: Array, *, external: bool = False) -> bytes:
    head = b"".join(_int(1, n) for n in array.shape) + _int(2, _ELEMENT_TYPES[array.dtype])
    if not external:
        return head + _bytes(8, name) + _bytes(9, np.ascontiguousarray(array).tobytes())
    where = {"location": "memory", "offset": "0", "length": str(array.nbytes)}
    entries = b"".join(_bytes(13, _bytes(1, k) + _bytes(2, v)) for k, v in where.items())
    return head + _bytes(8, name) + entries + _int(14, 1)


Attribute: TypeAlias = "int | float | str | Sequence[int] | Array | Graph"


def _attribute(name: str, value: Attribute) -> bytes:
    out = _bytes(1, name)
    if isinstance(value, Graph):
        return out + _bytes(6, value.encode()) + _int(20, 5)
    if isinstance(value, np.ndarray):
        return out + _bytes(5, _tensor("", value)) + _int(20, 4)
    if isinstance(value, str):
        return out + _bytes(4, value) + _int(20, 3)
    if isinstance(value, float):
        return out + _float(2, value) + _int(20, 1)
    if isinstance(value, int):
        return out + _int(3, value) + _int(20, 2)
    return out + b"".join(_int(8, v) for v in value) + _int(20, 7)


def _value(name: str, dtype: npt.DTypeLike | None, dims: Sequence[str | int] | None) -> bytes:
    if dtype is None:
        return _bytes(1, name)
    tensor = _int(1, _ELEMENT_TYPES[np.dtype(dtype)])
    if dims is not None:
        tensor += _bytes(2, b"".join(_bytes(1, _bytes(2, d) if isinstance(d, str) else _int(1, d)) for d in dims))
    return _bytes(1, name) + _bytes(2, _bytes(1, tensor))


class Graph:
    """Build an ONNX graph: nodes in order of execution, weights, inputs, outputs.

    `subgraph()` makes a branch of an `If`, which can use every name of the graph around it.
    """

    def __init__(self, name: str, *, parent: Graph | None = None) -> None:
        self.name = name
        self.weights: dict[str, Array] = {}
        self.domains: set[str] = parent.domains if parent else set()
        self._parent = parent
        self._names: list[int] = parent._names if parent else [0]
        self._constants: dict[tuple[str, bytes, tuple[int, ...]], str] = {}
        self._nodes: list[bytes] = []
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []

    def subgraph(self, name: str) -> Graph:
        """Return a branch of this graph. When it is complete, pass it to `node` as an attribute."""
        return Graph(name, parent=self)

    def _root(self) -> Graph:
        return self if self._parent is None else self._parent._root()

    def weight(self, name: str, array: Array) -> str:
        """Add a weight to the outermost graph, for use in every branch. Raise ValueError if its name is in use."""
        root = self._root()
        if name in root.weights:
            raise ValueError(f"two weights are named {name}")
        root.weights[name] = array
        return name

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> str:
        """Return the name of a small constant; add the constant if it is not there."""
        root = self._root()
        array = np.asarray(value, dtype)
        key = (str(array.dtype), array.tobytes(), array.shape)
        if key not in root._constants:
            root._constants[key] = root.weight(f"constant_{len(root._constants)}", array)
        return root._constants[key]

    def node(self, op: str, *inputs: str, domain: str = "", **attributes: Attribute) -> str:
        """Add a node with one output and return the output's name. An input "" leaves an optional input out."""
        return self.nodes(op, *inputs, outputs=1, domain=domain, **attributes)[0]

    def nodes(self, op: str, *inputs: str, outputs: int, domain: str = "", **attributes: Attribute) -> list[str]:
        """Add a node with several outputs and return their names."""
        self.domains.add(domain)
        names = []
        for _ in range(outputs):
            self._names[0] += 1
            names.append(f"{op}_{self._names[0]}")
        self._nodes.append(
            b"".join(_bytes(1, name) for name in inputs)
            + b"".join(_bytes(2, name) for name in names)
            + _bytes(3, f"node_{names[0]}")
            + _bytes(4, op)
            + b"".join(_bytes(5, _attribute(k, v)) for k, v in attributes.items())
            + (_bytes(7, domain) if domain else b"")
        )
        return names

    def input(self, name: str, dtype: npt.DTypeLike, dims: Sequence[str | int]) -> str:
        """Declare an input. A dimension that is a string can have any size."""
        self._inputs.append(_value(name, dtype, dims))
        return name

    def output(
        self, value: str, name: str = "", dtype: npt.DTypeLike | None = None, dims: Sequence[str | int] | None = None
    ) -> None:
        """Declare an output, renamed if `name` is given. A branch needs no `dtype`, because ONNX infers it."""
        if name:
            self._nodes.append(_bytes(1, value) + _bytes(2, name) + _bytes(3, f"output_{name}") + _bytes(4, "Identity"))
        self._outputs.append(_value(name or value, dtype, dims))

    def encode(self, external: Iterable[str] = ()) -> bytes:
        """Return the graph in ONNX's wire format, without the values of the weights in `external`."""
        outside = set(external)
        return (
            b"".join(_bytes(1, node) for node in self._nodes)
            + _bytes(2, self.name)
            + b"".join(_bytes(5, _tensor(k, v, external=k in outside)) for k, v in self.weights.items())
            + b"".join(_bytes(11, value) for value in self._inputs)
            + b"".join(_bytes(12, value) for value in self._outputs)
        )


def encode_model(graph: Graph, *, external: Iterable[str] = (), opset: int = DEFAULT_OPSET) -> bytes:
    """Return a complete ONNX model for a file or a session.

    Args:
        graph: The graph.
        external: The names of weights whose values are left out; the caller must pass them to the session.
        opset: The version of ONNX's operators that the graph uses.
    """
    domains = {"": opset} | dict.fromkeys(sorted(graph.domains - {""}), 1)
    return (
        _int(1, _IR_VERSIONS[opset])
        + _bytes(2, "dynamic-tinybert")
        + _bytes(7, graph.encode(external))
        + b"".join(_bytes(8, (_bytes(1, name) if name else b"") + _int(2, v)) for name, v in domains.items())
    )
