import csv
import io
import json
from datetime import UTC, datetime

import pytest

from jobs.review import worklist_text
from jobs.verdicts import VerdictFileError, read_verdicts, verdict_of
from tests.written_rows import scored_rows

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CSV = "trans_num,fraud,source,verified_at,analyst,note\n"


def written(folder, text, name="verdicts.csv"):
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_both_formats_tell_the_same(tmp_path):
    rows = [
        ("a1", "yes", "chargeback", "2026-02-27T10:00:00+02:00", "Ada", "card was stolen, \"twice\""),
        ("a2", "no", "analyst", "", "", ""),
        ("a3", "", "analyst", "", "", "not decided"),
    ]  # fmt: skip
    names = CSV.strip().split(",")
    table = CSV + "".join(
        ",".join(f'"{v.replace(chr(34), chr(34) * 2)}"' for v in r) + "\n" for r in rows
    )
    lines = "".join(json.dumps(dict(zip(names, r, strict=True))) + "\n\n" for r in rows)
    told = read_verdicts(written(tmp_path, "\ufeff" + table), NOW)
    also = read_verdicts(written(tmp_path, lines, "verdicts.jsonl"), NOW)
    assert [row | {"line": 0} for row in told] == [row | {"line": 0} for row in also]
    assert read_verdicts(written(tmp_path, lines, "verdicts.json"), NOW) == also
    array = f"\n[{','.join(lines.strip().splitlines()[::2])}]"
    whole = read_verdicts(written(tmp_path, array, "array.json"), NOW)
    assert [row | {"line": 0} for row in whole] == [row | {"line": 0} for row in also]
    assert [row["line"] for row in whole] == [1, 2]
    assert [row["line"] for row in told] == [2, 3]
    assert told[0] == {
        "trans_num": "a1", "label": True, "verified_at": datetime(2026, 2, 27, 8, tzinfo=UTC), "source": "chargeback",
        "analyst": "Ada", "note": 'card was stolen, "twice"', "line": 2,
    }  # fmt: skip
    assert told[1]["label"] is False
    assert (told[1]["verified_at"], told[1]["analyst"], told[1]["note"]) == (None, None, None)


@pytest.mark.parametrize(
    ("answer", "label"),
    [("YES", True), ("true", True), (True, True), (1, True), (" no ", False), ("0", False), (0, False), (False, False)],
)  # fmt: skip
def test_answers(answer, label):
    assert verdict_of({"trans_num": "a", "fraud": answer, "source": "s"}, NOW)["label"] is label


def test_other_columns_are_left_out(tmp_path):
    text = "amt,source,fraud,trans_num\n12.5,review,yes,a1\n"
    [verdict] = read_verdicts(written(tmp_path, text), NOW)
    assert verdict["trans_num"] == "a1"
    assert "amt" not in verdict


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "trans_num,fraud\na,yes\n", "missing columns source; there is 'trans_num, fraud'"),
        ("a.csv", '"\x1b[2J\n\u202e",fraud\n', r"missing columns trans_num, source; there is '\\x1b\[2J\\n\\u202e, fraud'"),
        ("a.csv", "", "missing columns trans_num, fraud, source; there is nothing"),
        ("a.csv", CSV + "a,maybe,s,,,\nb,yes,,,,\n", "line 2: fraud: expected yes or no, found 'maybe'; line 3: source is missing"),
        ("a.csv", CSV + ",yes,s,,,\n", "line 2: trans_num is missing"),
        ("a.csv", CSV + "a,yes,s,yesterday,,\n", "expected a time as 2026-03-01T12:00:00Z, found 'yesterday'"),
        ("a.csv", CSV + "a,yes,s,2026-02-01T10:00:00,,\n", "with its zone"),
        ("a.csv", CSV + "a,yes,s,2026-04-01T10:00:00Z,,\n", "from 1970 until now"),
        ("a.csv", CSV + "a,yes,s,0001-01-01T00:00:00+14:00,,\n", "from 1970 until now"),
        ("a.csv", CSV + "a,yes,s\n", "line 2: expected 6 fields"),
        ("a.csv", CSV + "a,yes,s,,,,more\n", "line 2: expected 6 fields"),
        ("a.csv", CSV + '"a,yes,s,,,\n', "no CSV"),
        ("a.csv", b"trans_num\xff", "expected UTF-8, found 0xff"),
        ("a.jsonl", "{\n", "line 1: no JSON"),
        ("a.jsonl", "[" * 100_000, "line 1: no JSON"),
        ("a.jsonl", "[1]\n", r"line 1: expected an object, found '\[1\]'"),
        ("a.json", "[1]", r"line 1: expected an object, found '1'"),
        ("a.json", "[1]\n[2]", "no JSON: Extra data"),
        ("a.json", "[" * 100_000, "no JSON"),
        ("a.json", "{\n", "line 1: no JSON"),
        ("a.jsonl", '{"trans_num": {"x": 1}, "fraud": "yes", "source": "s"}\n', "trans_num: expected a text"),
        ("a.jsonl", '{"trans_num": "a", "fraud": "yes", "source": "%s"}' % ("s" * 10_001), "source: expected a text"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_says_why(tmp_path, name, text, told):
    with pytest.raises(VerdictFileError, match=told):
        read_verdicts(written(tmp_path, text, name), NOW)


def test_only_the_first_problems_are_listed(tmp_path):
    text = CSV + "a,perhaps,s,,,\n" * 13
    with pytest.raises(VerdictFileError, match=r"line 11: .*; and 3 more$") as told:
        read_verdicts(written(tmp_path, text), NOW)
    assert "line 12" not in str(told.value)


@pytest.mark.parametrize(
    "name",
    ["=1+1", "+7", "-1", "@SUM(A1)", "\tx", "\r\nx", "'=x", "''=x", "'x", "'", "x'", " x", "x ", " ", "' x", "a,b\n\"c\"", "'\t"],
)  # fmt: skip
def test_an_identifier_comes_back_from_a_worklist_as_it_was(tmp_path, name):
    drawn = scored_rows(1, trans_num=name, label=None)
    worklist = worklist_text(drawn)
    rows = list(csv.DictReader(io.StringIO(worklist, newline="")))
    assert not rows[0]["trans_num"].startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    filled = io.StringIO()
    writer = csv.DictWriter(filled, list(rows[0]))
    writer.writeheader()
    writer.writerow(rows[0] | {"fraud": "yes"})
    (verdict,) = read_verdicts(written(tmp_path, filled.getvalue()), NOW)
    assert verdict["trans_num"] == name


def test_blanks_around_an_identifier_in_a_csv_file_are_no_part_of_it(tmp_path):
    (verdict,) = read_verdicts(written(tmp_path, CSV + " a1 , yes , phone ,,,\n"), NOW)
    assert (verdict["trans_num"], verdict["source"]) == ("a1", "phone")
