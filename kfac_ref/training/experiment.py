"""What is trained on what, and how: everything that decides a run, and that `settings.json` holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from autodiff import arrays
from autodiff.activations import ACTIVATIONS
from autodiff.initialisation import INITIALISATIONS
from autodiff.likelihoods import LIKELIHOODS
from autodiff.names import closest, nearest
from autodiff.network import Network, described
from kfac_ref.baselines import SGD, SGDSettings
from kfac_ref.data import datasets
from kfac_ref.data.dataset import Dataset, Reading
from kfac_ref.machine import ALONE, Processes
from kfac_ref.optimizer import KFAC
from kfac_ref.settings import PRESETS, Settings, preset
from kfac_ref.training import loop, networks

OPTIMIZERS = ("kfac", "sgd")
PURPOSES = ("autoencoder", "classifier", "regression")

_MNIST = (784, 1000, 500, 250, 30, 250, 500, 1000, 784)
AUTOENCODERS = {
    "mnist": _MNIST,
    "fashion": _MNIST,
    "curves": (784, 400, 200, 100, 50, 25, 6, 25, 50, 100, 200, 400, 784),
    "faces": (625, 2000, 1000, 500, 30, 500, 1000, 2000, 625),
}
"""The networks of §13. Other data get d-128-64-16-64-128-d, or d-128-64-K where targets are predicted."""

SUITED: dict[str, dict[str, Any]] = {"fashion16": {"eta": 7e-3}, "faces": {"eta": 5e-6}}
"""Constants that suit a data set's autoencoder better than the preset's: the 4000 cases of fashion16 are soon
overfitted with the η of §13, which was for many times more cases; η for FACES is the authors'."""


READING = ("target", "drop", "categorical", "impute", "validation")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A run's description. None stands for what suits the data, and is filled in by `prepare`."""

    data: str = datasets.DEFAULT
    network: networks.Wanted = None
    """d_0, …, d_ℓ; or a network's description, or its name, of which `prepare` makes the description."""
    activation: str | None = None
    """Of the hidden layers of a network by sizes, tanh unless given; an autoencoder's code layer is linear."""
    likelihood: str | None = None
    target: str | None = None
    drop: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    impute: str | None = None
    validation: float | None = None
    """These five: see `data.dataset.Reading`."""
    optimizer: str = "kfac"
    preset: str = "quick"
    constants: Mapping[str, Any]
    """Constants of the optimizer that differ from the preset's; all of them once prepared."""
    initialisation: str | None = None
    """Of a fully connected network sparse, of another he, unless given."""
    seed: int = 0
    dtype: str = "float32"
    backend: str = "numpy"

    def asdict(self) -> dict[str, Any]:
        """As JSON can hold it; infinities as strings."""
        values = asdict(self)
        values["constants"] = {k: str(v) if v == math.inf else v for k, v in self.constants.items()}
        return values

    @classmethod
    def fromdict(cls, values: Mapping[str, Any]) -> Experiment:
        """The reverse of `asdict`. ValueError or TypeError if `values` are not an experiment's."""
        constants = {k: float(v) if v == "inf" else v for k, v in values["constants"].items()}
        # those of the reading came later than the first settings that were written
        known = {f.name: values[f.name] for f in fields(cls) if f.name in values or f.name not in READING}
        lists = {name: tuple(known[name]) for name in ("network", "drop", "categorical") if name in known}
        if isinstance(known["network"], Mapping):
            lists.pop("network")
        return cls(**known | {"constants": constants} | lists)

    @property
    def reading(self) -> Reading:
        """How the data are to be read."""
        return Reading(likelihood=self.likelihood, seed=self.seed, **{name: getattr(self, name) for name in READING})


@dataclass(frozen=True)
class Prepared:
    """An experiment, ready to run."""

    experiment: Experiment
    dataset: Dataset
    purpose: str
    """One of PURPOSES."""
    network: Network
    optimizer: KFAC | SGD
    data: loop.Data

    def first_state(self) -> loop.AnyState:
        """The state before the first iteration, with the initial parameters that the seed gives."""
        e = self.experiment
        assert e.initialisation is not None
        parameters = INITIALISATIONS[e.initialisation](self.network, e.seed)
        return self.optimizer.init([arrays.from_numpy(W, self.data.X) for W in parameters], e.seed)


