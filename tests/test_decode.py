import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ingest.decode
from ingest.decode import UndecodableBody, decode_body
from ingest.envelope import envelope_line
from tests.conftest import payment
from tests.test_parse import RECEIVED_AT, check

COLUMNS = ["trans_num", "amt"]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def tables(draw):
    columns = draw(st.lists(st.text(), unique=True, max_size=5))
    row = st.lists(json_values, min_size=len(columns), max_size=len(columns))
    return columns, draw(st.lists(row, max_size=4))


def body_of(columns, rows, strings=0):
    text = json.dumps({"columns": columns, "index": list(range(len(rows))), "data": rows})
    for _ in range(strings):
        text = json.dumps(text)
    return text.encode()


@given(tables(), st.integers(0, 2))
def test_rows_come_back_as_they_were_sent_in_both_forms_of_the_body(table, strings):
    columns, rows = table
    payloads = [json.loads(payload) for payload in decode_body(body_of(columns, rows, strings))]
    expected = [dict(zip(columns, row, strict=True)) for row in rows]
    assert repr(payloads) == repr(expected)  # repr: NaN is not equal to itself


def test_a_long_card_number_keeps_its_digits():
    (payload,) = decode_body(body_of(["cc_num"], [[4999999999999999999]]))
    assert payload == '{"cc_num": 4999999999999999999}'


def test_values_that_are_no_json_are_passed_on():
    (payload,) = decode_body(b'{"columns": ["amt", "lat"], "data": [[NaN, -Infinity]]}')
    assert math.isnan(json.loads(payload)["amt"])
    assert json.loads(payload)["lat"] == -math.inf


def test_utf_16_and_a_byte_order_mark_are_read():
    text = json.dumps({"columns": ["first"], "data": [["Zoë"]]}, ensure_ascii=False)
    for encoding in ("utf-8-sig", "utf-16"):
        assert json.loads(decode_body(text.encode(encoding))[0]) == {"first": "Zoë"}


@pytest.mark.parametrize("row", [["t1"], ["t1", 1, 2], [], "t1", None, 7, {"trans_num": "t1"}])
def test_a_row_of_another_shape_is_its_own_text_and_the_others_are_whole(row):
    payloads = decode_body(body_of(COLUMNS, [["t0", 1], row, ["t2", 2]]))
    assert [json.loads(payload) for payload in payloads] == [
        {"trans_num": "t0", "amt": 1},
        row,
        {"trans_num": "t2", "amt": 2},
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "0 bytes"),
        (b"\xff\xfe\x80", "UnicodeDecodeError"),
        (body_of(COLUMNS, [["t1", 1]])[:-4], "expected JSON"),
        (b"<html>busy</html>", "expected JSON"),
        (b"[]", "a list"),
        (b"null", "nothing"),
        (b"17", "a single value"),
        (b'{"columns": ["a"]}', "`data`"),
        (b'{"data": []}', "`columns`"),
        (b'{"columns": "a", "data": []}', "found text"),
        (b'{"columns": ["a", 1], "data": []}', "`columns`"),
        (b'{"columns": ["a", "b", "a"], "data": []}', "'a' more than once"),
        (b'{"columns": ["a"], "data": {"0": [1]}}', "an object"),
        (b'{"columns": ["a"], "data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested"),
        (body_of(COLUMNS, [], strings=9), "string in a string"),
    ],
)
def test_a_body_that_cannot_be_read_says_why(body, message):
    with pytest.raises(UndecodableBody, match=message):
        decode_body(body)


@pytest.mark.parametrize(
    ("value", "told"),
    [(b"9" * 4301, "9" * 4301), (b'"a\x01\n"', "a\x01\n"), (b'"caf\xe9"', "caf\udce9")],
)
def test_an_odd_value_spoils_no_other_row(value, told):
    body = b'{"columns": ["trans_num", "amt"], "data": [["t0", 1], ["t1", %s], ["t2", 2]]}'
    sound, odd, last = (json.loads(payload) for payload in decode_body(body % value))
    assert (sound, last) == ({"trans_num": "t0", "amt": 1}, {"trans_num": "t2", "amt": 2})
    assert odd == {"trans_num": "t1", "amt": told}


def test_a_row_with_a_byte_that_is_no_text_is_rejected_and_the_others_are_payments():
    columns, rows = list(payment()), [payment(1), payment(2, merchant="caf@"), payment(3)]
    body = body_of(columns, [list(row.values()) for row in rows]).replace(b"@", b"\xe9")
    lines = [envelope_line("api", n, RECEIVED_AT, text) for n, text in enumerate(decode_body(body))]
    reasons = [row["reason"] for row in check(lines, max_days_ahead=0)]
    assert reasons == [None, "merchant: expected text, found 'caf\\udce9'", None]


@pytest.mark.parametrize("strings", [0, 1, 2])
def test_more_values_than_there_may_be_are_told_however_they_are_wrapped(monkeypatch, strings):
    monkeypatch.setattr(ingest.decode, "MAX_COMMAS", 10)
    text = json.dumps({"columns": ["a"], "data": [[n] for n in range(12)]})
    for _ in range(strings):
        text = json.dumps(text).replace(",", "\\u002c")
    with pytest.raises(UndecodableBody, match="at most 10 values"):
        decode_body(text.encode())


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_body_raises_anything_else(body):
    try:
        payloads = decode_body(body)
    except UndecodableBody:
        return
    assert isinstance(payloads, list)
