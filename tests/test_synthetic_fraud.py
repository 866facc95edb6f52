"""Fraud that changes at a known time, and how often there is fraud."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pandas as pd
import pytest
from sklearn.metrics import average_precision_score
from threadpoolctl import threadpool_limits

from conf.sections import TrainSettings
from ingest.payment_files import read_payments
from ingest.schema import check_payment
from ingest.synthetic import FraudPlan, make_population, payments
from ingest.synthetic_fraud import parse_moment
from ingest.synthetic_habits import CHANGED_FRAUD
from training.fit import fraud_probability, train_model
from training.pipeline import model_columns

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 120
CYCLE_DAYS = 140  # a cycle begins on the 17th day: no card is robbed twice after the change
CHANGE = datetime(2024, 3, 1, tzinfo=UTC)
UNCHANGED, CHANGED = FraudPlan(None, CYCLE_DAYS), FraudPlan(CHANGE, CYCLE_DAYS)


@pytest.fixture(scope="module")
def population():
    return make_population(seed=1, cards=150)


@pytest.fixture(scope="module")
def unchanged(population):
    return payments(population, START, DAYS, 1, UNCHANGED)


@pytest.fixture(scope="module")
def changed(population):
    return payments(population, START, DAYS, 1, CHANGED)


@pytest.fixture(scope="module")
def new_frauds(changed, unchanged):
    """The frauds that there are with the change alone."""
    is_new = (changed["is_fraud"] == 1) & ~changed["trans_num"].isin(unchanged["trans_num"])
    return changed[is_new]


def part(frame: pd.DataFrame, condition: pd.Series) -> pd.DataFrame:
    return frame[condition].reset_index(drop=True)


def test_genuine_payments_and_all_before_the_change_stay_the_same(changed, unchanged):
    for frame in (changed, unchanged):
        assert (frame["unix_time"] < CHANGE.timestamp()).any()
    pd.testing.assert_frame_equal(
        part(changed, changed["unix_time"] < CHANGE.timestamp()),
        part(unchanged, unchanged["unix_time"] < CHANGE.timestamp()),
    )
    pd.testing.assert_frame_equal(
        part(changed, changed["is_fraud"] == 0), part(unchanged, unchanged["is_fraud"] == 0)
    )


def test_bursts_that_have_begun_go_on_as_they_began(changed, unchanged):
    """Of the frauds after the change only those stay whose burst began on the day before it."""
    kept = changed[(changed["is_fraud"] == 1) & changed["trans_num"].isin(unchanged["trans_num"])]
    after = kept[kept["unix_time"] >= CHANGE.timestamp()]

    assert len(after) > 0
    assert after["unix_time"].max() < (CHANGE + timedelta(days=1)).timestamp()
    begun_before = kept[kept["unix_time"] < CHANGE.timestamp()]["cc_num"]
    assert set(after["cc_num"]) <= set(begun_before)


def test_the_same_cards_are_robbed_on_the_same_days(new_frauds, unchanged, changed):
    gone = unchanged[~unchanged["trans_num"].isin(changed["trans_num"])]
    before, after = (
        frame.groupby("cc_num")["unix_time"].min() // 86_400 for frame in (gone, new_frauds)
    )

    # An old burst has its first payment on the second of its two days now and then.
    assert set(before.index) == set(after.index)
    assert (before - after).isin([0, 1]).all()
    assert (before == after).mean() > 0.9


def test_a_changed_burst_is_many_middling_payments_by_day(new_frauds):
    times = pd.to_datetime(new_frauds["trans_date_trans_time"])
    bursts = new_frauds.groupby("cc_num")["unix_time"].agg(["size", "min", "max"])

    assert times.min() >= pd.Timestamp(CHANGE).tz_localize(None)
    assert times.dt.hour.between(9, 20).all()
    assert len(bursts) > 50
    assert bursts["size"].between(6, 26).all()
    assert 12 <= bursts["size"].median() <= 16
    assert ((bursts["max"] - bursts["min"]) / bursts["size"]).median() < 600
    assert set(new_frauds["category"]) == set(CHANGED_FRAUD)
    assert 60 < new_frauds["amt"].quantile(0.1) < new_frauds["amt"].quantile(0.9) < 300


def test_changed_payments_fit_the_schema(new_frauds):
    for row in new_frauds.head(50).to_dict("records"):
        check_payment(row)


def test_changed_bursts_have_genuine_amounts_among_them(new_frauds):
    assert (new_frauds["amt"] < min(fraud.amounts_usd[0] for fraud in CHANGED_FRAUD.values())).any()


def test_periods_add_up_to_the_whole_however_time_is_cut(population, changed, new_frauds):
    in_a_changed_burst = datetime.fromtimestamp(int(new_frauds["unix_time"].iloc[5]), UTC)
    cuts = [
        START,
        CHANGE - timedelta(hours=3),
        CHANGE + timedelta(hours=1),
        in_a_changed_burst,
        START + timedelta(days=DAYS),
    ]

    parts = []
    for start, stop in pairwise(cuts):
        days = (stop - start).days + 1
        made = payments(population, start, days, 1, CHANGED)
        parts.append(made[made["unix_time"] < stop.timestamp()])

    assert all(len(made) for made in parts)
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), changed)


def test_a_change_within_a_day_holds_for_the_bursts_of_the_next(population, changed):
    within = CHANGE - timedelta(hours=23, seconds=59)
    same = FraudPlan(within.astimezone(timezone(timedelta(hours=-5))), CYCLE_DAYS)

    made = payments(population, START, DAYS, 1, same)

    pd.testing.assert_frame_equal(made, changed)


def test_a_shorter_cycle_makes_more_bursts_and_leaves_the_genuine(population, unchanged):
    default = payments(population, START, DAYS, 1)

    pd.testing.assert_frame_equal(
        part(default, default["is_fraud"] == 0), part(unchanged, unchanged["is_fraud"] == 0)
    )
    ratio = unchanged["is_fraud"].sum() / default["is_fraud"].sum()
    assert 0.6 * 730 / CYCLE_DAYS < ratio < 1.6 * 730 / CYCLE_DAYS


def test_plans_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"with its time zone, .* found 2024-03-01T00:00:00"):
        FraudPlan(datetime(2024, 3, 1))
    with pytest.raises(ValueError, match="at least 1 day, found 0"):
        FraudPlan(cycle_days=0)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        (None, None),
        ("2024-03-01", CHANGE),
        ("2024-03-01T00:00Z", CHANGE),
        ("2024-03-01 02:00:00+02:00", CHANGE),
    ],
)
def test_moments_are_read(text, moment):
    assert parse_moment(text) == moment


@pytest.mark.parametrize("text", ["", "July", "2024-13-01", "2024-03-01T00:00", "1709251200"])
def test_moments_that_cannot_be_read_are_refused(text):
    with pytest.raises(ValueError, match=r"expected a day such as .* found") as refused:
        parse_moment(text)
    assert repr(text) in str(refused.value)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_model_loses_its_precision_at_the_change_and_learns_it_again(tmp_path):
    """Average precision: trained before the change; and with three weeks behind it."""
    learned, later = CHANGE + timedelta(days=21), CHANGE + timedelta(days=49)
    plan = FraudPlan(CHANGE, 240)
    made = payments(make_population(seed=2, cards=250), START, (later - START).days, 1, plan)
    made.to_csv(tmp_path / "payments.csv")
    known = read_payments(tmp_path / "payments.csv")
    time = known["event_time"]
    after = known[time >= learned]

    def precision(trained):
        columns = model_columns(known)[time >= learned]
        return average_precision_score(after["is_fraud"], fraud_probability(trained, columns))

    with threadpool_limits(1):
        before = train_model(known[time < CHANGE], TrainSettings())
        again = train_model(known[time < learned], TrainSettings())
        found = (
            before.metrics["average_precision"],
            precision(before.model),
            precision(again.model),
        )
    assert found[0] > 0.85
    assert found[1] < 0.2
    assert found[2] > 0.8
