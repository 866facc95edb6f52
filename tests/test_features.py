import numpy as np
import pandas as pd
import pytest

from ingest.schema import check_payment
from jobs.describe_features import PAGE, page
from jobs.feature_pass import feature_frame
from jobs.features import FEATURE_NAMES, FEATURES
from jobs.model import inputs_of
from tests.conftest import payment


def frame(*payments):
    return pd.DataFrame([check_payment(item) for item in payments])


def test_values_of_a_payment():
    features = feature_frame(
        frame(
            payment(
                amt=12.5, dob="1984-06-01", current_time=..., trans_date_trans_time="2024-06-02 23:59:59",
                lat=0.0, long=0.0, merch_lat=0.0, merch_long=1.0,
            )
        )
    ).iloc[0]  # fmt: skip
    assert features["amount_usd"] == 12.5
    assert features["hour_of_day"] == 23
    assert features["day_of_week"] == 6  # a Sunday
    assert features["age_years"] == pytest.approx(40.0, abs=0.01)
    # One degree of a circle of 6371.0088 km.
    assert features["home_to_merchant_km"] == pytest.approx(111.195, abs=0.001)


def test_names_units_and_meanings_stand_with_the_definition():
    assert tuple(feature.compute.__name__ for feature in FEATURES) == FEATURE_NAMES
    assert all(feature.unit and feature.meaning.endswith(".") for feature in FEATURES)


def test_weekday_and_hour_agree_with_the_calendar():
    moments = pd.date_range("1969-12-28", "2031-01-01", freq="37h", tz="UTC")
    moments = moments[moments >= "1970-01-01"]
    rows = pd.concat([frame(payment())] * len(moments), ignore_index=True)
    rows["event_time"] = moments
    features = feature_frame(rows)
    assert (features["day_of_week"].to_numpy() == moments.weekday).all()
    assert (features["hour_of_day"].to_numpy() == moments.hour).all()


def test_a_history_is_what_came_before_and_the_index_stays():
    payments = frame(payment(1, amt=1), payment(2, amt=2))
    payments.index = [7, 3]
    with_history = feature_frame(payments, history=frame(payment(3, amt=3)))
    whole = feature_frame(frame(payment(3, amt=3), payment(1, amt=1), payment(2, amt=2)))
    np.testing.assert_array_equal(with_history, whole.iloc[1:])
    assert with_history["payment_count_by_card_24h"].to_dict() == {7: 1.0, 3: 2.0}
    assert with_history["amount_usd_sum_by_card_24h"].to_dict() == {7: 3.0, 3: 4.0}
    assert with_history["amount_usd"].to_dict() == {7: 1.0, 3: 2.0}
    assert (with_history.dtypes == np.float64).all()


def test_a_card_forgets_by_the_day_of_arrival_where_it_is_known():
    payments = frame(payment(1), payment(2, current_time=1_717_245_297_000))
    payments["ingested_at"] = pd.to_datetime(["2025-01-01", "2025-02-03"], utc=True)
    name = "seconds_since_previous_by_card"
    for features in (feature_frame(payments), inputs_of(payments)):
        assert features[name].isna().all()
    payments["ingested_at"] = pd.to_datetime(["2025-01-01", "2025-02-02"], utc=True)
    for features in (feature_frame(payments), inputs_of(payments)):
        assert features[name].tolist()[1] == 1


def test_history_without_a_day_of_arrival_came_with_the_first_payment():
    history = frame(payment(1))
    payments = frame(payment(2, current_time=1_717_245_297_000))
    payments["ingested_at"] = pd.to_datetime(["2025-01-01"], utc=True)
    assert inputs_of(payments, history)["seconds_since_previous_by_card"].tolist() == [1]
    known = history.assign(ingested_at=pd.to_datetime(["2024-11-01"], utc=True))
    assert inputs_of(payments, known)["seconds_since_previous_by_card"].isna().all()
    assert inputs_of(payments.iloc[:0], history).empty


def test_no_rows_give_no_rows():
    assert feature_frame(frame(payment()).iloc[:0]).shape == (0, len(FEATURE_NAMES))


def test_the_page_of_features_is_made_from_the_definitions():
    assert PAGE.read_text() == page()
    assert all(f"| `{name}` |" in page() for name in FEATURE_NAMES)
