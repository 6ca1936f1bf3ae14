"""The three passes, each written exactly once and used by everything (§2, Algorithm 1; App. C).

Each is a loop over the network's layers, whose steps are in `autodiff.layers`. Batches are arrays whose rows are cases.
Sums over cases are left to the caller, who knows what is to be averaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff.arrays import Array, from_numpy, namespace
from autodiff.layers import Closing, Layer, Opening, Tape
from autodiff.network import Network, Parameters
from autodiff.share import Share

CHUNK_SIZE = 5000
"""Cases worked through at once."""
KEPT = 2**27
"""Numbers that a forward pass leaves for the other passes at most: 512 MiB in float32. With more to keep, fewer cases
are worked through at once; the rows of a convolution, its patches, are what takes most."""
ENTRIES = 2**23
"""Entries of the largest array held at once where memory would otherwise grow with what is asked for: 64 MiB in
float64."""


@dataclass(frozen=True)
class Activities:
    """What a forward pass over some cases leaves for the other passes."""

    network: Network
    tapes: list[Tape]
    """What each stage left."""
    z: Array
    """The network's outputs (m, d_ℓ)."""
    mask: Array | None = None
    """Where sequences differ in length, (m, T): 1 for a step that a case has, 0 for padding."""

    @property
    def a(self) -> list[Array]:
        """The rows ā_t that W_1 … W_ℓ are applied to, each (m·T, p) with the homogeneous coordinate last: ā_0 … ā_{ℓ−1}
        of a fully connected network, (m, d_i+1). NotImplementedError where a layer has none, as a normalisation."""
        return [layer.rows(tape) for layer, tape in self.weighted()]

    def rows(self, i: int) -> Array:
        """The rows of layer i = 1 … ℓ alone, (m·T, p)."""
        layer, tape = self.weighted()[i - 1]
        return layer.rows(tape)

    def weighted(self) -> list[tuple[Layer, Tape]]:
        """The layers with weights, and what they left."""
        return [(layer, tape) for layer, tape in zip(self.network.stages, self.tapes, strict=True) if layer.shape]

    def head(self, cases: int) -> Activities:
        """The first `cases` cases, without copying (§8)."""
        m = self.z.shape[0]
        if cases >= m:
            return self
        mask = None if self.mask is None else self.mask[:cases, :]
        return Activities(self.network, [tape.head(cases, m) for tape in self.tapes], self.z[:cases, :], mask)


def forward(network: Network, parameters: Parameters, X: Array, mask: Array | None = None) -> Activities:
    """s_i = W_i ā_{i−1}, a_i = φ_i(s_i), layer by layer, for the cases X (m, d_0) or (m, *input) (§2.1, Algorithm 1).

    With a mask (m, T) of sequences that differ in length, all passes are those of each case at its own length: rows,
    derivatives, and outputs at each step (where there are such) are 0 at padding.
    """
    x = network.packed(X)
    tapes: list[Tape] = []
    opened: list[Array] = []
    for layer, W in zip(network.stages, network.spread(parameters), strict=True):
        if isinstance(layer, Opening):
            opened.append(x)
            y, tape = x, Tape()
        elif isinstance(layer, Closing):
            y, tape = x + opened.pop(), Tape()
        else:
            y, tape = layer.forward(W, x) if mask is None or x.ndim < 3 else layer.forward_masked(W, x, mask)
        # where φ′ is a function of φ's value, the copy inside the next layer's ā serves, and the value can go
        if tapes and tapes[-1].saved is x and (again := layer.again(tape)) is not None:
            tapes[-1] = tapes[-1]._replace(saved=again)
        tapes.append(tape)
        x = y
    x = _unpadded(x, mask, network)
    return Activities(network, tapes, namespace(x).reshape(x, (x.shape[0], -1)) if x.ndim > 2 else x, mask)


def _unpadded(x: Array, mask: Array | None, network: Network) -> Array:
    """Outputs (…, m, T, d) at each step, or what belongs to them, with 0 at padding; others as they are."""
    return x if mask is None or len(network.output) == 1 else x * mask[:, :, None]


