"""How far payments are from those that a version was trained on: PSI and an effect size.

A p-value says only that two samples differ, and with millions of payments they always do. These
two say by how much, whatever the number of payments.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from jobs.reference import SCORE, Histogram, Reference
from jobs.windows import Floats

CATEGORY = "category"
"""Name of the mix of categories beside the features and the score."""

EMPTY_SHARE = 1e-4
"""What an empty bin counts as in a PSI, whose logarithm has no value for 0."""

LARGEST_EFFECT = 100.0
"""In the place of more, or of infinity: a constant that became another one."""


@dataclass(frozen=True)
class Drift:
    """By name (features, ``fraud_score``, ``category``): ``psi``, and ``effect_size``, which is
    Cohen's d with its sign (positive: larger than in the reference), of ``category`` Cramér's V.
    """

    psi: dict[str, float]
    effect_size: dict[str, float]


def drift_from(reference: Reference, payments: pd.DataFrame) -> Drift:
    """How far ``payments`` are from the reference; what they have no column of is left out.

    Args:
        payments: n rows, n at least 1: float64 features, `fraud_score` (NaN: the payment counts for
            the features alone), and text `category`.
    """
    psi, effect = {}, {}
    for name, histogram in reference.numeric.items():
        values = payments[name].to_numpy(np.float64) if name in payments else np.empty(0)
        if name == SCORE:
            values = values[~np.isnan(values)]
        if len(values):
            psi[name] = population_stability(*_with_missing(histogram, values))
            effect[name] = mean_difference(histogram, values)
    if reference.categories:
        expected, found = category_shares(reference.categories, payments[CATEGORY])
        psi[CATEGORY] = population_stability(expected, found)
        effect[CATEGORY] = mix_difference(expected, found)
    return Drift(psi, {name: size for name, size in effect.items() if not math.isnan(size)})


def population_stability(expected: Floats, found: Floats) -> float:
    """The population stability index of shares, float64 of shape (b,): the sum over the bins of
    (found - expected) ln(found / expected), a share below ``EMPTY_SHARE`` taken as that.

    By custom, below 0.1 nothing changed, above 0.25 much did: Siddiqi, "Credit Risk Scorecards"
    (2006). Of n payments of an unchanged kind it is about (b - 1) / n: Yurdakul, "Statistical
    Properties of Population Stability Index" (2018).
    """
    expected, found = np.maximum(expected, EMPTY_SHARE), np.maximum(found, EMPTY_SHARE)
    return float(((found - expected) * np.log(found / expected)).sum())


def mean_difference(histogram: Histogram, values: Floats) -> float:
    """Cohen's d, the difference of the means in units of the standard deviation: of the two kinds
    together, the root of the mean of their variances. Cohen, "Statistical Power Analysis for the
    Behavioral Sciences" (1988), takes 0.2 as small, 0.5 as medium, 0.8 as large.

    Args:
        values: float64 of shape (n,); NaN are left out.

    Returns:
        At most ``LARGEST_EFFECT`` in size; NaN where one side has no values.
    """
    known = values[~np.isnan(values)]
    if not len(known) or math.isnan(histogram.mean):
        return float("nan")
    difference = float(known.mean()) - histogram.mean
    spread = math.sqrt((float(known.var()) + histogram.std**2) / 2)
    if spread == 0:
        return 0.0 if difference == 0 else math.copysign(LARGEST_EFFECT, difference)
    return float(np.clip(difference / spread, -LARGEST_EFFECT, LARGEST_EFFECT))


def mix_difference(expected: Floats, found: Floats) -> float:
    """Cramér's V between two mixes, float64 of shape (b,), taken as samples of one size: from 0
    (the same) to 1 (nothing in common). Cohen takes 0.1 as small, 0.3 as medium, 0.5 as large.
    """
    either = expected + found
    some = either > 0
    chi_square = ((found - expected)[some] ** 2 / either[some]).sum() / 2
    return math.sqrt(float(chi_square))


def category_shares(
    reference: dict[str, float], categories: "pd.Series[str]"
) -> tuple[Floats, Floats]:
    """The shares of the reference's categories, and of all others as the last: those expected, and
    those of ``categories`` (n names; missing ones are others).

    Returns:
        Two arrays, float64 of shape (len(reference) + 1,).
    """
    expected = np.array(list(reference.values()))
    counted = categories.value_counts().reindex(list(reference), fill_value=0).to_numpy(np.float64)
    found = counted / max(len(categories), 1)
    return _with_rest(expected), _with_rest(found)


def _with_rest(shares: Floats) -> Floats:
    return np.append(shares, max(1 - shares.sum(), 0.0))


def _with_missing(histogram: Histogram, values: Floats) -> tuple[Floats, Floats]:
    shares, missing = histogram.shares_of(values)
    return np.append(histogram.shares, histogram.missing), np.append(shares, missing)
