"""What is left when training is done: a network, its parameters, and what its inputs and outputs mean.

A model is one safetensors file: the parameters as arrays, and all else as JSON in its metadata. That format holds
arrays and texts and nothing that could be executed, is read by many libraries, and can be mapped into memory.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from autodiff import arrays
from autodiff.arrays import Array, from_numpy, namespace, to_numpy
from autodiff.network import Network, Parameters, described
from autodiff.objective import EVALUATED
from autodiff.passes import forward
from kfac_ref.data.dataset import Preparation
from kfac_ref.data.files import write_whole
from kfac_ref.data.scaling import Scaling
from kfac_ref.data.table import Recipe, columns_of
from kfac_ref.training import measures

FORMAT = 1
MODEL = "model.safetensors"
"""The file's name in a run's folder."""
KINDS = "a run's folder, or the .safetensors file that a run leaves"
"""What models are read from."""
KEY = "kfac_ref"
"""Of the metadata."""


@dataclass(frozen=True)
class Model:
    """A trained network. `kfac_ref.load` reads one.

    Attributes
    ----------
    network : Network
    parameters : list of array
        W_i (d_i, d_{i−1}+1), the bias last; for standardised inputs, if `preparation.inputs` standardises.
    purpose : str
        "classifier", "regression" or "autoencoder".
    preparation : Preparation
        What is done to data before and after the network; nothing where that was trained on arrays as they were.
    about : dict
        How it was trained, for people.
    """

    network: Network
    parameters: Parameters
    purpose: str
    preparation: Preparation = field(default_factory=Preparation)
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> np.ndarray | None:
        """The names of the classes, (K,), or their numbers where they have none; None unless it is a classifier."""
        if self.purpose != "classifier":
            return None
        names = self.preparation.classes
        return np.arange(self.network.outputs) if names is None else np.asarray(names)

    @property
    def input_names(self) -> list[str]:
        """What the network's inputs are: a table's columns, or x0, x1, …"""
        recipe = self.preparation.recipe
        return [f"x{i}" for i in range(self.network.inputs)] if recipe is None else recipe.inputs

    @property
    def output_names(self) -> list[str]:
        """What the network's outputs are: classes, a table's target, or y0, y1, …"""
        if self.classes is not None:
            return [str(name) for name in self.classes]
        if self.purpose == "autoencoder":
            return self.input_names
        recipe = self.preparation.recipe
        if recipe is not None and recipe.target is not None:
            return [recipe.target]
        return [f"y{i}" for i in range(self.network.outputs)]

    # --- what it says of data --------------------------------------------------------------------------------------

    def inputs(self, data: Any, where: str = "the table") -> Array:
        """The network's inputs (N, d_0) for a table's columns by name (a DataFrame or a dictionary), or for an array of
        inputs (N, d_0) as they were before they were standardised, of any library.

        ValueError or TypeError if they are not those that the model was trained on.
        """
        recipe, like, columns = self.preparation.recipe, self.parameters[0], columns_of(data)
        if columns is not None:
            if recipe is None:
                raise TypeError(f"the model was trained on arrays; expected X (N, {self.network.inputs})")
            X = from_numpy(recipe.encode(columns, where), like)
        else:
            X = data
            if isinstance(data, (list, tuple, np.ndarray)):
                X = from_numpy(np.asarray(data, dtype=np.float64), like)
        if len(X.shape) != 2 or X.shape[1] != self.network.inputs:
            raise ValueError(
                f"X has shape {tuple(X.shape)}, expected (cases, {self.network.inputs}): "
                f"{', '.join(self.input_names[:8])}{' …' if self.network.inputs > 8 else ''}"
            )
        arrays.require_alike(X, like, "X")
        if not bool(namespace(X).all(namespace(X).isfinite(X))):
            raise ValueError("X has an entry that is not finite")
        return X if self.preparation.inputs is None else self.preparation.inputs.apply(X)

    def mean(self, X: Array) -> Array:
        """E[y|x] (N, d_ℓ) for the network's inputs X (N, d_0), as the targets were before they were standardised."""
        rows = range(0, X.shape[0], EVALUATED)
        ends = [min(start + EVALUATED, X.shape[0]) for start in rows]
        parts = [forward(self.network, self.parameters, X[a:b, ...]).z for a, b in zip(rows, ends, strict=True)]
        y = self.network.likelihood.mean(namespace(X).concat(parts))
        back = self.preparation.inputs if self.purpose == "autoencoder" else self.preparation.outcomes
        return y if back is None else back.undo(y)

    def predict(self, data: Any) -> Any:
        """The likeliest classes (N,), a NumPy array of their names; or the numbers expected, (N,) if there is one for
        each case, else (N, d_ℓ). `data` are as for `inputs`."""
        y = self.mean(self.inputs(data))
        if self.classes is not None:
            return self.classes[to_numpy(namespace(y).argmax(y, axis=1))]
        return y[:, 0] if self.purpose == "regression" and y.shape[1] == 1 else y

    def predict_proba(self, data: Any) -> Array:
        """The classes' probabilities (N, classes), in the order of `classes`; ValueError unless it is a classifier."""
        if self.classes is None:
            raise ValueError(f"a {self.purpose} has no classes, and so no probabilities of them")
        return self.mean(self.inputs(data))

    def evaluate(self, data: Any, targets: Any = None) -> measures.Measures:
        """How well it predicts; see `measures`.

        Parameters
        ----------
        data : as for `inputs`
        targets : array, optional
            Names of classes (N,), or one-hot rows (N, classes); or numbers (N,) or (N, d_ℓ). By default, those in the
            table's column of the target; for an autoencoder, the inputs.

        Raises
        ------
        ValueError
            If there are no targets, or one is of a class that the model does not know.
        """
        X = self.inputs(data)
        return self.measured(X, self.targets(X if columns_of(data) is None else data, targets))

    def measured(self, X: Array, truth: np.ndarray) -> measures.Measures:
        """`evaluate` for the network's inputs X (N, d_0) and targets `truth` (N, d_ℓ), as `targets` returns them.
        ValueError where these do not fit the predictions."""
        predicted = to_numpy(self.mean(X)).astype(np.float64)
        if truth.shape != predicted.shape:
            raise ValueError(f"targets have shape {truth.shape}, expected {predicted.shape}")
        if self.classes is not None:
            return measures.of_classes(truth, predicted, [str(name) for name in self.classes])
        return measures.of_numbers(truth, predicted)

    def targets(self, data: Any, given: Any, where: str = "the data") -> np.ndarray:
        """Targets (N, d_ℓ), one-hot for classes: those `given`, else those in the table `data`; an autoencoder's are
        its inputs, `data`, as they were. ValueError if there are none, or a class is unknown."""
        recipe, classes, columns = self.preparation.recipe, self.classes, columns_of(data)
        if self.purpose == "autoencoder":
            X = data if columns is None else self.inputs(columns)
            undo = self.preparation.inputs
            return to_numpy(X if undo is None else undo.undo(X)).astype(np.float64)
        if given is None:
            found = None if recipe is None or columns is None else recipe.targets(columns, where)
            if found is None:
                name = "" if recipe is None else f' "{recipe.target}"'
                raise ValueError(f"{where}: there are no targets{name} to evaluate with")
            return found
        given = np.asarray(given if isinstance(given, (list, tuple)) else to_numpy(given))
        if given.ndim == 2 or classes is None:
            return given.astype(np.float64).reshape(len(given), -1)
        known = classes[None, :] == given[:, None].astype(classes.dtype)
        if not known.any(1).all():
            unknown = given[np.argmin(known.any(1))]
            raise ValueError(f'"{unknown}" is none of the classes: {", ".join(map(str, classes))}')
        return known.astype(np.float64)

    # --- files -----------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write it to a safetensors file, whole or not at all."""
        p = self.preparation
        tensors = {f"W.{i}": _contiguous(W) for i, W in enumerate(self.parameters, start=1)}
        for name, scaling in (("inputs", p.inputs), ("outcomes", p.outcomes)):
            if scaling is not None:
                tensors |= {f"{name}.mean": _contiguous(scaling.mean), f"{name}.scale": _contiguous(scaling.scale)}
        meta = {
            "format": FORMAT,
            "network": _description(self.network),
            "purpose": self.purpose,
            "classes": p.classes,
            "recipe": None if p.recipe is None else p.recipe.asdict(),
            "about": self.about,
        }
        content = to_bytes(tensors, metadata={KEY: json.dumps(meta, ensure_ascii=False)})

        def write(file: BinaryIO) -> None:
            file.write(content)

        write_whole(Path(path), write)

    def to(self, like: Array) -> Model:
        """The same in the library, on the device and in the dtype of `like`."""

        def moved(scaling: Scaling | None) -> Scaling | None:
            return scaling and Scaling(*(from_numpy(to_numpy(x), like) for x in (scaling.mean, scaling.scale)))

        p = self.preparation
        return replace(
            self,
            parameters=[from_numpy(to_numpy(W), like) for W in self.parameters],
            preparation=replace(p, inputs=moved(p.inputs), outcomes=moved(p.outcomes)),
        )


