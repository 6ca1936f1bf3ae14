"""What is timed: each is a function of a number of repetitions that returns seconds, one mapping a repetition.

Mini-batches are drawn outside the clock, as the peers' is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from autodiff import arrays
from autodiff.arrays import Array, namespace, read_scalars
from autodiff.objective import loss_and_gradient
from autodiff.passes import ForwardPass
from kfac_ref.baselines import SGD, SGDSettings
from kfac_ref.optimizer import KFAC, Batch
from kfac_ref.settings import Settings
from kfac_ref.training import loop
from validation.benchmark.peer import Peer
from validation.benchmark.problems import Problem
from validation.benchmark.stages import Stopwatch

Row = dict[str, float]
"""Of one repetition: `seconds`, and by stage where these are told apart."""
Method = Callable[[int, bool], list[Row]]
"""From the number of repetitions and whether stages are to be told apart, where there are any."""

SIDE = 2048
"""Of the matrices whose product shows what the machine can do."""
MATMUL, GRADIENT, SGD_STEP = f"matmul {SIDE}³", "gradient", "SGD"
JAX_GRADIENT, JAX_SGD, KFAC_JAX = "JAX gradient", "JAX SGD", "kfac-jax"


def matmul(like: Array) -> Method:
    """A product of two float32 matrices of SIDE rows and columns."""
    a, b = (arrays.uniform((0, i), (SIDE, SIDE), like) for i in range(2))
    return _repeated(lambda: namespace(a).matmul(a, b), like)


def gradient(problem: Problem, m: int) -> Method:
    """h and ∇h of a mini-batch, h read."""
    X, Y, *_ = loop.minibatch(problem.data, 0, 1, m)

    def once() -> None:
        value, _ = loss_and_gradient(ForwardPass(problem.network, problem.parameters, X), Y, Settings().eta)
        read_scalars(value.h)

    return _repeated(once, X)


def sgd(problem: Problem, m: int) -> Method:
    """Steps of SGD with Nesterov momentum on one mini-batch, so short that nothing can diverge."""
    optimizer = SGD(problem.network, SGDSettings(learning_rate=1e-6))
    state = optimizer.init(problem.parameters)
    batch = loop.minibatch(problem.data, 0, 1, m)

    def once() -> None:
        nonlocal state
        state, _ = optimizer.step(state, batch)

    return _repeated(once, batch.X)


def kfac(problem: Problem, settings: Settings) -> Method:
    """Iterations of K-FAC, one after the other, each on its own mini-batch of `settings.m1` cases."""
    optimizer = KFAC(problem.network, settings)
    state = optimizer.init(problem.parameters)
    stopwatch = Stopwatch(problem.data.X)

    def step(batch: Batch) -> None:
        nonlocal state
        state, _ = optimizer.step(state, batch)

    def run(count: int, split: bool) -> list[Row]:
        rows = []
        for _ in range(count):
            batch = loop.minibatch(problem.data, 0, state.k + 1, settings.m1)
            if split:
                with stopwatch.watching():
                    rows.append(stopwatch.lap(partial(step, batch)))
            else:
                rows.append(_timed(partial(step, batch), batch.X))
        return rows

    return run


def peers(peer: Peer, problem: Problem, m: int) -> dict[str, Method]:
    """JAX's gradient and SGD, and kfac-jax, on the same network, parameters and a mini-batch of the same cases."""
    if problem.network.fully_connected:
        prepare(peer, problem, loop.minibatch(problem.data, 0, 1, m).X)
    else:
        prepare_convolutional(peer, problem, m)

    def asked(ask: Callable[[int], list[float]]) -> Method:
        return lambda count, split: [{"seconds": seconds} for seconds in ask(count)]

    return {JAX_GRADIENT: asked(peer.gradient), JAX_SGD: asked(peer.sgd), KFAC_JAX: asked(peer.kfac)}


def prepare(peer: Peer, problem: Problem, X: Array) -> None:
    """Hand the problem over, with these cases."""
    network, parameters = problem.network, [arrays.to_numpy(W) for W in problem.parameters]
    names = [a.name for a in network.activations]
    peer.prepare(network.sizes, names, network.likelihood.name, arrays.to_numpy(X), parameters)


def prepare_convolutional(peer: Peer, problem: Problem, m: int) -> None:
    """Hand a convolutional classifier over. ArithmeticError if its loss there is not the same as here."""
    network, parameters = problem.network, [arrays.to_numpy(W) for W in problem.parameters]
    batch = loop.minibatch(problem.data, 0, 1, m)
    X = arrays.to_numpy(batch.X).reshape(m, *network.input)
    peer.prepare_convolutional(network.description()["network"], X, arrays.to_numpy(batch.Y), parameters)
    value, _ = loss_and_gradient(ForwardPass(network, problem.parameters, batch.X), batch.Y, Settings().eta)
    ours, theirs = float(read_scalars(value.h)[0]), peer.value()
    if not abs(ours - theirs) <= 1e-4 * abs(ours):
        raise ArithmeticError(f"the loss of {problem.name} is {ours} here and {theirs} in JAX")


def _repeated(once: Callable[[], object], like: Array) -> Method:
    return lambda count, split: [_timed(once, like) for _ in range(count)]


def _timed(once: Callable[[], object], like: Array) -> Row:
    arrays.wait(like)
    start = time.perf_counter()
    once()
    arrays.wait(like)
    return {"seconds": time.perf_counter() - start}
