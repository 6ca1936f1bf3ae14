"""A case: a network at one point, with data, to be judged; and its file.

The file is an `.npz` without pickles: `settings`, a JSON string (layers, activations, likelihood, optionally gamma,
lambda, eta, inverse; input and network in the place of the first two, where the network has other layers than dense
ones on vectors: see `Network.of`); `X`, `Y`, `W_i`; optionally `V_i`, a direction, `sampled`, targets, and `weights` of
cases. What else is in it is left alone, unless its name looks like a slip.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from numbers import Real
from pathlib import Path
from reprlib import repr as short
from typing import Any

import numpy as np

from autodiff import arrays
from autodiff.arrays import Array, to_numpy
from autodiff.names import closest
from autodiff.network import Network, Parameters, described
from autodiff.objective import check_weights
from autodiff.passes import ForwardPass
from kfac_ref.data.npz_file import finite, listed, read_archive, write_archive
from kfac_ref.settings import INVERSES

REQUIRED = ("layers", "activations", "likelihood")
REQUIRED_OF_OTHERS = ("input", "network", "likelihood")
"""Where a network has other layers than dense ones on vectors."""
CAPTURED = ("captured", "likelihood", "layers")
"""Of a captured case."""
NUMBERS = {"gamma": "gamma", "lambda": "lam", "eta": "eta"}
"""Optional keys of the settings, and what they are called in `Case`."""


@dataclass(frozen=True, eq=False)
class Case:
    """A network at the point θ with N cases of data. Arrays are of one library, dtype and device, those of W_1.

    Raises
    ------
    ValueError, TypeError
        In one line that names the array, or the number, and what was expected.
    """

    network: Network
    parameters: Parameters
    X: Array
    """(N, d_0), or (N, *input)."""
    Y: Array
    """(N, d_ℓ): one-hot rows or probabilities, [0, 1], or reals, by the likelihood. What is given as (N, T, C), for a
    network that ends with a sequence, is kept as (N, T·C); `sampled` too."""
    gamma: float | None = None
    """γ of the factored Tikhonov damping (§6.3)."""
    lam: float | None = None
    """λ (§6.4)."""
    eta: float = 0.0
    """The ℓ₂ coefficient η: h and ∇h include it."""
    V: Parameters | None = None
    """A direction, V_i of the shape of W_i: F V is computed, and it is δ₀ (§7)."""
    sampled: Array | None = None
    """Targets drawn from the model, one row per case, (N, d_ℓ)."""
    weights: Array | None = None
    """(N,), ≥ 0 and not all 0: all means over cases are Σ w_n(·) / Σ w_n."""
    inverse: str = "block-diagonal"
    """Whether Δ is −F̆⁻¹∇h or −F̂⁻¹∇h; one of `INVERSES`."""

    def __post_init__(self) -> None:
        check_numbers(self)
        closest(self.inverse, INVERSES, "inverse")
        if len(self.network.output) > 1:
            for name in ("Y", "sampled"):
                targets = getattr(self, name)
                if targets is not None and tuple(targets.shape[1:]) == self.network.output:
                    flat = arrays.namespace(targets).reshape(targets, (targets.shape[0], -1))
                    object.__setattr__(self, name, flat)
        for name, layers in (("W", self.parameters), ("V", self.V)):
            if layers is not None and len(layers) != self.network.layers:
                raise ValueError(
                    f"{name} has {len(layers)} arrays, but the network {self.network} has {self.network.layers} layers"
                )
        for name, x, shape, what in self._arrays():
            arrays.require_floating(x, name)
            arrays.require_alike(x, self.parameters[0], name)
            if tuple(x.shape) != shape:
                raise ValueError(f"{name} has shape {tuple(x.shape)}, expected {shape}: {what}")
            finite("case", name, to_numpy(x), np.float64)
        if self.cases < 1:
            raise ValueError(f"X has shape {tuple(self.X.shape)}, expected at least one case")
        check_weights(self.weights, self.cases, self.parameters[0])
        for name, targets in (("Y", self.Y), ("sampled", self.sampled)):
            if targets is not None:
                self.network.likelihood.check_targets(to_numpy(targets), name)

    def _arrays(self) -> Iterator[tuple[str, Array, tuple[int, ...], str]]:
        """Each array's name in a file, itself, the shape it must have, and why."""
        for name, layers in (("W", self.parameters), ("V", self.V)):
            for i, (x, shape) in enumerate(zip(layers or (), self.network.shapes, strict=False), start=1):
                what = f"(d_{i}, d_{i - 1} + 1), the bias column last"
                if not self.network.fully_connected:
                    what = f"the weights of the layer {self.network.weighted[i - 1].kind}"
                yield f"{name}_{i}", x, shape, what
        d, d_out = self.network.inputs, self.network.outputs
        N = self.X.shape[0] if getattr(self.X, "ndim", 0) else 1
        flat = getattr(self.X, "ndim", 0) <= 2 and len(self.network.input) > 1
        yield "X", self.X, (N, d) if flat else (N, *self.network.input), f"one row per case, the network has {d} inputs"
        yield "Y", self.Y, (N, d_out), f"a row for each of X, the network has {d_out} outputs"
        if self.sampled is not None:
            yield "sampled", self.sampled, (N, d_out), f"a row for each of X, the network has {d_out} outputs"
        if self.weights is not None:
            yield "weights", self.weights, (N,), "one for each row of X"

    def __str__(self) -> str:
        return f"{self.network}, N = {self.cases}"

    @property
    def cases(self) -> int:
        """N."""
        return self.X.shape[0]

    @property
    def gamma_used(self) -> float | None:
        """γ, which is sqrt(λ+η) where λ alone is given (§6.3); None where neither is."""
        if self.gamma is None and self.lam is not None:
            return math.sqrt(self.lam + self.eta)
        return self.gamma

    @property
    def damping_used(self) -> float | None:
        """λ+η, which is γ² where γ alone is given; None where neither is."""
        if self.lam is not None:
            return self.lam + self.eta
        return None if self.gamma is None else self.gamma**2

    @cached_property
    def forward_pass(self) -> ForwardPass:
        """The forward pass over all cases, shared by whatever is computed of them."""
        return ForwardPass(self.network, self.parameters, self.X, weights=self.weights)

    @classmethod
    def load(cls, path: str | Path) -> Case:
        """The case in a file, in NumPy and float64; ValueError naming the file and what is wrong in it."""
        path = Path(path)
        found, names = read_archive(path)
        settings = read_settings(path, found, names)
        if settings.get("captured"):
            raise ValueError(f"{path}: is a captured case, with layers and no network; CapturedCase.load reads it")
        try:
            network = described(settings)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: key 'settings': {error}") from None
        wanted = ["X", "Y"] + [f"W_{i}" for i in range(1, network.layers + 1)]
        optional = ["sampled", "weights"] + [f"V_{i}" for i in range(1, network.layers + 1)]
        if any(key in found for key in optional[2:]):
            wanted += optional[2:]
        for key in wanted:
            if key not in found:
                raise ValueError(f"{path}: key {key!r} is missing, found {listed(names)}; the network is {network}")
        for key in found:
            if key[:2] in ("W_", "V_") and key not in wanted:
                raise ValueError(f"{path}: key {key!r}, but the network {network} has {network.layers} layers")
        _refuse_slips(path, "key", list(found), ["settings", *wanted, *optional])
        numbers = {k: finite(path, k, x, np.float64) for k, x in found.items() if k in (*wanted, *optional)}
        given = {name: settings[key] for key, name in NUMBERS.items() if settings.get(key) is not None}
        try:
            return cls(
                network,
                [numbers[f"W_{i}"] for i in range(1, network.layers + 1)],
                numbers["X"],
                numbers["Y"],
                V=[numbers[f"V_{i}"] for i in range(1, network.layers + 1)] if "V_1" in numbers else None,
                sampled=numbers.get("sampled"),
                weights=numbers.get("weights"),
                inverse="block-diagonal" if settings.get("inverse") is None else settings["inverse"],
                **given,
            )
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from None

    def save(self, path: str | Path) -> None:
        """Write the case's file: whole or not at all, and the same bytes for the same case.

        Raises
        ------
        ValueError
            If an activation is not one of the table, as only its name can be written.
        """
        settings = self.network.description()
        described(settings)
        for key, name in NUMBERS.items():
            if getattr(self, name) is not None:
                settings[key] = getattr(self, name)
        settings["inverse"] = self.inverse
        numbers = {name: to_numpy(x) for name, x, _, _ in self._arrays()}
        write_archive(Path(path), {"settings": np.asarray(json.dumps(settings))} | numbers)


