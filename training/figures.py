"""The measures of a comparison with their confidence intervals."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from conf.settings import Settings
from training.bootstrap import percentile_interval, resampled
from training.compare import Comparison, Verdict
from training.weighted_measures import MEASURES, WeightedMeasures

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval; NaN where there is none."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Measure:
    """One of ``MEASURES`` of both, and of the challenger less the champion."""

    name: str
    champion: Estimate
    challenger: Estimate
    difference: Estimate


@dataclass(frozen=True)
class Figures:
    """All measures by name, and the draws of the difference in average precision, of shape
    (resamples,).
    """

    measures: dict[str, Measure]
    gains: Floats


def figures_of(comparison: Comparison, settings: Settings) -> Figures:
    """Measure both verdicts, with intervals by a paired bootstrap over cards."""
    rule = settings.promote
    if not comparison.payments:
        nothing = np.full((1, 3, len(MEASURES)), np.nan)
        return _figures(nothing[0], nothing, rule.confidence)
    cards, names = pd.factorize(comparison.champion.judged.cards)

    def prepared(verdict: Verdict) -> WeightedMeasures:
        threshold = verdict.contender.judge.threshold
        return WeightedMeasures.of_judged(verdict.judged, cards, threshold, settings.train)

    champion, challenger = prepared(comparison.champion), prepared(comparison.challenger)

    def measure(weights: Floats) -> Floats:
        one, other = champion.of(weights), challenger.of(weights)
        return np.stack([one, other, other - one])

    samples = resampled(measure, len(names), rule.resamples, rule.seed)
    return _figures(measure(np.ones(len(names))), samples, rule.confidence)


def _figures(values: Floats, samples: Floats, confidence: float) -> Figures:
    """From ``values`` of shape (3, m), of champion, challenger and difference, and ``samples`` of
    shape (resamples, 3, m).
    """
    low, high = percentile_interval(samples, confidence)
    measures = {
        name: Measure(
            name,
            *(
                Estimate(float(values[who, place]), float(low[who, place]), float(high[who, place]))
                for who in range(3)
            ),
        )
        for place, name in enumerate(MEASURES)
    }
    return Figures(measures, samples[:, 2, MEASURES.index("average_precision")])
