"""A classifier with scikit-learn's interface."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
from scipy import sparse
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.exceptions import DataConversionWarning
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels

from autodiff.arrays import Array, from_numpy, is_numpy, namespace, to_numpy
from kfac_ref.data.scaling import Scaling
from kfac_ref.estimators.base import COLUMN, Estimator
from kfac_ref.estimators.cases import Cases
from kfac_ref.posterior import Outputs, probit


class KFACClassifier(ClassifierMixin, Estimator):
    """A multi-layer perceptron that K-FAC trains to predict classes.

    The classes' probabilities are a softmax of the outputs; where each case may have several labels (y is a matrix of 0
    and 1), each label's is a logistic function of its own. Dense and sparse inputs, float64 and float32, are taken.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        Units of each hidden layer; `()` for none.
    activation : {"relu", "tanh", "logistic", "softplus", "identity"}
        Of the hidden layers.
    network : str or dict, optional
        A network of other layers, in the place of `hidden_layer_sizes` and `activation`: "conv", "residual" or
        "recurrent" for rows of X that are square images of one channel, row by row; a network as a line of text, as in
        "1x8x8: conv 16 3x3 relu, flatten, dense 10"; or a description, as of `Network.description`. Inputs are
        standardised by channel, "auto" leaves alpha at 1, and there are no `coefs_` and `intercepts_`.
    alpha : float or "auto"
        The penalty (alpha/2N)‖θ‖² is added to the mean loss, as in scikit-learn's networks, but with biases. "auto"
        begins with 1, and after iteration 12 takes what the data suggest: a share of MacKay's evidence estimate, from
        K-FAC's factors. `alpha_` is what it ended with. `partial_fit` leaves "auto" at 1.
    batch_size : int or "auto"
        Cases in a mini-batch, at most N; "auto" is a fifth of them, but at least 1000 and at most 5000.
    max_iter : int
        The most iterations. One of K-FAC's does about what an epoch does elsewhere, so that it is no warning to
        reach them.
    tol, n_iter_no_change : float, int
        Training stops when the last `n_iter_no_change` iterations have improved the objective by less than a fraction
        `tol`; with `early_stopping`, when as many in a row did not improve the held-out loss by `tol`.
    early_stopping, validation_fraction : bool, float
        Whether such a part of the cases is held out, and the parameters that predict it best are kept.
        `validation_scores_` are its mean log-likelihoods: accuracies of few cases are too often equal to choose by.
    class_weight : "balanced", dict or None
        A weight ≥ 0 for each class, by which those of its cases are multiplied: "balanced" gives all classes the same
        weight in sum. Not where cases have several labels.
    inverse : {"block-diagonal", "block-tridiagonal"}
        The approximation of the inverse Fisher (§4.2, §4.3).
    damping : float
        λ₀, which adapts (§6.5).
    standardize : bool
        Whether inputs are brought to mean 0 and variance 1 before, and predictions back after.
    settings : dict, optional
        Other constants of Algorithm 2, by their names in `kfac_ref.Settings`.
    posterior : bool
        Whether a Gaussian posterior of the parameters is made at the end of `fit` (Laplace's approximation with the
        Kronecker factors of at most 5000 cases, prior precision by the evidence), for
        `predict_proba(X, posterior=True)`.
    warm_start : bool
        Whether `fit` goes on where the last one ended.
    random_state : int, RandomState or None
        Of initial parameters, mini-batches, targets sampled for the Fisher, and what is held out. An int repeats a fit
        bit for bit on the same machine.
    verbose : bool
        Whether each iteration's loss is printed.

    Attributes
    ----------
    classes_ : array
        The classes, or the numbers of the labels.
    alpha_, n_iter_, loss_, best_loss_, loss_curve_, validation_scores_, best_validation_score_
        As of scikit-learn's networks; the loss is h with its penalty, on the mini-batch, before each iteration.
    coefs_, intercepts_ : list of array
        Of each layer, (d_{i−1}, d_i) and (d_i,), for standardised inputs: the averaged iterate θ̄ (§13).
    n_features_in_, feature_names_in_, n_layers_, n_outputs_

    Notes
    -----
    `solver`, learning rates, momenta and `shuffle` of scikit-learn's networks are absent: Algorithm 2
    has none of them, and draws the cases of each mini-batch anew.

    With scikit-learn's array API dispatch on, all runs in the library and on the device of X.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = Estimator._parameter_constraints | {
        "class_weight": [StrOptions({"balanced"}), dict, None]
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
        class_weight: str | dict[Any, float] | None = None,
        inverse: str = "block-diagonal",
        damping: float = 0.01,
        standardize: bool = True,
        settings: dict[str, Any] | None = None,
        posterior: bool = False,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            hidden_layer_sizes,
            activation,
            network=network,
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
            posterior=posterior,
            warm_start=warm_start,
            random_state=random_state,
            verbose=verbose,
        )
        self.class_weight = class_weight

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> KFACClassifier:
        """Fit the network.

        Parameters
        ----------
        X : array or sparse matrix (N, features)
        y : array (N,) of classes, numbers or strings; or (N, labels) of 0 and 1, where each case may have several
        sample_weight : array (N,), optional
            Weights ≥ 0 of the cases: one of weight 2 counts as two, and the penalty's N is their sum.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> KFACClassifier:
        """One iteration, on a mini-batch of these cases (all of them up to `batch_size`).

        `classes`, which the first call must have, are all that there will be. The first call's cases decide how inputs
        are standardised.

        ValueError for a first call without `classes`, and for a `class_weight` that depends on how frequent classes
        are.
        """
        if classes is None and not hasattr(self, "_state"):
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"class_weight '{self.class_weight}' is not supported for partial_fit, which does not know "
                "how frequent classes will be; pass a dict of weights."
            )
        return self._fit(X, y, sample_weight, once=True, classes=classes)

    def _fit(self, X: Any, y: Any, sample_weight: Any, once: bool = False, classes: Any = None) -> KFACClassifier:
        fresh = not self._goes_on(once)
        X, y = self._checked(X, y, reset=fresh)
        w = self._weights(sample_weight, X)
        X, y, w = self._counted(X, y.toarray() if sparse.issparse(y) else to_numpy(y), w)
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
            self._inputs = Scaling.none(X.shape[1], X.data if sparse.issparse(X) else X)
            found = np.arange(y.shape[1]) if multilabel else unique_labels(y if classes is None else classes)
            self.classes_ = self._as_given(found)
        Y = self._targets(y, multilabel)
        if self.class_weight is not None:
            w = self._class_weighted(y, w)
            X, Y, w = self._counted(X, Y, w)
        weights = None if w is None else from_numpy(w, self._inputs.mean)
        network = self._network(X.shape[1], Y.shape[1], "bernoulli" if multilabel else "categorical")
        if fresh:
            self._inputs = self._scaling(X, weights, network.input)
        cases = Cases.of(X, from_numpy(Y, self._inputs.mean), self._inputs, weights)
        whole = not multilabel and np.bincount(Y.argmax(1)).min() >= 2
        return self._train(network, cases, once=once, stratify=Y.argmax(1) if whole else None)

    def _class_weighted(self, y: np.ndarray, w: np.ndarray | None) -> np.ndarray:
        """The weights of cases (N,) times those of their classes."""
        if self._multilabel:
            raise ValueError("class_weight is for cases of one class each, but y has several labels for a case")
        given, known = np.ones(len(y)) if w is None else w, self._known
        index = np.searchsorted(known, y)
        if self.class_weight == "balanced":
            sums = np.bincount(index, given, minlength=len(known))
            share = given.sum() / (np.count_nonzero(sums) * np.where(sums > 0, sums, 1.0))
        else:
            there = known[np.unique(index)]
            share = np.ones(len(known))
            share[np.unique(index)] = compute_class_weight(self.class_weight, classes=there, y=y)
        weighted = given * share[index]
        if not (np.all(weighted >= 0) and np.isfinite(weighted.sum()) and weighted.sum() > 0):
            raise ValueError(f"class_weight is {self.class_weight}, expected finite numbers >= 0, not all of them 0")
        return weighted.astype(given.dtype)

    @property
    def _known(self) -> np.ndarray:
        """`classes_` on the host."""
        return to_numpy(self.classes_)

    def _as_given(self, classes: np.ndarray) -> Any:
        """Classes in the library of the inputs, if these are numbers."""
        like = self._inputs.mean
        return classes if is_numpy(like) or classes.dtype.kind not in "biuf" else from_numpy(classes, like)

    def _targets(self, y: np.ndarray, multilabel: bool) -> np.ndarray:
        """One-hot rows (N, classes), or rows of 0 and 1; at least two columns where they are classes."""
        if multilabel != self._multilabel or (multilabel and y.shape[1] != len(self._known)):
            raise ValueError(f"y has targets of another kind than the {len(self._known)} classes of the first fit")
        if multilabel:
            return y.astype(np.float64)
        index = np.searchsorted(self._known, y).clip(max=len(self._known) - 1)
        if unknown := set(y[self._known[index] != y].tolist()):
            raise ValueError(f"y has the classes {sorted(unknown)}, which are not among those of the first fit")
        return (index[:, None] == np.arange(max(len(self._known), 2))).astype(np.float64)

    def predict_proba(self, X: Any, posterior: bool = False) -> Array:
        """The probabilities of the classes (N, classes), in the order of `classes_`; of each label for itself where y
        had several.

        With `posterior` they are averaged over the parameters' posterior, by MacKay's probit approximation. ValueError
        if the fit made none.
        """
        if posterior:
            known = slice(len(self._known))
            z, covariance = self._uncertain_outputs(X, "predict_proba", "posterior")
            assert self._posterior is not None
            return probit(self._posterior, Outputs(z[:, known], covariance[:, known, known]))
        z = self._outputs(X, "predict_proba")
        # a lone class has a second output beside it, which is nobody's
        return self._kfac.network.likelihood.mean(z[:, : len(self._known)])

    def predict_log_proba(self, X: Any) -> Array:
        """The logarithms of `predict_proba`, of the same shape."""
        p = self._outputs(X, "predict_log_proba")[:, : len(self._known)]
        p = self._kfac.network.likelihood.mean(p)
        return namespace(p).log(p)

    def predict(self, X: Any) -> Any:
        """The likeliest classes (N,); or 0 and 1 for each label (N, labels)."""
        z = self._outputs(X, "predict")[:, : len(self._known)]
        if self._multilabel:
            return namespace(z).astype(z > 0, namespace(z).int64)
        return self._as_given(self._known[to_numpy(namespace(z).argmax(z, axis=1))])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
