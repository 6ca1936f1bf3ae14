"""A pass that was recorded elsewhere: rows and derivatives of layers, with the interface of `autodiff`'s own passes.

What is made of a forward and a backward pass (factors, blocks of F, gradients, products) needs of a network no more
than its layers' rows ā_t and ∂z_c/∂s_t. So layers of any network can be judged by the same functions, whatever computed
them and whatever lies between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from autodiff.layers.layer import Layer, Shape, Tape
from autodiff.likelihoods import Likelihood
from autodiff.network import Network, Parameters
from autodiff.passes import CHUNK_SIZE, Activities, ForwardPass

KEPT = 2**24
"""Numbers that are worked through at once, about."""


@dataclass(frozen=True, kw_only=True)
class RecordedLayer(Layer):
    """A layer by what it was applied to. Its tape has the rows ā (m·T, p), and ∂z/∂s, (m, C, T·d)."""

    out: int
    T: int
    bias: bool
    name: str = ""
    input_locations: int | None = None
    """Of a convolution, the pixels of its input, where they are known."""

    kind: ClassVar[str] = "recorded"
    kronecker: ClassVar[bool] = True

    @property
    def output(self) -> Shape:
        return (self.out,)

    @property
    def shape(self) -> tuple[int, int]:
        return self.out, self.input[0] + self.bias

    @property
    def locations(self) -> int:
        return self.T

    @property
    def entries(self) -> int:
        return self.T * max(self.shape)

    def rows(self, tape: Tape) -> np.ndarray:
        return tape.a

    def applied(self, V: np.ndarray, tape: Tape) -> np.ndarray:
        """V ā, (m·T, d), for V (d, p)."""
        return tape.a @ V.T


@dataclass(frozen=True, kw_only=True)
class RecordedNorm(RecordedLayer):
    """A normalisation, W = [scale, shift]; its tape has x̂ (m·T, d) in the place of rows."""

    kind: ClassVar[str] = "normalisation"
    kronecker: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, int]:
        return self.out, 1 + self.bias

    def rows(self, tape: Tape) -> np.ndarray:
        raise NotImplementedError("a normalisation has no rows")

    def gradient(self, tape: Tape, g: np.ndarray) -> np.ndarray:
        return self.case_gradients(tape, g).sum(axis=-3)

    def case_gradients(self, tape: Tape, g: np.ndarray) -> np.ndarray:
        parts = [g * tape.a, g][: self.shape[1]]
        sums = [x.reshape(*x.shape[:-2], -1, self.T, self.out).sum(axis=-2) for x in parts]
        return np.stack(sums, axis=-1)

    def applied(self, V: np.ndarray, tape: Tape) -> np.ndarray:
        s = V[:, 0] * tape.a
        return s + V[:, 1] if self.bias else s


class RecordedNetwork(Network):
    """Layers and a likelihood, and nothing of what lies between."""

    def __init__(self, layers: Sequence[RecordedLayer], likelihood: Likelihood, outputs: int) -> None:
        object.__setattr__(self, "stages", tuple(layers))
        object.__setattr__(self, "likelihood", likelihood)
        object.__setattr__(self, "_outputs", outputs)

    @property
    def outputs(self) -> int:
        """C, of all positions together."""
        return self._outputs  # type: ignore[attr-defined]

    @property
    def output(self) -> Shape:
        positions = self.likelihood.positions
        return (self.outputs,) if positions == 1 else (positions, self.outputs // positions)

    @property
    def fully_connected(self) -> bool:
        """No: only some of its layers are known."""
        return False

    def check_batch(self, X: Any, Y: Any, like: Any) -> None:
        """ValueError unless Y is (N, C)."""
        if Y.shape != X.shape:
            raise ValueError(f"Y has shape {Y.shape}, expected {X.shape}, that of z")

    def __str__(self) -> str:
        layers = self.weighted
        return (
            f"{len(layers)} captured layer{'s' * (len(layers) > 1)} of {self.outputs} outputs; {self.likelihood.name}"
        )


class RecordedPass(ForwardPass):
    """The forward pass of all cases, as it was recorded; X is z (N, C)."""

    def __init__(
        self,
        network: RecordedNetwork,
        parameters: Parameters,
        z: np.ndarray,
        tapes: Sequence[Tape],
        weights: np.ndarray | None = None,
        chunk_size: int = CHUNK_SIZE,
    ) -> None:
        super().__init__(network, parameters, z, 1, weights)
        numbers = sum(t.a.size + t.saved.size for t in tapes) // z.shape[0]
        self.chunk_size = max(min(chunk_size, KEPT // max(numbers, 1)), 1)
        self.tapes = list(tapes)

    def chunks(self, cases: int | None = None) -> Iterator[tuple[slice, Activities]]:
        cases, N = self.cases if cases is None else cases, self.cases
        for start in range(0, cases, self.chunk_size):
            rows = slice(start, min(start + self.chunk_size, cases))
            tapes = [_part(tape, rows, N) for tape in self.tapes]
            yield rows, Activities(self.network, tapes, self.X[rows])

    def limited(self, chunk_size: int) -> RecordedPass:
        network: Any = self.network
        return RecordedPass(
            network, self.parameters, self.X, self.tapes, self.weights, max(min(chunk_size, self.chunk_size), 1)
        )

    def backward(self, activities: Activities, Dz: np.ndarray) -> list[np.ndarray]:
        """g = Σ_c 𝒟z_c ∂z_c/∂s, (…, m·T, d), from 𝒟z, `Dz` (…, m, d_ℓ)."""
        several = Dz.reshape(-1, *Dz.shape[-2:]).transpose(1, 0, 2)  # (m, r, C)
        found = []
        for layer, tape in activities.weighted():
            g = (several @ tape.saved).transpose(1, 0, 2)
            assert layer.shape is not None
            found.append(g.reshape(*Dz.shape[:-2], -1, layer.shape[0]))
        return found

    def forward_mode(self, activities: Activities, directions: Sequence[Parameters]) -> np.ndarray:
        m, J = activities.z.shape[0], np.zeros((len(directions), *activities.z.shape))
        for r, direction in enumerate(directions):
            for (layer, tape), V in zip(activities.weighted(), direction, strict=True):
                assert isinstance(layer, RecordedLayer)
                J[r] += (tape.saved @ layer.applied(V, tape).reshape(m, -1, 1))[..., 0]
        return J


def _part(tape: Tape, rows: slice, N: int) -> Tape:
    T = tape.a.shape[0] // N
    return Tape(tape.a[rows.start * T : rows.stop * T], tape.saved[rows])
