"""What the estimators share: their parameters, and the loop that fits them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from scipy import sparse
from sklearn import get_config
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from autodiff import arrays
from autodiff.activations import ACTIVATIONS
from autodiff.initialisation import glorot_initialisation
from autodiff.network import Network
from autodiff.objective import evaluate
from kfac_ref import machine
from kfac_ref.data.scaling import Scaling
from kfac_ref.estimators import evidence, uncertainty
from kfac_ref.estimators.architectures import network_of
from kfac_ref.estimators.cases import Cases, outputs, scaling_of, taken
from kfac_ref.estimators.few import FEW, ExactOfFew
from kfac_ref.optimizer import KFAC, Batch, Diverged, Record, State, refreshed
from kfac_ref.posterior import Outputs, Posterior
from kfac_ref.settings import INVERSES, preset
from kfac_ref.training.networks import SUITED
from kfac_ref.training.stopping import Patience, Plateau

COLUMN = "A column-vector y was passed when a 1d array was expected."
BIASES = 4
"""Purpose of a random key; see `optimizer.SAMPLED_TARGETS`."""
SPREAD = 4.0
"""Biases of hidden units begin uniform in ± this many times the bound of the layer's weights."""
OUTPUT = 0.1
"""Weights of the last layer begin this many times as large as Glorot's, so that predictions begin near their mean."""
RAISE, SMALLEST, LARGEST = 4.0, 1e-6, 1e6
"""By how much λ is raised, and from and up to where, when the quadratic model promises too much."""
PART, FEWEST, MOST = 5, 1000, 5000
"""`batch_size="auto"`: a fifth of the cases, but so many at least, where there are, and so many at most."""


