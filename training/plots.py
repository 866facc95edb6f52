"""Plots of how a model judged payments; the numbers are those of the other modules."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from sklearn.metrics import ConfusionMatrixDisplay, PrecisionRecallDisplay

from jobs.calibration import expected_calibration_error, reliability_table
from jobs.metrics import Floats, JudgedPayments, at_threshold
from training.thresholds import cheapest, every_cut

TICKS = (0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
INTERVAL_Z = 1.96  # 95 % of a normal distribution
DOLLARS = FuncFormatter(lambda usd, _: f"{usd:,.0f}")


def plots(
    judged: JudgedPayments, threshold: float, look_cost_cents: int
) -> Iterator[tuple[str, Figure]]:
    """Each plot of a run with its name; there are frauds and genuine payments."""
    yield "precision_recall", precision_recall_plot(judged, threshold)
    yield "confusion_matrix", confusion_matrix_plot(judged, threshold)
    yield "reliability", reliability_plot(judged)
    yield "money", money_plot(judged, threshold, look_cost_cents)


def precision_recall_plot(judged: JudgedPayments, threshold: float) -> Figure:
    """Precision against recall over all thresholds, the recall of the chosen one marked."""
    figure, axes = _empty()
    PrecisionRecallDisplay.from_predictions(
        judged.labels, judged.scores, name="last part of the time", ax=axes
    )
    axes.axvline(
        at_threshold(judged.labels, judged.scores, threshold)[1], linestyle=":", color="grey"
    )
    axes.set_title(f"Precision and recall; dotted: threshold {threshold:.3g}")
    return figure


def confusion_matrix_plot(judged: JudgedPayments, threshold: float) -> Figure:
    """Payments by truth and by verdict."""
    figure, axes = _empty()
    ConfusionMatrixDisplay.from_predictions(
        judged.labels,
        judged.scores >= threshold,
        labels=[False, True],
        display_labels=["genuine", "fraud"],
        colorbar=False,
        values_format="d",
        ax=axes,
    )
    axes.set_title(f"At the threshold {threshold:.3g}")
    return figure


def reliability_plot(judged: JudgedPayments) -> Figure:
    """The bins of ``jobs.calibration.reliability_table``: share of frauds against mean score,
    with 95 % intervals and counts. Both axes are log-odds; a share of 0 or 1 is on the edge.
    """
    table = reliability_table(judged.labels, judged.scores)
    error = expected_calibration_error(judged.labels, judged.scores)
    ends = (TICKS[0], TICKS[-1])
    means, shares, low, high = (
        np.clip(values, *ends)
        for values in (
            table.expected / table.rows,
            table.frauds / table.rows,
            *wilson_interval(table.frauds, table.rows),
        )
    )
    figure, axes = _empty()
    axes.plot(ends, ends, color="grey", linestyle=":", label="as many frauds as promised")
    axes.vlines(means, low, high, color="C0", alpha=0.4)
    axes.plot(means, shares, "o", clip_on=False, label="frauds / payments of a bin")
    for x, bottom, top, frauds, rows in zip(
        means, low, high, table.frauds, table.rows, strict=True
    ):
        place, side = (top, "bottom") if x < 0.5 else (bottom, "top")
        axes.text(x, place, f" {frauds:,}/{rows:,} ", size=7, rotation=90, ha="center", va=side)
    for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
        scale("logit")
        axis.set_ticks(TICKS, labels=[f"{tick:g}" for tick in TICKS])
        axis.set_ticks([], minor=True)
    axes.set(xlim=ends, ylim=ends, xlabel="mean score", ylabel="share of frauds")
    axes.set_title(
        f"{judged.scores.sum():,.1f} frauds promised, {judged.labels.sum():,} there; "
        f"calibration error {error:.2g}"
    )
    axes.legend(loc="upper left")
    return figure


def money_plot(judged: JudgedPayments, threshold: float, look_cost_cents: int) -> Figure:
    """Money saved in the whole time against hits a day, over all thresholds, the chosen one
    marked; up to three times the hits of the chosen or the cheapest threshold.
    """
    cuts = every_cut(judged)
    saved = cuts.saved_cents(look_cost_cents) / 100
    alerts = cuts.hits / judged.calendar_days
    chosen = int(np.searchsorted(cuts.hits, (judged.scores >= threshold).sum()))
    best = cheapest(cuts, look_cost_cents)
    shown = alerts <= 3 * max(alerts[chosen], alerts[best], 1 / judged.calendar_days)
    everything = judged.amount_cents[judged.labels].sum() / 100
    figure, axes = _empty()
    axes.plot(alerts[shown], saved[shown], label="money saved")
    axes.axhline(everything, color="grey", linestyle=":", label="amounts of all frauds")
    for name, cut, marker in (("most", best, "C0o"), ("chosen", chosen, "rx")):
        label = f"{name}: {saved[cut]:,.0f} at {alerts[cut]:,.3g} alerts a day"
        axes.plot(alerts[cut], saved[cut], marker, markersize=8, label=label)
    axes.set(xlabel="alerts a day", ylabel="US dollars")
    axes.set_title(
        f"Money saved in {judged.calendar_days:,} days, a look costs {look_cost_cents / 100:,.2f}; "
        f"threshold {threshold:.3g}"
    )
    axes.yaxis.set_major_formatter(DOLLARS)
    axes.legend(loc="lower right")
    return figure


def wilson_interval(
    found: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """The 95 % interval of a share of which ``found`` in ``rows`` were seen, both of shape (b,):
    its ends, from 0 to 1 (Wilson, "Probable Inference", 1927).
    """
    share, square = found / rows, INTERVAL_Z**2
    centre = (share + square / (2 * rows)) / (1 + square / rows)
    half = np.sqrt(share * (1 - share) * square / rows + (square / (2 * rows)) ** 2)
    half = half / (1 + square / rows)
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)


def _empty() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 5.5), layout="constrained")
    return figure, figure.subplots()