def backward(network: Network, parameters: Parameters, activities: Activities, Dz: Array) -> list[Array]:
    """g_1 … g_ℓ, each (m·T, d_i), from 𝒟z, `Dz` (m, d_ℓ): g_{i−1} = φ′_{i−1} ⊙ W_iᵀ g_i, per case and unaveraged
    (Algorithm 1).

    The derivative of the i-th parameters is then 𝒟W_i = Σ_t g_{i,t} ā_{i−1,t}ᵀ, summed over cases too g_iᵀ ā_{i−1} as
    matrices. Several 𝒟z go back together: from (r, m, d_ℓ) come g_i of shape (r, m·T, d_i). A layer without rows has
    its 𝒟s in the place of g.
    """
    g: list[Array] = []
    D = Dz
    if len(network.output) > 1:
        D = _unpadded(namespace(Dz).reshape(Dz, (*Dz.shape[:-1], *network.output)), activities.mask, network)
    closed: list[Array] = []
    steps = zip(network.stages, network.spread(parameters), activities.tapes, strict=True)
    for layer, W, tape in reversed(list(steps)):
        if isinstance(layer, Closing):
            closed.append(D)
        elif isinstance(layer, Opening):
            D = D + closed.pop()
        else:
            D = layer.backward(W, tape, D)
            if layer.shape:
                g.append(D)
                if len(g) == network.layers:  # nobody asks for 𝒟 of what comes before the first weights
                    break
            D = layer.pull(W, tape, D)
    return g[::-1]


def forward_mode(
    network: Network, parameters: Parameters, activities: Activities, directions: Sequence[Parameters]
) -> Array:
    """Jv of every case for each of r directions v = (V_1 … V_ℓ), pushed forward together: (r, m, d_ℓ) (App. C).

    ṡ_i = V_i ā_{i−1} + W_i [ȧ_{i−1}; 0], ȧ_i = φ_i′ ⊙ ṡ_i.
    """
    tangent: Array = None
    opened: list[Array] = []
    along = zip(*(network.spread(v) for v in directions), strict=True)
    for layer, W, tape, V in zip(network.stages, network.spread(parameters), activities.tapes, along, strict=True):
        if isinstance(layer, Opening):
            opened.append(tangent)
        elif isinstance(layer, Closing):
            before = opened.pop()
            tangent = tangent if before is None else before if tangent is None else tangent + before
        elif layer.shape or tangent is not None:
            tangent = layer.push(W, tape, tangent, V)
    tangent = _unpadded(tangent, activities.mask, network)
    return namespace(tangent).reshape(tangent, (*tangent.shape[:2], -1)) if tangent.ndim > 3 else tangent


