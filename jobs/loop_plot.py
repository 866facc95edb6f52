"""The plot that ``make loop-demo`` ends with: accuracy over time, and what was done about it."""

from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import dates
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jobs.breaches import by_version
from jobs.loop_story import Event, Kind, Story

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito's, told apart by everybody
MEAN_DAYS = 3
_MARKS: Mapping[Kind, str] = {
    "change": "fraud changes",
    "alarm": "alarm",
    "retrained": "v{} trained",
    "promoted": "v{} promoted",
}


def accuracy_plot(
    metrics: pd.DataFrame, story: Story, ended: datetime, limits: Mapping[str, float]
) -> Figure:
    """Average precision, precision, recall and drift by day of receipt, the versions above them.

    Args:
        metrics: as ``jobs.metrics_table.latest_metrics`` returns them.
        story: what happened.
        ended: the end of the stream (UTC).
        limits: by version, the average precision below which the monitor mails.
    """
    matured = metrics[metrics["is_matured"].astype(bool)]
    figure = Figure(figsize=(11, 8), layout="constrained")
    strip, accuracy, hits, drift = figure.subplots(
        4, sharex=True, gridspec_kw={"height_ratios": (0.7, 3, 1.8, 1.5)}
    )
    _draw_versions(strip, story, ended)
    _draw_accuracy(accuracy, matured, limits)
    _draw_hits(hits, matured)
    _draw_drift(drift, metrics)
    known_until, end = _at(matured["day"].max()) + 1, _at(ended)
    for axes in (accuracy, hits):
        axes.set_ylim(0, 1.03)
        axes.axvspan(known_until, end, color="0.93", zorder=0)
    accuracy.text(
        (known_until + end) / 2, 0.5, "truth not known yet", rotation=90, ha="center", va="center",
        color="0.4",
    )  # fmt: skip
    for axes in (accuracy, hits, drift):
        axes.grid(axis="y", color="0.9")
        for event in _marked(story):
            axes.axvline(_at(event.moment), color="0.35", linewidth=1, linestyle=_style(event))
    strip.set_xlim(_at(story.events[0].moment), end)
    locator = dates.AutoDateLocator()  # type: ignore[no-untyped-call]
    drift.xaxis.set_major_locator(locator)
    written = dates.ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
    drift.xaxis.set_major_formatter(written)
    return figure


def _draw_versions(axes: Axes, story: Story, ended: datetime) -> None:
    """Bars of who was champion and challenger, and the names of the moments above them."""
    reigns = [*story.of("champion"), *story.of("promoted")]
    for event, until in zip(reigns, [*(e.moment for e in reigns[1:]), ended], strict=True):
        _draw_bar(axes, 1, event, until, "champion")
    moves = sorted([*story.of("retrained"), *story.of("promoted")], key=lambda e: e.moment)
    for event, until in zip(moves, [*(e.moment for e in moves[1:]), ended], strict=True):
        if event.kind == "retrained":
            _draw_bar(axes, 0, event, until, "challenger")
    axes.set(ylim=(-0.5, 3.4), yticks=(0, 1), yticklabels=("in shadow", "champion"))
    axes.tick_params(axis="both", length=0)
    axes.spines[:].set_visible(False)
    level, last = 0, None
    for event in _marked(story):
        is_near = last is not None and event.moment - last < timedelta(days=7)
        level, last = (1 - level if is_near else 0), event.moment
        axes.plot(
            [_at(event.moment)] * 2, [-0.5, 1.6 + level], color="0.35", linewidth=1,
            linestyle=_style(event), clip_on=False,
        )  # fmt: skip
        text = f" {_MARKS[event.kind].format(event.version)}, {event.moment:%b %-d}"
        axes.text(_at(event.moment), 1.65 + level, text, va="bottom", size=9)


def _draw_bar(axes: Axes, height: float, event: Event, until: datetime, role: str) -> None:
    begin, width = _at(event.moment), _at(until) - _at(event.moment)
    alpha = 0.9 if role == "champion" else 0.45
    axes.barh(height, width, left=begin, height=0.75, color=_colour(event.version), alpha=alpha)
    if width > 3:
        axes.text(
            begin + width / 2, height, f"v{event.version}", ha="center", va="center",
            color="white", weight="bold",
        )  # fmt: skip


def _draw_accuracy(axes: Axes, matured: pd.DataFrame, limits: Mapping[str, float]) -> None:
    for _, version, rows in by_version(matured):
        colour, days = _colour(version), _noons(rows)
        values = rows["average_precision"].astype(float)
        axes.plot(days, values, ".", color=colour, alpha=0.45)
        axes.plot(days, _smooth(values), color=colour, linewidth=2.2, label=f"v{version}")
        if version in limits:
            ends = [days[0] - 0.5, days[-1] + 0.5]
            axes.plot(ends, [limits[version]] * 2, ":", color=colour, linewidth=1.2)
    axes.plot([], [], ".", color="0.4", label="one day")
    axes.plot([], [], color="0.4", label=f"mean of {MEAN_DAYS} days")
    axes.plot([], [], ":", color="0.4", label="the monitor mails below")
    axes.set_ylabel("average precision")
    axes.legend(loc="lower left", ncols=2, fontsize=9)


def _draw_hits(axes: Axes, matured: pd.DataFrame) -> None:
    for _, version, rows in by_version(matured):
        for name, style in (("precision", "-"), ("recall", "--")):
            values = _smooth(rows[name].astype(float))
            axes.plot(_noons(rows), values, style, color=_colour(version), linewidth=1.6)
    for name, style in (("precision", "-"), ("recall", "--")):
        axes.plot([], [], style, color="0.4", label=name)
    axes.set_ylabel("hits")
    axes.legend(loc="lower left", fontsize=9)


def _draw_drift(axes: Axes, metrics: pd.DataFrame) -> None:
    for _, version, rows in by_version(metrics):
        axes.plot(_noons(rows), rows["score_psi"].astype(float), color=_colour(version))
    axes.set_ylabel("drift of the\nscore (PSI)")
    axes.set_ylim(bottom=0)


def _marked(story: Story) -> Iterator[Event]:
    for event in story.events:
        if event.kind in _MARKS:
            yield event


def _style(event: Event) -> str:
    return "-" if event.kind == "change" else "--"


def _colour(version: str) -> str:
    return COLOURS[(int(version) - 1) % len(COLOURS)]


def _noons(rows: pd.DataFrame) -> npt.NDArray[np.float64]:
    return np.array([_at(day) + 0.5 for day in rows["day"]])


def _smooth(values: "pd.Series[float]") -> npt.NDArray[np.float64]:
    mean = values.rolling(MEAN_DAYS, center=True, min_periods=1).mean()
    return mean.to_numpy(np.float64)


def _at(moment: date) -> float:
    """Where matplotlib draws a moment: days since 1970."""
    return pd.Timestamp(moment).timestamp() / 86_400
