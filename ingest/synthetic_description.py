"""Statistics of a set of payments, as tables: what the generator is compared by."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table

from ingest.payment_files import event_times

PAUSE_BETWEEN_BURSTS = pd.Timedelta(days=4)
NO_FIGURE = "-"

Facts = dict[str, str]


def overall_facts(payments: pd.DataFrame) -> Facts:
    """Name and figure of each statistic that holds for ``payments`` as a whole.

    Args:
        payments: as ``ingest.payment_files.read_payments`` or ``ingest.synthetic.payments`` give.
    """
    times = event_times(payments)
    is_fraud = payments["is_fraud"] == 1
    hours, fraud_hours = times[~is_fraud].dt.hour, times[is_fraud].dt.hour
    span_days = max((times.max() - times.min()).total_seconds() / 86_400, 1.0)
    per_day = payments.loc[~is_fraud, "cc_num"].value_counts() / span_days
    holders = payments.drop_duplicates("cc_num")
    ages = times.max().year - holders["dob"].str[:4].astype(float)
    return {
        "payments": f"{len(payments):,}",
        "days": f"{span_days:,.0f}",
        "cards": f"{len(holders):,}",
        "merchants": f"{payments['merchant'].nunique():,}",
        "fraudulent payments, %": _figure(100 * is_fraud.mean(), 2),
        "genuine payments a card and day, mean": _figure(per_day.mean(), 2),
        "... deviation between cards": _figure(per_day.std(), 2),
        "age of a card holder, 5 % / median / 95 %": _quantiles(ages, 0.05, 0.5, 0.95),
        "Friday to Sunday, % of the genuine": _share(times[~is_fraud].dt.weekday >= 4),
        "a day in December / in another month": _december(times),
        "0 to 11 h, % of the genuine": _share(hours < 12),
        "22 and 23 h, % of the fraudulent": _share(fraud_hours >= 22),
        "0 to 3 h, % of the fraudulent": _share(fraud_hours < 4),
        **_burst_facts(payments.assign(event_time=times)),
        "frauds with an amount like 98 % of the genuine, %": _overlap(payments),
    }


def category_facts(payments: pd.DataFrame) -> dict[str, Facts]:
    """For each category the shares, hours and amounts of its payments, by name."""
    hours = event_times(payments).dt.hour
    is_fraud = payments["is_fraud"] == 1
    facts = {}
    for category, rows in payments.groupby("category"):
        genuine, fraud = rows[rows["is_fraud"] == 0], rows[rows["is_fraud"] == 1]
        facts[str(category)] = {
            "genuine %": _figure(100 * len(genuine) / max((~is_fraud).sum(), 1)),
            "0-11 h %": _share(hours[genuine.index] < 12),
            "genuine $ 50 / 95 / 99 %": _quantiles(genuine["amt"], 0.5, 0.95, 0.99),
            "fraud %": _figure(100 * len(fraud) / max(is_fraud.sum(), 1)),
            "fraud $ 5 / 50 / 95 %": _quantiles(fraud["amt"], 0.05, 0.5, 0.95),
        }
    return facts


def overall_table(sets: Mapping[str, pd.DataFrame]) -> Table:
    """``overall_facts`` of the ``sets`` of payments, by name, side by side; Markdown."""
    facts = {name: overall_facts(payments) for name, payments in sets.items()}
    table = Table("statistic", box=box.MARKDOWN)
    for name in facts:
        table.add_column(name, justify="right", overflow="fold")
    for statistic in next(iter(facts.values()), {}):
        table.add_row(statistic, *(of_set[statistic] for of_set in facts.values()))
    return table


def category_table(sets: Mapping[str, pd.DataFrame]) -> Table:
    """``category_facts`` of the ``sets`` of payments, by name, under one another; Markdown."""
    facts = {name: category_facts(payments) for name, payments in sets.items()}
    table = Table("category", "payments", box=box.MARKDOWN)
    statistics = next((list(row) for of_set in facts.values() for row in of_set.values()), [])
    for statistic in statistics:
        table.add_column(statistic, justify="right", overflow="fold")
    for category in sorted({name for of_set in facts.values() for name in of_set}):
        for name, of_set in facts.items():
            if category in of_set:
                table.add_row(category, name, *of_set[category].values())
    return table


def _burst_facts(payments: pd.DataFrame) -> Facts:
    fraud = payments[payments["is_fraud"] == 1].sort_values(["cc_num", "event_time"])
    gaps = fraud.groupby("cc_num")["event_time"].diff()
    is_first = gaps.isna() | (gaps > PAUSE_BETWEEN_BURSTS)
    bursts = fraud.groupby(is_first.cumsum())["event_time"].agg(["size", "min", "max"])
    begun = fraud.loc[is_first, "cc_num"].to_numpy()
    days = (bursts["max"] - bursts["min"]).dt.total_seconds() / 86_400
    minutes = gaps[~is_first].dt.total_seconds() / 60
    spans = bursts.assign(cc_num=begun).merge(payments[payments["is_fraud"] == 0], on="cc_num")
    beside = spans["event_time"].between(spans["min"], spans["max"]).sum()
    return {
        "bursts of fraud": f"{len(bursts):,}",
        "cards with a second burst": f"{len(begun) - len(set(begun)):,}",
        "payments in a burst, 5 % / median / 95 %": _quantiles(bursts["size"], 0.05, 0.5, 0.95),
        "days from its first to its last, median": _figure(days.median(), 2),
        "minutes from one to the next, median": _figure(minutes.median(), 0),
        "genuine payments beside a burst, mean": _figure(beside / max(len(bursts), 1)),
    }


def _overlap(payments: pd.DataFrame) -> str:
    genuine = payments[payments["is_fraud"] == 0].groupby("category")["amt"]
    fraud = payments[payments["is_fraud"] == 1]
    low, high = (fraud["category"].map(genuine.quantile(share)) for share in (0.01, 0.99))
    return _share((fraud["amt"] >= low) & (fraud["amt"] <= high))


def _december(times: "pd.Series[pd.Timestamp]") -> str:
    by_day = times.dt.floor("D").value_counts()
    is_december = pd.DatetimeIndex(by_day.index).month == 12
    if is_december.all() or not is_december.any():
        return NO_FIGURE
    return _figure(by_day[is_december].mean() / by_day[~is_december].mean(), 2)


def _share(condition: "pd.Series[bool]") -> str:
    return _figure(100 * condition.mean()) if len(condition) else NO_FIGURE


def _quantiles(values: "pd.Series[float]", *shares: float) -> str:
    if not len(values):
        return NO_FIGURE
    found = (float(values.quantile(share)) for share in shares)
    return " / ".join(f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}" for value in found)


def _figure(value: float, digits: int = 1) -> str:
    return f"{value:,.{digits}f}" if np.isfinite(value) else NO_FIGURE
