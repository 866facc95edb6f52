import math

import pytest

from conf.sections import PromoteSettings
from training.figures import Estimate, Measure
from training.promotion_rule import clauses

RULE = PromoteSettings(min_frauds=30, min_gain=0.01, max_calibration_error=0.02)
NONE = Estimate(math.nan, math.nan, math.nan)


def held(gain=(0.05, 0.02, 0.08), saved=100.0, calibration=0.01, frauds=30, tags=()):
    """Which clauses hold, with figures that fulfil all of them but those that are given."""
    measures = {
        "average_precision": Measure("", NONE, NONE, Estimate(*gain)),
        "money_saved_usd": Measure("", NONE, NONE, Estimate(saved, -500, 500)),
        "expected_calibration_error": Measure("", NONE, Estimate(calibration, 0, 1), NONE),
    }
    return [clause.holds for clause in clauses(measures, frauds, 900, dict(tags), RULE)]


def test_all_clauses_hold_at_their_bounds():
    assert held(gain=(0.05, 0.0101, 0.08), saved=0.0, calibration=0.02) == [True] * 5


@pytest.mark.parametrize(
    ("place", "figures"),
    [
        (0, {"frauds": 29}),
        (1, {"gain": (0.05, 0.01, 0.08)}),
        (1, {"gain": (0.05, math.nan, math.nan)}),
        (2, {"saved": -0.01}),
        (2, {"saved": math.nan}),
        (3, {"calibration": 0.0201}),
        (3, {"calibration": math.nan}),
        (4, {"tags": {"set_aside": "it fails: ValueError"}}),
        (4, {"tags": {"set_aside": ""}}),
    ],
)
def test_each_clause_can_fail_alone(place, figures):
    assert held(**figures) == [number != place for number in range(5)]


def test_a_clause_tells_its_figures():
    measures = {
        "average_precision": Measure("", NONE, NONE, Estimate(0.05, 0.02, 0.08)),
        "money_saved_usd": Measure("", NONE, NONE, Estimate(-1234.5, -2000, 10)),
        "expected_calibration_error": Measure("", NONE, Estimate(0.004, 0, 1), NONE),
    }
    told = [
        (clause.asked, clause.found)
        for clause in clauses(measures, 12, 3456, {"set_aside": "it fails"}, RULE)
    ]
    assert told == [
        ("at least 30 known frauds", "12 among 3,456 judged payments"),
        (
            "average precision gains more than 0.01, with 90 % confidence",
            "+0.0500, interval +0.0200 to +0.0800",
        ),
        ("it saves no less money", "-1,234.50 USD, interval -2,000.00 to +10.00"),
        ("calibration error of at most 0.02", "0.0040"),
        ("the score job did not set it aside", "set aside: it fails"),
    ]
