"""A captured case: layers of any network at one point, as another framework ran them; and its file.

The file is an `.npz` without pickles: `settings`, a JSON string ({"captured": true, "likelihood": …, "layers":
[{"bias": true}, …]}, of a layer optionally its `name`, `kind` and `input_locations`, and optionally `positions`, gamma,
lambda, eta); `z`, `Y`, and for each layer `a_i` and `g_i`, optionally `W_i`; optionally `sampled` and `weights`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from reprlib import repr as short
from typing import Any

import numpy as np

from autodiff.arrays import to_numpy
from autodiff.layers.layer import Tape
from autodiff.likelihoods import LIKELIHOODS, at_positions, likelihood
from autodiff.names import closest
from autodiff.objective import check_weights
from kfac_ref.data.npz_file import finite, listed, read_archive, write_archive
from kfac_ref.oracle.case import NUMBERS, Case, check_numbers, read_settings
from kfac_ref.oracle.recorded import RecordedLayer, RecordedNetwork, RecordedNorm, RecordedPass

ROWS, NORMALISATION = "rows", "normalisation"
KINDS = (ROWS, NORMALISATION)
"""A layer whose weights are applied to rows, s_t = W ā_t; and one that scales and shifts, s_t = scale ⊙ x̂_t + shift."""


@dataclass(frozen=True, eq=False)
class CapturedLayer:
    """What is known of a layer with weights W at T locations of each of N cases, C outputs of the network."""

    a: np.ndarray
    """(N, T, p): the rows that W is applied to, without the homogeneous coordinate; of a normalisation x̂ (N, T, d)."""
    g: np.ndarray
    """(C, N, T, d): ∂z_c/∂s_t, the derivative of each output of a case by what the layer computes there."""
    bias: bool = True
    kind: str = ROWS
    """One of KINDS. A normalisation's W is [scale, shift] (d, 2), or (d, 1) without a bias."""
    name: str = ""
    """What the framework calls it."""
    W: np.ndarray | None = None
    """(d, p [+1]), the bias last, where it is known: weight decay in gradients can be told then."""
    input_locations: int | None = None
    """Of a convolution with stride or padding, the pixels of its input, where they are known."""


