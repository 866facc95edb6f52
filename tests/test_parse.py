import base64
import json
import math
from datetime import UTC, datetime

import pytest

from ingest.envelope import envelope_line
from ingest.schema import FIELD_NAMES, PAYMENT_FIELDS, InvalidPayment, check_payment, extra_of
from jobs.envelopes import open_files
from jobs.parse import PARSED, Rules, parse_payloads
from tests.conftest import landed_file, payment

RECEIVED_AT = datetime(2025, 1, 1, tzinfo=UTC)
TEXTS = [field.name for field in PAYMENT_FIELDS if field.type == "text"]


def landed(payload, position=0, received_at=RECEIVED_AT):
    payload = payload if isinstance(payload, str | bytes) else json.dumps(payload)
    return envelope_line("api", position, received_at, payload)


def check(lines, optional=(), max_days_ahead=1.0):
    """What becomes of each line, in the order of positions."""
    raw = [line if isinstance(line, bytes) else line.encode() for line in lines]
    table = landed_file(b"".join(line + b"\n" for line in raw))
    parsed = parse_payloads(open_files(table), Rules(optional, max_days_ahead))
    assert parsed.schema == PARSED
    return parsed.sort_by("position").to_pylist()


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


@pytest.mark.parametrize("together", [1, 7, 5000])
def test_the_quick_way_and_the_check_agree(together):
    """However odd payments and plain ones are mixed in a block that is read at once."""
    payments = list(odd_payments())
    lines = [landed(item, position) for position, item in enumerate(payments)]
    rows = [
        row
        for at in range(0, len(lines), together)
        for row in check(lines[at : at + together], max_days_ahead=0)
    ]
    assert len(rows) == len(payments)
    for item, row in zip(payments, rows, strict=True):
        try:
            expected = check_payment(item)
        except InvalidPayment:
            assert row["reason"], item
        else:
            assert row["reason"] is None, f"{item} is valid, not {row['reason']}"
            assert {name: row[name] for name in expected} == expected
            assert row["payload"] is None


def test_event_time_is_read_as_utc():
    lines = [
        landed(payment(trans_date_trans_time="2024-06-01 23:30:00"), 0),
        landed(payment(current_time=1_717_284_600_500), 1),
    ]
    moments = [row["event_time"].timestamp() for row in check(lines)]
    assert moments == [1_717_284_600.0, 1_717_284_600.5]


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
def test_what_is_no_object_is_told_so(payload, reason):
    assert [row["reason"] for row in check([landed(payload)])] == [reason]


def test_an_array_around_a_payment_is_no_payment():
    row, *_ = check([landed(json.dumps([payment()]))])
    assert row["reason"] == "not a JSON object"


@pytest.mark.parametrize("zero", ["0", "-0", "-0.0", "0.0"])
def test_no_amount_is_plus_or_minus_nothing(zero):
    """As one payment among others, and alone beside what is none."""
    text = json.dumps(payment(amt=...)).removesuffix("}") + f', "amt": {zero}}}'
    for others in ([landed(payment(), 1)], [landed("no json", 1)]):
        row, *_ = check([landed(text), *others])
        assert math.copysign(1, row["amt"]) == 1


def test_a_whole_number_that_a_float_does_not_hold_is_rejected():
    row, whole = check([landed(payment(unix_time=2**53 + 1)), landed(payment(unix_time=2**53), 1)])
    assert row["reason"].startswith("unix_time: expected a whole number")
    assert (whole["reason"], whole["unix_time"]) == (None, 2**53)


def test_what_is_too_deep_for_the_check_is_too_deep_for_the_quick_way():
    deep = "[" * 100_000 + "]" * 100_000
    text = json.dumps(payment()).removesuffix("}") + f', "more": {deep}}}'
    row, *_ = check([landed(text), landed(payment(), 1)])
    assert row["reason"] == "not a JSON object"


def test_a_reason_names_the_field_what_was_expected_and_what_is_there():
    row, *_ = check([landed(payment(amt=-5, lat=..., merchant={"a": 1}))])
    assert row["reason"] == (
        "merchant: expected text, found {'a': 1}; "
        "amt: expected a finite number from 0 to 10000000000, found -5; "
        "lat: missing, expected a finite number from -90 to 90"
    )


def test_optional_fields_may_be_missing():
    lines = [landed(payment(is_fraud=...), 0), landed(payment(is_fraud=2), 1)]
    rows = check(lines, optional=("is_fraud",))
    assert rows[0]["reason"] is None
    assert rows[1]["reason"].startswith("is_fraud: expected")


def test_a_payment_of_the_day_after_tomorrow_is_rejected():
    payload = payment(current_time=..., trans_date_trans_time="2025-01-02 00:00:01")
    row, *_ = check([landed(payload)])
    assert row["reason"] == "event time: more than 1 days after receipt, 2025-01-02 00:00:01"
    assert check([landed(payload)], max_days_ahead=0)[0]["reason"] is None
    assert check([landed(payload)], max_days_ahead=1.01)[0]["reason"] is None


