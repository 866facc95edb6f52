"""What a version's payments looked like when it was trained: the reference that drift is told by.

Training stores it with the version, as JSON in the metadata of the logged model; the monitor reads
it from there and compares what comes in with it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from jobs.windows import Floats

REFERENCE_KEY = "reference"
"""Key of the reference in the metadata of the logged model: JSON text."""

SCORE = "fraud_score"
"""Name of the model's score among the numbers of a reference."""

BINS = 10
MOST_CATEGORIES = 50
_DIGITS = 6


@dataclass(frozen=True)
class Histogram:
    """How numbers are spread: shares of all of them, missing ones included, so that ``shares`` and
    ``missing`` add up to 1.

    Attributes:
        edges: ascending; bin i holds what is at ``edges[i - 1]`` or above and below ``edges[i]``;
            the first and the last bin are open to the outside.
        shares: one more than ``edges``.
        missing: share of NaN.
        mean: of what is not missing; NaN where nothing is there.
        std: the same, of the whole population (no n - 1).
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...]
    missing: float
    mean: float
    std: float

    @classmethod
    def of(cls, values: Floats, bins: int = BINS) -> Self:
        """Bins of about equally many of ``values``, float64 of shape (n,), n at least 1; fewer than
        ``bins`` where many are equal.
        """
        known = values[~np.isnan(values)]
        if not len(known):
            return cls((), (0.0,), 1.0, float("nan"), float("nan"))
        quantiles = np.unique(_rounded(np.quantile(known, np.arange(1, bins) / bins)))
        edges = quantiles[quantiles > known.min()]  # below the smallest there is nothing
        if not len(edges) and known.min() < known.max():
            edges = np.unique(_rounded(known[known > known.min()].min(keepdims=True)))
        shares, missing = shares_between(edges, values)
        mean, std = _rounded(np.array([known.mean(), known.std()])).tolist()
        return cls(tuple(edges.tolist()), tuple(_rounded(shares).tolist()), missing, mean, std)

    def shares_of(self, values: Floats) -> tuple[Floats, float]:
        """The shares of other ``values``, float64 of shape (n,), in these bins, and of those that
        are missing.
        """
        return shares_between(np.array(self.edges), values)


@dataclass(frozen=True)
class Reference:
    """``numeric`` has every feature by its name, and ``fraud_score``, out of sample; ``categories``
    the share of each payment category (the ``MOST_CATEGORIES`` most frequent).
    """

    numeric: dict[str, Histogram]
    categories: dict[str, float]

    @classmethod
    def of(cls, features: pd.DataFrame, scores: Floats, categories: "pd.Series[str]") -> Self:
        """The reference of payments.

        Args:
            features: n rows, float64 columns.
            scores: float64 of shape (m,), of payments that the model had not learned from.
            categories: n names; missing ones have no share.
        """
        numeric = {str(name): Histogram.of(features[name].to_numpy()) for name in features}
        counted = categories.value_counts().sort_index().sort_values(ascending=False, kind="stable")
        shares = (counted / max(len(categories), 1)).round(_DIGITS).head(MOST_CATEGORIES)
        return cls(
            numeric | {SCORE: Histogram.of(scores)},
            {str(name): float(share) for name, share in shares.items()},
        )

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any] | None) -> Self | None:
        """The reference in the metadata of a logged model (``MLmodel``); None where there is none.

        Raises:
            ValueError: what is there is no reference.
        """
        text = (metadata or {}).get(REFERENCE_KEY)
        if text is None:
            return None
        try:
            found = json.loads(text)
            numeric = {
                name: Histogram(
                    edges=tuple(map(float, item["edges"])),
                    shares=tuple(map(float, item["shares"])),
                    missing=float(item["missing"]),
                    mean=_number(item["mean"]),
                    std=_number(item["std"]),
                )
                for name, item in found["numeric"].items()
            }
            return cls(numeric, {str(k): float(v) for k, v in found["categories"].items()})
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"metadata {REFERENCE_KEY!r}: expected JSON with numeric and categories, "
                f"found {str(text)[:100]!r} ({error!r})"
            ) from error

    def to_json(self) -> str:
        """JSON text that ``from_metadata`` reads, without blanks."""
        numeric = {
            name: {key: None if value != value else value for key, value in asdict(item).items()}
            for name, item in self.numeric.items()
        }
        return json.dumps(
            {"numeric": numeric, "categories": self.categories},
            separators=(",", ":"),
            allow_nan=False,
        )


def shares_between(edges: Floats, values: Floats) -> tuple[Floats, float]:
    """The share of ``values`` in each bin between ``edges``, float64 of shape (len(edges) + 1,),
    and the share of NaN.
    """
    missing = np.isnan(values)
    counts = np.bincount(
        np.searchsorted(edges, values[~missing], side="right"), minlength=len(edges) + 1
    )
    total = max(len(values), 1)
    return counts / total, round(float(missing.sum() / total), _DIGITS)


def _rounded(values: Floats) -> Floats:
    """With six significant digits, so that the text is short."""
    return np.array([float(f"{value:.{_DIGITS}g}") for value in values])


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
