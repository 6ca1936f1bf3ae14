"""Networks as graphs of ONNX: a function for each kind of layer, images being (N, c, H, W) and sequences (N, T, d)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from autodiff.arrays import to_numpy
from autodiff.layers import Closing, Opening
from autodiff.network import Network, Parameters

ACTIVATIONS = {
    "tanh": "Tanh",
    "logistic": "Sigmoid",
    "relu": "Relu",
    "softplus": "Softplus",
    "identity": "Identity",
}


class Graph:
    """Nodes, and the constants that they take, all numbers in `dtype`."""

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, operation: str, *operands: str, outputs: int = 1, **attributes: Any) -> str:
        """Add a node; the name of its last output."""
        from onnx import helper

        names = [f"{operation}_{len(self.nodes)}" + f"_{k}" * bool(k) for k in range(outputs)]
        self.nodes.append(helper.make_node(operation, operands, names, **attributes))
        return names[-1]

    def constant(self, name: str, value: Any, dtype: Any = None) -> str:
        """Add a constant; its name."""
        from onnx import numpy_helper

        array = np.ascontiguousarray(to_numpy(value), dtype=dtype or self.dtype)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def integers(self, what: str, values: Any) -> str:
        """Add a constant of whole numbers, as shapes are."""
        return self.constant(f"{what}_{len(self.constants)}", np.asarray(values), np.int64)

    def reshaped(self, x: str, shape: tuple[int, ...]) -> str:
        """x (N, …) as (N, *shape)."""
        return self.node("Reshape", x, self.integers("shape", (-1, *shape)))

    def activated(self, layer: Any, x: str) -> str:
        """φ(x)."""
        return self.node(ACTIVATIONS[layer.activation.name], x)


def outputs(graph: Graph, network: Network, parameters: Parameters, x: str) -> str:
    """z (N, d_ℓ) of inputs `x` (N, d_0).

    Raises
    ------
    ValueError
        Naming the layer, if it, or its activation, has no counterpart.
    """
    x = graph.reshaped(x, network.input) if len(network.input) > 1 else x
    weights, opened, number = iter(parameters), [], 0
    layer: Any
    for layer in network.stages:
        if isinstance(layer, Opening):
            opened.append(x)
            continue
        if isinstance(layer, Closing):
            x = graph.node("Add", x, opened.pop())
            continue
        W = np.zeros(0)
        if layer.shape:
            W, number = to_numpy(next(weights)), number + 1
            phi = layer.activation.name
            if phi not in ACTIVATIONS:
                raise ValueError(f"layer {number} has the activation {phi}, which cannot be written to an ONNX file")
        if layer.kind not in LAYERS:
            raise ValueError(f"layers of the kind {layer.kind} cannot be written to an ONNX file")
        x = LAYERS[layer.kind](graph, layer, W, x, str(number))
    return graph.reshaped(x, (network.outputs,)) if len(network.output) > 1 else x


def _dense(graph: Graph, layer: Any, W: np.ndarray, x: str, name: str) -> str:
    weights, bias = _split(layer, W)
    if len(layer.input) == 1:
        operands = [graph.constant(f"{name}.weight", weights)]
        if layer.bias:
            operands.append(graph.constant(f"{name}.bias", bias))
        return graph.activated(layer, graph.node("Gemm", x, *operands, transB=1))
    x = graph.node("MatMul", x, graph.constant(f"{name}.weight", weights.T))
    return graph.activated(layer, graph.node("Add", x, graph.constant(f"{name}.bias", bias)) if layer.bias else x)


def _convolution(graph: Graph, layer: Any, W: np.ndarray, x: str, name: str) -> str:
    weights, bias = _split(layer, W)
    depthwise = layer.kind == "depthwise-conv"
    operands = [graph.constant(f"{name}.weight", weights.reshape(len(W), -1, *layer.kernel))]
    if layer.bias:
        operands.append(graph.constant(f"{name}.bias", bias))
    geometry = {"strides": layer.stride, "dilations": layer.dilation, "pads": (*layer.padding, *layer.padding)}
    x = graph.node("Conv", x, *operands, group=len(W) if depthwise else 1, kernel_shape=layer.kernel, **geometry)
    return graph.activated(layer, x)


def _recurrent(graph: Graph, layer: Any, W: np.ndarray, x: str, name: str) -> str:
    # ONNX has time first, biases of the input and of the state, and a direction
    (_, d), out = layer.input, layer.out
    bias = np.concatenate([_split(layer, W)[1], np.zeros(out)]) if layer.bias else np.zeros(2 * out)
    operands = [
        graph.constant(f"{name}.weight", W[None, :, :d]),
        graph.constant(f"{name}.recurrent", W[None, :, d : d + out]),
        graph.constant(f"{name}.bias", bias[None]),
    ]
    phi = ACTIVATIONS[layer.activation.name]
    linear = {"activation_alpha": [1.0], "activation_beta": [0.0]} if phi == "Identity" else {}
    phi = "Affine" if linear else phi
    first = graph.node("Transpose", x, perm=(1, 0, 2))
    last = graph.node("RNN", first, *operands, outputs=2, hidden_size=out, activations=[phi], **linear)
    if layer.returns == "last":  # (1, N, out)
        return graph.reshaped(last, (out,))
    every = graph.node("Squeeze", last.removesuffix("_1"), graph.integers("axes", [1]))
    return graph.node("Transpose", every, perm=(1, 0, 2))


def _normalisation(graph: Graph, layer: Any, W: np.ndarray, x: str, name: str) -> str:
    # an image's features are its channels, which ONNX has second
    axis, along = (1, (-1, 1, 1)) if len(layer.input) == 3 else (-1, (-1,))

    def constant(what: str, values: Any) -> str:
        return graph.constant(f"{name}.{what}", np.asarray(values).reshape(along))

    if layer.kind == "batch-norm":
        x = graph.node("Sub", x, constant("mean", layer.mean))
        deviation = constant("deviation", np.sqrt(np.asarray(layer.variance) + layer.epsilon))
    else:
        x = graph.node("Sub", x, graph.node("ReduceMean", x, axes=[axis]))
        variance = graph.node("ReduceMean", graph.node("Mul", x, x), axes=[axis])
        epsilon = graph.constant(f"{name}.epsilon", np.asarray(layer.epsilon))
        deviation = graph.node("Sqrt", graph.node("Add", variance, epsilon))
    x = graph.node("Mul", graph.node("Div", x, deviation), constant("scale", W[:, 0]))
    return graph.activated(layer, graph.node("Add", x, constant("shift", W[:, 1])))


def _pool(graph: Graph, layer: Any, W: np.ndarray, x: str, name: str) -> str:
    operation = "AveragePool" if layer.kind == "average-pool" else "MaxPool"
    return graph.node(operation, x, kernel_shape=layer.size, strides=layer.stride)


def _mean(graph: Graph, layer: Any, W: np.ndarray, x: str, name: str) -> str:
    return graph.node("ReduceMean", x, axes=[2, 3] if layer.kind == "global-mean" else [1], keepdims=0)


def _flatten(graph: Graph, layer: Any, W: np.ndarray, x: str, name: str) -> str:
    return graph.reshaped(x, layer.output)


def _split(layer: Any, W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The weights, and the bias: the last column where there is one."""
    return (W[:, :-1], W[:, -1]) if layer.bias else (W, W[:, :0])


LAYERS: dict[str, Callable[[Graph, Any, np.ndarray, str, str], str]] = {
    "dense": _dense,
    "conv": _convolution,
    "depthwise-conv": _convolution,
    "recurrent": _recurrent,
    "layer-norm": _normalisation,
    "batch-norm": _normalisation,
    "average-pool": _pool,
    "max-pool": _pool,
    "global-mean": _mean,
    "mean-over-positions": _mean,
    "flatten": _flatten,
}
"""What writes a layer: a function of the graph, the layer, its W, the name of its input, and of its constants."""
