"""Whether scores are probabilities: of payments that score 0.3, 30 in 100 should be frauds."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BINS = 15
"""As in Guo et al., "On Calibration of Modern Neural Networks" (2017)."""

OUTERMOST = 0.9999
"""The bins divide the scores from 1 - ``OUTERMOST`` to ``OUTERMOST``; the first and the last take
what lies beyond."""


@dataclass(frozen=True)
class ReliabilityTable:
    """Bins of payments by score, from low to high: arrays of shape (b,); no bin is empty.

    Attributes:
        rows: int64, payments in the bin.
        expected: float64, frauds that their scores promise: the sum of the scores.
        frauds: int64, frauds that there were.
    """

    rows: npt.NDArray[np.int64]
    expected: npt.NDArray[np.float64]
    frauds: npt.NDArray[np.int64]


def reliability_table(
    labels: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64], bins: int = BINS
) -> ReliabilityTable:
    """Bins of equal width in log-odds, log(score / (1 - score)), those without payments left out.

    Nearly all fraud scores are next to 0. Of bins of equal width the first would hold nearly all
    payments; of bins of equally many payments the last would hold nearly all frauds, and errors in
    opposite directions would cancel out in it. Here a bin is a factor of 3.4 in the odds: next to 0
    as fine as in the middle. The edges are the same for every model, so that payments of equal
    score share a bin and versions can be compared; a score on an edge belongs to the bin above it.

    Args:
        labels: bool of shape (n,), the truth.
        scores: float64 of shape (n,), from 0 to 1.
        bins: at least 1; the factor above is that of 15.
    """
    bin_of_row = calibration_bins(scores, bins)
    rows = np.bincount(bin_of_row, minlength=bins)
    filled = rows > 0
    expected = np.bincount(bin_of_row, weights=scores, minlength=bins).astype(np.float64)
    return ReliabilityTable(
        rows=rows[filled],
        expected=expected[filled],
        frauds=np.bincount(bin_of_row[labels], minlength=bins)[filled],
    )


def calibration_bins(scores: npt.NDArray[np.float64], bins: int = BINS) -> npt.NDArray[np.int64]:
    """The bin of ``reliability_table`` that each score falls into: int64 of shape (n,), from 0 to
    ``bins`` - 1.
    """
    end = np.log(OUTERMOST / (1 - OUTERMOST))
    edges = 1 / (1 + np.exp(-np.linspace(-end, end, bins + 1)[1:-1]))
    return np.digitize(scores, edges)


def expected_calibration_error(
    labels: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64], bins: int = BINS
) -> float:
    """How far the mean score of a bin is from its share of frauds: the mean over the bins of
    ``reliability_table``, weighted with their payments.

    As frauds are few, it is small: compare it with the share of frauds, not with 1. The formula is
    that of Naeini, Cooper and Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian
    Binning" (2015); the bins are those of ``reliability_table``.

    Args:
        labels: bool of shape (n,), the truth.
        scores: float64 of shape (n,), from 0 to 1.
        bins: at least 1.

    Returns:
        From 0 to 1; NaN without payments.
    """
    table = reliability_table(labels, scores, bins)
    if not len(scores):
        return float("nan")
    return float(np.abs(table.frauds - table.expected).sum() / len(scores))
