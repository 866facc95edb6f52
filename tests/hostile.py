"""Payments, answers and bytes as no API should send them: hypothesis strategies for the fuzzer."""

import json

from hypothesis import strategies as st

from ingest.schema import EXAMPLE_PAYMENT, FIELD_NAMES

TEXTS = (
    "", " ", "x", "=1+1", "+cmd|' /C calc'!A0", "-2", "@SUM(A1)", "\t=1", "\r\n=1", "'=1", "\uff1d1+1",
    "\uff20SUM(A1)", "\ufeff=1+1", "\u0000=1+1", "\u200b\uff0b1", "\u202e \uff0d2", "\u2060'=1", "'", '"', "a,b;c",
    "\r\nBcc: all@example.org", "Subject: x\n\nbody", "<script>alert(1)</script>", "<b>&amp;\"'", "{{ 7*7 }}",
    "\u0000", "\u0007\u001b[31m", "\u202e\u2028\u2029", "\ud800", "\udc00x", "🂡ß…", "NaN", "Infinity", "-Inf",
    "1984-02-29", "1984-02-30", "0000-00-00", "2024-06-01 12:34:56", "2024-06-01 25:00:00", "2200-01-01 00:00:00",
    "4000123412341234", "4000 1234-1234 1234", "9" * 25, "12.5", "1e999", "null", "true", "{", "[]", "..", "%s%n",
    "x" * 3000, "\\", "\\u0000", "}\n{", "tok_" + "a" * 32 + "_1234", "tok_" + "q" * 32 + "_1234",
)  # fmt: skip

NUMBERS = (
    0, -1, 1, 2, 12.5, -0.0, 1e300, -1e300, 5e-324, float("nan"), float("inf"), float("-inf"), 2**53, 2**53 + 1,
    2**63, -(2**63) - 1, 10**19, 10**400, 9 * 10**4200, 4000123412341234, 4000123412341234.0, 1e14, 1717245296000,
    1717245296, -1717245296000, 7e12,
)  # fmt: skip

SHOWN_TEXTS = ("trans_num", "merchant", "category", "city", "state", "job")
"""Fields that a worklist or a mail shows."""

MORE_NAMES = (
    "",
    "new",
    "CC_NUM",
    "cc_num ",
    "extra",
    "event_time",
    "source",
    "payload",
    "\ud800",
    "a.b",
    "__proto__",
)

texts = st.sampled_from(TEXTS) | st.text(max_size=20)
scalars = texts | st.sampled_from(NUMBERS) | st.none() | st.booleans() | st.integers() | st.floats()


def _nested(depth: int, kind: str) -> object:
    value: object = "deep"
    for _ in range(depth):
        value = [value] if kind == "list" else {"d": value}
    return value


deep = st.builds(_nested, st.sampled_from([2, 60, 200, 400]), st.sampled_from(["list", "object"]))
values = (
    scalars | deep | st.lists(scalars, max_size=3) | st.dictionaries(texts, scalars, max_size=3)
)
names = st.sampled_from(FIELD_NAMES + MORE_NAMES) | texts

_honest = {name: st.just(value) for name, value in EXAMPLE_PAYMENT.items()}
honest = st.fixed_dictionaries(
    _honest | {"trans_num": st.uuids().map(str), "amt": st.floats(0, 1e4)}
)


@st.composite
def payments(draw):
    """A payment as it should be; or with hostile texts where any text is valid; or with fields
    changed, missing, or added.
    """
    row = draw(honest)
    kind = draw(st.integers(0, 3))
    if kind in (1, 2):
        row |= draw(
            st.dictionaries(st.sampled_from(SHOWN_TEXTS), st.sampled_from(TEXTS), min_size=1)
        )
    if kind in (2, 3):
        row |= draw(st.dictionaries(names, values, min_size=1, max_size=3))
    if kind == 3:
        row["dob"] = draw(st.sampled_from(["1984-03-09", "2024-06-01", "2024-06-02", "1849-12-31"]))
    if draw(st.integers(0, 9)) == 0:
        row.pop(draw(st.sampled_from(FIELD_NAMES)), None)
    return row


PAYMENTS_AN_ANSWER = 20


@st.composite
def answers(draw):
    """The body of an answer: rows of one set of columns, now and then ragged, with a column twice,
    cut off, behind other bytes, or in another encoding.
    """
    rows = draw(st.lists(payments(), min_size=1, max_size=PAYMENTS_AN_ANSWER))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    data: list[object] = [[row.get(name) for name in columns] for row in rows]
    for place, odd in draw(
        st.dictionaries(st.integers(0, 40), values | st.lists(values, max_size=4), max_size=1)
    ).items():
        if place < len(data):
            data[place] = odd
    fault = draw(st.integers(0, 60))
    if fault == 0:
        columns = [*columns[1:], columns[-1]]
    text = json.dumps({"columns": columns, "index": list(range(len(data))), "data": data})
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        text = json.dumps(text)
    body = text.encode(
        draw(st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32"]))
    )
    if fault == 1:
        body = body[: draw(st.integers(0, len(body)))]
    if fault == 2:
        body = draw(st.binary(max_size=50)) + body
    return body


@st.composite
def raw_payloads(draw):
    """What stands in an envelope of another producer: any bytes, or JSON that is odd as text."""
    row = json.dumps(draw(payments()))
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.binary(max_size=200))
    if kind == 1:
        return row[: draw(st.integers(0, len(row)))]
    if kind == 2:  # a name twice
        return row[:-1] + ', "amt": ' + json.dumps(draw(scalars)) + "}"
    if kind == 3:
        return row[:-1] + ', "more": ' + "[" * draw(st.sampled_from([10, 600, 1500, 50_000])) + "}"
    if kind == 4:
        depth = draw(st.sampled_from([10, 600, 1500, 50_000]))
        return row[:-1] + ', "more": ' + "[" * depth + "]" * depth + "}"
    if kind == 5:
        return row[:-1] + ', "more": ' + "9" * draw(st.sampled_from([20, 4300, 4301, 10_000])) + "}"
    if kind == 6:
        return draw(
            st.sampled_from(["", "null", "[]", '"x"', "NaN", "\ufeff{}", row + row, f"[{row}]"])
        )
    return row