class ForwardPass:
    """The forward pass of a batch X (m, d_0) or (m, *input), worked through in chunks (Algorithm 1, §8, §13).

    A batch that fits in one chunk is passed forward once and its activities are shared by all who ask; a larger one is
    passed forward again each time, so that memory does not grow with the batch. A chunk has at most `chunk_size` cases,
    and no more than leave KEPT numbers for the other passes.

    With `weights` w (m,), all ≥ 0, a mean over cases is Σ w_n(·) / Σ w_n for all who ask: a case of weight 2 counts as
    two. They are to be of the library, dtype and device of X.

    With `lengths` (m,), whole numbers on the host, sequences (m, T, d) have so many steps, from 1 to T, and padding
    behind them: all that is computed is what each case at its own length gives. What the padding holds, of X, of
    targets at each step, is of no matter, so long as it is finite.

    With a `share`, X is one process's part of a batch. Cases are counted as in the whole batch then, and what would be
    a mean over cases is this part's summand: the mean is the sum over all processes.
    """

    def __init__(
        self,
        network: Network,
        parameters: Parameters,
        X: Array,
        chunk_size: int = CHUNK_SIZE,
        weights: Array | None = None,
        lengths: np.ndarray | None = None,
        share: Share | None = None,
    ) -> None:
        self.network = network
        self.parameters = parameters
        self.X = X
        self.weights = weights
        self.lengths = lengths
        self.share = share
        self.chunk_size = max(min(chunk_size, KEPT // network.kept), 1)
        self._whole: Activities | None = None

    @property
    def cases(self) -> int:
        """The number of cases in the batch."""
        return self.X.shape[0] if self.share is None else self.share.cases

    def here(self, cases: int) -> int:
        """How many of the first `cases` cases are in X: all, but with a share (§14)."""
        return cases if self.share is None else self.share.here(cases)

    def of_the_case(self, x: Array) -> Array:
        """Of numbers x (cases, …) for the first cases of the batch, a row each, those for the cases in X: (here, …)
        (§14)."""
        return x if self.share is None else self.share.part(x)

    def total(self, cases: int | None = None, dtype: Any = None) -> Any:
        """Σ w_n of the first `cases` cases (default: all), what sums over them are divided by; without weights their
        number (§14)."""
        cases = self.cases if cases is None else cases
        if self.weights is None:
            return cases
        if self.share is not None:
            return self.share.totals[cases]
        return namespace(self.weights).sum(self.weights[:cases], dtype=dtype)

    def weighted(self, rows: slice, x: Array) -> Array:
        """w_n x_n of these rows, x (…, m, d), of its shape: for what is summed over cases. Without weights x itself."""
        return x if self.weights is None else x * self.weights[rows, None]

    def root_weighted(self, rows: slice, x: Array) -> Array:
        """√w_n x_n of these rows, x (…, m, d), of its shape: for what enters sums over cases squared."""
        return x if self.weights is None else x * namespace(self.weights).sqrt(self.weights[rows, None])

    def mask(self, rows: slice) -> Array | None:
        """Which steps these cases have, (m, T) of ones and zeros; None where all have the same (RNN §3)."""
        if self.lengths is None:
            return None
        steps = np.arange(self.network.input[0]) < self.lengths[rows, None]
        return from_numpy(steps.astype(np.float64), self.X)

    def mean_of_cases(self, values: np.ndarray, cases: int | None = None) -> Array:
        """The mean of the first `cases` cases' `values` (m, …), on the host, weighted where there are weights: of the
        shape of one case's (RNN §3)."""
        cases = self.cases if cases is None else cases
        here = from_numpy(np.asarray(values[: self.here(cases)], dtype=np.float64), self.X)
        if self.weights is None:
            return namespace(here).sum(here, axis=0) / cases
        return (self.weights[: self.here(cases)] @ here) / self.total(cases)

    def mean_length(self, cases: int | None = None) -> Any:
        """The mean of the first `cases` cases' lengths; with a share, too, that of the whole batch."""
        cases = self.cases if cases is None else cases
        assert self.lengths is not None
        return self.mean_of_cases(self.lengths, cases) if self.share is None else self.share.lengths[cases]

    def chunks(self, cases: int | None = None) -> Iterator[tuple[slice, Activities]]:
        """(rows, activities) for chunk after chunk of the first `cases` cases (default: all); rows are those of X."""
        cases = self.here(self.cases if cases is None else cases)
        if cases == 0:
            return
        if self.X.shape[0] <= self.chunk_size:
            if self._whole is None:
                self._whole = forward(self.network, self.parameters, self.X, self.mask(slice(None)))
            yield slice(0, cases), self._whole.head(cases)
            return
        for start in range(0, cases, self.chunk_size):
            rows = slice(start, min(start + self.chunk_size, cases))
            yield rows, forward(self.network, self.parameters, self.X[rows, ...], self.mask(rows))

    def limited(self, chunk_size: int) -> ForwardPass:
        """The same batch in chunks of at most `chunk_size` cases (at least 1); itself where they are no smaller."""
        if chunk_size >= min(self.X.shape[0], self.chunk_size):
            return self
        return ForwardPass(
            self.network, self.parameters, self.X, max(chunk_size, 1), self.weights, self.lengths, self.share
        )

    @property
    def together(self) -> int:
        """How many tangents or cotangents go through a chunk together, so that none of their arrays, of a number for
        each case and unit or for each parameter, has more than ENTRIES entries (at least 1)."""
        largest = max(
            min(self.X.shape[0], self.chunk_size) * self.network.entries,
            max(rows * columns for rows, columns in self.network.shapes),
        )
        return max(ENTRIES // largest, 1)

    def backward(self, activities: Activities, Dz: Array) -> list[Array]:
        """`backward` with this pass's network and parameters: g_i (…, m·T, d_i) from 𝒟z, `Dz` (…, m, d_ℓ)."""
        return backward(self.network, self.parameters, activities, Dz)

    def pull_back(self, activities: Activities, Dz: Array) -> Parameters:
        """Jᵀ𝒟z summed over cases: the sums of 𝒟W_i = Σ_t g_{i,t} ā_{i−1,t}ᵀ, of the shapes of W_i, from 𝒟z, `Dz` (m,
        d_ℓ); from several 𝒟z (r, m, d_ℓ) those of each, with r in front (Algorithm 1)."""
        g = self.backward(activities, Dz)
        return [layer.gradient(tape, g_i) for (layer, tape), g_i in zip(activities.weighted(), g, strict=True)]

    def case_gradients(self, activities: Activities, g: Sequence[Array], i: int) -> Array:
        """vec(𝒟W_i) of every case, (…, m, p·d), from g_1 … g_ℓ, `g` as `backward` returned it, each (…, m·T, d_i)."""
        layer, tape = activities.weighted()[i - 1]
        D = layer.case_gradients(tape, g[i - 1])
        xp = namespace(D)
        return xp.reshape(xp.matrix_transpose(D), (*D.shape[:-2], -1))

    def forward_mode(self, activities: Activities, directions: Sequence[Parameters]) -> Array:
        """`forward_mode` with this pass's network and parameters: (r, m, d_ℓ)."""
        return forward_mode(self.network, self.parameters, activities, directions)
