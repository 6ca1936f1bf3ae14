"""Other libraries beside: a process of another environment's Python, asked to do something and idle otherwise."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from validation.peers import PACKAGES

WORKER = Path(__file__).with_name("jax_worker.py")
NEEDED = f"the Python of an environment with {PACKAGES['jax']}"


class Peer:
    """Starts `jax_worker.py`, or another worker, and talks with it; a context manager, at whose end the process ends.

    It computes only between a call and its return, so that its measurements can alternate with others.

    Parameters
    ----------
    python : str or Path
        The Python of an environment that has JAX and kfac-jax, or what the other worker imports.
    worker, needed : Path and str, optional
        Another worker, which answers `prepare`, `begin`, `advance` and `save`, and what is to be said that it needs.

    Raises
    ------
    ValueError
        If that cannot be run, or does not have these; and from each method if the worker finds something wrong with
        what it is asked.
    ArithmeticError
        If the worker dies, for want of memory say.
    """

    versions: Mapping[str, str]
    """Of the libraries; of JAX also the kind of "device" that it uses."""
    compile_seconds: float
    """What compiling for the present run took, with the first iterations, which are undone."""

    def __init__(self, python: str | Path, worker: Path | None = None, needed: str = NEEDED) -> None:
        self.python = str(python)
        self.worker = worker or WORKER
        self.needed = needed

    def __enter__(self) -> Peer:
        self._folder = tempfile.TemporaryDirectory(prefix="kfac-ref-peer-")
        self._log = open(Path(self._folder.name, "log.txt"), "w+", encoding="utf-8", errors="replace")
        try:
            # a link into an environment is that environment, so it is not resolved; -P: nothing is imported from here
            self._process = subprocess.Popen(
                [Path(shutil.which(self.python) or self.python).absolute(), "-P", self.worker],
                # on a GPU that another program uses, too, it must not take most of the memory at once
                env=os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                encoding="utf-8",
            )
        except OSError as error:
            self._close_files()
            raise ValueError(f"{self.python}: cannot be run ({error.strerror}), expected {self.needed}") from None
        line = self._read()
        if not line:
            said = self._last_words()
            self.__exit__()
            raise ValueError(f"{self.python} cannot run {self.worker.name} ({said}), expected {self.needed}")
        self.versions = json.loads(line)["answer"]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        # what was interrupted may not come back to its stdin for long
        self._process.kill()
        self._process.communicate()
        self._close_files()

    def prepare(
        self,
        sizes: Sequence[int],
        activations: Sequence[str],
        likelihood: str,
        X: np.ndarray,
        parameters: Sequence[np.ndarray] | None = None,
        eta: float = 1e-5,
    ) -> None:
        """Hand over an autoencoder and its cases, which `gradient`, `sgd` and `kfac` take as one mini-batch.

        Parameters
        ----------
        sizes : sequence of int
            d_0, …, d_ℓ.
        activations : sequence of str
            Of layers 1 to ℓ; the last is "identity".
        likelihood : str
            "bernoulli" or "gaussian".
        X : array (cases, d_0)
            Inputs and targets.
        parameters : sequence of arrays (d_i, d_{i−1} + 1), optional
            Otherwise Gaussian weights of variance 1/d_{i−1}, and biases 0.
        eta : float
            The ℓ₂ coefficient.
        """
        if parameters is None:
            rng = np.random.default_rng(0)
            parameters = [
                np.hstack([rng.standard_normal((rows, columns)) / np.sqrt(columns), np.zeros((rows, 1))])
                for columns, rows in pairwise(sizes)
            ]
        files = [self._save("X", X)] + [self._save(f"W_{i}", W) for i, W in enumerate(parameters, start=1)]
        self.layers = len(parameters)
        self.cases = len(X)
        self._begun = False
        self.ask(
            "prepare", activations=list(activations), likelihood=likelihood, eta=eta, X=files[0], parameters=files[1:]
        )

    def prepare_convolutional(
        self,
        network: Sequence[Mapping[str, Any]],
        X: np.ndarray,
        Y: np.ndarray,
        parameters: Sequence[np.ndarray],
        eta: float = 1e-5,
    ) -> None:
        """Hand over a convolutional classifier, its layers as `Network.description` has them, and one mini-batch.

        Parameters
        ----------
        network : sequence of mappings
            Convolutions without padding, average pools that do not overlap, flatten and dense layers, with biases.
        X : array (cases, c, H, W)
        Y : array (cases, d_ℓ)
            One-hot.
        parameters : sequence of arrays
            W_i.
        eta : float
            The ℓ₂ coefficient.
        """
        files = [self._save("X", X), self._save("Y", Y)]
        files += [self._save(f"W_{i}", W) for i, W in enumerate(parameters, start=1)]
        self.layers, self.cases, self._begun = len(parameters), len(X), False
        layers = [dict(layer) for layer in network]
        self.ask("prepare_convolutional", network=layers, eta=eta, X=files[0], Y=files[1], parameters=files[2:])

    def value(self) -> float:
        """The loss on the mini-batch that was handed over, the ℓ₂ term included."""
        return self.ask("value")

    def gradient(self, repeats: int) -> list[float]:
        """Seconds of the loss and its gradient, compiled before, again and again."""
        return self.ask("gradient", repeats=repeats)

    def sgd(self, repeats: int) -> list[float]:
        """Seconds of steps of SGD with Nesterov momentum, compiled before."""
        return self.ask("sgd", repeats=repeats)

    def kfac(self, iterations: int) -> list[float]:
        """Seconds of the next iterations of kfac-jax: Algorithm 2 with T₃ = 20 on the whole mini-batch.

        The first call begins the run, and compiles, which `compile_seconds` says.
        """
        if not self._begun:
            self.begin({}, [(1, self.cases)])
        return self.ask("kfac", iterations=iterations)

    def begin(self, options: Mapping[str, Any], minibatches: Sequence[tuple[int, int]], seed: int = 0) -> None:
        """Begin a run of kfac-jax, or of what else the worker runs, on mini-batches drawn from the cases, and compile
        all it needs.

        Parameters
        ----------
        options : mapping
            Of `kfac_jax.Optimizer`, where they differ from Algorithm 2's; or what another worker says.
        minibatches : sequence of (int, int)
            From which iteration on, 1 at first, a mini-batch has how many cases.
        seed : int
            Of mini-batches and sampled targets.
        """
        self.compile_seconds = self.ask("begin", options=dict(options), minibatches=list(minibatches), seed=seed)
        self._begun = True

    def advance(self, until: float) -> tuple[int, float]:
        """Go on with the run until it has trained for so many seconds: its iterations and seconds so far."""
        done = self.ask("advance", until=until)
        return done["k"], done["seconds"]

    def parameters(self) -> list[np.ndarray]:
        """The run's parameters, each W_i (d_i, d_{i−1} + 1)."""
        paths = [str(Path(self._folder.name, f"trained_{i}.npy")) for i in range(self.layers)]
        self.ask("save", paths=paths)
        return [np.load(path) for path in paths]

    def peak_memory(self) -> int:
        """Bytes that the process has held at most so far, Python, JAX and the cases included."""
        return self.ask("peak_memory")

    def ask(self, do: str, **request: Any) -> Any:
        """One request, and its answer."""
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps({"do": do} | request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it died before; what is read says so
        line = self._read()
        if not line:
            raise ArithmeticError(f"{self.worker.name} died when it was to {do}: {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise ValueError(f"{self.worker.name}, {do}: {answer['error']}")
        return answer["answer"]

    def _read(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline()

    def _last_words(self) -> str:
        """The last line that the process wrote to stderr, or its exit code."""
        code = self._process.wait()
        self._log.seek(0)
        lines = self._log.read().strip().splitlines()
        return lines[-1] if lines else f"exit code {code}"

    def _save(self, name: str, array: np.ndarray) -> str:
        path = Path(self._folder.name, f"{name}.npy")
        np.save(path, np.ascontiguousarray(array, dtype=np.float32))
        return str(path)

    def _close_files(self) -> None:
        self._log.close()
        self._folder.cleanup()
