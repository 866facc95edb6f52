"""The choice of a threshold against a search over all of them, and the plots that show it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.sections import TrainSettings
from jobs.calibration import reliability_table
from jobs.metrics import at_threshold, money_cents
from tests.test_metrics import judged_of, rows_of_payments
from training.plots import money_plot, plots, wilson_interval
from training.thresholds import NoThreshold, choose_threshold, every_cut

budgets = st.sampled_from([0.01, 0.25, 0.5, 1, 1.5, 3, 7, 1000])
RULES = ("costs", "alerts_per_day", "precision")


def chosen(rows, rule, **values):
    """The threshold, and how many payments it hits."""
    judged = judged_of(rows)
    threshold = choose_threshold(judged, TrainSettings(threshold_rule=rule, **values))
    return threshold, int((judged.scores >= threshold).sum())


def below_one(rows):
    """Scores up to 8/9: a threshold above them all exists."""
    return [(label, score * 8 / 9, *others) for label, score, *others in rows]


# --- thresholds between the scores ----------------------------------------------------------------


def test_the_cuts_by_hand():
    cuts = every_cut(judged_of([(1, 0.5, 300), (0, 0.1, 50), (1, 0.1, 70), (0, 0.9, 20)]))
    assert cuts.thresholds.tolist() == pytest.approx([0.95, 0.7, 0.3, 0.1])
    assert cuts.hits.tolist() == [0, 1, 2, 4]
    assert cuts.found.tolist() == [0, 0, 1, 2]
    assert cuts.found_cents.tolist() == [0, 0, 300, 370]
    assert cuts.saved_cents(100).tolist() == [0, -100, 100, -30]


@given(rows_of_payments)
def test_every_cut_is_what_its_threshold_does(rows):
    judged = judged_of(rows)
    cuts = every_cut(judged)
    assert len(cuts.thresholds) == len(set(judged.scores)) + (judged.scores.max() < 1)
    assert ((cuts.thresholds >= 0) & (cuts.thresholds <= 1)).all()
    for threshold, hits, found, found_cents in zip(
        cuts.thresholds, cuts.hits, cuts.found, cuts.found_cents, strict=True
    ):
        are_hits = judged.scores >= threshold
        assert are_hits.sum() == hits
        assert (are_hits & judged.labels).sum() == found
        assert judged.amount_cents[are_hits & judged.labels].sum() == found_cents


@pytest.mark.parametrize("low", [0.0, 0.1, 0.3, 0.5, float(np.nextafter(1, 0, dtype=float))])
def test_between_neighbouring_numbers_the_upper_one_divides(low):
    high = float(np.nextafter(low, 1))
    cuts = every_cut(judged_of([(0, low), (1, high)]))
    assert cuts.thresholds[cuts.hits == 1] == [high]


# --- alerts a day ---------------------------------------------------------------------------------


def test_an_alert_budget_by_hand():
    rows = [(0, 0.9, 1, 0), (1, 0.8, 1, 0), (0, 0.6, 1, 1), (0, 0.6, 1, 3), (1, 0.2, 1, 3)]
    assert chosen(rows, "alerts_per_day", alerts_per_day=0.5) == (pytest.approx(0.7), 2)  # 4 days
    assert chosen(rows, "alerts_per_day", alerts_per_day=0.99) == (pytest.approx(0.7), 2)
    assert chosen(rows, "alerts_per_day", alerts_per_day=1) == (pytest.approx(0.4), 4)
    assert chosen(rows, "alerts_per_day", alerts_per_day=0.2) == (pytest.approx(0.95), 0)
    assert chosen(rows, "alerts_per_day", alerts_per_day=20) == (0.2, 5)


def test_a_budget_that_is_no_exact_number_is_met_to_the_last_hit():
    rows = [(0, number / 1000, 1, number) for number in range(100)]
    assert 0.29 * 100 < 29
    assert chosen(rows, "alerts_per_day", alerts_per_day=0.29)[1] == 29


@given(rows_of_payments, budgets)
def test_the_budget_is_never_exceeded_and_one_more_score_would(rows, budget):
    rows = below_one(rows)
    judged = judged_of(rows)
    threshold, hits = chosen(rows, "alerts_per_day", alerts_per_day=budget)
    assert hits / judged.calendar_days <= budget
    others = judged.scores[judged.scores < threshold]
    if len(others):
        more = (judged.scores >= others.max()).sum()
        assert more / judged.calendar_days > budget


def test_more_certain_payments_than_the_budget_are_told():
    with pytest.raises(NoThreshold, match=r"3 payments in 2 days .* 1\.5 a day .* is 1: raise"):
        chosen([(1, 1, 1, 0), (1, 1, 1, 1), (0, 1, 1, 1)], "alerts_per_day", alerts_per_day=1)
    assert chosen([(1, 1, 1, 0), (0, 0.2)], "alerts_per_day", alerts_per_day=1)[1] == 1


# --- costs ----------------------------------------------------------------------------------------


def test_costs_by_hand():
    rows = [(1, 0.9, 900), (0, 0.8), (0, 0.7), (1, 0.6, 250), (0, 0.5), (1, 0.4, 90), (0, 0.1)]
    # the second fraud is worth three looks at 0.80, the third two at 0.40
    assert chosen(rows, "costs", look_cost_usd=0.80) == (pytest.approx(0.55), 4)
    assert chosen(rows, "costs", look_cost_usd=0.40) == (pytest.approx(0.25), 6)
    assert chosen(rows, "costs", look_cost_usd=0.84) == (pytest.approx(0.85), 1)
    assert chosen(rows, "costs", look_cost_usd=9.01) == (pytest.approx(0.95), 0)
    assert chosen(rows, "costs", look_cost_usd=0) == (pytest.approx(0.25), 6)  # all frauds, no more


@given(rows_of_payments, st.integers(0, 60_000))
def test_no_threshold_is_cheaper(rows, look_cost):
    judged = judged_of(rows)
    threshold, hits = chosen(rows, "costs", look_cost_usd=look_cost / 100)

    def cost(at):
        are_hits = judged.scores >= at
        missed = judged.amount_cents[judged.labels & ~are_hits].sum()
        return missed + look_cost * are_hits.sum(), are_hits.sum()

    others = sorted({0.0, 1.0, *judged.scores, *(judged.scores + 0.001).clip(0, 1)})
    assert cost(threshold) == min(map(cost, others))
    saved, lost = money_cents(
        judged.labels, judged.amount_cents, judged.scores >= threshold, look_cost
    )
    assert lost + look_cost * hits == cost(threshold)[0]
    assert saved >= 0 or judged.scores.max() == 1


# --- precision ------------------------------------------------------------------------------------


@given(rows_of_payments, st.sampled_from([0.0, 0.4, 0.5, 0.9, 1.0]))
def test_the_threshold_is_the_lowest_that_keeps_the_precision(rows, precision):
    judged = judged_of([*rows, (True, 0.5)])
    labels, scores = judged.labels, judged.scores
    cuts = [(t, *at_threshold(labels, scores, t)) for t in sorted(set(scores))]
    keeping = [(t, recall) for t, hits, recall in cuts if hits >= precision and recall > 0]
    settings = TrainSettings(threshold_rule="precision", min_precision=precision)
    lowest_hit = scores[scores >= choose_threshold(judged, settings)].min()
    if keeping:
        assert lowest_hit == keeping[0][0]
    else:
        f1 = {t: 2 * p * r / (p + r) if p + r else 0 for t, p, r in cuts}
        assert f1[lowest_hit] == pytest.approx(max(f1.values()))


# --- edges of all rules ---------------------------------------------------------------------------


def test_a_threshold_where_all_scores_are_equal():
    rows = [(0, 0.25, 100, 0), (1, 0.25, 4000, 1), (0, 0.25, 100, 2)]
    assert chosen(rows, "alerts_per_day", alerts_per_day=1) == (0.25, 3)
    assert chosen(rows, "alerts_per_day", alerts_per_day=0.9) == (0.625, 0)
    assert chosen(rows, "costs", look_cost_usd=13) == (0.25, 3)
    assert chosen(rows, "costs", look_cost_usd=14) == (0.625, 0)
    assert chosen(rows, "precision", min_precision=0.9) == (0.25, 3)
    assert chosen(rows, "precision", min_precision=0.1) == (0.25, 3)


def test_a_threshold_without_frauds():
    rows = [(0, 0.25), (0, 0.5), (0, 0.0)]
    assert chosen(rows, "costs") == chosen(rows, "precision") == (0.75, 0)
    assert chosen(rows, "costs", look_cost_usd=0) == (0.75, 0)
    assert chosen(rows, "alerts_per_day", alerts_per_day=2) == (0.125, 2)


# --- plots ----------------------------------------------------------------------------------------


ROWS = [
    (1, 0.9, 900, 0), (0, 0.8, 50, 0), (1, 0.6, 250, 1), (0, 0.2, 50, 1), (1, 0.2, 90, 3),
    (0, 0.0, 80, 3), (0, 1.0, 10, 3),
]  # fmt: skip


@pytest.mark.parametrize(("threshold", "hits", "saved"), [(0.41, 4, 9.9), (0.61, 3, 7.8)])
def test_the_money_plot_marks_the_chosen_point(threshold, hits, saved):
    judged = judged_of(ROWS)
    (axes,) = money_plot(judged, threshold, 40).axes
    curve, everything, best, mark = axes.get_lines()
    assert curve.get_xdata() * 4 == pytest.approx([1, 2, 3, 4, 6, 7])
    assert curve.get_ydata() == pytest.approx([-0.4, 8.2, 7.8, 9.9, 10.0, 9.6])
    assert everything.get_ydata()[0] == 12.4
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (6 / 4, 10)
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == pytest.approx((hits / 4, saved))
    assert mark.get_label() == f"chosen: {saved:.0f} at {hits / 4:.3g} alerts a day"


def test_the_reliability_plot_is_the_table():
    judged = judged_of(ROWS)
    figure = dict(plots(judged, 0.5, 40))["reliability"]
    (axes,) = figure.axes
    table = reliability_table(judged.labels, judged.scores)
    means, shares = axes.get_lines()[1].get_data()
    inside = (shares > 0.0001) & (shares < 0.9999)
    assert shares[inside] == pytest.approx((table.frauds / table.rows)[inside])
    assert means[1:-1] == pytest.approx((table.expected / table.rows)[1:-1])
    counts = [f"{f}/{n}" for f, n in zip(table.frauds, table.rows, strict=True)]
    assert [text.get_text().strip() for text in axes.texts] == counts


@pytest.mark.parametrize(
    "rows",
    [ROWS, [(0, 0.5), (1, 0.5)], [(1, 1.0), (0, 1.0)], [(0, 0.0), (1, 0.0)], [(1, 0), (0, 1)]],
)
@pytest.mark.parametrize("rule", RULES)
def test_every_plot_can_be_drawn(rows, rule, tmp_path):
    judged = judged_of(rows)
    threshold = choose_threshold(judged, TrainSettings(threshold_rule=rule))
    names = []
    for name, figure in plots(judged, threshold, 1000):
        figure.savefig(tmp_path / f"{name}.png", dpi=20)
        names.append(name)
    assert names == ["precision_recall", "confusion_matrix", "reliability", "money"]


def test_the_interval_of_a_share_by_hand():
    """Wilson's for 1 of 10 at 95 %: 0.0179 to 0.4042; none of 10: up to 0.2775."""
    low, high = wilson_interval(np.array([1, 0, 10]), np.array([10, 10, 10]))
    assert low == pytest.approx([0.0179, 0, 0.7225], abs=1e-4)
    assert high == pytest.approx([0.4042, 0.2775, 1], abs=1e-4)
