import base64
import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from ingest.envelope import ENVELOPE_COLUMNS, envelope_line
from jobs.envelopes import ENVELOPES, open_files
from tests.conftest import landed_file, payment

RECEIVED = datetime(2025, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)
MARK = b"\xef\xbb\xbf"
FOREIGN = "a line from elsewhere"


def line(position, payload="{}", /, **changes):
    """A line as ingest lands it; ``changes`` replace or add fields."""
    told = envelope_line("api", position, RECEIVED, payload)
    return json.dumps(json.loads(told) | changes) if changes else told


def text_of(*lines):
    return "".join(f"{text}\n" for text in lines).encode()


def opened(raw, name="f.jsonl"):
    """The envelopes in a file, in the order of positions."""
    envelopes = open_files(landed_file(raw, name))
    assert envelopes.schema == ENVELOPES
    return envelopes.sort_by("position").to_pylist()


def is_foreign(row):
    return row["encoding"] == "none"


def is_now(moment):
    return abs(datetime.now(UTC) - moment) < timedelta(minutes=1)


PLAIN = [
    line(0, json.dumps(payment())),
    line(1, b"\xff\xfe"),
    line(2, 'quoted "text" \\ }{ {} ß🂡\n\r\t\x00'),
    line(3, ""),
    line(4, "}\n{"),
    line(5, "Information"),
    line(6, "7" * 5000),
    line(7, "[" * 2000),
    line(2**63 - 1),
]
DOUBTFUL = [line(8, "a number: Inf"), line(9, "none: -NaN")]
LINES = PLAIN + DOUBTFUL


def test_what_ingest_lands_is_read_as_it_was_written():
    rows = opened(text_of(*LINES))
    assert len(rows) == len(LINES)
    for row in rows:
        assert row["source"] == "api"
        assert row["received_at"] == RECEIVED
    assert rows[0]["payload"] == json.dumps(payment())
    assert (rows[1]["encoding"], rows[1]["payload"]) == ("base64", "//4=")
    assert rows[2]["payload"] == 'quoted "text" \\ }{ {} ß🂡\n\r\t\x00'
    assert (rows[-2]["payload"], rows[-1]["position"]) == ("none: -NaN", 2**63 - 1)
    assert ENVELOPES.names == list(ENVELOPE_COLUMNS)


@pytest.mark.parametrize("some", [LINES, *([one] for one in LINES), LINES * 20])
def test_a_foreign_line_changes_nothing_about_the_others(some):
    quick, slow = opened(text_of(*some)), opened(text_of(*some, FOREIGN))
    assert [row for row in slow if not is_foreign(row)] == quick
    assert [row["payload"] for row in slow if is_foreign(row)] == [FOREIGN]


def test_a_file_as_ingest_lands_it_is_read_at_once(monkeypatch):
    def open_lines(*arguments):
        raise AssertionError("line by line")

    monkeypatch.setattr("jobs.envelopes._open_lines", open_lines)
    assert len(opened(text_of(*PLAIN))) == len(PLAIN)
    with pytest.raises(AssertionError, match="line by line"):
        opened(text_of(*PLAIN, FOREIGN))


def extra(value):
    """A line with a field that nobody asked for, whose value is no JSON that ``dumps`` makes."""
    return line(2).removesuffix("}") + f', "other": {value}}}'


