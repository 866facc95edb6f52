"""When a challenger takes the champion's place: the clauses of the rule in `[promote]`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from conf.sections import PromoteSettings
from training.figures import Estimate, Measure

SET_ASIDE = "set_aside"
"""The tag of a version that failed in the stream; its value says how."""


NO_FIGURE = "no figure: too little to judge on"


@dataclass(frozen=True)
class Clause:
    """What is asked for, what was found, and whether it holds."""

    asked: str
    found: str
    holds: bool


def clauses(
    measures: Mapping[str, Measure],
    frauds: int,
    payments: int,
    tags: Mapping[str, str],
    rule: PromoteSettings,
) -> tuple[Clause, ...]:
    """Every clause of the rule. A figure that there is not (NaN) fulfils none.

    Args:
        measures: by name, as ``training.figures.figures_of`` returns them.
        frauds: known ones among the judged ``payments``.
        tags: of the challenger's version.
        rule: the settings.
    """
    gain = measures["average_precision"].difference
    saved = measures["money_saved_usd"].difference
    calibration = measures["expected_calibration_error"].challenger
    percent = f"{100 * rule.confidence:g} %"
    return (
        Clause(
            f"at least {rule.min_frauds:,} known frauds",
            f"{frauds:,} among {payments:,} judged payments",
            frauds >= rule.min_frauds,
        ),
        Clause(
            f"average precision gains more than {rule.min_gain:g}, with {percent} confidence",
            _told(gain, "+.4f"),
            gain.low > rule.min_gain,
        ),
        Clause(
            "it saves no less money",
            _told(saved, "+,.2f", " USD"),
            saved.value >= 0,
        ),
        Clause(
            f"calibration error of at most {rule.max_calibration_error:g}",
            f"{calibration.value:.4f}" if calibration.value >= 0 else NO_FIGURE,
            calibration.value <= rule.max_calibration_error,
        ),
        Clause(
            "the score job did not set it aside",
            f"set aside: {tags[SET_ASIDE]}" if SET_ASIDE in tags else "not set aside",
            SET_ASIDE not in tags,
        ),
    )


def _told(estimate: Estimate, digits: str, unit: str = "") -> str:
    if math.isnan(estimate.value):
        return NO_FIGURE
    interval = f"{estimate.low:{digits}} to {estimate.high:{digits}}"
    return f"{estimate.value:{digits}}{unit}, interval {interval}"
