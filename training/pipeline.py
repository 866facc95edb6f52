"""The model: which inputs it takes and which estimator it is."""

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

from jobs.features import FEATURE_NAMES
from jobs.model import inputs_of

CATEGORICAL = ("category",)
MODEL_COLUMNS = (*CATEGORICAL, *FEATURE_NAMES)
"""Inputs of the model, in their order: transaction columns, then features."""

# What skops asks to be trusted in our pipeline beyond its own list: parts of scikit-learn's trees.
TRUSTED_TYPES = [
    "functools.partial",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.utils.validation.check_array",
]


def model_columns(payments: pd.DataFrame) -> pd.DataFrame:
    """The inputs of the model: ``MODEL_COLUMNS``, text for ``CATEGORICAL``, float64 the others.

    Args:
        payments: with ``category`` and ``jobs.features.FEATURE_INPUTS``.
    """
    return inputs_of(payments)[list(MODEL_COLUMNS)]


def make_classifier(seed: int) -> Pipeline:
    """Gradient-boosted trees over the features, the categories as categories; not fitted.

    Unweighted, so that its scores stay probabilities; a category that training never saw counts as
    missing.
    """
    encode = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        max_categories=200,  # the trees take 255 at most
    )
    columns = ColumnTransformer(
        [("category", encode, list(CATEGORICAL)), ("feature", "passthrough", list(FEATURE_NAMES))]
    )
    trees = HistGradientBoostingClassifier(
        max_iter=200,
        learning_rate=0.06,
        max_leaf_nodes=15,
        min_samples_leaf=30,
        l2_regularization=1.0,
        categorical_features=list(range(len(CATEGORICAL))),
        early_stopping=False,
        random_state=seed,
    )
    return Pipeline([("columns", columns), ("trees", trees)])
