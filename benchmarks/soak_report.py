"""What the soak tells: a CSV of all samples, a plot, and whether each curve is flat."""

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from rich.console import Console
from rich.table import Table
from scipy.stats import theilslopes

mpl.use("Agg")

FLAT_SHARE = 0.1
"""A curve is flat whose slope is less than this share of its median in an hour."""
CONFIDENCE = 0.9
_PANEL_INCHES = (4.6, 2.7)
_COLUMNS = 3


@dataclass(frozen=True)
class Panel:
    """A plot: columns of the samples by label. ``grows``: why it may, where it does by design;
    ``least``: a slope below this in an hour is none, whatever the median.
    """

    title: str
    unit: str
    lines: dict[str, str]
    least: float
    grows: str = ""


PANELS = (
    Panel("Memory: score job", "MB resident", {
        "JVM": "score_jvm_mb", "Python workers": "score_workers_mb", "driver": "score_python_mb",
    }, 20),
    Panel("Memory: alert job", "MB resident", {
        "JVM": "alert_jvm_mb", "driver": "alert_python_mb",
    }, 20),
    Panel("Heap after a full collection", "MB", {
        "score": "score_live_mb", "alert": "alert_live_mb",
    }, 20),
    Panel("Memory: other jobs", "MB resident", {
        "label": "label_python_mb", "maintain": "maintain_python_mb",
        "monitor": "monitor_python_mb", "ingest": "ingest_python_mb",
    }, 20),
    Panel("Micro-batch", "seconds", {
        "median": "batch_seconds", "longest": "batch_seconds_max",
    }, 0.1),
    Panel("Commit of a micro-batch", "seconds", {
        "median": "commit_seconds", "longest": "commit_seconds_max",
    }, 0.05),
    Panel("Delay, receipt to score", "seconds", {"p50": "delay_p50", "p99": "delay_p99"}, 0.1),
    Panel("Payments scored", "a second", {"last minute": "payments_per_second"}, 1),
    Panel("Files: tables", "files", {"data": "data_files", "logs": "log_files"}, 20),
    Panel("Files: landing and checkpoints", "files", {
        "landing": "landing_files", "score": "score_checkpoint_files",
        "alert": "alert_checkpoint_files",
    }, 20),
    Panel("Opening the table of payments", "seconds", {"transactions": "open_seconds"}, 0.02),
    Panel("Bytes: tables", "MB", {"data": "data_mb"}, 1, "holds every payment"),
    Panel("Bytes: logs and landing", "MB", {"logs": "log_mb", "landing": "landing_mb"}, 1),
    Panel("Bytes: checkpoints", "MB", {
        "score": "score_checkpoint_mb", "file source's log": "source_log_mb",
    }, 1, "remembers payments, and files"),
)  # fmt: skip


@dataclass(frozen=True)
class Trend:
    """A curve after the warm-up: its median, and its slope an hour with the interval's ends."""

    panel: Panel
    label: str
    median: float
    slope: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """`flat`, `rises`, `falls`, or why it grows."""
        bound = max(FLAT_SHARE * abs(self.median), self.panel.least)
        if abs(self.slope) <= bound or self.low <= 0 <= self.high:
            return "flat"
        if self.slope < 0:
            return "falls"
        return f"grows: {self.panel.grows}" if self.panel.grows else "rises"


def trends(samples: pd.DataFrame, warm_minutes: float) -> list[Trend]:
    """The trend of each curve (Theil-Sen: the median of the slopes between all pairs of samples, so
    that neither outliers nor a saw's teeth turn it), with 90 % confidence.
    """
    steady = samples[samples["minutes"] >= warm_minutes]
    found = []
    for panel in PANELS:
        for label, column in panel.lines.items():
            values = steady[["minutes", column]].dropna() if column in steady else steady[:0]
            if len(values) < 3:
                continue
            slope, _, low, high = theilslopes(values[column], values["minutes"] / 60, CONFIDENCE)
            found.append(Trend(panel, label, values[column].median(), slope, low, high))
    return found


def print_trends(console: Console, found: list[Trend]) -> None:
    """The table of flatness."""
    table = Table(title="after the warm-up: median, and change in an hour")
    for name in ("what", "unit", "median", "an hour", "90 % interval", "verdict"):
        table.add_column(name, justify="left" if name in ("what", "unit", "verdict") else "right")
    for trend in found:
        table.add_row(
            f"{trend.panel.title}: {trend.label}", trend.panel.unit, f"{trend.median:,.2f}",
            f"{trend.slope:+,.2f}", f"{trend.low:+,.2f} to {trend.high:+,.2f}", trend.verdict,
        )  # fmt: skip
    console.print(table)


def draw(samples: pd.DataFrame, warm_minutes: float, path: Path) -> None:
    """The curves over time, one small plot for each panel; the warm-up is shaded."""
    rows = -(-len(PANELS) // _COLUMNS)
    width, height = _PANEL_INCHES
    figure, axes = plt.subplots(
        rows, _COLUMNS, figsize=(width * _COLUMNS, height * rows), sharex=True,
        layout="constrained", squeeze=False,
    )  # fmt: skip
    for panel, axis in zip(PANELS, axes.flat, strict=False):
        for label, column in panel.lines.items():
            if column in samples:
                values = samples[["minutes", column]].dropna()
                axis.plot(values["minutes"], values[column], label=label, linewidth=1.2)
        axis.axvspan(0, warm_minutes, color="#eeeeee", zorder=0)
        axis.set_title(panel.title, loc="left", fontsize=10)
        axis.set_ylabel(panel.unit)
        axis.set_ylim(bottom=0)
        axis.set_xlim(left=0)
        axis.yaxis.set_major_formatter("{x:,g}")
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelbottom=True)
        if len(panel.lines) > 1:
            axis.legend(frameon=False, fontsize=8)
    for axis in axes.flat[len(PANELS) :]:
        axis.set_axis_off()
    for axis in axes.flat[len(PANELS) - _COLUMNS : len(PANELS)]:
        axis.set_xlabel("minutes since the start")
    figure.savefig(path, dpi=130)
    plt.close(figure)