def test_a_line_without_an_envelope_keeps_its_text_and_an_address():
    texts = {json.dumps(payment()), '{"source": "api", "position": "x"}'}
    rows = check(texts)
    assert {row["payload"] for row in rows} == texts
    for row in rows:
        assert row["reason"].startswith("no envelope")
        assert row["source"] == "file:f.jsonl"
        assert row["position"] >= 0
    assert rows[0]["position"] != rows[1]["position"]


def test_a_line_that_is_no_text_is_kept_as_base64():
    raw = b"\x00\xff\xfe binary {"
    good, bad = check([raw, landed(payment())])
    assert good["reason"] is None
    assert base64.b64decode(bad["payload"]) == raw


def test_a_receipt_in_the_future_counts_as_now():
    row, *_ = check([landed(payment(), received_at=datetime(2150, 1, 1, tzinfo=UTC))])
    assert row["received_at"] <= datetime.now(UTC)


def test_one_line_is_one_payment_whatever_stands_on_it():
    two = json.dumps(payment(1)) + json.dumps(payment(2))
    texts = [two, "", json.dumps(payment(3)), json.dumps(payment(4), indent=1), "{}"]
    rows = check([landed(text, position) for position, text in enumerate(texts)])
    assert [row["reason"] for row in rows[:4]] == ["not a JSON object"] * 2 + [None] * 2
    assert [row["trans_num"] for row in rows[2:4]] == [f"{n:032x}" for n in (3, 4)]
    assert rows[4]["reason"].startswith("cc_num: missing")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"first": "\ud800"}, "first: expected text"),
        ({"amt": 10**400}, "amt: expected a finite number"),
        ({"zip": 97201, "amt": "5"}, "amt: expected a finite number"),
    ],
)
def test_what_cannot_be_stored_is_told(changes, reason):
    row, *_ = check([landed(json.dumps(payment(**changes)))])
    assert row["reason"].startswith(reason)


def test_nesting_without_end_is_no_object():
    assert check([landed("[" * 100_000)])[0]["reason"] == "not a JSON object"
    deep = json.dumps(payment())[:-1] + ', "x": ' + "[" * 100_000 + "]" * 100_000 + "}"
    assert check([landed(deep)])[0]["reason"] in (None, "not a JSON object")


@pytest.mark.parametrize("name", TEXTS)
def test_text_that_looks_like_an_object_is_text(name):
    row, *_ = check([landed(payment(**{name: "{[odd but text"}))])
    assert row["reason"] is None


OTHERS = [
    {}, {"channel": "web"}, {"device": {"os": ["x", 1.5, None]}, "": None}, {"n": 2**70}, {"\ud800": "\udc00"},
    {"extra": "x"}, {"event_time": 1, "source": "s", "CC_NUM": 7}, {"x": float("nan")}, {"🂡": "ß"},
]  # fmt: skip


@pytest.mark.parametrize("together", [1, 3, 500])
def test_fields_that_nobody_knows_are_kept(together):
    """In both ways of reading, however rows with and without them are mixed."""
    payments = [payment(n) | OTHERS[n % len(OTHERS)] for n in range(90)]
    lines = [landed(item, position) for position, item in enumerate(payments)]
    lines[::10] = [
        landed(json.dumps(item, indent=1), n * 10) for n, item in enumerate(payments[::10])
    ]
    parts = [lines[at : at + together] for at in range(0, len(lines), together)]
    rows = [row for part in parts for row in check(part, max_days_ahead=0)]
    for row, item, others in zip(rows, payments, OTHERS * 10, strict=True):
        assert row["reason"] is None
        assert row["extra"] == extra_of(item)
        assert (row["extra"] is None) == (not others)
        assert repr(json.loads(row["extra"] or "{}")) == repr(others)


def test_payments_without_other_fields_are_not_read_twice(monkeypatch):
    monkeypatch.setattr("jobs.parse.extra_of", lambda *_: pytest.fail("read again"))
    rows = check([landed(payment(n), n) for n in range(100)], max_days_ahead=0)
    assert {row["extra"] for row in rows} == {None}


@pytest.mark.parametrize("depth", [900, 1200, 2000])
def test_other_fields_nested_deeper_than_python_reads_wedge_nothing(depth):
    text = json.dumps(payment())[:-1] + ', "x": ' + "[" * depth + "]" * depth + "}"
    row, other = check([landed(text), landed(payment(1), 1)], max_days_ahead=0)
    assert row["reason"] in (None, "not a JSON object", "other fields: nested too deeply")
    assert (row["reason"] is None) == (row["extra"] is not None)
    assert other["reason"] is None
