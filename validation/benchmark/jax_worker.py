"""The other side of `peer.Peer`: JAX and kfac-jax at work in a process, and a Python, of their own.

It reads a request a line from stdin and writes an answer a line to stdout, both JSON; see `Peer`. Run as a file: only
NumPy, JAX and kfac-jax are imported. What it measures is set up to be as fast as a user of kfac-jax can have it:
float32, one compiled function a step with its buffers donated, the mini-batch on the device, and no reading of the
device's step counter.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import kfac_jax
import numpy as np
from jax import Array

Parameters = list[tuple[Array, Array]]
"""Weights (inputs, outputs), of a convolution (rows, columns, channels, outputs), and biases, layer by layer."""
Minibatch = tuple[Array, Array]
Loss = Callable[[Parameters, Minibatch], Array]

VERSIONS = ("jax", "jaxlib", "kfac-jax")
ACTIVATIONS = {"logistic": jax.nn.sigmoid, "tanh": jnp.tanh, "relu": jax.nn.relu, "identity": lambda s: s}
MINIBATCHES = 1
"""Purpose of a random key, as `kfac_ref.training.loop` has it: the same mini-batches are drawn."""
ADAPTIVE: dict[str, Any] = {
    "use_adaptive_learning_rate": True,
    "use_adaptive_momentum": True,
    "use_adaptive_damping": True,
    "initial_damping": 150.0,
    "damping_adaptation_interval": 5,
    "inverse_update_period": 20,
    "num_burnin_steps": 0,
    "estimation_mode": "fisher_gradients",
}
"""The work of Algorithm 2 in kfac-jax's terms."""
INTERVAL, PERIOD = "damping_adaptation_interval", "curvature_update_period"


def objective(activations: Sequence[str], likelihood: str, eta: float) -> Loss:
    """h as kfac-jax is to have it: the mean over cases of the loss, a sum over outputs, and (η/2)‖θ‖²."""
    functions = [ACTIVATIONS[name] for name in activations]

    def evaluate(parameters: Parameters, minibatch: Minibatch) -> Array:
        a, Y = minibatch
        squares = 0.0
        for (w, b), phi in zip(parameters, functions, strict=True):
            a = phi(a @ w + b)
            squares += jnp.vdot(w, w) + jnp.vdot(b, b)
        if likelihood == "bernoulli":
            kfac_jax.register_sigmoid_cross_entropy_loss(a, Y)
            cases = jnp.sum(jax.nn.softplus(a) - Y * a, axis=1)
        else:
            kfac_jax.register_normal_predictive_distribution(a, Y, variance=1.0)
            cases = 0.5 * jnp.sum((a - Y) ** 2, axis=1)
        return jnp.mean(cases) + 0.5 * eta * squares

    return evaluate


