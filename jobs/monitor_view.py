"""What the monitor prints in the terminal."""

import math
from collections.abc import Sequence

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from jobs.breaches import Judged

SHOWN_DAYS = 7
_ACCURACY = ("payments", "hits", "labelled", "frauds", "precision", "recall", "AP")
_SERVICE = ("saved USD", "lost USD", "mails", "rejected", "p99 s", "score PSI")


def metrics_view(metrics: pd.DataFrame) -> Group:
    """The last days in rows of `model_metrics` that are matured, and the last that are not, one row
    a version, in two tables; estimates begin with ``~``.
    """
    matured = metrics["is_matured"].astype(bool)
    days = {
        day
        for rows in (metrics[matured], metrics[~matured])
        for day in sorted(rows["day"].unique())[-SHOWN_DAYS:]
    }
    accuracy = _table("by day of receipt and version", _ACCURACY)
    accuracy.caption = "~: estimated from the scores; the truth is not known yet"
    service = _table("money, service and drift of the same", _SERVICE)
    for row in metrics[metrics["day"].isin(days)].to_dict("records"):
        about = "" if row["is_matured"] else "~"
        key = (f"{row['day']:%Y-%m-%d}", f"{row['model_name']} v{row['model_version']}")
        accuracy.add_row(
            *key,
            f"{row['payments']:,}",
            f"{row['hits']:,}",
            f"{row['label_coverage']:.1%}",
            _shown(row["frauds"], ",.0f" if row["is_matured"] else ",.1f", about),
            _shown(row["precision"], ".3f", about),
            _shown(row["recall"], ".3f", about),
            _shown(row["average_precision"], ".3f"),
        )
        service.add_row(
            *key,
            _shown(row["money_saved_usd"], ",.0f", about),
            _shown(row["money_lost_usd"], ",.0f", about),
            f"{row['alerts_sent']:,}",
            f"{row['rejected']:,}",
            _shown(row["delay_seconds_p99"], ",.1f"),
            _shown(row["score_psi"], ".3f"),
        )
    return Group(accuracy, service)


def _table(title: str, numbers: Sequence[str]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 0))
    for name in ("day", "version"):
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def breaches_text(breaches: Sequence[Judged]) -> str:
    """The limits that are passed, one a line."""
    if not breaches:
        return "no limit is passed"
    lines = [f"  {breach.label}: {breach.text}" for breach in breaches]
    return "\n".join(["beyond its limit:", *lines])


def _shown(value: float | None, form: str, about: str = "") -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{about}{value:{form}}"