class Estimator(BaseEstimator):
    """The parameters of all, with the defaults of those that predict targets, and the loop."""

    _takes_sparse = True
    _inputs: Scaling
    _state: State
    _sound: State
    """The last from which h was found to be finite."""
    _kfac: KFAC
    _posterior: Posterior | None
    loss_curve_: list[float]
    validation_scores_: list[float] | None

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "network": [str, Mapping, None],
        "alpha": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "inverse": [StrOptions(set(INVERSES))],
        "damping": [Interval(Real, 0, None, closed="neither")],
        "standardize": ["boolean"],
        "settings": [dict, None],
        "posterior": ["boolean"],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        network: Any = None,
        alpha: float | str = "auto",
        batch_size: int | str = "auto",
        max_iter: int = 100,
        tol: float = 0.04,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        inverse: str = "block-diagonal",
        damping: float = 0.01,
        standardize: bool = True,
        settings: dict[str, Any] | None = None,
        posterior: bool = False,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.network = network
        self.alpha = alpha
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.inverse = inverse
        self.damping = damping
        self.standardize = standardize
        self.settings = settings
        self.posterior = posterior
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    # --- what comes before ---------------------------------------------------------------------------------------

    def _hidden(self) -> list[int]:
        given = self.hidden_layer_sizes
        hidden = [given] if isinstance(given, Integral) else list(given)
        if any(not isinstance(d, Integral) or d < 1 for d in hidden):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden}.")
        return [int(d) for d in hidden]

    def _network(self, inputs: int, outputs: int, likelihood: str) -> Network:
        if self.network is not None:
            return network_of(self.network, inputs, outputs, likelihood, self.activation)
        return Network([inputs, *self._hidden(), outputs], self.activation, likelihood)

    def _scaling(self, X: Any, weights: Any, shape: tuple[int, ...]) -> Scaling:
        """The scaling of inputs X, cases of `shape`: to mean 0 and variance 1, or none."""
        if self.standardize:
            return scaling_of(X, weights, shape)
        return Scaling.none(X.shape[1], X.data if sparse.issparse(X) else X)

    def _goes_on(self, once: bool = False) -> bool:
        """Whether a fit, or a single iteration (`once`), begins with what the last one ended with."""
        return (once or self.warm_start) and hasattr(self, "_state")

    def _begin(self, network: Network, cases: Cases) -> None:
        """New parameters and a new optimizer."""
        alpha = 1.0 if isinstance(self.alpha, str) else self.alpha
        self._kfac = self._optimizer(network, alpha, cases)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        parameters = glorot_initialisation(network, seed)
        rng = np.random.default_rng([seed, BIASES])
        for W in parameters[:-1] if network.fully_connected else []:
            # kinks apart from each other: with biases of 0 all of them begin in one point
            bound = SPREAD * np.sqrt(6.0 / (W.shape[0] + W.shape[1] - 1))
            W[:, -1] = rng.uniform(-bound, bound, W.shape[0])
        parameters[-1] *= OUTPUT
        self._state = self._kfac.init([arrays.from_numpy(W, cases.Y) for W in parameters], seed)
        self.loss_curve_ = []
        self.validation_scores_ = None

    def _optimizer(self, network: Network, alpha: float, cases: Cases) -> KFAC:
        constants: dict[str, Any] = {
            "eta": alpha / cases.total,
            "inverse": self.inverse,
            "lambda0": self.damping,
            "m1": min(max(cases.number // PART, FEWEST), MOST) if self.batch_size == "auto" else self.batch_size,
            "full_batch_at": None,
            "tau1": 0.25,
            "tau2": 1.0,
            "average_from": 1,
            "xi_max": 0.9,
        }
        if not network.fully_connected:
            own: dict[str, Any] = {"inverse": self.inverse} | (
                {} if self.batch_size == "auto" else {"m1": self.batch_size}
            )
            if cases.number <= FEW:  # where all is of all cases
                own["tau2"] = 1.0
            constants |= SUITED | own | {"lambda0": max(self.damping, SUITED["lambda_min"])}
        return ExactOfFew(network, preset("authors", **constants | (self.settings or {})))

    # --- the loop ------------------------------------------------------------------------------------------------

    def _train(self, network: Network, cases: Cases, *, once: bool = False, stratify: np.ndarray | None = None) -> Any:
        """Fit: from new parameters unless `_state` is there and to be gone on with; a single iteration if `once`."""
        if self._goes_on(once):
            self._require_same(network)
        else:
            self._begin(network, cases)
        self._sound = self._state
        with np.errstate(over="ignore", invalid="ignore"), self._full_speed():
            if once:
                self._iterate(cases)
            elif self.early_stopping:
                self._until_validated(*self._split(cases, stratify))
            else:
                self._until_flat(cases)
        if not (once or self.warm_start):
            # what only a next iteration needs is as large as several networks
            self._state = refreshed(replace(self._state, delta=None, factors=None))
        del self._sound
        self._publish(cases.total)
        self._posterior = None
        if self.posterior and not once:
            with self._full_speed():
                s = self._state
                self._posterior = uncertainty.around(network, s.averaged, cases, s.seed, self.alpha_)
        return self

    def _require_same(self, network: Network) -> None:
        if str(network) != str(self._kfac.network):
            raise ValueError(
                f"the network was {self._kfac.network} and is now {network}: training cannot go on with it; set "
                "warm_start=False"
            )

    def _full_speed(self) -> Any:
        on_host = arrays.device(self._state.parameters[0]) == "cpu"
        return machine.at_shared_speed(self._kfac.network.widest if on_host else 1)

    def _iterate(self, cases: Cases) -> Record | None:
        """One iteration; None if it diverged, with the last state from which h was finite."""
        before = self._state
        batch = cases.batch(before.seed, before.k + 1, min(self._kfac.settings.m1, cases.number))
        try:
            self._state, record = self._believable_step(batch)
        except Diverged as error:
            warnings.warn(f"{error}; the parameters before are kept", ConvergenceWarning, stacklevel=5)
            self._state = self._sound
            return None
        self._sound = before
        self.loss_curve_.append(self._loss(record))
        if self.verbose:
            print(f"Iteration {record.k}, loss = {self.loss_curve_[-1]:.8f}")
        return record

    def _believable_step(self, batch: Batch) -> tuple[State, Record]:
        """A step whose quadratic model does not promise an h below 0, which no h is.

        Where a network has nearly learnt its classes, the Fisher is next to 0, and M, which takes it for the curvature,
        has its minimum far away. λ, which Algorithm 2 adjusts too late for that, is raised until the minimum is near.
        """
        state = self._state
        while True:
            after, record = self._kfac.step(state, batch)
            if -record.model_change <= self._loss(record) or state.lam > LARGEST:
                return after, record
            state = replace(state, lam=max(RAISE * state.lam, SMALLEST))

    def _loss(self, record: Record) -> float:
        """h without the likelihood's constant, which would hide how much of it is left."""
        network = self._kfac.network
        return record.h - network.likelihood.constant(network.outputs)

    def _decay_set(self, record: Record, cases: Cases) -> bool:
        """Whether η was set anew, by what the data say, after this iteration."""
        fixed = self.alpha != "auto" or not self._kfac.network.fully_connected
        if fixed or record.k != evidence.AT:
            return False
        network, eta = self._kfac.network, self._kfac.settings.eta
        alpha = evidence.alpha(network, self._state, record.error, cases.Y, eta * cases.total, cases.weights)
        self._kfac = self._optimizer(network, alpha, cases)
        return True

    def _until_flat(self, cases: Cases) -> None:
        """Iterate until the last `n_iter_no_change` iterations have hardly improved h."""
        plateau = Plateau(self.n_iter_no_change, self.tol)
        for _ in range(self.max_iter):
            record = self._iterate(cases)
            if record is None or plateau.reached(self._loss(record)):
                return
            if self._decay_set(record, cases):
                plateau = Plateau(self.n_iter_no_change, self.tol)  # another η is another h

    def _until_validated(self, cases: Cases, held: Cases) -> None:
        """Iterate until held-out cases are predicted no better, and keep the state that predicted them best."""
        patience, best = Patience(self.n_iter_no_change, self.tol), self._state
        X, Y, weights, *_ = held.batch(0, 0, held.number)
        network = self._kfac.network
        scores = self.validation_scores_ = self.validation_scores_ or []
        for _ in range(self.max_iter):
            record = self._iterate(cases)
            if record is None:
                break
            loss = evaluate(network, self._state.averaged, X, Y, weights=weights).h
            scores.append(-loss)
            if patience.better(loss):
                best = self._state
            if patience.exhausted:
                break
            self._decay_set(record, cases)
        self._state = best

    def _split(self, cases: Cases, stratify: np.ndarray | None) -> tuple[Cases, Cases]:
        train, held = train_test_split(
            np.arange(cases.number),
            test_size=self.validation_fraction,
            stratify=stratify,
            random_state=self._state.seed,
        )
        return cases.taken(train), cases.taken(held)

    def _publish(self, N: float) -> None:
        """The attributes that scikit-learn's networks have too."""
        W = self._state.averaged
        if self._kfac.network.fully_connected:
            self.coefs_ = [w[:, :-1].T for w in W]
            self.intercepts_ = [w[:, -1] for w in W]
        self.alpha_ = self._kfac.settings.eta * N
        self.loss_ = self.loss_curve_[-1] if self.loss_curve_ else math.nan
        self.best_loss_ = None if self.early_stopping else min(self.loss_curve_, default=math.nan)
        self.best_validation_score_ = max(self.validation_scores_) if self.validation_scores_ else None
        self.n_iter_ = max(self._state.k, 1)
        self.n_layers_ = len(W) + 1
        self.n_outputs_ = self._kfac.network.outputs

    # --- what comes after ----------------------------------------------------------------------------------------

    def _checked(self, X: Any, y: Any = "no_validation", *, reset: bool, **how: Any) -> Any:
        """X, or X and y, as scikit-learn checks them; floating-point X keeps its dtype."""
        how |= {} if isinstance(y, str) else {"multi_output": True}
        accepted = ("csr", "csc") if self._takes_sparse else False
        return validate_data(self, X, y, reset=reset, accept_sparse=accepted, dtype=self._floating(X), **how)

    def _weights(self, sample_weight: Any, X: Any) -> np.ndarray | None:
        """Weights as scikit-learn checks them, on the host, in X's precision; not all are 0."""
        if sample_weight is None:
            return None
        if not isinstance(sample_weight, Real):
            with suppress(TypeError):  # a list, a Series
                sample_weight = arrays.to_numpy(sample_weight)
        host = np.empty((X.shape[0], 1), np.dtype(str(X.dtype).rsplit(".", 1)[-1]))
        w = _check_sample_weight(sample_weight, host, dtype=host.dtype, ensure_non_negative=True)
        if not np.any(w > 0):
            raise ValueError("Sample weights must contain at least one non-zero number.")
        return w

    def _counted(self, X: Any, y: Any, w: np.ndarray | None) -> tuple[Any, Any, np.ndarray | None]:
        """Without the cases of weight 0, which are as if they were not there."""
        if w is None or np.all(w > 0):
            return X, y, w
        rows = np.flatnonzero(w)
        return taken(X, rows), taken(y, rows), w[rows]

    def _floating(self, X: Any) -> list[Any]:
        """The dtypes that are taken, in X's library where arrays of any are."""
        xp: Any = np
        if get_config()["array_api_dispatch"] and not sparse.issparse(X):
            with suppress(TypeError):  # a list or a DataFrame, which becomes NumPy's
                xp = arrays.namespace(X)
        return [xp.float64, xp.float32]

    def _outputs(self, X: Any, method: str) -> arrays.Array:
        """z (N, d_ℓ) of the fitted network for inputs X (N, d_0) that are still to be checked."""
        check_is_fitted(self)
        W = self._state.averaged
        return self._pass(self._like(self._checked(X, reset=False), W[0], method))

    def _uncertain_outputs(self, X: Any, method: str, argument: str) -> Outputs:
        """The same with their covariance. ValueError if the fit made no posterior."""
        check_is_fitted(self)
        if self._posterior is None:
            raise ValueError(
                f"{method}({argument}=True) needs the posterior, which {type(self).__name__}(posterior=True) makes at "
                "the end of fit; partial_fit makes none"
            )
        X = self._like(self._checked(X, reset=False), self._state.averaged[0], method)
        with self._full_speed():
            return uncertainty.outputs(self._posterior, X, self._inputs)

    def _pass(self, X: Any) -> arrays.Array:
        with self._full_speed():
            return outputs(self._kfac.network, self._state.averaged, X, self._inputs)

    def _like(self, X: Any, like: arrays.Array, method: str) -> Any:
        """X in the dtype of `like`; ValueError if it is of another library or on another device."""
        if sparse.issparse(X):
            return X.astype(like.dtype, copy=False)
        xp = arrays.namespace(X)
        if xp is not arrays.namespace(like) or arrays.device(X) != arrays.device(like):
            raise ValueError(
                f"Inputs passed to {type(self).__name__}.{method}() must use the same namespace and the same device as "
                f"those passed to fit(): {type(like).__name__} on {arrays.device(like)}, and not "
                f"{type(X).__name__} on {arrays.device(X)}"
            )
        return xp.astype(X, like.dtype, copy=False)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self._takes_sparse
        tags.array_api_support = True
        return tags
