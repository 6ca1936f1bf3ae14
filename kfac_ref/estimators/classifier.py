"""A classifier with scikit-learn's interface."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels

from autodiff.arrays import Array, from_numpy, is_numpy, namespace, to_numpy
from autodiff.network import Network
from kfac_ref.estimators.base import COLUMN, Estimator
from kfac_ref.estimators.cases import Cases


class KFACClassifier(ClassifierMixin, Estimator):
    """A multi-layer perceptron that K-FAC trains to predict classes.

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
    def fit(self, X: Any, y: Any) -> KFACClassifier:
        """Fit the network.

        Parameters
        ----------
        X : array or sparse matrix (N, features)
        y : array (N,) of classes, numbers or strings; or (N, labels) of 0 and 1, where each case may have several

        Returns
        -------
        self
        """
        return self._fit(X, y)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> KFACClassifier:
        """One iteration, on a mini-batch of these cases (all of them up to `batch_size`).

        `classes`, which the first call must have, are all that there will be. The first call's cases decide how inputs
        are standardised.
        """
        if classes is None and not hasattr(self, "_state"):
            raise ValueError("classes must be passed on the first call to partial_fit.")
        return self._fit(X, y, once=True, classes=classes)

    def _fit(self, X: Any, y: Any, once: bool = False, classes: Any = None) -> KFACClassifier:
        fresh = not self._goes_on(once)
        X, y = self._checked(X, y, reset=fresh)
        y = y.toarray() if sparse.issparse(y) else to_numpy(y)
        check_classification_targets(y)
        kind = type_of_target(y)
        if kind == "multiclass-multioutput":
            raise ValueError("y has several columns of classes, which is not supported; one classifier a column is")
        if y.ndim == 2 and y.shape[1] == 1:
            warnings.warn(COLUMN, DataConversionWarning, stacklevel=3)
            y = y[:, 0]
        multilabel = kind == "multilabel-indicator"
        if fresh:
            self._multilabel = multilabel
            self.classes_ = np.arange(y.shape[1]) if multilabel else unique_labels(y if classes is None else classes)
            self._inputs = self._scaling(X)
        Y = self._targets(y, multilabel)
        cases = Cases.of(X, from_numpy(Y, self._inputs.mean), self._inputs)
        network = Network(
            [X.shape[1], *self._hidden(), Y.shape[1]], self.activation, "bernoulli" if multilabel else "categorical"
        )
        whole = not multilabel and np.bincount(Y.argmax(1)).min() >= 2
        return self._train(network, cases, once=once, stratify=Y.argmax(1) if whole else None)

    def _targets(self, y: np.ndarray, multilabel: bool) -> np.ndarray:
        """One-hot rows (N, classes), or rows of 0 and 1; at least two columns where they are classes."""
        if multilabel != self._multilabel or (multilabel and y.shape[1] != len(self.classes_)):
            raise ValueError(f"y has targets of another kind than the {len(self.classes_)} classes of the first fit")
        if multilabel:
            return y.astype(np.float64)
        index = np.searchsorted(self.classes_, y).clip(max=len(self.classes_) - 1)
        if unknown := set(y[self.classes_[index] != y].tolist()):
            raise ValueError(f"y has the classes {sorted(unknown)}, which are not among those of the first fit")
        return (index[:, None] == np.arange(max(len(self.classes_), 2))).astype(np.float64)

    def predict_proba(self, X: Any) -> Array:
        """The probabilities of the classes (N, classes), in the order of `classes_`; of each label for itself where y
        had several."""
        z = self._outputs(X, "predict_proba")
        # a lone class has a second output beside it, which is nobody's
        return self._kfac.network.likelihood.mean(z[:, : len(self.classes_)])

    def predict_log_proba(self, X: Any) -> Array:
        """Their logarithms."""
        p = self._outputs(X, "predict_log_proba")[:, : len(self.classes_)]
        p = self._kfac.network.likelihood.mean(p)
        return namespace(p).log(p)

    def predict(self, X: Any) -> Any:
        """The likeliest classes (N,); or 0 and 1 for each label (N, labels)."""
        z = self._outputs(X, "predict")[:, : len(self.classes_)]
        if self._multilabel:
            return namespace(z).astype(z > 0, namespace(z).int64)
        classes = self.classes_[to_numpy(namespace(z).argmax(z, axis=1))]
        return classes if is_numpy(z) or classes.dtype.kind not in "biuf" else from_numpy(classes, z)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