def _description(network: Network) -> dict[str, Any]:
    """As JSON can hold it. ValueError for a network with an activation that has no name in the table."""
    described(description := network.description())
    return description


def _contiguous(x: Array) -> np.ndarray:
    return np.ascontiguousarray(to_numpy(x))


def read(path: Path) -> Model:
    """The model in a safetensors file that `Model.save` wrote; ValueError if it is none."""
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it has no iterator)
            meta = (file.metadata() or {}).get(KEY)
    except FileNotFoundError:
        raise ValueError(f"{path}: is not there; expected {KINDS}") from None
    except (SafetensorError, OSError, struct.error) as error:
        raise ValueError(f"{path}: is not a whole safetensors file: {error}; expected {KINDS}") from None
    if meta is None:
        raise ValueError(f"{path}: is a safetensors file, but not one of kfac-ref: its metadata has no {KEY}")
    try:
        values = json.loads(meta)
        if values["format"] != FORMAT:
            raise ValueError(f"it has format {values['format']}, expected {FORMAT}")
        network = described(values["network"])
        parameters = [tensors[f"W.{i}"] for i in range(1, network.layers + 1)]
        network.check_parameters(parameters, f"{path}: parameters")
        inputs, outcomes = (
            Scaling(tensors[f"{name}.mean"], tensors[f"{name}.scale"]) if f"{name}.mean" in tensors else None
            for name in ("inputs", "outcomes")
        )
        recipe = None if values["recipe"] is None else Recipe.fromdict(values["recipe"])
        classes = None if values["classes"] is None else tuple(values["classes"])
        purpose, about = values["purpose"], values["about"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: its metadata are damaged: {type(error).__name__}: {error}") from None
    return Model(network, parameters, purpose, Preparation(recipe, inputs, outcomes, classes), about)
