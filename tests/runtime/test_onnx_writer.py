"""What is written is ONNX: held against the onnx package, and run by ONNX Runtime."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from dynamic_tinybert.runtime.onnx_writer import DEFAULT_OPSET, Graph, encode_model

BIG = 2**63 - 1
SMALL = -(2**63)


def parse(graph: Graph, **options: Any) -> onnx.ModelProto:
    """Encode a graph, and let the onnx package read it and check it."""
    model = onnx.load_from_string(encode_model(graph, **options))
    onnx.checker.check_model(model, full_check=True)
    return model


def run(graph: Graph, *values: npt.ArrayLike, **options: Any) -> list[npt.NDArray[Any]]:
    model = encode_model(graph, **options)
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return session.run(None, dict(zip(names, map(np.asarray, values), strict=True)))


def attributes_of(model: onnx.ModelProto, node: int = 0) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in model.graph.node[node].attribute}


def unknown(**attributes: Any) -> onnx.ModelProto:
    """A model of one node of an operator that nobody knows, whose attributes may be anything. Parsed, not checked."""
    graph = Graph("g")
    graph.output(graph.node("Thing", domain="com.example", **attributes), "y", np.float32, [])
    return onnx.load_from_string(encode_model(graph))


def adder() -> Graph:
    graph = Graph("adder")
    x = graph.input("x", np.float32, ["batch", 3])
    bias = graph.weight("bias", np.array([1, 2, 3], np.float32))
    graph.output(graph.node("Add", x, bias), "y", np.float32, ["batch", 3])
    return graph


def test_a_model_passes_the_checker_and_runs() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    (y,) = run(adder(), x)
    np.testing.assert_array_equal(y, x + np.array([1, 2, 3]))


@pytest.mark.parametrize("opset", [20, 21, 22, 23])
def test_every_opset_comes_with_an_ir_version_that_knows_it(opset: int) -> None:
    model = parse(adder(), opset=opset)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == opset
    versions = {row[0]: row[1:3] for row in onnx.helper.VERSION_TABLE}
    assert model.ir_version == max(ir for ir, ai in versions.values() if ai == opset)
    assert run(adder(), np.zeros((1, 3), np.float32), opset=opset)[0].tolist() == [[1, 2, 3]]


def test_the_model_says_who_made_it() -> None:
    model = parse(adder())
    assert model.producer_name == "dynamic-tinybert"
    assert model.graph.name == "adder"
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": DEFAULT_OPSET}


def test_inputs_and_outputs_are_as_declared() -> None:
    graph = Graph("g")
    wanted = {
        "ids": (np.int64, ["batch", "tokens"]),
        "scalar": (np.float32, []),
        "fixed": (np.bool_, [1, 2, 300]),
        "bytes": (np.uint8, ["n"]),
    }
    for name, (dtype, dims) in wanted.items():
        graph.output(graph.node("Identity", graph.input(name, dtype, dims)), f"{name}_out", dtype, dims)
    model = parse(graph)
    kinds = {np.int64: "INT64", np.float32: "FLOAT", np.bool_: "BOOL", np.uint8: "UINT8"}
    for values, suffix in ((model.graph.input, ""), (model.graph.output, "_out")):
        assert [value.name for value in values] == [f"{name}{suffix}" for name in wanted]
        for value, (dtype, dims) in zip(values, wanted.values(), strict=True):
            declared = value.type.tensor_type
            assert onnx.TensorProto.DataType.Name(declared.elem_type) == kinds[dtype]
            assert [d.dim_param or d.dim_value for d in declared.shape.dim] == dims
    outputs = run(graph, [[1, 2]], np.float32(3), np.ones((1, 2, 300), bool), np.array([255], np.uint8))
    assert outputs[0].tolist() == [[1, 2]]
    assert outputs[1] == 3
    assert outputs[3].tolist() == [255]


# Tensors.


ARRAYS = [
    np.array([[1.5, -0.0], [np.inf, -np.inf]], np.float32),
    np.array([np.nan, np.finfo(np.float32).tiny, np.finfo(np.float32).max], np.float32),
    np.array([0, 1, 255], np.uint8),
    np.array([-128, 127], np.int8),
    np.array([-(2**31), 2**31 - 1], np.int32),
    np.array([SMALL, -1, 0, 1, BIG], np.int64),
    np.array([True, False]),
    np.array(7, np.int64),
    np.array(-2.5, np.float32),
    np.zeros((0,), np.float32),
    np.zeros((2, 0, 3), np.int64),
    np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1),
    np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
    np.arange(10, dtype=np.float32)[::-3],
    np.broadcast_to(np.float32(3), (2, 2)),
    np.ones((1,) * 9, np.float32),
    np.zeros(200, np.uint8),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{list(a.shape)}")
def test_weights_keep_their_values_type_and_shape(array: npt.NDArray[Any]) -> None:
    graph = Graph("g")
    graph.output(graph.node("Identity", graph.weight("weight", array)), "y", array.dtype, list(array.shape))
    (stored,) = parse(graph).graph.initializer
    assert stored.name == "weight"
    np.testing.assert_array_equal(numpy_helper.to_array(stored), array)
    assert numpy_helper.to_array(stored).dtype == array.dtype
    assert numpy_helper.to_array(stored).tobytes() == array.tobytes()
    (y,) = run(graph)
    assert (y.dtype, y.shape, y.tobytes()) == (array.dtype, array.shape, array.tobytes())


@given(st.lists(st.integers(SMALL, BIG), max_size=8))
@settings(deadline=None, database=None, max_examples=50)
def test_any_integers_are_written(values: list[int]) -> None:
    graph = Graph("g")
    graph.output(graph.constant(values), "y", np.int64)
    model = onnx.load_from_string(encode_model(graph))
    assert numpy_helper.to_array(model.graph.initializer[0]).tolist() == values
    assert attributes_of(unknown(values=tuple(values)))["values"] == values


def test_two_weights_of_one_name_are_refused_wherever_they_are() -> None:
    graph = Graph("g")
    branch = graph.subgraph("branch")
    graph.weight("a", np.zeros(1, np.float32))
    branch.subgraph("inner").weight("b", np.zeros(1, np.float32))
    for where, name in ((graph, "a"), (branch, "a"), (graph, "b")):
        with pytest.raises(ValueError, match=name):
            where.weight(name, np.ones(1, np.float32))
    assert set(graph.weights) == {"a", "b"}
    assert not branch.weights


def test_a_constant_is_stored_once_for_each_value_type_and_shape() -> None:
    graph = Graph("g")
    first = graph.constant([1, 2])
    assert graph.constant([1, 2]) == first
    assert graph.subgraph("branch").subgraph("inner").constant((1, 2)) == first
    others = [
        graph.constant([2, 1]),
        graph.constant([[1, 2]]),
        graph.constant([1, 2], np.int32),
        graph.constant(1),
        graph.constant([1]),
        graph.constant(0.0, np.float32),
        graph.constant(-0.0, np.float32),
        graph.constant(0, np.int32),
    ]
    assert len({first, *others}) == 1 + len(others)
    assert len(graph.weights) == 1 + len(others)
    assert graph.constant(1e30, np.float32) == graph.constant(1e30, np.float32)


# Attributes.


@pytest.mark.parametrize("value", [0, 1, -1, 127, 128, 300, 2**31, 2**32, -(2**31), BIG, SMALL])
def test_an_integer_attribute(value: int) -> None:
    model = unknown(value=value)
    assert model.graph.node[0].attribute[0].type == onnx.AttributeProto.INT
    assert attributes_of(model) == {"value": value}


@pytest.mark.parametrize("value", [0.0, 1.0, -2.5, 1e-12, 3.4e38, math.inf, -math.inf])
def test_a_float_attribute(value: float) -> None:
    model = unknown(value=value)
    assert model.graph.node[0].attribute[0].type == onnx.AttributeProto.FLOAT
    assert attributes_of(model) == {"value": np.float32(value)}


def test_a_float_attribute_of_nan() -> None:
    assert math.isnan(attributes_of(unknown(value=math.nan))["value"])


@pytest.mark.parametrize("value", ["none", "", "Zürich 東京", "x" * 300])
def test_a_text_attribute(value: str) -> None:
    model = unknown(value=value)
    assert model.graph.node[0].attribute[0].type == onnx.AttributeProto.STRING
    assert attributes_of(model) == {"value": value.encode()}


@pytest.mark.parametrize("value", [[], [0], [0, 2, 1, 3], (0, 2, -1), [BIG, SMALL], list(range(300))])
def test_an_attribute_of_integers(value: Any) -> None:
    model = unknown(value=value)
    assert model.graph.node[0].attribute[0].type == onnx.AttributeProto.INTS
    assert list(attributes_of(model)["value"]) == list(value)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{list(a.shape)}")
def test_a_tensor_attribute(array: npt.NDArray[Any]) -> None:
    model = unknown(value=array)
    assert model.graph.node[0].attribute[0].type == onnx.AttributeProto.TENSOR
    np.testing.assert_array_equal(numpy_helper.to_array(attributes_of(model)["value"]), array)


def test_several_attributes_of_a_known_operator_run() -> None:
    graph = Graph("g")
    x = graph.input("x", np.float32, ["a", "b"])
    y = graph.node("Transpose", x, perm=(1, 0))
    scale, bias = graph.constant([1] * 3, np.float32), graph.constant([0] * 3, np.float32)
    y = graph.node("LayerNormalization", y, scale, bias, axis=-1, epsilon=1e-5)
    y = graph.node("Add", y, graph.node("Constant", value=np.array([2], np.float32)))
    graph.output(graph.node("Gelu", y, approximate="tanh"), "y", np.float32, ["b", "a"])
    (got,) = run(graph, np.zeros((3, 2), np.float32))
    assert got.shape == (2, 3)
    np.testing.assert_allclose(got, 1.9546, atol=1e-3)


# Nodes.


def test_nodes_have_names_of_their_own_and_keep_their_order() -> None:
    graph = Graph("g")
    x = graph.input("x", np.float32, [4])
    parts = graph.nodes("Split", x, outputs=2, axis=0, num_outputs=2)
    y = graph.node("Concat", *reversed(parts), axis=0)
    branch = graph.subgraph("branch")
    inner = branch.node("Identity", y)
    graph.output(y, "y", np.float32, [4])
    assert len({x, *parts, y, inner}) == 5
    model = parse(graph)
    assert [node.op_type for node in model.graph.node] == ["Split", "Concat", "Identity"]
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert run(graph, np.arange(4, dtype=np.float32))[0].tolist() == [2, 3, 0, 1]


def test_an_optional_input_is_left_out() -> None:
    graph = Graph("g")
    x = graph.input("x", np.float32, ["n"])
    graph.output(graph.node("Clip", x, "", graph.constant(2, np.float32)), "y", np.float32, ["n"])
    assert list(parse(graph).graph.node[0].input)[:2] == ["x", ""]
    assert run(graph, np.array([-5, 5], np.float32))[0].tolist() == [-5, 2]


def test_only_a_node_of_another_domain_names_it() -> None:
    graph = Graph("g")
    x = graph.input("x", np.float32, ["n"])
    y = graph.node("QuickGelu", x, domain="com.microsoft", alpha=1.0)
    graph.output(graph.node("Neg", y), "y", np.float32, ["n"])
    model = onnx.load_from_string(encode_model(graph))
    onnx.checker.check_model(model)
    assert [node.domain for node in model.graph.node] == ["com.microsoft", "", ""]
    session = onnxruntime.InferenceSession(encode_model(graph), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(
        session.run(None, {"x": np.array([0, 1], np.float32)})[0], [0, -1 / (1 + math.exp(-1))], atol=1e-6
    )


def test_an_output_may_be_the_value_itself() -> None:
    graph = Graph("g")
    y = graph.node("Neg", graph.input("x", np.float32, ["n"]))
    graph.output(y, dtype=np.float32, dims=["n"])
    model = parse(graph)
    assert [value.name for value in model.graph.output] == [y]
    assert len(model.graph.node) == 1


def test_a_graph_encodes_the_same_twice() -> None:
    graph = adder()
    assert encode_model(graph) == encode_model(graph)


# Branches.


def chooser() -> Graph:
    """`x + 1` or, in a branch with a branch of its own, `2x` or `-x`."""
    graph = Graph("chooser")
    add, second = graph.input("add", np.bool_, []), graph.input("double", np.bool_, [])
    x = graph.input("x", np.float32, ["n"])
    then, other = graph.subgraph("then"), graph.subgraph("else")
    then.output(then.node("Add", x, then.constant(1, np.float32)))
    twice, minus = other.subgraph("twice"), other.subgraph("minus")
    twice.output(twice.node("Mul", x, twice.weight("two", np.array([2], np.float32))))
    minus.output(minus.node("Neg", x))
    other.output(other.node("If", second, then_branch=twice, else_branch=minus))
    graph.output(graph.node("If", add, then_branch=then, else_branch=other), "y", np.float32, ["n"])
    return graph


@pytest.mark.parametrize(
    ("add", "double", "wanted"),
    [(True, True, [4]), (True, False, [4]), (False, True, [6]), (False, False, [-3])],
)
def test_branches_see_what_is_around_them(add: bool, double: bool, wanted: list[float]) -> None:
    assert run(chooser(), add, double, np.array([3], np.float32))[0].tolist() == wanted


def test_weights_of_branches_live_at_the_top() -> None:
    graph = chooser()
    model = parse(graph)
    assert {tensor.name for tensor in model.graph.initializer} == set(graph.weights)
    assert "two" in graph.weights
    pending = [attribute.g for node in model.graph.node for attribute in node.attribute if attribute.type == 5]
    assert len(pending) == 2
    for branch in pending:
        assert not branch.initializer
        assert branch.output[0].name
        pending += [attribute.g for node in branch.node for attribute in node.attribute if attribute.type == 5]
    assert len(pending) == 4


def test_names_in_branches_are_of_their_own() -> None:
    model = parse(chooser())
    names, pending = [], [model.graph]
    for graph in pending:
        names += [name for node in graph.node for name in node.output]
        pending += [attribute.g for node in graph.node for attribute in node.attribute if attribute.type == 5]
    assert len(set(names)) == len(names)


# Weights outside.


def test_a_weight_outside_is_named_but_not_written() -> None:
    graph = Graph("g")
    large = np.arange(4000, dtype=np.float32)
    x = graph.input("x", np.float32, [4000])
    y = graph.node("Add", graph.node("Mul", x, graph.weight("large", large)), graph.constant(1, np.float32))
    graph.output(y, "y", np.float32, [4000])
    whole, outside = encode_model(graph), encode_model(graph, external=["large"])
    assert len(whole) > large.nbytes > 1000 > len(outside)

    stored = {tensor.name: tensor for tensor in onnx.load_from_string(outside).graph.initializer}
    assert stored["large"].data_location == onnx.TensorProto.EXTERNAL
    assert list(stored["large"].dims) == [4000]
    assert {entry.key: entry.value for entry in stored["large"].external_data}["length"] == str(large.nbytes)
    assert not stored["large"].raw_data
    assert stored["constant_0"].data_location == onnx.TensorProto.DEFAULT

    options = onnxruntime.SessionOptions()
    value = onnxruntime.OrtValue.ortvalue_from_numpy(large)
    options.add_external_initializers(["large"], [value])
    session = onnxruntime.InferenceSession(outside, options, providers=["CPUExecutionProvider"])
    ones = np.ones(4000, np.float32)
    np.testing.assert_array_equal(session.run(None, {"x": ones})[0], large + 1)
    np.testing.assert_array_equal(run(graph, ones)[0], large + 1)


def test_lengths_of_more_than_one_byte_are_right() -> None:
    """A weight whose size needs one, two, three and four bytes of varint."""
    for count in (1, 40, 5_000, 600_000):
        graph = Graph("g")
        array = np.arange(count, dtype=np.float32)
        graph.output(graph.node("Identity", graph.weight("w" * min(count, 200), array)), "y", np.float32, [count])
        np.testing.assert_array_equal(numpy_helper.to_array(parse(graph).graph.initializer[0]), array)


def test_what_cannot_be_written_is_refused() -> None:
    graph = Graph("g")
    graph.output(graph.node("Identity", graph.weight("a", np.zeros(2, np.complex64))), "y", np.float32, [2])
    with pytest.raises((KeyError, TypeError, ValueError)):
        encode_model(graph)
    with pytest.raises((KeyError, TypeError, ValueError)):
        graph.node("Thing", value=[0.5, 1.5])
    with pytest.raises((KeyError, TypeError, ValueError)):
        graph.node("Thing", value=["a", "b"])