@dataclass(frozen=True, eq=False)
class CapturedCase:
    """Layers of a network at one point, with N cases; layers are counted from 1. All arrays become float64 of NumPy.

    Raises
    ------
    ValueError
        In one line that names the layer or the array, its shape or value, and what was expected.
    """

    likelihood: str
    """categorical, bernoulli or gaussian."""
    z: np.ndarray
    """(N, C), the network's outputs; or (N, R, C), where each of R positions has outputs and targets of its own."""
    Y: np.ndarray
    """As z: one-hot rows or probabilities, [0, 1], or reals, by the likelihood."""
    layers: Sequence[CapturedLayer]
    gamma: float | None = None
    """γ of the factored Tikhonov damping (§6.3)."""
    lam: float | None = None
    """λ (§6.4)."""
    eta: float = 0.0
    """The ℓ₂ coefficient η; needs every layer's W."""
    sampled: np.ndarray | None = None
    """Targets drawn from the model, as Y."""
    weights: np.ndarray | None = None
    """(N,), of cases."""
    positions: int = 1
    """R: 1, unless z has three axes. z, Y, `sampled` are kept as (N, R·C)."""

    def __post_init__(self) -> None:
        check_numbers(self)
        closest(self.likelihood, LIKELIHOODS, "likelihood")
        for name in ("z", "Y", "sampled", "weights"):
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, _host(name, given))
        if self.z.ndim not in (2, 3) or 0 in self.z.shape:
            raise ValueError(f"z has shape {self.z.shape}, expected (cases, outputs) or (cases, positions, outputs)")
        if self.z.ndim == 3:
            object.__setattr__(self, "positions", self.z.shape[1])
        if self.z[0].size % self.positions:
            raise ValueError(f"z has {self.z[0].size} outputs, expected a multiple of positions, {self.positions}")
        for name in ("Y", "sampled"):
            given = getattr(self, name)
            if given is not None and given.shape not in (self.z.shape, (len(self.z), self.z[0].size)):
                raise ValueError(f"{name} has shape {given.shape}, expected {self.z.shape}, that of z")
        for name in ("z", "Y", "sampled"):
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, given.reshape(len(self.z), -1))
        for name in ("Y", "sampled"):
            if (given := getattr(self, name)) is not None:
                self.network_likelihood.check_targets(given, name)
        check_weights(self.weights, self.cases, self.z)
        if not self.layers:
            raise ValueError("layers is empty, expected at least one captured layer")
        checked = [self._checked(i, layer) for i, layer in enumerate(self.layers, start=1)]
        object.__setattr__(self, "layers", checked)
        if self.eta and any(layer.W is None for layer in checked):
            raise ValueError(f"eta is {self.eta:g}, but not every layer's W is given, which the gradient of h needs")

    def _checked(self, i: int, layer: CapturedLayer) -> CapturedLayer:
        called = f"layer {i}" + (f" ({layer.name})" if layer.name else "")
        closest(layer.kind, KINDS, f"kind of {called}")
        if not isinstance(layer.bias, (bool, np.bool_)):
            raise ValueError(f"{called}: bias is {layer.bias!r}, expected true or false")
        a, g = _host(f"{called}: a_{i}", layer.a), _host(f"{called}: g_{i}", layer.g)
        (N, C), T = self.z.shape, a.shape[1] if a.ndim == 3 else 0
        if a.ndim != 3 or a.shape[0] != N or 0 in a.shape:
            raise ValueError(
                f"{called}: a_{i} has shape {a.shape}, expected ({N}, T, inputs): cases, locations, entries of a row"
            )
        if g.ndim == 5 and g.shape[:2] == (self.positions, C // self.positions):
            g = g.reshape(C, *g.shape[2:])
        if g.ndim != 4 or g.shape[:3] != (C, N, T) or g.shape[3] < 1:
            raise ValueError(
                f"{called}: g_{i} has shape {g.shape}, expected ({C}, {N}, {T}, units): outputs, cases, locations, "
                "units"
            )
        if layer.kind == NORMALISATION and a.shape[2] != g.shape[3]:
            raise ValueError(
                f"{called}: a_{i} has shape {a.shape}, expected ({N}, {T}, {g.shape[3]}), as many features as g_{i}"
            )
        columns = (1 if layer.kind == NORMALISATION else a.shape[2]) + bool(layer.bias)
        W = None if layer.W is None else _host(f"{called}: W_{i}", layer.W)
        if W is not None and W.shape != (g.shape[3], columns):
            raise ValueError(f"{called}: W_{i} has shape {W.shape}, expected {(g.shape[3], columns)}")
        return CapturedLayer(a, g, bool(layer.bias), layer.kind, str(layer.name), W, layer.input_locations)

    def __str__(self) -> str:
        return f"{self.network}, N = {self.cases}"

    @property
    def cases(self) -> int:
        """N."""
        return len(self.z)

    @property
    def X(self) -> np.ndarray:
        """z (N, d_ℓ): of the inputs nothing is known, and what is asked of them is their number, library and dtype."""
        return self.z

    @property
    def V(self) -> None:
        """No direction."""
        return None

    @property
    def inverse(self) -> str:
        """By which Δ is computed."""
        return "block-diagonal"

    @property
    def gamma_used(self) -> float | None:
        """γ, which is sqrt(λ+η) where λ alone is given (§6.3); None where neither is."""
        return float(np.sqrt(self.lam + self.eta)) if self.gamma is None and self.lam is not None else self.gamma

    @property
    def damping_used(self) -> float | None:
        """λ+η, which is γ² where γ alone is given; None where neither is."""
        if self.lam is not None:
            return self.lam + self.eta
        return None if self.gamma is None else self.gamma**2

    @property
    def network_likelihood(self) -> Any:
        """The likelihood, of all positions."""
        return at_positions(likelihood(self.likelihood), self.positions)

    @cached_property
    def network(self) -> RecordedNetwork:
        """What is known of the network."""
        rows = [
            (RecordedLayer if layer.kind == ROWS else RecordedNorm)(
                input=(layer.a.shape[2],),
                out=layer.g.shape[3],
                T=layer.a.shape[1],
                bias=layer.bias,
                name=layer.name,
                input_locations=layer.input_locations,
            )
            for layer in self.layers
        ]
        return RecordedNetwork(rows, self.network_likelihood, self.z.shape[1])

    @cached_property
    def parameters(self) -> list[np.ndarray]:
        """W_i where they are known, else zeros, of the shapes of W_1 … W_ℓ."""
        shapes = self.network.shapes
        return [np.zeros(s) if layer.W is None else layer.W for layer, s in zip(self.layers, shapes, strict=True)]

    @cached_property
    def forward_pass(self) -> RecordedPass:
        """The pass over all cases, shared by whatever is computed of them."""
        tapes = []
        for layer in self.layers:
            N, T, p = layer.a.shape
            a = layer.a.reshape(N * T, p)
            if layer.bias and layer.kind == ROWS:
                a = np.concatenate([a, np.ones((N * T, 1))], axis=1)
            tapes.append(Tape(a, np.ascontiguousarray(layer.g.transpose(1, 0, 2, 3)).reshape(N, len(layer.g), -1)))
        return RecordedPass(self.network, self.parameters, self.z, tapes, self.weights)

    @classmethod
    def load(cls, path: str | Path) -> CapturedCase:
        """The case in a file; ValueError naming the file and what is wrong in it."""
        path = Path(path)
        found, names = read_archive(path)
        settings = read_settings(path, found, names)
        if not settings.get("captured"):
            raise ValueError(f"{path}: is the case of a network and not a captured one; Case.load reads it")
        number = len(settings["layers"])
        for key in ["z", "Y", *(f"{x}_{i}" for i in range(1, number + 1) for x in "ag")]:
            if key not in found:
                raise ValueError(f"{path}: key {key!r} is missing, found {listed(names)}; settings has {number} layers")
        wanted = {"z", "Y", "sampled", "weights"} | {f"{x}_{i}" for i in range(1, number + 1) for x in "agW"}
        numbers = {k: finite(path, k, x, np.float64) for k, x in found.items() if k in wanted}
        given = {name: settings[key] for key, name in NUMBERS.items() if settings.get(key) is not None}
        try:
            layers = [_layer(i, keys, numbers) for i, keys in enumerate(settings["layers"], start=1)]
            return cls(
                settings["likelihood"],
                numbers["z"],
                numbers["Y"],
                layers,
                sampled=numbers.get("sampled"),
                weights=numbers.get("weights"),
                positions=settings.get("positions", 1),
                **given,
            )
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from None

    def save(self, path: str | Path) -> None:
        """Write the case's file: whole or not at all, and the same bytes for the same case."""
        described: list[dict[str, Any]] = []
        for layer in self.layers:
            keys: dict[str, Any] = {"bias": layer.bias}
            keys |= {"kind": layer.kind} if layer.kind != ROWS else {}
            keys |= {"name": layer.name} if layer.name else {}
            keys |= {"input_locations": layer.input_locations} if layer.input_locations is not None else {}
            described.append(keys)
        settings: dict[str, Any] = {"captured": True, "likelihood": self.likelihood, "layers": described}
        settings |= {"positions": self.positions} if self.positions > 1 else {}
        settings |= {key: getattr(self, name) for key, name in NUMBERS.items() if getattr(self, name) is not None}
        write_archive(Path(path), {"settings": np.asarray(json.dumps(settings))} | dict(self._arrays()))

    def _arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        for name in ("z", "Y", "sampled", "weights"):
            if getattr(self, name) is not None:
                yield name, getattr(self, name)
        for i, layer in enumerate(self.layers, start=1):
            yield f"a_{i}", layer.a
            yield f"g_{i}", layer.g
            if layer.W is not None:
                yield f"W_{i}", layer.W


AnyCase = Case | CapturedCase


def load_case(path: str | Path) -> AnyCase:
    """The case in a file, whether of a network or captured; ValueError naming the file and what is wrong in it."""
    captured = read_settings(Path(path), *read_archive(Path(path), ["settings"])).get("captured")
    return CapturedCase.load(path) if captured else Case.load(path)


def _host(name: str, x: Any) -> np.ndarray:
    """`x` in NumPy and float64; ValueError unless all numbers are finite."""
    return finite("captured case", name, np.asarray(to_numpy(x) if hasattr(x, "__dlpack__") else x), np.float64)


def _layer(i: int, keys: Any, numbers: Mapping[str, np.ndarray]) -> CapturedLayer:
    if not isinstance(keys, dict):
        raise ValueError(f'settings: layer {i} is {short(keys)}, expected an object as {{"bias": true}}')
    for key in keys:
        closest(key, ("bias", "kind", "name", "input_locations"), f"key of layer {i}")
    return CapturedLayer(
        numbers[f"a_{i}"],
        numbers[f"g_{i}"],
        keys.get("bias", True),
        keys.get("kind", ROWS),
        keys.get("name", ""),
        numbers.get(f"W_{i}"),
        keys.get("input_locations"),
    )
