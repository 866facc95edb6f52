import base64
import json
from datetime import UTC, date, datetime

import pytest

from ingest.envelope import envelope_line
from ingest.schema import FIELD_NAMES, PAYMENT_FIELDS, InvalidPayment, check_payment
from jobs.parse import check_payments, open_envelopes
from tests.conftest import payment

RECEIVED_AT = datetime(2025, 1, 1, tzinfo=UTC)
TEXTS = [field.name for field in PAYMENT_FIELDS if field.type == "text"]


def landed(payload, position=0, received_at=RECEIVED_AT):
    payload = payload if isinstance(payload, str | bytes) else json.dumps(payload)
    return envelope_line("api", position, received_at, payload)


@pytest.fixture
def check(spark):
    def check_lines(lines, optional=(), max_days_ahead=1.0):
        """What becomes of each line, in their order."""
        frame = spark.createDataFrame(
            [(line, "f.jsonl") for line in lines], "value string, file string"
        )
        checked = check_payments(open_envelopes(frame.coalesce(1)), optional, max_days_ahead)
        return checked.collect()

    return check_lines


def odd_payments():
    """Payments with one value changed, in every field: valid ones and others."""
    values = [
        None, "", " ", "x", "{x", "0", "12.5", "NaN", 0, 1, -1, 1.5, 3.0, 2**60, 1e300, -1e300,
        float("nan"), float("inf"), True, {"a": 1}, ["a"], "1984-02-30", "1984-02-29", "1849-12-31",
        "0000-01-01", "2024-06-01", "2024-06-02", "2024-06-01 12:34:57", "2024-06-01 25:00:00",
        "2024-06-01T12:34:56", "1969-12-31 23:59:59", "2200-01-01 00:00:00", "\u0000", "ß…🂡",
        4000123412341234, "4000123412341234", "400012341234123456789", 4.5e15, ...,
    ]  # fmt: skip
    for name in FIELD_NAMES:
        for value in values:
            yield payment(**{name: value})
    yield payment(current_time=..., trans_date_trans_time="2024-02-29 00:00:00")
    yield payment(current_time=...)


def test_both_sides_of_the_schema_agree(check):
    payments = list(odd_payments())
    rows = check([landed(item) for item in payments], max_days_ahead=0)
    assert len(rows) == len(payments)
    for item, row in zip(payments, rows, strict=True):
        try:
            expected = check_payment(item)
        except InvalidPayment:
            assert row["reason"], item
        else:
            assert row["reason"] is None, f"{item} is valid, not {row['reason']}"
            found = row["payment"].asDict()
            for name in expected:
                # How a float is written as text differs; event times have a test of their own.
                if name != "event_time" and not (
                    name in TEXTS and isinstance(item.get(name), float)
                ):
                    assert found[name] == expected[name]


def test_event_time_is_read_as_utc(check, spark):
    lines = [
        landed(payment(trans_date_trans_time="2024-06-01 23:30:00")),
        landed(payment(current_time=1_717_284_600_500)),
    ]
    frame = spark.createDataFrame([(line, "f") for line in lines], "value string, file string")
    rows = check_payments(open_envelopes(frame), (), 1.0)
    micros = [row[0] for row in rows.selectExpr("unix_micros(payment.event_time)").collect()]
    assert micros == [1_717_284_600_000_000, 1_717_284_600_500_000]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("not json", "not a JSON object"),
        ("", "not a JSON object"),
        ("[1, 2]", "not a JSON object"),
        ('"text"', "not a JSON object"),
        ('{"amt": 1', "not a JSON object"),
        ('{"amt": 1,}', "not a JSON object"),
        (b"\xff\xfe", "not UTF-8 text; the payload is its base64"),
    ],
)
def test_what_is_no_object_is_told_so(check, payload, reason):
    assert [row["reason"] for row in check([landed(payload)])] == [reason]


def test_an_array_around_a_payment_is_no_payment(check):
    row, *_ = check([landed(json.dumps([payment()]))])
    assert row["reason"] == "not a JSON object"


def test_a_reason_names_the_field_what_was_expected_and_what_is_there(check):
    row, *_ = check([landed(payment(amt=-5, lat=..., merchant={"a": 1}))])
    assert row["reason"] == (
        'merchant: expected text, found {"a":1}; '
        "amt: expected a finite number from 0 to 10000000000, found -5; "
        "lat: missing, expected a finite number from -90 to 90"
    )


def test_optional_fields_may_be_missing(check):
    lines = [landed(payment(is_fraud=...)), landed(payment(is_fraud=2))]
    rows = check(lines, optional=("is_fraud",))
    assert rows[0]["reason"] is None
    assert rows[1]["reason"].startswith("is_fraud: expected")


def test_a_payment_of_the_day_after_tomorrow_is_rejected(check):
    payload = payment(current_time=..., trans_date_trans_time="2025-01-02 00:00:01")
    row, *_ = check([landed(payload)])
    assert row["reason"] == "event time: more than 1 days after receipt, 2025-01-02 00:00:01"
    assert check([landed(payload)], max_days_ahead=0)[0]["reason"] is None
    assert check([landed(payload)], max_days_ahead=1.01)[0]["reason"] is None


def test_a_line_without_an_envelope_keeps_its_text_and_an_address(check):
    rows = check([json.dumps(payment()), '{"source": "api", "position": "x"}'])
    for row, text in zip(
        rows, (json.dumps(payment()), '{"source": "api", "position": "x"}'), strict=True
    ):
        assert row["reason"].startswith("no envelope")
        assert (row["source"], row["payload"]) == ("file:f.jsonl", text)
        assert row["position"] >= 0
    assert rows[0]["position"] != rows[1]["position"]


def test_a_line_that_is_no_text_is_kept_as_base64(check, spark, tmp_path):
    raw = b"\x00\xff\xfe binary {"
    (tmp_path / "f.jsonl").write_bytes(raw + b"\n" + landed(payment()).encode() + b"\n")
    lines = spark.read.text(str(tmp_path)).selectExpr("value", "'f.jsonl' AS file")
    rows = check_payments(open_envelopes(lines), (), 1.0).toPandas()
    assert rows["reason"].isna().tolist() == [False, True]
    assert base64.b64decode(rows["payload"][0]) == raw


def test_a_receipt_in_the_future_counts_as_now(check):
    row, *_ = check([landed(payment(), received_at=datetime(2150, 1, 1, tzinfo=UTC))])
    assert row["received_at"].date() <= date.today()


@pytest.mark.parametrize("name", TEXTS)
def test_text_that_looks_like_an_object_is_text(check, name):
    row, *_ = check([landed(payment(**{name: "{[odd but text"}))])
    assert row["reason"] is None
