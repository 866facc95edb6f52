"""What the monitor prints in the terminal."""

import math
from collections.abc import Sequence

import pandas as pd
from rich.table import Table

from jobs.breaches import Breach

SHOWN_DAYS = 7
_NUMBERS = (
    "payments", "hits", "labelled", "frauds", "precision", "recall", "AP", "saved USD", "lost USD",
    "mails", "rejected", "p99 s", "score PSI",
)  # fmt: skip


def metrics_view(metrics: pd.DataFrame) -> Table:
    """The last days in rows of `model_metrics` that are matured, and the last that are not, one row
    a version; estimates begin with ``~``.
    """
    matured = metrics["is_matured"].astype(bool)
    days = {
        day
        for rows in (metrics[matured], metrics[~matured])
        for day in sorted(rows["day"].unique())[-SHOWN_DAYS:]
    }
    table = Table(
        title="day of receipt and model version",
        caption="~: estimated from the scores; the truth is not known yet",
    )
    for name in ("day", "version"):
        table.add_column(name)
    for name in _NUMBERS:
        table.add_column(name, justify="right")
    for row in metrics[metrics["day"].isin(days)].to_dict("records"):
        about = "" if row["is_matured"] else "~"
        table.add_row(
            f"{row['day']:%Y-%m-%d}",
            f"{row['model_name']} v{row['model_version']}",
            f"{row['payments']:,}",
            f"{row['hits']:,}",
            f"{row['labelled']:,} ({row['label_coverage']:.1%})",
            _shown(row["frauds"], ",.0f" if row["is_matured"] else ",.1f", about),
            _shown(row["precision"], ".3f", about),
            _shown(row["recall"], ".3f", about),
            _shown(row["average_precision"], ".3f"),
            _shown(row["money_saved_usd"], ",.0f", about),
            _shown(row["money_lost_usd"], ",.0f", about),
            f"{row['alerts_sent']:,}",
            f"{row['rejected']:,}",
            _shown(row["delay_seconds_p99"], ",.1f"),
            _shown(row["score_psi"], ".3f"),
        )
    return table


def breaches_text(breaches: Sequence[Breach]) -> str:
    """The limits that are passed, one a line."""
    if not breaches:
        return "no limit is passed"
    lines = [f"  {breach.label}: {breach.text}" for breach in breaches]
    return "\n".join(["beyond its limit:", *lines])


def _shown(value: float | None, form: str, about: str = "") -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{about}{value:{form}}"
