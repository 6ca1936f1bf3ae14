"""An autoencoder with scikit-learn's interface of a transformer."""

from __future__ import annotations

from typing import Any, ClassVar

from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_array, check_is_fitted

from autodiff.arrays import Array, from_numpy, namespace
from autodiff.network import Network
from autodiff.passes import forward
from kfac_ref.data.scaling import Scaling
from kfac_ref.estimators.base import Estimator
from kfac_ref.estimators.cases import Cases


class KFACAutoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Estimator):
    """A network that K-FAC trains to reproduce its inputs from a code of few numbers.

    `transform` gives the codes, `inverse_transform` what the network makes of codes.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        Of the encoder; the last is the code's, whose units are linear. The decoder mirrors it.
    activation : {"relu", "tanh", "logistic", "softplus", "identity"}
        Of the hidden layers.
    likelihood : {"gaussian", "bernoulli"}
        Of the inputs: "bernoulli" for those in [0, 1], which are then not standardised.
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
        Whether inputs are brought to mean 0 and variance 1 before, and predictions back after.
    settings : dict, optional
        Other constants of Algorithm 2, by their names in `kfac_ref.Settings`.
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

    _takes_sparse = False
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        name: allowed for name, allowed in Estimator._parameter_constraints.items() if name != "network"
    } | {"likelihood": [StrOptions({"gaussian", "bernoulli"})]}

    def __init__(
        self,
        hidden_layer_sizes: Any = (64, 2),
        activation: str = "tanh",
        *,
        likelihood: str = "gaussian",
        alpha: float | str = "auto",
        batch_size: int | str = "auto",
        max_iter: int = 200,
        tol: float = 1e-3,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        inverse: str = "block-diagonal",
        damping: float = 1.0,
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
        self.likelihood = likelihood

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> KFACAutoencoder:
        """Fit the network to X (N, features); y is ignored. A case of `sample_weight` (N,) 2 counts as two."""
        return self._fit(X, sample_weight, once=False)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> KFACAutoencoder:
        """One iteration, on a mini-batch of these cases (all of them up to `batch_size`)."""
        return self._fit(X, sample_weight, once=True)

    def _fit(self, X: Any, sample_weight: Any, once: bool) -> KFACAutoencoder:
        fresh = not self._goes_on(once)
        X = self._checked(X, reset=fresh)
        X, _, w = self._counted(X, X, self._weights(sample_weight, X))
        weights = None if w is None else from_numpy(w, X)
        if fresh:
            self._inputs = (
                self._scaling(X, weights, X.shape[1:]) if self.likelihood == "gaussian" else Scaling.none(X.shape[1], X)
            )
        X = self._inputs.apply(X)
        hidden = self._hidden()
        if not hidden:
            raise ValueError("hidden_layer_sizes must have the code's size at least, got [].")
        sizes = [X.shape[1], *hidden, *hidden[-2::-1], X.shape[1]]
        activations = [self.activation] * (len(sizes) - 2)
        self._code = len(hidden)
        activations[self._code - 1] = "identity"
        self._n_features_out = hidden[-1]
        return self._train(Network(sizes, activations, self.likelihood), Cases(X, X, None, weights), once=once)

    def transform(self, X: Any) -> Array:
        """The codes (N, code) of X (N, features)."""
        return self._code_of(X, "transform")

    def _code_of(self, X: Any, method: str) -> Array:
        check_is_fitted(self)
        W = self._state.averaged
        X = self._inputs.apply(self._like(self._checked(X, reset=False), W[0], method))
        network = self._kfac.network
        encoder = Network(network.sizes[: self._code + 1], network.activations[: self._code], "gaussian")
        return forward(encoder, W[: self._code], X).z

    def inverse_transform(self, X: Any) -> Array:
        """What the network makes of codes (N, code): (N, features). ValueError for another number of columns."""
        check_is_fitted(self)
        W, network = self._state.averaged, self._kfac.network
        codes = self._like(check_array(X, dtype=self._floating(X)), W[0], "inverse_transform")
        if codes.shape[1] != network.sizes[self._code]:
            raise ValueError(f"X has {codes.shape[1]} columns, expected codes of {network.sizes[self._code]} numbers")
        decoder = Network(network.sizes[self._code :], network.activations[self._code :], network.likelihood)
        z = forward(decoder, W[self._code :], codes).z
        return self._inputs.undo(decoder.likelihood.mean(z))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """R² of the reconstruction: the fraction of the variance of X (N, features), over all columns, that is kept.

        y is ignored; cases may have a `sample_weight` (N,).
        """
        codes = self._code_of(X, "score")
        X = self._like(self._checked(X, reset=False), codes, "score")
        xp = namespace(X)
        w = self._weights(sample_weight, X)
        if w is None:
            rest, whole = X - self.inverse_transform(codes), X - xp.mean(X, axis=0)
        else:
            root = xp.sqrt(from_numpy(w, X))[:, None]
            mean = xp.sum(root**2 * X, axis=0) / xp.sum(root**2)
            rest, whole = root * (X - self.inverse_transform(codes)), root * (X - mean)
        return 1 - float(xp.sum(rest**2)) / float(xp.sum(whole**2))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
