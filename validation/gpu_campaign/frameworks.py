"""PyTorch's or JAX's bare gradient and a step of Adam on a given network; run as a file by a process of its own.

    python frameworks.py torch|jax PROBLEM.npz CASES …

Only NumPy and the framework are imported. It prints a line of JSON for each measurement, as it is made. Float32 is
float32, as here, and TF32 is measured apart; JAX's functions are compiled, PyTorch's are not.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

MISSING = 5
"""Exit code: the framework is not there."""
WARM, REPEATS = 5, 20
RATE = 1e-9
"""Adam's, so small that nothing changes."""

Measurement = tuple[str, Callable[[], Any]]
"""What it is called, and what is timed; of the gradient that returns h."""


def read(path: str) -> tuple[dict[str, Any], np.ndarray, list[np.ndarray]]:
    """The settings (activations, likelihood, eta), the cases X, which are targets too, and W_1 … W_ℓ."""
    with np.load(path, allow_pickle=False) as file:
        settings = json.loads(str(file["settings"]))
        return settings, file["X"], [file[f"W_{i}"] for i in range(1, len(settings["activations"]) + 1)]


def by_torch(settings: Mapping[str, Any], X: np.ndarray, Ws: Sequence[np.ndarray]) -> Iterator[Any]:
    """Yields what PyTorch is, then for float32 and TF32 a function of m that gives two measurements."""
    import torch
    from torch.nn import functional

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    gpu = device.type == "cuda"
    yield {"name": f"PyTorch {torch.__version__}", "device": torch.cuda.get_device_name() if gpu else "cpu"}
    phi = {"logistic": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu, "identity": lambda s: s}
    functions = [phi[name] for name in settings["activations"]]
    parameters = []
    for W in Ws:
        parts = (torch.tensor(W[:, :-1], device=device), torch.tensor(W[:, -1], device=device))
        parameters += [part.requires_grad_() for part in parts]

    def loss(x: Any) -> Any:
        a = x
        for i, f in enumerate(functions):
            a = f(functional.linear(a, parameters[2 * i], parameters[2 * i + 1]))
        if settings["likelihood"] == "bernoulli":
            value = functional.binary_cross_entropy_with_logits(a, x, reduction="sum") / len(x)
        else:
            value = 0.5 * ((a - x) ** 2).sum() / len(x)
        return value + 0.5 * settings["eta"] * sum((p * p).sum() for p in parameters)

    def measurements(m: int) -> tuple[Measurement, Measurement]:
        x = torch.tensor(X[:m], device=device)
        adam = torch.optim.Adam(parameters, lr=RATE, fused=gpu)

        def gradient() -> float:
            value = loss(x)
            torch.autograd.grad(value, parameters)
            if gpu:
                torch.cuda.synchronize()
            return value.item()

        def step() -> None:
            adam.zero_grad()
            loss(x).backward()
            adam.step()
            if gpu:
                torch.cuda.synchronize()

        return ("gradient", gradient), ("Adam", step)

    for precision in ("float32", "TF32") if gpu else ("float32",):
        torch.backends.cuda.matmul.allow_tf32 = precision == "TF32"
        yield precision, measurements


def by_jax(settings: Mapping[str, Any], X: np.ndarray, Ws: Sequence[np.ndarray]) -> Iterator[Any]:
    """The same of JAX, with Adam from optax."""
    import jax
    import jax.numpy as jnp
    import optax

    device = jax.devices()[0]
    yield {"name": f"JAX {jax.__version__}", "device": device.device_kind}
    phi = {"logistic": jax.nn.sigmoid, "tanh": jnp.tanh, "relu": jax.nn.relu, "identity": lambda s: s}
    functions = [phi[name] for name in settings["activations"]]
    start = [(np.ascontiguousarray(W[:, :-1].T), np.ascontiguousarray(W[:, -1])) for W in Ws]

    def loss(parameters: Any, x: Any) -> Any:
        a, squares = x, 0.0
        for (w, b), f in zip(parameters, functions, strict=True):
            a = f(a @ w + b)
            squares += jnp.vdot(w, w) + jnp.vdot(b, b)
        if settings["likelihood"] == "bernoulli":
            value = jnp.mean(jnp.sum(jax.nn.softplus(a) - x * a, axis=1))
        else:
            value = jnp.mean(0.5 * jnp.sum((a - x) ** 2, axis=1))
        return value + 0.5 * settings["eta"] * squares

    def measurements(m: int) -> tuple[Measurement, Measurement]:
        x = jax.device_put(np.ascontiguousarray(X[:m]))
        parameters = jax.device_put(start)
        adam = optax.adam(RATE)
        gradient = jax.jit(jax.value_and_grad(loss))

        def stepped(parameters: Any, state: Any, x: Any) -> Any:
            updates, state = adam.update(jax.grad(loss)(parameters, x), state)
            return optax.apply_updates(parameters, updates), state

        step = jax.jit(stepped, donate_argnums=(0, 1))
        now = jax.device_put(start), adam.init(parameters)

        def advance() -> None:
            nonlocal now
            now = jax.block_until_ready(step(*now, x))

        return ("gradient", lambda: float(jax.block_until_ready(gradient(parameters, x))[0])), ("Adam", advance)

    for precision in ("float32", "TF32") if device.platform == "gpu" else ("float32",):
        jax.config.update("jax_default_matmul_precision", "highest" if precision == "float32" else "tensorfloat32")
        yield precision, measurements


FRAMEWORKS = {"torch": by_torch, "jax": by_jax}


def main(which: str, path: str, *cases: str) -> int:
    """Measure; exit code MISSING if the framework is not there."""
    settings, X, Ws = read(path)
    found = FRAMEWORKS[which](settings, X, Ws)
    try:
        what = next(found)
    except ImportError:
        return MISSING
    for precision, measurements in found:
        for m in map(int, cases):
            for name, once in measurements(m):
                h, *_ = [once() for _ in range(WARM)]
                seconds = []
                for _ in range(REPEATS):
                    begin = time.perf_counter()
                    once()
                    seconds.append(time.perf_counter() - begin)
                made = what | {"precision": precision, "m": m, "what": name, "h": h, "seconds": seconds}
                print(json.dumps(made), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
