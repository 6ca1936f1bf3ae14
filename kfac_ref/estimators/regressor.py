"""A regressor with scikit-learn's interface."""

from __future__ import annotations

import warnings
from typing import Any

from scipy import sparse
from sklearn.base import RegressorMixin, _fit_context
from sklearn.exceptions import DataConversionWarning

from autodiff.arrays import Array, from_numpy, namespace, to_numpy
from kfac_ref.data.scaling import Scaling
from kfac_ref.estimators.base import COLUMN, Estimator
from kfac_ref.estimators.cases import Cases


class KFACRegressor(RegressorMixin, Estimator):
    """A multi-layer perceptron that K-FAC trains to predict numbers.

    The loss is ½‖y − ŷ‖² of standardised targets. Dense and sparse inputs, float64 and float32, are taken.

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
    inverse : {"block-diagonal", "block-tridiagonal"}
        The approximation of the inverse Fisher (§4.2, §4.3).
    damping : float
        λ₀, which adapts (§6.5).
    standardize : bool
        Whether inputs and targets are brought to mean 0 and variance 1 before, and predictions back after.
    settings : dict, optional
        Other constants of Algorithm 2, by their names in `kfac_ref.Settings`.
    posterior : bool
        Whether a Gaussian posterior of the parameters is made at the end of `fit` (Laplace's approximation with the
        Kronecker factors of at most 5000 cases, prior precision and noise by the evidence), for
        `predict(X, return_std=True)`.
    warm_start : bool
        Whether `fit` goes on where the last one ended.
    random_state : int, RandomState or None
        Of initial parameters, mini-batches, targets sampled for the Fisher, and what is held out. An int repeats a fit
        bit for bit on the same machine.
    verbose : bool
        Whether each iteration's loss is printed.

    Attributes
    ----------
    alpha_, n_iter_, loss_, best_loss_, loss_curve_, validation_scores_, best_validation_score_
        As of scikit-learn's networks; the loss is h with its penalty, on the mini-batch, before each iteration.
    coefs_, intercepts_ : list of array
        Of each layer, (d_{i−1}, d_i) and (d_i,), for standardised inputs: the averaged iterate θ̄ (§13).
    n_features_in_, feature_names_in_, n_layers_, n_outputs_

    Notes
    -----
    `solver`, learning rates, momenta and `shuffle` of scikit-learn's networks are absent: Algorithm 2 has none of them,
    and draws the cases of each mini-batch anew.

    With scikit-learn's array API dispatch on, all runs in the library and on the device of X.
    """

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> KFACRegressor:
        """Fit the network.

        Parameters
        ----------
        X : array or sparse matrix (N, features)
        y : array (N,) or (N, targets)
        sample_weight : array (N,), optional
            Weights ≥ 0 of the cases: one of weight 2 counts as two, and the penalty's N is their sum.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, once=False)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> KFACRegressor:
        """One iteration, on a mini-batch of these cases (all of them up to `batch_size`).

        The first call's cases decide how inputs and targets are standardised.
        """
        return self._fit(X, y, sample_weight, once=True)

    def _fit(self, X: Any, y: Any, sample_weight: Any, once: bool) -> KFACRegressor:
        fresh = not self._goes_on(once)
        X, y = self._checked(X, y, reset=fresh, y_numeric=True)
        if y.ndim == 2 and y.shape[1] == 1:
            warnings.warn(COLUMN, DataConversionWarning, stacklevel=3)
            y = y[:, 0]
        X, y, w = self._counted(X, to_numpy(y), self._weights(sample_weight, X))
        like = X.data if sparse.issparse(X) else X
        weights = None if w is None else from_numpy(w, like)
        Y = from_numpy(y.reshape(y.shape[0], -1).astype("float64"), like)
        network = self._network(X.shape[1], Y.shape[1], "gaussian")
        if fresh:
            self._inputs = self._scaling(X, weights, network.input)
            self._one_target = y.ndim == 1
            self._outcomes = Scaling.of(Y, weights) if self.standardize else Scaling.none(Y.shape[1], Y)
        return self._train(network, Cases.of(X, self._outcomes.apply(Y), self._inputs, weights), once=once)

    def predict(self, X: Any, return_std: bool = False) -> Array | tuple[Array, Array]:
        """The expected targets, (N,) or (N, targets); with `return_std` also the targets' standard deviations.

        These are of the noise and of the parameters' posterior. ValueError if the fit made none.
        """
        if not return_std:
            z = self._outputs(X, "predict")
            return self._shaped(self._outcomes.undo(z))
        found = self._uncertain_outputs(X, "predict", "return_std")
        assert self._posterior is not None
        deviation = namespace(found.z).sqrt(found.variance + self._posterior.noise_variance)
        return self._shaped(self._outcomes.undo(found.z)), self._shaped(deviation * self._outcomes.scale)

    def _shaped(self, y: Array) -> Array:
        return namespace(y).reshape(y, (-1,)) if self._one_target else y

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
