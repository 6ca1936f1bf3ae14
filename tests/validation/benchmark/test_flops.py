"""Counted work, against products that are counted where they are made, and against counts by hand."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from autodiff import Network
from autodiff.objective import loss_and_gradient
from autodiff.passes import ForwardPass
from kfac_ref import KFAC, Batch, Settings, preset
from kfac_ref.optimizer import measured_ratio
from tests.conftest import random_parameters
from validation.benchmark import flops, stages

SIZES, CASES = (48, 80, 24, 64, 40), 96


class Counting(np.ndarray):
    """An array that counts the floating-point operations of the products it takes part in."""

    done = 0.0

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **named):
        plain = [x.view(np.ndarray) if isinstance(x, Counting) else x for x in inputs]
        if ufunc in (np.matmul, np.vecdot):
            Counting.done += self._work(ufunc, *plain)
        if out is not None:
            named["out"] = tuple(x.view(np.ndarray) if isinstance(x, Counting) else x for x in out)
        result = getattr(ufunc, method)(*plain, **named)
        if out is not None:
            return out[0]
        return self._again(result)

    def __array_function__(self, function, types, arguments, named):
        return self._again(super().__array_function__(function, types, arguments, named))

    @staticmethod
    def _again(result):
        return result.view(Counting) if isinstance(result, np.ndarray) and result.ndim else result

    @staticmethod
    def _work(ufunc, a, b):
        # products of vectors are not counted, nor what is between the few directions
        if ufunc is np.vecdot or (min(*a.shape, *b.shape) < 8 and max(a.ndim, b.ndim) < 3):
            return 0.0
        stack = math.prod(np.broadcast_shapes(a.shape[:-2], b.shape[:-2]))
        # as NumPy has it, too: XᵀX is a symmetric product
        symmetric = a.ctypes.data == b.ctypes.data and a.shape == b.shape[::-1] and a.strides == b.strides[::-1]
        return stack * a.shape[-2] * a.shape[-1] * b.shape[-1] * (1.0 if symmetric else 2.0)


@pytest.fixture
def problem(rng):
    network = Network(SIZES, "tanh", "bernoulli")
    X, Y = rng.random((CASES, SIZES[0])).view(Counting), rng.random((CASES, SIZES[-1])).view(Counting)
    return network, [W.view(Counting) for W in random_parameters(rng, network)], Batch(X, Y)


def counted(work):
    """What `work` returns, and the operations it needed."""
    before = Counting.done
    result = work()
    return result, Counting.done - before


def counted_stages(kfac, state, batch):
    """The next state, and operations of the step by stage: the stopwatch's seconds are operations here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages.time, "perf_counter", lambda: Counting.done)
        stopwatch, after = stages.Stopwatch(batch.X), []
        with stopwatch.watching():
            found = stopwatch.lap(lambda: after.append(kfac.step(state, batch)[0]))
    return after[0], found


def test_the_gradient(problem):
    network, parameters, batch = problem
    (_, gradient), found = counted(lambda: loss_and_gradient(ForwardPass(network, parameters, batch.X), batch.Y, 0.0))
    assert [g.shape for g in gradient] == network.shapes
    assert flops.gradient(SIZES, CASES) == pytest.approx(found, rel=0.03)


def test_the_forward_pass_is_what_rho_takes(problem):
    network, parameters, batch = problem
    _, found = counted(lambda: measured_ratio(network, parameters, batch, Settings(), 1.0, -1.0))
    assert flops.forward(SIZES, CASES) == pytest.approx(found, rel=0.03)


@pytest.mark.parametrize("inverse", ["block-diagonal", "block-tridiagonal"])
@pytest.mark.parametrize("tau", [(0.25, 0.5), (1.0, 1.0)])
def test_products_over_a_cycle(problem, inverse, tau):
    network, parameters, batch = problem
    settings = Settings(inverse=inverse, tau1=tau[0], tau2=tau[1])
    kfac = KFAC(network, settings)
    state, cycle = kfac.init(parameters), flops.cycle(settings)
    for _ in range(cycle):
        state, _ = kfac.step(state, batch)
    total = Counter()
    for _ in range(cycle):
        state, found = counted_stages(kfac, state, batch)
        total.update(found)
    expected = flops.mean_over_cycle(SIZES, CASES, settings)
    for stage in ("gradient", "factors", "direction", "quadratic model", "ρ"):
        # the homogeneous coordinate may or may not be multiplied by
        assert expected[stage] == pytest.approx(total[stage] / cycle, rel=0.05), stage


