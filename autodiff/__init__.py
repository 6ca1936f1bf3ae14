"""Hand-written derivatives of fully connected networks: forward, backward and forward-mode passes (§2, App. C)."""

from autodiff.activations import ACTIVATIONS, Affine, Elementwise
from autodiff.initialisation import glorot_initialisation, he_initialisation, sparse_initialisation
from autodiff.likelihoods import LIKELIHOODS, Likelihood
from autodiff.network import Network
from autodiff.objective import evaluate, loss_and_gradient
from autodiff.passes import Activities, ForwardPass, backward, forward, forward_mode

__all__ = [
    "ACTIVATIONS",
    "LIKELIHOODS",
    "Activities",
    "Affine",
    "Elementwise",
    "ForwardPass",
    "Likelihood",
    "Network",
    "backward",
    "evaluate",
    "forward",
    "forward_mode",
    "glorot_initialisation",
    "he_initialisation",
    "loss_and_gradient",
    "sparse_initialisation",
]
