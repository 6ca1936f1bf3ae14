"""kfac-ref: the reference implementation of K-FAC (Martens & Grosse, 2015) on NumPy or CuPy."""

try:
    from autodiff import Network, glorot_initialisation, sparse_initialisation
except ImportError as error:
    import autodiff

    raise ImportError(
        f"{autodiff.__file__} is not the package autodiff that kfac-ref brings: another distribution with that name in "
        "it, such as autodiff-py, has overwritten it. Uninstall that one, and install kfac-ref again: "
        "pip uninstall autodiff-py && pip install --force-reinstall --no-deps kfac-ref"
    ) from error
from kfac_ref.batch import Batch
from kfac_ref.optimizer import KFAC, Diverged, Record, State, refreshed
from kfac_ref.settings import PRESETS, Settings, preset
from kfac_ref.training.runs import load

__version__ = "0.1.0"

__all__ = [
    "KFAC",
    "PRESETS",
    "Batch",
    "Diverged",
    "Network",
    "Record",
    "Settings",
    "State",
    "glorot_initialisation",
    "load",
    "preset",
    "refreshed",
    "sparse_initialisation",
]