def test_the_inverses_by_hand():
    # inputs of 3 and 5, outputs of 4 and 2: a Cholesky inverse each
    assert flops.inverse((2, 4, 2), tridiagonal=False) == 3**3 + 5**3 + 4**3 + 2**3
    # the last layer's inverses, and of layer 1 (inputs 3, outputs 4) the roots; regressions on 5 inputs and 2 outputs
    common = 5**3 + 2**3 + 2 / 3 * (3**3 + 4**3) + 2 * 3 * 5**2 + 2 * 4 * 2**2
    # 3·2 of 3·4 is low rank: on the outputs' side a pencil of 2, and the inverses of layer 1 too
    inputs = 3 * 3 * 5 + 3 * 3 * 5 + 9 * 3**3 + 3**3
    outputs = 4 * 4 * 2 + 2 * 2 * 4 + 9 * 2**3 + 2 * 4 * 2 * 2 + 4 * 4 * 2
    expected = common + inputs + outputs + 1 / 3 * (3**3 + 4**3)
    assert flops.inverse((2, 4, 2), tridiagonal=True) == pytest.approx(expected)
    # growing sizes: none is
    common = 5**3 + 6**3 + 2 / 3 * (3**3 + 4**3) + 2 * 3 * 5**2 + 2 * 4 * 6**2
    expected = common + 2 * 3 * 3 * 5 + 2 * 4 * 4 * 6 + 10 * (3**3 + 4**3)
    assert flops.inverse((2, 4, 6), tridiagonal=True) == pytest.approx(expected)


def test_a_triple_product_is_in_the_cheaper_order():
    # B (2, 3) X (3, 50) A (50, 4): BX first would be 2·3·50 + 2·50·4 = 700 multiply-adds, XA first 3·50·4 + 2·3·4 = 624
    assert flops._triple(2, 3, 50, 4) == 2 * 624
    assert flops._triple(4, 50, 3, 2) == 2 * 624


def test_mnist_by_hand():
    """The paper's autoencoder with mini-batches of 1000: 15.4 GFLOP for the gradient."""
    sizes = (784, 1000, 500, 250, 30, 250, 500, 1000, 784)
    weights = 2 * (784 * 1000 + 1000 * 500 + 500 * 250 + 250 * 30)
    assert flops.gradient(sizes, 1000) == pytest.approx(2 * 1000 * (3 * weights - 784 * 1000), rel=0.002)
    assert flops.gradient(sizes, 1000) == pytest.approx(15.4e9, rel=0.01)


@pytest.mark.parametrize(
    ("settings", "inversions"),
    [
        (Settings(), {20: 3}),
        (preset("authors"), {20: 3}),
        (Settings(T2=10), {10: 2, 20: 3}),
        (preset("authors", T2=10), {20: 3}),
        (Settings(T2=40), {20: 1, 40: 3}),
    ],
)
def test_the_mean_is_over_a_whole_cycle(problem, settings, inversions):
    """How many inverses the optimizer computes in a cycle is counted where it asks for them."""
    network, parameters, batch = problem
    settings = replace(settings, inverse="block-diagonal")
    found = Counter()

    class Counted(KFAC):
        def inverses(self, state, running, gammas, refresh):
            inverses, pivots = super().inverses(state, running, gammas, refresh)
            found[state.k + 1] += sum(inverse is not state.inverse for inverse in inverses)
            return inverses, pivots

    kfac = Counted(network, settings)
    state, cycle = kfac.init(parameters), flops.cycle(settings)
    for _ in range(4 + cycle):
        state, _ = kfac.step(state, batch)
    assert {k: n for k, n in found.items() if 4 <= k < 4 + cycle and n} == inversions
    one = flops.inverse(SIZES, tridiagonal=False)
    assert flops.mean_over_cycle(SIZES, CASES, settings)["inverse"] == sum(inversions.values()) * one / cycle
