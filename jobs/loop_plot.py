"""The plot that ``make loop-demo`` ends with: accuracy over time, and what was done about it."""

from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from itertools import zip_longest

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import dates
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jobs.breaches import by_version
from jobs.loop_story import Event, Kind, Story
from jobs.reference import SCORE

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito's, told apart by everybody
_GREY = "0.35"
_ROOM = timedelta(days=7)  # that a label needs
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
    start, end = _at(story.events[0].moment), _at(ended)
    known_until = _at(matured["day"].max()) + 1 if len(matured) else start
    marked = [event for event in story.events if event.kind in _MARKS]
    figure = Figure(figsize=(11, 8), layout="constrained")
    strip, accuracy, hits, drift = figure.subplots(
        4, sharex=True, gridspec_kw={"height_ratios": (0.6, 3, 1.7, 1.3)}
    )
    _draw_versions(strip, story, ended)
    _draw_moments(strip, marked)
    _draw_accuracy(accuracy, matured, limits)
    _draw_hits(hits, matured)
    _draw_drift(drift, metrics)
    for axes in (accuracy, hits):
        axes.set_ylim(0, 1.03)
        axes.axvspan(known_until, end, color="0.93", zorder=0)
        axes.text(
            (known_until + end) / 2, 0.5, "truth not\nknown yet", rotation=90, ha="center",
            va="center", color="0.4", size=9,
        )  # fmt: skip
    for axes in (accuracy, hits, drift):
        axes.grid(axis="y", color="0.9")
        for event in marked:
            axes.axvline(_at(event.moment), color=_GREY, linewidth=1, linestyle=_style(event))
    strip.set_xlim(start, end)
    drift.xaxis.set_major_locator(dates.DayLocator(interval=7))  # type: ignore[no-untyped-call]
    drift.xaxis.set_major_formatter(dates.DateFormatter("%b %-d"))  # type: ignore[no-untyped-call]
    drift.set_xlabel(f"day of receipt, {ended:%Y} (simulated)")
    return figure


def _draw_versions(axes: Axes, story: Story, ended: datetime) -> None:
    """Bars of who was champion, and who challenger."""
    reigns = [*story.of("champion"), *story.of("promoted")]
    for event, until in _with_ends(reigns, ended):
        _draw_bar(axes, 1, event, until, 0.9)
    moves = sorted([*story.of("retrained"), *story.of("promoted")], key=lambda e: e.moment)
    for event, until in _with_ends(moves, ended):
        if event.kind == "retrained":
            _draw_bar(axes, 0, event, until, 0.5)
    axes.set(ylim=(-0.5, 2.4), yticks=(0, 1), yticklabels=("in shadow", "champion"))
    axes.tick_params(axis="both", length=0)
    axes.spines[:].set_visible(False)


def _with_ends(events: list[Event], ended: datetime) -> Iterator[tuple[Event, datetime]]:
    """Each event, and when the next one came."""
    for event, following in zip_longest(events, events[1:]):
        yield event, following.moment if following else ended


def _draw_bar(axes: Axes, height: float, event: Event, until: datetime, alpha: float) -> None:
    begin, width = _at(event.moment), _at(until) - _at(event.moment)
    axes.barh(height, width, left=begin, height=0.8, color=_colour(event.version), alpha=alpha)
    axes.text(
        begin + 0.4, height, f"v{event.version}", va="center", color="white", weight="bold",
        clip_on=True,
    )  # fmt: skip


def _draw_moments(axes: Axes, marked: list[Event]) -> None:
    """Lines through the bars, each with its name: that of the first on its left, those of the
    others on their right, higher where there is no room.
    """
    level = 0
    for place, event in enumerate(marked):
        is_near = place > 1 and event.moment - marked[place - 1].moment < _ROOM
        level = 1 - level if is_near else 0
        at, text = _at(event.moment), _MARKS[event.kind].format(event.version)
        axes.plot(
            [at, at], [-0.6, 1.7 + level], color=_GREY, linewidth=1, linestyle=_style(event),
            clip_on=False,
        )  # fmt: skip
        side = "right" if place == 0 else "left"
        axes.text(at, 1.75 + level, f" {text}, {event.moment:%b %-d} ", ha=side, size=9)


def _draw_accuracy(axes: Axes, matured: pd.DataFrame, limits: Mapping[str, float]) -> None:
    for _, version, rows in by_version(matured):
        colour, days = _colour(version), _noons(rows)
        values = rows["average_precision"].astype(float)
        axes.plot(days, values, "o-", color=colour, markersize=3.5, label=f"v{version}")
        if version in limits:
            ends = [days[0] - 0.5, days[-1] + 0.5]
            axes.plot(ends, [limits[version]] * 2, ":", color=colour)
    axes.plot([], [], ":", color=_GREY, label="the monitor mails below")
    axes.set_ylabel("average precision")
    axes.legend(loc="lower left", fontsize=9)


def _draw_hits(axes: Axes, matured: pd.DataFrame) -> None:
    styles = (("precision", "-"), ("recall", "--"))
    for _, version, rows in by_version(matured):
        for name, style in styles:
            axes.plot(_noons(rows), rows[name].astype(float), style, color=_colour(version))
    for name, style in styles:
        axes.plot([], [], style, color=_GREY, label=name)
    axes.set_ylabel("hits")
    axes.legend(loc="lower left", fontsize=9)


def _draw_drift(axes: Axes, metrics: pd.DataFrame) -> None:
    for _, version, rows in by_version(metrics):
        sizes = [abs((found or {}).get(SCORE, np.nan)) for found in rows["effect_size"]]
        axes.plot(_noons(rows), sizes, color=_colour(version))
    axes.set_ylabel("drift of the score\n(Cohen's d)")
    axes.set_ylim(bottom=0)


def _style(event: Event) -> str:
    return "-" if event.kind == "change" else "--"


def _colour(version: str) -> str:
    return COLOURS[(int(version) - 1) % len(COLOURS)]


def _noons(rows: pd.DataFrame) -> npt.NDArray[np.float64]:
    return np.array([_at(day) + 0.5 for day in rows["day"]])


def _at(moment: date) -> float:
    """Where matplotlib draws a moment: days since 1970."""
    return pd.Timestamp(moment).timestamp() / 86_400
