import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from conf.sections import MonitorSettings
from jobs.drift import CATEGORY, drift_from
from jobs.drift_report import MISSING, OTHERS, _found, _made, drift_page
from jobs.reference import SCORE, Reference

ROWS = 3000
RNG = np.random.default_rng(5)


def some_payments(mean=50.0):
    amounts = RNG.normal(mean, 10, ROWS)
    amounts[:300] = np.nan
    return pd.DataFrame(
        {"amount": amounts, "steady": 1.0, SCORE: RNG.beta(1, 50, ROWS)}
        | {CATEGORY: RNG.choice(["home", "travel", "food"], ROWS, p=[0.5, 0.3, 0.2])}
    )


@pytest.fixture(scope="module")
def past():
    frame = some_payments()
    return Reference.of(frame[["amount", "steady"]], frame[SCORE].to_numpy(), frame[CATEGORY])


@pytest.fixture(scope="module")
def now():
    frame = some_payments(60)
    frame.loc[:500, CATEGORY] = "bitcoin"
    return frame


@pytest.fixture(scope="module")
def page(past, now):
    drift = drift_from(past, now)
    return drift_page(now, past, drift, "fraud v3: <a week>", MonitorSettings())


class Loads(HTMLParser):
    """The addresses that a browser loads by itself when it opens the page."""

    def __init__(self, content):
        super().__init__()
        self.addresses, self.tags = [], []
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        values = dict(attrs)
        self.addresses += [values[name] for name in ("src", "srcset", "data") if values.get(name)]
        if tag in ("link", "base"):
            self.addresses.append(values.get("href", ""))


def test_the_page_loads_nothing_from_elsewhere(page):
    loads = Loads(page)
    assert "script" in loads.tags
    assert [found for found in loads.addresses if not found.startswith(("data:", "#"))] == []
    assert re.findall(r"(?:@import\s+|url\()['\"]?(?:https?:)?//", page) == []


def test_the_page_is_small_enough_for_a_mail(page):
    assert len(page.encode()) < 6e6


def test_the_page_has_the_numbers_of_the_alarm_and_the_plots(page, past, now):
    drift = drift_from(past, now)
    for name in ("amount", "steady", SCORE, CATEGORY):
        assert f"{drift.psi[name]:.4f}" in page
    assert f"{drift.effect_size['amount']:+.3f}" in page
    assert '"type": "bar"' in page
    assert "3,000 payments" in page


def test_rows_of_the_reference_have_its_shares(past, now):
    counts = _made("amount", ROWS, past).value_counts()
    assert counts[MISSING] == 300
    assert counts.sum() == ROWS
    assert counts.drop(MISSING).between(269, 271).all()
    assert _made(CATEGORY, ROWS, past).value_counts(normalize=True)["home"] == pytest.approx(
        past.categories["home"], abs=1e-3
    )


def test_payments_lie_in_the_bins_of_the_reference(past, now):
    found = _found("amount", now, past).value_counts(normalize=True)
    shares, missing = past.numeric["amount"].shares_of(now["amount"].to_numpy())
    assert found[MISSING] == pytest.approx(missing)
    np.testing.assert_allclose(found.drop(MISSING).sort_index(), shares)
    edges = past.numeric["amount"].edges
    on_edges = _found("amount", pd.DataFrame({"amount": edges}), past)
    assert [name.split(": ")[0] for name in on_edges] == [f"{n:02d}" for n in range(2, 11)]
    assert _found(CATEGORY, now, past).value_counts()[OTHERS] == 501
    assert set(_found("steady", now, past)) == set(_made("steady", 5, past)) == {"1: any"}


def test_nothing_is_told_to_the_makers_of_the_library(page):
    from evidently.telemetry import event_logger

    assert not event_logger.enabled()
