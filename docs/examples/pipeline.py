"""
In a pipeline of scikit-learn
=============================

The estimators stand where scikit-learn's own networks do: in pipelines, cross-validation and searches.
"""

# %%
# Two moons of 300 noisy points, and a classifier behind a transformer.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kfac_ref.estimators import KFACClassifier

X, y = make_moons(300, noise=0.25, random_state=0)
pipeline = make_pipeline(StandardScaler(), KFACClassifier(random_state=0))
print(f"accuracy, five folds: {np.mean(cross_val_score(pipeline, X, y)):.3f}")

# %%
# Its probabilities over the plane.
pipeline.fit(X, y)
fig, ax = plt.subplots(figsize=(5, 3.6), layout="constrained")
DecisionBoundaryDisplay.from_estimator(pipeline, X, response_method="predict_proba", cmap="RdBu", ax=ax)
ax.scatter(*X.T, c=y, cmap="RdBu", edgecolor="k", s=16)
plt.show()