ODD = [
    "", " ", "{}", "[]", "null", "7", "{", "}", "}{", "{,}", "{]", "elsewhere", line(2) + line(3),
    line(2)[:-1], line(2) + " " + line(3), line(2) + ",", f"[{line(2)}]", " " + line(2), line(2) + " ",
    line(2, source=None), line(2, position=None), line(2, received_at=None), line(2, encoding=None),
    line(2, payload=None), line(2, payload={"a": 1}), line(2, position="2"), line(2, position=True),
    line(2, position=2.0), line(2, position=2**63), line(2, position=-7), line(2, source=7),
    line(2, received_at=7), line(2, received_at="yesterday"), line(2, received_at="2025-02-30T00:00:00Z"),
    line(2, received_at="2025-01-01"), line(2, received_at="2025-01-01T00:00:00"),
    line(2, received_at="2025-01-01T00:00:00.123456+02:00"), line(2, received_at="20250101T000000Z"),
    line(2, other=1), line(2, other={"deep": [None, {}]}), line(2, other=None), extra("Inf"), extra("-Inf"),
    extra("-NaN"),
    extra("[1, Inf]"), extra("NaN"), extra("Infinity"), extra("nul"), extra("01"), extra("1e999"),
    extra('1, "position": 5'), extra('1, "source": null'), line(2).replace('"source"', '"SOURCE"'),
    line(2).replace("api", "\\ud800"), line(2).replace("api", "\\u0000"), line(2).replace("api", "äpi"),
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_a_line_is_read_alike_whatever_else_is_in_its_file(odd):
    alone, among, slow = (
        opened(text_of(*lines)) for lines in ([odd], [line(0), odd], [odd, line(0), FOREIGN])
    )
    zero = opened(text_of(line(0)))
    slow = [row for row in slow if row["payload"] != FOREIGN]
    assert without_times(slow) == without_times(among)
    assert without_times(among) == without_times(sorted(alone + zero, key=lambda r: r["position"]))


def without_times(rows):
    """Rows without the time of receipt where that is when the file is read."""
    return [row | {"received_at": None} if is_foreign(row) else row for row in rows]


@pytest.mark.parametrize(
    "odd",
    ["", "{}", "null", FOREIGN, line(2) + line(3), line(2)[:-1], f"[{line(2)}]",
     line(2, source=None), line(2, received_at=None), line(2, payload=None), line(2, position="2"),
     line(2, received_at="yesterday"), line(2, position=2**63), extra("Inf"), extra("[1, -Inf]")],
)  # fmt: skip
def test_a_line_that_is_no_envelope_is_the_payload_itself(odd):
    own, foreign = opened(text_of(line(0), odd), "2025/a b.jsonl")
    assert (own["source"], own["position"]) == ("api", 0)
    assert (foreign["source"], foreign["encoding"]) == ("file:a b.jsonl", "none")
    assert foreign["payload"] == odd
    assert foreign["position"] > 0
    assert is_now(foreign["received_at"])


def test_equal_foreign_lines_have_equal_positions_in_every_file():
    first, second, other = opened(text_of(FOREIGN, "x", FOREIGN, line(0)))[1:]
    (again,) = opened(text_of(FOREIGN), "g.jsonl")
    rows = [first, second, other]
    positions = [row["position"] for row in rows if row["payload"] == FOREIGN]
    assert positions == [again["position"]] * 2
    assert len({row["position"] for row in rows}) == 2
    assert again["source"] == "file:g.jsonl"


def test_the_position_of_a_foreign_line_is_the_same_for_ever():
    (row,) = opened(b"foreign\n")
    assert row["position"] == 3653466892650118040  # tables hold it


@pytest.mark.parametrize(
    "raw",
    [
        text_of(line(0), line(1)).removesuffix(b"\n"),
        text_of(line(0), line(1)).replace(b"\n", b"\r\n"),
        text_of(line(0), line(1)).replace(b"\n", b"\r"),
        MARK + text_of(line(0), line(1)),
        MARK + text_of(line(0), line(1)).replace(b"\n", b"\r\n").removesuffix(b"\r\n"),
        text_of(" " + line(0), line(1) + "\t"),
    ],
)
def test_line_ends_and_a_byte_order_mark_do_not_count(raw):
    assert opened(raw) == opened(text_of(line(0), line(1)))


def test_two_objects_in_a_line_and_none_in_another_are_not_one_each():
    two = line(2) + line(3)
    for lines in ([two, "", line(4)], [line(4), "", two], [line(0), two, "", line(4)]):
        rows = opened(text_of(*lines))
        assert sorted(row["payload"] for row in rows if is_foreign(row)) == ["", two]
        own = [row["position"] for row in rows if not is_foreign(row)]
        assert own == ([0, 4] if line(0) in lines else [4])


def test_a_blank_line_is_a_line_without_an_envelope():
    rows = opened(text_of(line(0), "", line(1), ""))
    assert [row["payload"] for row in rows if is_foreign(row)] == ["", ""]
    assert [row["position"] for row in rows if not is_foreign(row)] == [0, 1]


@pytest.mark.parametrize("bad", [b"\xff\xfe {", line(1).encode().replace(b"api", b"\xff")])
def test_a_line_that_is_no_text_is_kept_as_base64_and_the_others_are_read(bad):
    own, foreign = opened(text_of(line(0)) + bad + b"\n")
    assert own["position"] == 0
    assert is_foreign(foreign)
    assert base64.b64decode(foreign["payload"]) == bad


def test_an_empty_file_has_no_envelopes():
    assert opened(b"") == opened(MARK) == []
    assert open_files(landed_file(b"").slice(1)).schema == ENVELOPES


@pytest.mark.parametrize("others", [[], [FOREIGN]])
@pytest.mark.parametrize("year", [1900, 1969, 2125])
def test_a_receipt_in_the_future_or_before_1970_counts_as_now(others, year):
    never = envelope_line("api", 1, datetime(year, 1, 1, tzinfo=UTC), "late")
    rows = [row for row in opened(text_of(line(0), never, *others)) if not is_foreign(row)]
    assert rows[0]["received_at"] == RECEIVED
    assert is_now(rows[1]["received_at"])


def test_many_files_are_read_together():
    files = [landed_file(text_of(line(n), *["x"] * (n % 2)), f"{n}") for n in range(5)]
    rows = open_files(pa.concat_tables(files)).to_pylist()
    assert [row["position"] for row in rows if not is_foreign(row)] == [0, 1, 2, 3, 4]
    assert [row["source"] for row in rows if is_foreign(row)] == ["file:1", "file:3"]
