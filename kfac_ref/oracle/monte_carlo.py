"""Whether matrices are Monte-Carlo estimates of a Fisher, of what scale, from how many samples.

With targets sampled from the model, an estimate of G is the mean over cases and samples of g gᵀ, g = K_nᵀe, where
e = E[y|z] − y and K_n is the case's Jacobian dz/ds. Its mean and covariance under the model are known, by drawing from
the model here. Of theirs, T, an unknown scale c and number of samples S, T/c has that mean and 1/S of that covariance,
*in every direction*: where no draw varies it is exact, and where draws vary little T/c does too. That is what tells a
Monte-Carlo estimate from anything else that is merely near.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from kfac_ref.oracle import expressions
from kfac_ref.oracle.expressions import Expression
from kfac_ref.oracle.sampling import Model

LEAST = 12
"""How many numbers must be explained before anything is claimed; of a scale without a name, twice as many."""
REPLICAS = 400
"""Estimates with which theirs is compared."""
FAR, FAR_SIGNS = 3.5, 2.5
"""Standard deviations at which a number that describes theirs is too unlike those of real estimates; of random signs,
which are rare, fewer."""
OFTEN = (
    *(4, 5, 6, 8, 10, 12, 16, 20, 25, 32, 40, 50, 64, 80, 100, 128, 150, 200, 250, 256, 300, 400, 500, 600, 800, 1000),
    *(1024, 1500, 2000, 3000, 4000, 5000, 7000, 10_000),
)
"""Numbers of samples that people take."""
UNLIKE = 2.5
"""Standard errors by which the likeliest scale, if it is not named, may be off what is measured."""
VAGUE = 0.25
"""A relative standard error of a scale without a name beyond which nothing is claimed."""
MANY = 200
"""Random signs that anyone would draw for a case."""
FARFETCHED = 3.5
"""A scale that costs more is not believed."""
USUAL = (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Those among them for which a mean over samples done wrongly is looked for."""
DOUBTFUL = 1000
"""More samples are not believed in then, if the scale is not clear."""
TOLD = -0.5
"""What such a scale costs where another quantity tells how many samples there were: less than a coincidence."""
SEVERAL = 1.5
"""What several samples a case cost, in log-likelihood, against one."""


@dataclass(frozen=True)
class Sampled:
    """A Monte-Carlo estimate, recognised."""

    scale: Expression | None
    """Of the matrices, if one is clearly likelier than the others."""
    likeliest: Expression
    """The scale that is likeliest, clearly or not."""
    estimate: float
    """The scale as measured."""
    error: float
    """Relative standard error of these."""
    samples: int
    residuals: list[float]
    """‖T/c − G‖ / ‖G‖ of each matrix."""
    expected: list[float]
    """What that is expected to be: its root mean square over draws."""
    gap: float
    """By how much the scale is likelier than any other."""
    score: float
    """The log-likelihood, less what the scale costs."""


def recognise(
    theirs: Sequence[np.ndarray],
    model: Model,
    candidates: Sequence[Expression],
    rounding: float,
    known: Sequence[float | None] | None = None,
    margin: float = 3.3,
    told: Collection[int] = (),
) -> Sampled | None:
    """What the matrices are, if they are Monte-Carlo estimates of one scale from the same samples; else None.

    Parameters
    ----------
    theirs : (n, n) matrices, those of `model`.
    candidates : the scales to choose from.
    rounding : the relative size of rounding.
    known : the scales of those matrices whose scale is known; the others share one.
    margin : by how much, in log-likelihood, a scale must be likelier than any other to be named.
    told : numbers of samples that other quantities tell of.
    """
    known = [None] * len(theirs) if known is None else known
    spectrum = _Spectrum(model, rounding)
    if len(model.mean) < LEAST:
        return None
    vectors = model.parts(theirs)

    def divided(value: float) -> np.ndarray:
        return np.concatenate([t / (value if k is None else k) for t, k in zip(vectors, known, strict=True)])

    free = spectrum.rank * sum(len(t) for t, k in zip(vectors, known, strict=True) if k is None) / len(model.mean)
    unknown = [k is None for k in known]
    spread, estimate = spectrum.spread, spectrum.scale_of(divided(1.0))
    scores = []
    scales: list[tuple[Expression, int | None]] = [(e, None) for e in candidates]
    scales += [(e, S) for S in {*USUAL} - {*told} for e in expressions.over_samples(S)]
    scales += [(e, S) for S in told for e in expressions.over_samples(S, TOLD)]
    for e, given in scales:
        if all(unknown) and abs(estimate / e.value - 1) > max(6 * spread, 1e-6):
            continue
        samples, gain = _samples(spectrum.energies(divided(e.value)), given)
        # the density of T itself: that of T/c, divided by c for every direction that varies
        scores.append((gain - free * np.log(e.value) - 1.5 * e.cost, e, samples))
    if not scores:
        return None
    scores.sort(key=lambda s: -s[0])
    score, best, samples = scores[0]
    # at the end of the list, or of random signs in thousands: a small deviation of another kind
    if best.cost > FARFETCHED or samples == OFTEN[-1] or (model.signs and samples > MANY):
        return None
    T = divided(best.value)
    # the energies of few heavy-tailed draws say little about their number, so one a case gets a hearing
    counts = [samples] if samples == 1 or best.text[-1:] == "S" else [samples, 1]
    plausible = [n for n in counts if _plausible(spectrum, T, n, rounding)]
    if not plausible:
        return None
    samples = plausible[0]
    others = [s for s in scores if abs(s[1].value / best.value - 1) > 1e-9]
    gap = score - others[0][0] if others else np.inf
    named, error = gap > margin, spread / np.sqrt(samples)
    if not named and (
        model.signs
        # a small deviation of another kind looks like thousands of samples
        or ("S" in best.text and samples > DOUBTFUL)
        or len(model.mean) < 2 * LEAST
        or error > VAGUE
        or (all(unknown) and abs(estimate / best.value - 1) > UNLIKE * error)
        or min(e.cost for s, e, _ in scores if s > score - margin) > FARFETCHED / 2
    ):
        return None
    measured = estimate if all(unknown) else best.value
    residuals, expected = [], []
    pieces = zip(*(np.split(x, model.ends[:-1], axis=-1) for x in (T, model.mean, model.test)), strict=True)
    for t, m, D in pieces:
        size = np.linalg.norm(m)
        residuals.append(float(np.linalg.norm(t - m) / size))
        expected.append(float(np.sqrt(np.mean(np.sum((D - m) ** 2, axis=1)) / samples) / size))
    return Sampled(
        best if named else None,
        best,
        measured,
        error,
        samples,
        residuals,
        expected,
        gap,
        score,
    )


