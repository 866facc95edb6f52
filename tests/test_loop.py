"""The loop closes: fraud changes, the monitor notices, a version that learned it takes over."""

import pytest

import jobs.monitor
from conf.settings import load_settings
from jobs.breaches import mean_average_precision
from jobs.loop_day import Loop
from jobs.loop_view import subjects
from jobs.mail_catcher import catcher
from jobs.metrics_table import latest_metrics
from tests.conftest import PROJECT, free_port

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

DAYS, CHANGE = 24, 8
MATURITY = 2


def changed(settings, **sections):
    return settings.model_copy(
        update={
            name: getattr(settings, name).model_copy(update=values)
            for name, values in sections.items()
        }
    )


@pytest.fixture
def small(environment, tmp_path):
    """``conf/loop.toml`` with fewer cards and days, robbed more often, and everything sooner."""
    return changed(
        load_settings(PROJECT / "conf" / "loop.toml"),
        loop={
            "days": DAYS, "cards": 300, "burst_cycle_days": 60, "training_days": 30,
            "change_after_days": CHANGE, "report_days": MATURITY, "gather_days": 3, "compare_every_days": 2,
        },
        label={"maturity_days": MATURITY, "review_share": 0.02},
        # Days are no whole weeks here, and a month's counts have no month behind them.
        monitor={"window_days": 3, "max_feature_psi": 5.0, "max_effect_size": 2.0},
        score={"history": (str(tmp_path / "training.csv"),)},
        smtp={"port": free_port()},
    )  # fmt: skip


@pytest.fixture
def mails(small, tmp_path):
    relay = catcher(tmp_path / "mails", small.smtp.host, small.smtp.port)
    relay.start()
    yield tmp_path / "mails"
    relay.stop()


def accuracy(metrics, version, since, until=None):
    own = metrics[(metrics["model_version"] == version) & metrics["is_matured"].astype(bool)]
    is_asked = own["day"] >= since.date()
    if until is not None:
        is_asked &= own["day"] < until.date()
    return mean_average_precision(own[is_asked])


def only(events):
    (event,) = events
    return event


def test_a_change_of_fraud_is_noticed_learned_and_mended(
    spark, small, mails, tmp_path, monkeypatch
):
    monkeypatch.setattr(jobs.monitor, "drift_page", lambda *arguments: "<html></html>")
    days, loop = [], Loop(spark, small, tmp_path / "training.csv")
    loop.play(days.append)
    for d in days:
        print(
            d.began,
            d.versions,
            d.hits,
            d.verdicts,
            [b.label + b.text for b in d.look.breaches],
            d.events,
        )
    metrics = latest_metrics(small.warehouse.table("model_metrics"))
    print(
        metrics[
            [
                "day",
                "model_version",
                "is_matured",
                "frauds",
                "average_precision",
                "precision",
                "recall",
                "score_psi",
            ]
        ]
    )
    print(subjects(mails))
    assert 0