def prepare(experiment: Experiment) -> Prepared:
    """Load the data, fill in what the description leaves open, and build network and optimizer (§13).

    Raises
    ------
    ValueError, TypeError
        For an unknown name, a constant out of its range, a network that does not fit the data, or data that do not fit
        the likelihood.
    FetchError
        If the data cannot be fetched.
    """
    e = experiment
    # names first, before anything is fetched
    closest(e.optimizer, OPTIMIZERS, "optimizer")
    closest(e.preset, PRESETS, "preset")
    closest(e.dtype, arrays.DTYPES, "dtype")
    for name, given, known in (
        ("initialisation", e.initialisation, INITIALISATIONS),
        ("activation", e.activation, ACTIVATIONS),
        ("likelihood", e.likelihood, LIKELIHOODS),
    ):
        if given is not None:
            closest(given, known, name)
    if isinstance(e.seed, bool) or not isinstance(e.seed, int) or not 0 <= e.seed < 2**63:
        raise ValueError(f"seed must be a whole number from 0 to 2^63 − 1; got {e.seed}")
    xp = arrays.backend(e.backend)
    wanted, wanted_likelihood = networks.apart(e.network, e.likelihood)
    if isinstance(wanted, (str, Mapping)) and e.activation is not None:
        raise ValueError(
            f"each layer of the network has an activation of its own; {e.activation} cannot be given for all"
        )
    if isinstance(wanted, str):
        closest(wanted, networks.NAMED, "network")
    elif wanted is not None:
        _require_possible(e, networks.provisional(wanted))
    if isinstance(wanted, Mapping):
        networks.require_beginning(networks.provisional(wanted), e.data)
    dataset = datasets.load(e.data, e.reading)
    wanted, wanted_likelihood = networks.suiting(wanted, wanted_likelihood, dataset)
    purpose, likelihood = _purpose(dataset, wanted_likelihood)
    wanted = wanted or _usual_network(dataset, purpose)
    activation = None if isinstance(wanted, Mapping) else e.activation or "tanh"
    network = network_of(replace(e, network=wanted, activation=activation, likelihood=likelihood), purpose)
    optimizer_settings = _constants(e, purpose, network)
    _require_possible(e, network)
    data = _data(dataset, network, purpose, xp, getattr(xp, e.dtype))
    settings = {f.name: getattr(optimizer_settings, f.name) for f in fields(optimizer_settings)}
    e = replace(
        e,
        data=located(e.data),
        network=wanted,
        activation=activation,
        likelihood=likelihood,
        initialisation=e.initialisation or ("sparse" if network.fully_connected else "he"),
        constants=settings,
    )
    if e.target is not None and Path(e.data).suffix.lower() == ".npy":
        e = replace(e, target=located(e.target))
    return Prepared(e, dataset, purpose, network, optimizer_of(e, network), data)


def _require_possible(e: Experiment, network: Network) -> None:
    networks.require_memory(network, e.dtype, e.backend, factors=e.optimizer == "kfac")


def located(data: str) -> str:
    """The name of a data set as it is, a path made absolute, so that a run can be resumed from another folder."""
    return data if data in datasets.NAMES else str(Path(data).expanduser().absolute())


def require_known(constants: Iterable[str], known: Iterable[str], optimizer: str) -> None:
    """ValueError naming the first of `constants` that the optimizer does not know."""
    for name in constants:
        if name not in known:
            others = {"kfac": Settings, "sgd": SGDSettings}.items()
            of = [other for other, settings in others if name in {f.name for f in fields(settings)}]
            hint = f', but of "{of[0]}"' if of else nearest(name, known)
            raise ValueError(f'{name} is not a constant of the optimizer "{optimizer}"{hint}')