def convolutional(network: Sequence[Mapping[str, Any]], eta: float) -> Loss:
    """The same for a classifier of valid convolutions, average pools that do not overlap, and dense layers."""

    def evaluate(parameters: Parameters, minibatch: Minibatch) -> Array:
        (a, Y), left, squares = minibatch, list(parameters), 0.0
        for layer in network:
            if layer["kind"] == "average-pool":
                h, w = layer["size"]
                a = a.reshape(a.shape[0], a.shape[1] // h, h, a.shape[2] // w, w, a.shape[3]).mean(axis=(2, 4))
            elif layer["kind"] == "flatten":
                a = a.transpose(0, 3, 1, 2).reshape(a.shape[0], -1)
            else:
                w, b = left.pop(0)
                squares += jnp.vdot(w, w) + jnp.vdot(b, b)
                if layer["kind"] == "conv":
                    names = ("NHWC", "HWIO", "NHWC")
                    s = jax.lax.conv_general_dilated(a, w, layer["stride"], "VALID", dimension_numbers=names) + b
                else:
                    s = a @ w + b
                a = ACTIVATIONS[layer["activation"]](s)
        kfac_jax.register_softmax_cross_entropy_loss(a, Y)
        cases = -jnp.sum(Y * jax.nn.log_softmax(a), axis=1)
        return jnp.mean(cases) + 0.5 * eta * squares

    return evaluate


class Training:
    """A run of kfac-jax's optimizer, with everything compiled that it will need.

    Parameters
    ----------
    loss : callable
    parameters : list
        Where it starts. They are copied.
    X, Y : np.ndarray
        All cases.
    eta : float
    options : mapping
        Of `kfac_jax.Optimizer`, besides `ADAPTIVE`.
    minibatches : sequence of (int, int)
        From which iteration on a mini-batch has how many cases.
    seed : int
    """

    parameters: Parameters
    state: Any
    k = 0
    """Iterations so far."""
    seconds = 0.0
    """How long they took, as far as `advance` did them."""

    def __init__(
        self,
        loss: Loss,
        parameters: Parameters,
        X: np.ndarray,
        Y: np.ndarray,
        eta: float,
        options: Mapping[str, Any],
        minibatches: Sequence[tuple[int, int]],
        seed: int,
    ) -> None:
        options = ADAPTIVE | dict(options)
        self.optimizer = kfac_jax.Optimizer(jax.value_and_grad(loss), l2_reg=eta, **options)
        self.X, self.Y, self.minibatches, self.seed = X, Y, minibatches, seed
        # drawing nothing where all cases take part, as the mini-batch is on the device already
        self.whole = self._on_device(slice(None)) if min(m for _, m in minibatches) >= len(X) else None
        self.key = jax.random.PRNGKey(seed)
        jax.random.fold_in(self.key, 0)
        self.start = jax.tree_util.tree_map(jnp.array, parameters)
        begin = time.perf_counter()
        for m in sorted({min(m, len(X)) for _, m in minibatches}):
            self._compile(self._on_device(slice(m)), options[INTERVAL], options.get(PERIOD, 1))
        self._restart(self.whole or self._on_device(slice(minibatches[0][1])))
        self.compile_seconds = time.perf_counter() - begin

    def _compile(self, minibatch: Minibatch, interval: int, period: int) -> None:
        """Take a step of each kind: with the factors updated or not, with the damping adapted or not. Each is a
        function of its own; whether there is an inversion is decided inside of them."""
        kinds = {(k % period == 0, (k + 1) % interval == 0): k for k in range(period * interval)}
        self._restart(minibatch)
        for k in kinds.values():
            self.parameters, self.state, stats = self.optimizer.step(
                self.parameters, self.state, self.key, batch=minibatch, global_step_int=k
            )
            jax.block_until_ready(stats)

    def _restart(self, minibatch: Minibatch) -> None:
        self.parameters = jax.tree_util.tree_map(jnp.array, self.start)  # a step consumes them
        self.state = self.optimizer.init(self.parameters, self.key, minibatch)
        jax.block_until_ready((self.parameters, self.state))

    def _on_device(self, cases: Any) -> Minibatch:
        x = jax.device_put(np.ascontiguousarray(self.X[cases]))
        return x, x if self.Y is self.X else jax.device_put(np.ascontiguousarray(self.Y[cases]))

    def _minibatch(self) -> Minibatch:
        if self.whole is not None:
            return self.whole
        m = next(m for first, m in reversed(self.minibatches) if first <= self.k + 1)
        rows = np.random.default_rng([self.seed, MINIBATCHES, self.k + 1]).choice(len(self.X), m, replace=False)
        return self._on_device(rows)

    def step(self) -> Array:
        """Begin an iteration; the loss before it, which is there when it is done."""
        minibatch = self._minibatch()
        key = jax.random.fold_in(self.key, self.k)
        self.parameters, self.state, stats = self.optimizer.step(
            self.parameters, self.state, key, batch=minibatch, global_step_int=self.k
        )
        self.k += 1
        return stats["loss"]

    def advance(self, until: float) -> float:
        """Iterations until so many seconds of training have gone by, at least one; the last loss."""
        begin = time.perf_counter() - self.seconds
        before = self.step()
        while True:
            # one iteration ahead of what is waited for, so that drawing a mini-batch costs no time
            if time.perf_counter() - begin >= until:
                break
            last = self.step()
            before.block_until_ready()
            before = last
        jax.block_until_ready((before, self.parameters))
        self.seconds = time.perf_counter() - begin
        return float(before)


class Worker:
    """Answers requests: each method but `prepare` needs what `prepare` was given."""

    training: Training | None = None

    def prepare(
        self,
        activations: Sequence[str],
        likelihood: str,
        eta: float,
        X: str,
        parameters: Sequence[str],
    ) -> None:
        """Data and parameters, each W_i with its bias in the last column, from .npy files."""
        for name in activations:
            if name not in ACTIVATIONS:
                raise ValueError(f"no activation {name!r}, expected one of {', '.join(ACTIVATIONS)}")
        if likelihood not in ("bernoulli", "gaussian"):
            raise ValueError(f"no likelihood {likelihood!r}, expected bernoulli or gaussian")
        self.loss, self.eta, self.training = objective(activations, likelihood, eta), eta, None
        self.X = self.Y = np.load(X)
        arrays = [np.load(path) for path in parameters]
        self.parameters = [(jnp.asarray(W[:, :-1].T), jnp.asarray(W[:, -1])) for W in arrays]

    def prepare_convolutional(
        self, network: Sequence[Mapping[str, Any]], eta: float, X: str, Y: str, parameters: Sequence[str]
    ) -> None:
        """A classifier of images X (m, c, H, W), its layers as kfac-ref describes them, W_i as it has them."""
        self.loss, self.eta, self.training = convolutional(network, eta), eta, None
        self.X, self.Y = np.ascontiguousarray(np.load(X).transpose(0, 2, 3, 1)), np.load(Y)
        self.parameters = []
        for layer, path in zip((x for x in network if "out" in x), parameters, strict=True):
            W = np.load(path)
            w = W[:, :-1].T
            if layer["kind"] == "conv":
                w = w.reshape(-1, *layer["kernel"], len(W)).transpose(1, 2, 0, 3)
            self.parameters.append((jnp.asarray(w), jnp.asarray(W[:, -1])))

    def value(self) -> float:
        """The loss on all cases."""
        return float(self.loss(self.parameters, self._cases()))

    def _cases(self) -> Minibatch:
        x = jnp.asarray(self.X)
        return x, x if self.Y is self.X else jnp.asarray(self.Y)

    def gradient(self, repeats: int) -> list[float]:
        """Seconds of the loss and its gradient on all cases, again and again, compiled before."""
        function = jax.jit(jax.value_and_grad(self.loss))
        cases = self._cases()
        jax.block_until_ready(function(self.parameters, cases))
        return [_seconds(lambda: function(self.parameters, cases)) for _ in range(repeats)]

    def sgd(self, repeats: int) -> list[float]:
        """The same of a step of SGD with Nesterov momentum, its buffers donated."""
        gradient = jax.grad(self.loss)
        add = jax.tree_util.tree_map

        def step(parameters: Parameters, velocity: Parameters, minibatch: Minibatch) -> tuple[Parameters, Parameters]:
            ahead = add(lambda w, v: w + 0.9 * v, parameters, velocity)
            velocity = add(lambda v, g: 0.9 * v - 1e-6 * g, velocity, gradient(ahead, minibatch))
            return add(lambda w, v: w + v, parameters, velocity), velocity

        function = jax.jit(step, donate_argnums=(0, 1))
        cases = self._cases()
        now = add(jnp.array, self.parameters), add(jnp.zeros_like, self.parameters)
        now = jax.block_until_ready(function(*now, cases))
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            now = jax.block_until_ready(function(*now, cases))
            times.append(time.perf_counter() - start)
        return times

    def begin(self, options: Mapping[str, Any], minibatches: Sequence[tuple[int, int]], seed: int) -> float:
        """Begin a run of kfac-jax; the seconds that compiling took."""
        self.training = None  # two at once would need twice the memory
        self.training = Training(self.loss, self.parameters, self.X, self.Y, self.eta, options, minibatches, seed)
        return self.training.compile_seconds

    def kfac(self, iterations: int) -> list[float]:
        """Seconds of the run's next iterations, one by one."""
        training = self._running()
        times = []
        for _ in range(iterations):
            start = time.perf_counter()
            jax.block_until_ready((training.step(), training.parameters, training.state))
            times.append(time.perf_counter() - start)
        return times

    def advance(self, until: float) -> dict[str, float]:
        """Go on with the run until it has trained for so many seconds."""
        training = self._running()
        loss = training.advance(until)
        return {"k": training.k, "seconds": training.seconds, "loss": loss}

    def save(self, paths: Sequence[str]) -> None:
        """Write the run's parameters, each W_i to an .npy file."""
        for path, (w, b) in zip(paths, self._running().parameters, strict=True):
            np.save(path, np.concatenate([np.asarray(w).T, np.asarray(b)[:, None]], axis=1))

    def peak_memory(self) -> int:
        """Bytes that this process has held at most so far."""
        status = Path("/proc/self/status")
        if status.is_file():
            # ru_maxrss may be that of the process that started this one, which Linux leaves there
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            return int(lines["VmHWM"].split()[0]) * 1024
        import resource  # which Windows does not have

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    def _running(self) -> Training:
        if self.training is None:
            raise ValueError("no run was begun")
        return self.training


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def main() -> None:
    """Answer until stdin ends."""
    # what libraries print is not to be taken for an answer
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def answer(value: Any) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    answer({"answer": {name: metadata.version(name) for name in VERSIONS} | {"device": jax.default_backend()}})
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer({"answer": getattr(worker, request.pop("do"))(**request)})
        except Exception as error:  # whatever it is, the other side says it
            answer({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
