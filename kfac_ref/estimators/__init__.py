"""Estimators with scikit-learn's interface, for its pipelines, searches and cross-validation.

They need scikit-learn: `pip install "kfac-ref[sklearn]"`.
"""

try:
    import sklearn  # noqa: F401
except ImportError as error:
    raise ImportError('kfac_ref.estimators needs scikit-learn: pip install "kfac-ref[sklearn]"') from error

from kfac_ref.estimators.autoencoder import KFACAutoencoder
from kfac_ref.estimators.classifier import KFACClassifier
from kfac_ref.estimators.regressor import KFACRegressor

__all__ = ["KFACAutoencoder", "KFACClassifier", "KFACRegressor"]