class _Spectrum:
    """The covariance of the draws: its principal directions, and those in which nothing varies."""

    def __init__(self, model: Model, rounding: float) -> None:
        self.model = model
        centred = model.learn - model.mean
        R = np.linalg.qr(centred / np.sqrt(len(centred)), mode="r")
        # of the two drivers the one that always converges
        _, s, Vt = scipy.linalg.svd(R, full_matrices=True, lapack_driver="gesvd")
        values = np.zeros(Vt.shape[0])
        values[: len(s)] = s**2
        # what rounding leaves where nothing varies
        self.noise = (rounding * np.linalg.norm(model.mean)) ** 2
        self.varies = values > 100 * self.noise
        self.rank = int(self.varies.sum())
        self.values, self.vectors = values, Vt
        # the linear functional w of unit response to the mean and least variance, learnt on one half …
        w = self._whitened(model.mean)
        self.w = w / (w @ model.mean)
        # … and its variance seen on the other
        floor = rounding * np.linalg.norm(model.mean) * np.linalg.norm(self.w)
        self.spread = float(np.hypot(np.std(model.test @ self.w), floor))
        # the best linear guess of how likely the targets were that were drawn
        self.guess = self._whitened(centred.T @ (model.nll - np.mean(model.nll)) / len(centred))

    def _whitened(self, v: np.ndarray) -> np.ndarray:
        return self.vectors.T @ ((self.vectors @ v) / (self.values + self.noise))

    def scale_of(self, T: np.ndarray) -> float:
        """The scale of T, unbiased; `spread` is its relative standard error at one sample a case."""
        return float(self.w @ T)

    def summary(self, T: np.ndarray, samples: int) -> np.ndarray:
        """Numbers that tell estimates from what is merely near: the scale, how likely the targets would be, the mean
        energies of all directions and of each quarter of them from strong to weak, the traces, and the distances from
        the expectation. Of sums of squares the cube roots are nearly normal, however few the squares (Wilson and
        Hilferty 1931)."""
        u = self.energies(T) * samples
        roots = [np.cbrt(np.mean(q)) for q in [u, *np.array_split(u, 4)] if len(q)]
        strength = np.log(self.values[self.varies])
        slope = np.dot(np.log(u + 1e-12), strength - strength.mean())
        parts = self.model.diagonals(T)
        traces = [np.log(max(float(np.sum(t[d])), 1e-300)) for t, d in parts]
        away = np.split(T - self.model.mean, self.model.ends[:-1])
        sizes = [np.linalg.norm(r) ** (2 / 3) for r in away]
        return np.array([self.w @ T, self.guess @ T, slope, *roots, *traces, *sizes])

    def energies(self, T: np.ndarray) -> np.ndarray:
        """Squared deviation from the mean in every direction that varies, over the variance of one draw."""
        r = self.vectors[self.varies] @ (T - self.model.mean)
        return r**2 / self.values[self.varies]

    def still(self, T: np.ndarray) -> float:
        """The deviation where nothing varies, relative to the mean."""
        r = self.vectors[~self.varies] @ (T - self.model.mean)
        return float(np.linalg.norm(r) / np.linalg.norm(self.model.mean)) if len(r) else 0.0


def _samples(u: np.ndarray, given: int | None) -> tuple[int, float]:
    """The number of samples, if not given the likeliest for these energies, and its Gaussian log-likelihood."""
    samples = np.array([given] if given else [1, 2, 3, *OFTEN], dtype=float)
    gains = 0.5 * len(u) * np.log(samples) - 0.5 * samples * np.sum(u) - SEVERAL * (samples > 1)
    i = int(np.argmax(gains))
    return int(samples[i]), float(gains[i])


def _plausible(sigma: _Spectrum, T: np.ndarray, samples: int, rounding: float) -> bool:
    """Whether T's deviations are distributed over directions as those of real estimates from so many samples are."""
    if sigma.still(T) > 100 * rounding:
        return False
    rng = np.random.default_rng([samples, 79])
    # about the exact mean, which that of the draws misses by as much as an estimate from as many samples does
    test = sigma.model.test - sigma.model.test.mean(0) + sigma.model.mean
    # means of so many draws, each taken as often as chance has it
    often = rng.multinomial(samples, np.full(len(test), 1 / len(test)), size=REPLICAS)
    there = np.stack([sigma.summary(t, samples) for t in often @ test / samples])
    width = np.std(there, axis=0) + 1e-9 * np.abs(np.mean(there, axis=0))
    off = np.abs(sigma.summary(T, samples) - np.median(there, axis=0)) / np.maximum(width, 1e-300)
    return bool(np.all(off < (FAR_SIGNS if sigma.model.signs else FAR)))
