"""The drift report: one HTML page, made by evidently, that can be opened without a network.

Only histograms travel with a version, so the page shows the histograms: each number becomes the bin
of the reference that it lies in, and of the reference as many rows are made of each bin as its
share says. So the page shows the same PSI as the table and the alarm, and not that of bins that
evidently would choose. Rows that scored first would be the other reference to compare with; but a
version that does not fit its payments from the first day on would then look well.
"""

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import plotly.graph_objects as go

# Read when evidently is imported: it tells its makers nothing.
os.environ.setdefault("DO_NOT_TRACK", "1")

from evidently import DataDefinition, Dataset, Report
from evidently.core.metric_types import SingleValue, SingleValueCalculation, SingleValueMetric
from evidently.core.report import Context
from evidently.legacy.renderers.html_widgets import (
    header_text,
    plotly_figure,
    table_data,
    text_widget,
)
from evidently.presets import DataDriftPreset

from conf.sections import MonitorSettings
from jobs.breaches import drift_limits
from jobs.drift import CATEGORY, Drift
from jobs.reference import SCORE, Histogram, Reference
from jobs.windows import Floats

MOST_ROWS = 20_000
LARGE_PLOTS = 4
MISSING, OTHERS = "missing", "others"

_HEAD = ("", "PSI", "at most", "effect size", "at most")


class _Summary(SingleValueMetric):  # type: ignore[misc]
    """The page's head: what is compared, and the numbers that the alarm goes by."""

    title: str
    text: str
    rows: list[list[str]]


class _SummaryCalculation(SingleValueCalculation[_Summary]):  # type: ignore[misc]
    def calculate(
        self, context: Context, current_data: Dataset, reference_data: Dataset | None
    ) -> SingleValue:
        result = self.result(len(self.metric.rows))
        result.widget = [
            header_text(label=self.metric.title),
            text_widget(text=self.metric.text),
            table_data(column_names=list(_HEAD), data=self.metric.rows),
        ]
        if reference_data is not None:
            sides = reference_data.as_dataframe(), current_data.as_dataframe()
            names = [name for name, *_ in self.metric.rows[:LARGE_PLOTS]]
            result.widget += [
                plotly_figure(title=name, figure=_bars(*(side[name] for side in sides)))
                for name in names
            ]
        return result

    def display_name(self) -> str:
        return str(self.metric.title)


def drift_page(
    payments: pd.DataFrame,
    reference: Reference,
    drift: Drift,
    title: str,
    limits: MonitorSettings,
) -> str:
    """The page as HTML, about 4 MB, most of it the code that draws the plots.

    Args:
        payments: n rows, n at least 1, as ``jobs.drift.drift_from`` takes them; of more than
            ``MOST_ROWS`` as many are drawn.
        drift: of these payments.
        title: what is compared.
    """
    if len(payments) > MOST_ROWS:
        payments = payments.sample(MOST_ROWS, random_state=1)
    names = sorted(drift.psi, key=lambda name: -drift.psi[name])
    current = pd.DataFrame({name: _found(name, payments, reference) for name in names})
    expected = pd.DataFrame({name: _made(name, len(payments), reference) for name in names})
    columns = DataDefinition(categorical_columns=names)
    report = Report(
        [
            _Summary(
                title=title,
                text=_text(payments),
                rows=[_row(name, drift, limits) for name in names],
            ),
            DataDriftPreset(
                method="psi",
                per_column_threshold={name: drift_limits(name, limits)[0] for name in names},
                drift_share=0.01,  # of any column
            ),
        ],
        include_tests=False,
    )
    snapshot = report.run(
        Dataset.from_pandas(current, columns), Dataset.from_pandas(expected, columns)
    )
    return str(snapshot.get_html_str(as_iframe=False))


def _bars(expected: pd.Series, found: pd.Series) -> go.Figure:
    """The shares of each bin, side by side; evidently's own plots order bins by their size."""
    bins = sorted({*expected.dropna(), *found.dropna()})
    return go.Figure(
        [
            go.Bar(name=name, marker_color=colour, x=bins, y=shares.reindex(bins, fill_value=0.0))
            for name, colour, shares in (
                ("reference", "#4d4d4d", expected.value_counts(normalize=True)),
                ("current", "#ed0400", found.value_counts(normalize=True)),
            )
        ],
        {"yaxis": {"title": "share", "tickformat": ".0%"}},
    )


def _text(payments: pd.DataFrame) -> str:
    return (
        f"*Current* are {len(payments):,} payments. *Reference* is what the version was trained "
        "on: its histograms travel with it, and its rows here are made from them, so many of each "
        "bin; those of two columns do not belong together. Each number is shown as the bin it lies "
        "in. PSI: below 0.1 nothing changed, above 0.25 much did. Effect size: the difference of "
        f"the means in standard deviations (Cohen's d), of `{CATEGORY}` Cramér's V. Those that "
        "differ most are shown below; of the others, a row of the last table opens with a click."
    )


def _row(name: str, drift: Drift, limits: MonitorSettings) -> list[str]:
    most_psi, most_effect = drift_limits(name, limits)
    effect = drift.effect_size.get(name)
    shown = "-" if effect is None else f"{effect:+.3f}"
    return [name, f"{drift.psi[name]:.4f}", f"{most_psi:g}", shown, f"{most_effect:g}"]


def _found(name: str, payments: pd.DataFrame, reference: Reference) -> pd.Series:
    if name == CATEGORY:
        category = payments[CATEGORY]
        return category.where(category.isin(list(reference.categories)), OTHERS).reset_index(
            drop=True
        )
    histogram, values = reference.numeric[name], payments[name].to_numpy(np.float64)
    labels = np.array([*_bins(histogram), MISSING], dtype=object)
    place = np.searchsorted(np.array(histogram.edges), values, side="right")
    found = pd.Series(labels[np.where(np.isnan(values), len(labels) - 1, place)])
    # Another version's payments have no score of this one.
    return found.mask(np.isnan(values)) if name == SCORE else found


def _made(name: str, rows: int, reference: Reference) -> pd.Series:
    """``rows`` rows as the reference has them."""
    if name == CATEGORY:
        return _in_shares({**reference.categories, OTHERS: 0.0}, rows, rest=OTHERS)
    histogram = reference.numeric[name]
    shares = dict(zip(_bins(histogram), histogram.shares, strict=True))
    return _in_shares(shares | {MISSING: histogram.missing}, rows, rest=MISSING)


def _in_shares(shares: Mapping[str, float], rows: int, rest: str) -> pd.Series:
    """So many of each as its share of ``rows``, to the nearest whole row; ``rest`` fills up what
    the shares leave over.
    """
    ends: Floats = np.cumsum(list(shares.values()))
    counts = np.diff(np.minimum(np.rint(ends * rows), rows), prepend=0).astype(int)
    left = rows - int(counts.sum())
    return pd.Series(np.repeat([*shares, rest], [*counts, left]).astype(object))


def _bins(histogram: Histogram) -> Sequence[str]:
    """A name for each bin; their order is that of the alphabet."""
    edges = [f"{edge:,.6g}" for edge in histogram.edges]
    if not edges:
        return ["1: any"]
    ranges = [f"below {edges[0]}"]
    ranges += [f"{low} to {high}" for low, high in pairwise(edges)]
    ranges.append(f"from {edges[-1]}")
    width = len(str(len(ranges)))
    return [f"{place:0{width}d}: {name}" for place, name in enumerate(ranges, 1)]
