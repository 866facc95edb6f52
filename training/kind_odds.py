"""What kinds of payment tell, learned: the log-odds of fraud of a card's recent payments."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.model_selection import KFold

Floats = npt.NDArray[np.float64]


class KindOdds(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turns codes of kinds into log-odds against the mean, and adds them up by group of columns.

    The log-odds of a kind with f frauds in n payments are
    ``log((f + s p) / (n - f + s (1 - p))) - log(p / (1 - p))``, p being the share of frauds and s
    the ``smoothing``: the posterior mean under a Beta prior of weight s. A missing or unknown kind
    has 0. What ``fit_transform`` returns for a row was learned from the other folds, so that the
    estimator behind it is not misled by a row's own label; folds are contiguous, since frauds come
    in bursts.

    Args:
        groups: the group of each column of X, from 0 on; the log-odds of a group are added up.
        smoothing: weight of the prior, in payments.
        folds: parts that the rows are cut into for ``fit_transform``.
    """

    def __init__(
        self, groups: tuple[int, ...] = (0,), smoothing: float = 20.0, folds: int = 5
    ) -> None:
        self.groups = groups
        self.smoothing = smoothing
        self.folds = folds

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Learn from the first column of X (shape (n, k), codes as numbers) and y (0 or 1)."""
        codes, frauds = np.asarray(X, np.float64)[:, 0], np.asarray(y, np.float64)
        self.codes_, place = np.unique(codes, return_inverse=True)
        found = np.bincount(place, frauds)
        genuine = np.bincount(place) - found
        share = frauds.mean()
        odds = (found + self.smoothing * share) / (genuine + self.smoothing * (1 - share))
        self.log_odds_ = np.log(odds) - np.log(share / (1 - share))
        return self

    def transform(self, X: Any) -> Floats:  # noqa: N803
        """The sums of log-odds: float64 of shape (n, number of groups)."""
        codes = np.asarray(X, np.float64)
        place = np.minimum(np.searchsorted(self.codes_, codes), len(self.codes_) - 1)
        odds = np.where(self.codes_[place] == codes, self.log_odds_[place], 0.0)
        groups = np.asarray(self.groups)
        return np.stack([odds[:, groups == n].sum(axis=1) for n in range(groups.max() + 1)], axis=1)

    def fit_transform(self, X: Any, y: Any) -> Floats:  # noqa: N803
        """Fit on all rows; the sums of each row by what its own fold did not teach."""
        X, y = np.asarray(X, np.float64), np.asarray(y)  # noqa: N806
        out = np.empty((len(X), max(self.groups) + 1))
        for rest, fold in KFold(self.folds).split(X):
            out[fold] = self.fit(X[rest], y[rest]).transform(X[fold])
        self.fit(X, y)
        return out