def _purpose(dataset: Dataset, likelihood: str | None) -> tuple[str, str]:
    """One of PURPOSES and the likelihood: targets are predicted if the file gives them, or if classes are asked for."""
    if dataset.targets_given:
        assert dataset.Y is not None
        if likelihood is None:
            classes = (dataset.target_shape or dataset.Y.shape)[-1]
            sums = dataset.Y.reshape(-1, classes).sum(1)
            shares = classes > 1 and dataset.Y.min() >= 0 and np.allclose(sums, 1, atol=1e-4)
            likelihood = "categorical" if shares else "gaussian"
        return ("classifier" if likelihood == "categorical" else "regression"), likelihood
    if likelihood == "categorical":
        if dataset.Y is None:
            raise ValueError(f'the categorical likelihood needs class labels, and "{dataset.name}" has none')
        return "classifier", likelihood
    return "autoencoder", likelihood or dataset.likelihood


def _usual_network(dataset: Dataset, purpose: str) -> tuple[int, ...]:
    d = dataset.X.shape[1]
    if purpose == "autoencoder":
        usual = (d, 128, 64, min(16, d), 64, 128, d)
        named = AUTOENCODERS.get(dataset.name, usual)
        return named if named[0] == d else usual
    assert dataset.Y is not None
    return (d, 128, 64, dataset.Y.shape[1])


def network_of(e: Experiment, purpose: str) -> Network:
    """The network of an experiment whose network, not by name, and likelihood are known, for one of PURPOSES."""
    sizes, likelihood = e.network, e.likelihood
    assert likelihood is not None
    if isinstance(sizes, Mapping):
        return described(dict(sizes) | {"likelihood": likelihood})
    assert sizes is not None and not isinstance(sizes, str) and e.activation is not None
    hidden = [e.activation] * (len(sizes) - 2)
    if purpose == "autoencoder" and hidden:
        # the code layer, which is linear (§13): the narrowest, the first of equals
        hidden[min(range(len(hidden)), key=lambda i: sizes[i + 1])] = "identity"
    return Network(sizes, hidden, likelihood)


def optimizer_of(e: Experiment, network: Network, processes: Processes = ALONE) -> KFAC | SGD:
    """The optimizer of an experiment all of whose constants are known."""
    if e.optimizer == "sgd":
        return SGD(network, SGDSettings(**e.constants), processes)
    return KFAC(network, Settings(**e.constants), processes)


def _constants(e: Experiment, purpose: str, network: Network) -> Settings | SGDSettings:
    known = [f.name for f in fields(SGDSettings if e.optimizer == "sgd" else Settings)]
    require_known(e.constants, known, e.optimizer)
    # λ₀ = 150 is for autoencoders; about 1 is advised otherwise
    suited = SUITED.get(e.data, {}) if purpose == "autoencoder" else {"lambda0": min(1.0, PRESETS[e.preset].lambda0)}
    if not network.fully_connected:
        suited = networks.SUITED | suited
    constants: dict[str, Any] = {k: v for k, v in suited.items() if k in known} | dict(e.constants)
    return SGDSettings(**constants) if e.optimizer == "sgd" else preset(e.preset, **constants)


def _data(dataset: Dataset, network: Network, purpose: str, xp: Any, dtype: Any) -> loop.Data:
    """Inputs and targets on the device, a row a case, checked against the network's ends and the likelihood."""
    networks.require_ends(network, dataset, purpose)
    with_targets = purpose != "autoencoder"
    parts: dict[str, Any] = {}
    for end, X, Y in (("", dataset.X, dataset.Y), ("_test", dataset.X_test, dataset.Y_test)):
        if X is None:
            continue
        targets = Y if with_targets else X
        if targets is None:
            continue
        for name, array in ((f"X{end}", X), (f"Y{end}", targets)):
            if dtype != xp.float32 or array.dtype == np.float32:
                continue
            largest = float(max(array.max(), -array.min()))
            if largest > float(np.finfo(np.float32).max):
                raise ValueError(
                    f'{name} of "{dataset.name}" holds {largest:g}, too large for float32; use --dtype float64'
                )
        network.likelihood.check_targets(targets, f"Y{end}" if with_targets else f"X{end}")
        parts[f"X{end}"] = xp.asarray(X, dtype=dtype)
        parts[f"Y{end}"] = xp.asarray(targets, dtype=dtype) if with_targets else parts[f"X{end}"]
    return loop.Data(**parts)
