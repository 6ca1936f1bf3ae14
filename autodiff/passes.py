"""The three passes, each written exactly once and used by everything (§2, Algorithm 1; App. C).

Batches are arrays whose rows are cases. Sums over cases are left to the caller, who knows what is to be averaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autodiff.arrays import Array, append_ones, namespace
from autodiff.network import Network, Parameters

CHUNK_SIZE = 5000
"""Cases worked through at once."""
ENTRIES = 2**23
"""Entries of the largest array held at once where memory would otherwise grow with what is asked for: 64 MiB in
float64."""


@dataclass(frozen=True)
class Activities:
    """What a forward pass over some cases leaves for the other passes."""

    a: list[Array]
    """ā_0 … ā_{ℓ−1}, each (m, d_i+1), the homogeneous coordinate last."""
    saved: list[Array]
    """What the derivatives of φ_1 … φ_{ℓ−1} need."""
    z: Array
    """The network's outputs (m, d_ℓ)."""

    def head(self, cases: int) -> Activities:
        """The first `cases` cases, without copying."""
        if cases >= self.z.shape[0]:
            return self
        return Activities([a[:cases, :] for a in self.a], [s[:cases, :] for s in self.saved], self.z[:cases, :])


def forward(network: Network, parameters: Parameters, X: Array) -> Activities:
    """s_i = W_i ā_{i−1}, a_i = φ_i(s_i) for the cases X (m, d_0)."""
    a, saved = [append_ones(X)], []
    for W, phi in zip(parameters[:-1], network.activations[:-1], strict=True):
        value, kept = phi.value(a[-1] @ W.T)
        a.append(append_ones(value))
        # where φ′ is a function of φ's value, the copy inside ā serves, and `value` can go
        saved.append(a[-1][:, :-1] if kept is value else kept)
    return Activities(a, saved, a[-1] @ parameters[-1].T)


def backward(network: Network, parameters: Parameters, activities: Activities, Dz: Array) -> list[Array]:
    """g_1 … g_ℓ, each (m, d_i), from 𝒟z (m, d_ℓ): g_{i−1} = φ′_{i−1} ⊙ W_iᵀ g_i, per case and unaveraged.

    The derivative of the i-th parameters is then 𝒟W_i = g_i ā_{i−1}ᵀ, summed over cases g_iᵀ ā_{i−1} as matrices.
    Several 𝒟z go back together: from (r, m, d_ℓ) come g_i of shape (r, m, d_i).
    """
    g = [Dz]
    layers = zip(parameters[:0:-1], network.activations[-2::-1], reversed(activities.saved), strict=True)
    for W, phi, saved in layers:
        g.append(phi.pull(saved, _rows_times(g[-1], W[:, :-1])))
    return g[::-1]


def forward_mode(
    network: Network, parameters: Parameters, activities: Activities, directions: Sequence[Parameters]
) -> Array:
    """Jv of every case for each of r directions v = (V_1 … V_ℓ), pushed forward together: (r, m, d_ℓ).

    ṡ_i = V_i ā_{i−1} + W_i [ȧ_{i−1}; 0], ȧ_i = φ_i′ ⊙ ṡ_i.
    """
    xp = namespace(activities.z)
    tangent = None
    for i, (W, phi) in enumerate(zip(parameters, network.activations, strict=True)):
        ds = xp.stack([activities.a[i] @ v[i].T for v in directions])
        if tangent is not None:
            ds += _rows_times(tangent, W[:, :-1].T)
        tangent = phi.push(activities.saved[i], ds) if i < network.layers - 1 else ds
    return tangent


def _rows_times(x: Array, M: Array) -> Array:
    """x (…, p) times M (p, q), as one product of matrices, which is faster than one for each of a stack."""
    xp = namespace(x)
    return xp.reshape(xp.reshape(x, (-1, x.shape[-1])) @ M, (*x.shape[:-1], M.shape[1]))


class ForwardPass:
    """The forward pass of a batch, worked through in chunks.

    A batch that fits in one chunk is passed forward once and its activities are shared by all who ask; a larger one is
    passed forward again each time, so that memory does not grow with the batch.
    """

    def __init__(self, network: Network, parameters: Parameters, X: Array, chunk_size: int = CHUNK_SIZE) -> None:
        self.network = network
        self.parameters = parameters
        self.X = X
        self.chunk_size = chunk_size
        self._whole: Activities | None = None

    @property
    def cases(self) -> int:
        """The number of cases in the batch."""
        return self.X.shape[0]

    def chunks(self, cases: int | None = None) -> Iterator[tuple[slice, Activities]]:
        """(rows, activities) for chunk after chunk of the first `cases` cases (default: all)."""
        cases = self.cases if cases is None else cases
        if self.cases <= self.chunk_size:
            if self._whole is None:
                self._whole = forward(self.network, self.parameters, self.X)
            yield slice(0, cases), self._whole.head(cases)
            return
        for start in range(0, cases, self.chunk_size):
            rows = slice(start, min(start + self.chunk_size, cases))
            yield rows, forward(self.network, self.parameters, self.X[rows, :])

    def limited(self, chunk_size: int) -> ForwardPass:
        """The same batch in chunks of at most `chunk_size` cases (at least 1); itself where they are no smaller."""
        if chunk_size >= min(self.cases, self.chunk_size):
            return self
        return ForwardPass(self.network, self.parameters, self.X, max(chunk_size, 1))

    @property
    def together(self) -> int:
        """How many tangents or cotangents go through a chunk together, so that none of their arrays, of a number for
        each case and unit or for each parameter, has more than ENTRIES entries (at least 1)."""
        largest = max(
            min(self.cases, self.chunk_size) * max(self.network.sizes[1:]),
            max(rows * columns for rows, columns in self.network.shapes),
        )
        return max(ENTRIES // largest, 1)

    def backward(self, activities: Activities, Dz: Array) -> list[Array]:
        """`backward` with this pass's network and parameters."""
        return backward(self.network, self.parameters, activities, Dz)

    def pull_back(self, activities: Activities, Dz: Array) -> Parameters:
        """Jᵀ𝒟z summed over cases: the sums of 𝒟W_i = g_i ā_{i−1}ᵀ, (d_i, d_{i−1}+1); from several 𝒟z (r, m, d_ℓ) those
        of each, (r, d_i, d_{i−1}+1)."""
        transpose = namespace(Dz).matrix_transpose
        return [transpose(g) @ a for g, a in zip(self.backward(activities, Dz), activities.a, strict=True)]

    def forward_mode(self, activities: Activities, directions: Sequence[Parameters]) -> Array:
        """`forward_mode` with this pass's network and parameters."""
        return forward_mode(self.network, self.parameters, activities, directions)
