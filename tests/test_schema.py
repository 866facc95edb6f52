from datetime import UTC, datetime

import pytest

from ingest.schema import (
    API_COLUMNS,
    PAYMENT_FIELDS,
    InvalidPayment,
    check_payment,
    event_time_of,
)
from tests.conftest import payment

REQUIRED = [field.name for field in PAYMENT_FIELDS if field.required]


def test_a_valid_payment_is_typed():
    checked = check_payment(payment(cc_num=4000123412341234, zip=1234, amt=3))
    assert checked["cc_num"] == "4000123412341234"
    assert checked["zip"] == "1234"
    assert checked["amt"] == 3.0
    assert checked["event_time"] == datetime(2024, 6, 1, 12, 34, 56, tzinfo=UTC)


def test_the_api_tells_these_columns_in_this_order():
    assert API_COLUMNS[0] == "cc_num"
    assert API_COLUMNS[-2:] == ("is_fraud", "current_time")
    assert len(API_COLUMNS) == 21


@pytest.mark.parametrize("name", REQUIRED)
def test_a_required_field_that_is_missing_is_named(name):
    with pytest.raises(InvalidPayment, match=rf"^{name}: missing, expected "):
        check_payment(payment(**{name: ...}))


def test_a_field_may_be_declared_optional():
    assert check_payment(payment(is_fraud=...), optional=("is_fraud",))["is_fraud"] is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amt", -0.01),
        ("amt", float("nan")),
        ("amt", float("inf")),
        ("amt", "12.5"),
        ("amt", True),
        ("lat", 90.1),
        ("merch_long", -180.5),
        ("city_pop", 1.5),
        ("is_fraud", 2),
        ("dob", "1984-02-30"),
        ("dob", "84-02-03"),
        ("cc_num", "4000-1234"),
        ("cc_num", 1),
        ("trans_num", ""),
        ("merchant", {"name": "x"}),
        ("merchant", ["x"]),
        ("trans_date_trans_time", "2024-06-01T12:00:00"),
        ("current_time", 1e15),
        ("dob", "2024-06-02"),
    ],
)
def test_a_value_that_cannot_be_is_named(field, value):
    with pytest.raises(InvalidPayment, match=r"dob: after|event time|expected") as caught:
        check_payment(payment(**{field: value}))
    assert field in str(caught.value)


def test_every_problem_is_told_at_once():
    with pytest.raises(InvalidPayment) as caught:
        check_payment(payment(amt=-1, lat=200, job=...))
    assert [part.split(":")[0] for part in str(caught.value).split("; ")] == ["amt", "lat", "job"]


def test_the_written_time_comes_before_the_number():
    written = event_time_of("2020-01-02 03:04:05", 1_700_000_000_000)
    assert written == datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert event_time_of(None, 1_700_000_000_500).microsecond == 500_000
    with pytest.raises(InvalidPayment, match="event time"):
        event_time_of(None, None)
