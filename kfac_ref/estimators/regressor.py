"""A regressor with scikit-learn's interface."""

from __future__ import annotations

import warnings
from typing import Any

from sklearn.base import RegressorMixin, _fit_context
from sklearn.exceptions import DataConversionWarning

from autodiff.arrays import Array, from_numpy, namespace, to_numpy
from autodiff.network import Network
from kfac_ref.data.scaling import Scaling
from kfac_ref.estimators.base import COLUMN, Estimator
from kfac_ref.estimators.cases import Cases


class KFACRegressor(RegressorMixin, Estimator):
    """A multi-layer perceptron that K-FAC trains to predict numbers.

    DOC
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        alpha: float | str = "auto",
        batch_size: int | str = "auto",
        max_iter: int = 50,
        tol: float = 1e-2,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        inverse: str = "block-diagonal",
        damping: float = 0.03,
        standardize: bool = True,
        settings: dict[str, Any] | None = None,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            hidden_layer_sizes,
            activation,
            alpha=alpha,
            batch_size=batch_size,
            max_iter=max_iter,
            tol=tol,
            n_iter_no_change=n_iter_no_change,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            inverse=inverse,
            damping=damping,
            standardize=standardize,
            settings=settings,
            warm_start=warm_start,
            random_state=random_state,
            verbose=verbose,
        )

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any) -> KFACRegressor:
        """Fit the network.

        Parameters
        ----------
        X : array or sparse matrix (N, features)
        y : array (N,) or (N, targets)

        Returns
        -------
        self
        """
        return self._fit(X, y, once=False)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any) -> KFACRegressor:
        """One iteration, on a mini-batch of these cases (all of them up to `batch_size`).

        The first call's cases decide how inputs and targets are standardised.
        """
        return self._fit(X, y, once=True)

    def _fit(self, X: Any, y: Any, once: bool) -> KFACRegressor:
        fresh = not self._goes_on(once)
        X, y = self._checked(X, y, reset=fresh, y_numeric=True)
        if y.ndim == 2 and y.shape[1] == 1:
            warnings.warn(COLUMN, DataConversionWarning, stacklevel=3)
            y = y[:, 0]
        if fresh:
            self._inputs = self._scaling(X)
        Y = from_numpy(to_numpy(y).reshape(y.shape[0], -1).astype("float64"), self._inputs.mean)
        if fresh:
            self._one_target = y.ndim == 1
            self._outcomes = Scaling.of(Y) if self.standardize else Scaling.none(Y.shape[1], Y)
        network = Network([X.shape[1], *self._hidden(), Y.shape[1]], self.activation, "gaussian")
        return self._train(network, Cases.of(X, self._outcomes.apply(Y), self._inputs), once=once)

    def predict(self, X: Any) -> Array:
        """The expected targets, (N,) or (N, targets)."""
        z = self._outputs(X, "predict")
        y = self._outcomes.undo(z)
        return namespace(y).reshape(y, (-1,)) if self._one_target else y

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
