"""The model: which inputs it takes and which estimator it is."""

import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline

from jobs.feature_pass import feature_frame
from training.kind_odds import KindOdds

KINDS_BY_DAY = {
    "payment_kind": 0,
    "payment_kind_by_card_today_1": 1,
    "payment_kind_by_card_today_2": 1,
    "payment_kind_by_card_today_3": 1,
    "payment_kind_by_card_yesterday_1": 2,
    "payment_kind_by_card_yesterday_2": 2,
}
"""Kinds of payment, and which of them have their log-odds added up."""

PLAIN_COLUMNS = (
    "amount_usd",
    "hour_of_day",
    "age_years",
    "payment_count_by_card_today",
    "payment_count_by_card_yesterday",
    "seconds_since_previous_by_card",
)

MODEL_COLUMNS = (*KINDS_BY_DAY, *PLAIN_COLUMNS)
"""Inputs of the model, in their order: features."""

# What skops asks to be trusted in our pipeline beyond its own list: parts of scikit-learn's trees.


def model_columns(payments: pd.DataFrame, history: pd.DataFrame | None = None) -> pd.DataFrame:
    """The inputs of the model: ``MODEL_COLUMNS``, float64.

    Args:
        payments: with ``jobs.features.FEATURE_INPUTS``, in their order of arrival.
        history: payments that arrived before them.
    """
    return feature_frame(payments, history)[list(MODEL_COLUMNS)]


def make_classifier(seed: int) -> Pipeline:
    """Gradient-boosted trees over features and the log-odds of kinds; not fitted.

    Unweighted, so that its scores stay probabilities. On a time split and on cards left out of the
    training file, 200 trees gained nothing over 100, and fewer leaves lost recall.
    """
    columns = ColumnTransformer(
        [
            ("kinds", KindOdds(tuple(KINDS_BY_DAY.values())), list(KINDS_BY_DAY)),
            ("plain", "passthrough", list(PLAIN_COLUMNS)),
        ]
    )
    trees = HistGradientBoostingClassifier(
        max_iter=100,
        learning_rate=0.1,
        max_leaf_nodes=15,
        min_samples_leaf=30,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=seed,
    )
    return Pipeline([("columns", columns), ("trees", trees)])
