"""kfac-ref: the reference implementation of K-FAC (Martens & Grosse, 2015) on NumPy or CuPy."""

from autodiff import Network, glorot_initialisation, sparse_initialisation
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