def check_numbers(case: Any) -> None:
    """Make γ, λ and η of a case floats; ValueError naming the one that is none, or is negative or not finite."""
    for key, name in NUMBERS.items():
        value = getattr(case, name)
        if value is None and name != "eta":
            continue
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= _as_float(value) < math.inf:
            raise ValueError(f"{key} is {short(value)}, expected a finite number ≥ 0")
        object.__setattr__(case, name, float(value))


def _as_float(x: Any) -> float:
    """`x` as a float; infinity if it is too large for one."""
    try:
        return float(x)
    except OverflowError:
        return math.inf


def read_settings(path: Path, found: dict[str, np.ndarray], names: list[str]) -> dict[str, Any]:
    """The settings of a case, or of a captured one, with those keys that are required, none that looks like a slip, and
    numbers for numbers; `names` are those of all arrays in the file, and `found` those that were read, of any shapes.

    ValueError naming the file, the key and what was expected.
    """
    if "settings" not in found:
        raise ValueError(f"{path}: key 'settings' is missing, found {listed(names)}; expected a case")
    text = found["settings"]
    if text.dtype.kind not in "US" or text.size != 1:
        raise ValueError(
            f"{path}: key 'settings' has dtype {text.dtype} and shape {text.shape}, expected one string of JSON"
        )
    try:
        raw = text.reshape(-1)[0]
        settings = json.loads(raw)
    except ValueError as error:
        raise ValueError(f"{path}: key 'settings' is no JSON: {error}") from None
    except RecursionError:
        raise ValueError(f"{path}: key 'settings' is JSON nested too deeply, expected an object of lists") from None
    if not isinstance(settings, dict):
        expected = f"an object with {', '.join(REQUIRED)}"
        raise ValueError(f"{path}: key 'settings' is {short(settings)}, expected {expected}")
    captured = settings.get("captured", False)
    required = CAPTURED if captured else REQUIRED_OF_OTHERS if "network" in settings else REQUIRED
    optional = ["positions"] if captured else ["inverse"]
    _refuse_slips(path, "settings", list(settings), [*required, *NUMBERS, *optional])
    for key in required:
        if key not in settings:
            raise ValueError(f"{path}: settings: {key!r} is missing, found {listed(list(settings))}")
    sizes, activations = settings.get("layers", []), settings.get("activations", "")
    for key, right, expected in (
        ("captured", isinstance(captured, bool), "true or false"),
        ("positions", type(settings.get("positions", 1)) is int, "a whole number"),
        ("layers", captured or _list_of(int, sizes), "a list of whole numbers d_0, …, d_ℓ"),
        ("layers", not captured or isinstance(sizes, list), 'a list of layers, each as {"bias": true}'),
        ("activations", isinstance(activations, str) or _list_of(str, activations), "a name or a list of names"),
        ("input", "network" not in settings or _list_of(int, settings["input"]), "a list of whole numbers"),
        ("network", isinstance(settings.get("network", []), list), "a list of layers"),
        ("likelihood", isinstance(settings["likelihood"], str), "a name"),
        ("inverse", isinstance(settings.get("inverse"), (str, type(None))), "a name"),
    ):
        if not right:
            raise ValueError(f"{path}: settings: {key!r} is {short(settings[key])}, expected {expected}")
    return settings


def _list_of(kind: type, x: Any) -> bool:
    return isinstance(x, list) and all(type(y) is kind for y in x)  # not isinstance, as True is no number


def _refuse_slips(path: Path, what: str, names: list[str], known: list[str]) -> None:
    """ValueError for an unknown name that is nearly one of the known ones that are not there."""
    absent = {name.lower(): name for name in known if name not in names}
    for name in (name for name in names if name not in known):
        short = [key for key in absent if len(name) >= 3 and key.startswith(name.lower())]
        near = short or get_close_matches(name.lower(), absent, n=1, cutoff=0.87)
        if near:
            raise ValueError(f'{path}: {what}: unknown name "{name}"; did you mean "{absent[near[0]]}"?')
