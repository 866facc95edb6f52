"""Plots of a comparison of two versions; the numbers are those of the other modules."""

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve

from conf.settings import Settings
from jobs.calibration import reliability_table
from jobs.metrics import at_threshold, cents
from training.compare import Comparison, Verdict
from training.figures import Figures
from training.plots import DOLLARS, TICKS, wilson_interval
from training.thresholds import cheapest, every_cut

COLOURS = ("#6b7280", "#2563eb")
"""Of champion and challenger."""
_PLAIN = "#9ca3af"


def comparison_plots(
    comparison: Comparison, figures: Figures, settings: Settings
) -> Iterator[tuple[str, Figure]]:
    """Each plot with its caption. There are frauds and genuine payments."""
    yield "Precision and recall over all thresholds; dots: at the threshold", _curves(comparison)
    yield (
        f"Money saved, a look at {settings.train.look_cost_usd:,.2f} USD; dots: at the threshold",
        _money(comparison, cents(settings.train.look_cost_usd)),
    )
    yield (
        f"Gain in average precision, {settings.promote.resamples:,} draws of cards",
        _gains(figures, settings),
    )
    yield (
        "Share of frauds by score, with 95 % intervals; dotted: as promised",
        _reliability(comparison),
    )


def _both(comparison: Comparison) -> Iterator[tuple[Verdict, str, str]]:
    verdicts = (comparison.champion, comparison.challenger)
    for verdict, role, colour in zip(verdicts, ("champion", "challenger"), COLOURS, strict=True):
        yield verdict, f"{role} v{verdict.contender.judge.version}", colour


def _curves(comparison: Comparison) -> Figure:
    figure, axes = _empty()
    for verdict, name, colour in _both(comparison):
        labels, scores = verdict.judged.labels, verdict.judged.scores
        precisions, recalls, _ = precision_recall_curve(labels, scores)
        axes.step(recalls, precisions, where="post", color=colour, label=name)
        precision, recall = at_threshold(labels, scores, verdict.contender.judge.threshold)
        axes.plot(recall, precision, "o", color=colour, markersize=7, clip_on=False)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    _legend(figure)
    return figure


def _money(comparison: Comparison, look_cost_cents: int) -> Figure:
    figure, axes = _empty()
    shown = 0.0
    for verdict, name, colour in _both(comparison):
        judged = verdict.judged
        cuts = every_cut(judged)
        saved = cuts.saved_cents(look_cost_cents) / 100
        alerts = cuts.hits / judged.calendar_days
        hits = int((judged.scores >= verdict.contender.judge.threshold).sum())
        chosen = int(np.searchsorted(cuts.hits, hits))
        axes.plot(alerts, saved, color=colour, label=name)
        axes.plot(alerts[chosen], saved[chosen], "o", color=colour, markersize=7)
        shown = max(shown, 3 * alerts[cheapest(cuts, look_cost_cents)], 1.5 * alerts[chosen])
    everything = comparison.champion.judged.amount_cents[comparison.champion.judged.labels].sum()
    axes.axhline(everything / 100, color=_PLAIN, linestyle=":", label="amounts of all frauds")
    axes.set(xlabel="alerts a day", ylabel="US dollars saved", xlim=(0, shown or 1.0))
    axes.set_ylim(bottom=0, top=1.08 * everything / 100)
    axes.yaxis.set_major_formatter(DOLLARS)
    _legend(figure)
    return figure


def _gains(figures: Figures, settings: Settings) -> Figure:
    rule, gain = settings.promote, figures.measures["average_precision"].difference
    figure, axes = _empty()
    gains = figures.gains[~np.isnan(figures.gains)]
    # Two versions that judge alike differ by 0 in every draw: a width of its own then.
    bins = np.linspace(*_around(gains), 31).tolist()
    axes.hist(gains, bins=bins, color=COLOURS[1], alpha=0.35)
    label = f"{100 * rule.confidence:g} % interval"
    axes.axvspan(gain.low, gain.high, color=COLOURS[1], alpha=0.12, label=label)
    axes.axvline(gain.value, color=COLOURS[1], label=f"all cards: {gain.value:+.4f}")
    axes.axvline(rule.min_gain, color="black", linestyle=":", label=f"asked for: {rule.min_gain:g}")
    axes.set(xlabel="average precision, challenger less champion", ylabel="draws")
    _legend(figure)
    return figure


def _around(values: np.typing.NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.001, high + 0.001)


def _reliability(comparison: Comparison) -> Figure:
    figure, axes = _empty()
    ends = (TICKS[0], TICKS[-1])
    axes.plot(ends, ends, color=_PLAIN, linestyle=":")
    for verdict, name, colour in _both(comparison):
        table = reliability_table(verdict.judged.labels, verdict.judged.scores)
        means, shares, low, high = (
            np.clip(values, *ends)
            for values in (
                table.expected / table.rows,
                table.frauds / table.rows,
                *wilson_interval(table.frauds, table.rows),
            )
        )
        axes.vlines(means, low, high, color=colour, alpha=0.4)
        axes.plot(means, shares, "o", color=colour, label=name, markersize=6, clip_on=False)
    for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
        scale("logit")
        axis.set_ticks(TICKS, labels=[f"{tick:g}" for tick in TICKS])
        axis.set_ticks([], minor=True)
    axes.tick_params(axis="x", rotation=45)
    axes.set(xlim=ends, ylim=ends, xlabel="mean score of a bin", ylabel="share of frauds in it")
    _legend(figure)
    return figure


def _legend(figure: Figure) -> None:
    """Above the axes, where no curve runs."""
    figure.legend(loc="outside upper center", ncols=3, frameon=False)


def _empty() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes
