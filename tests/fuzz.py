"""The fuzzer: hostile answers and messages, from the decoder to the mail: ``make fuzz``, or

``python -m tests.fuzz [--payloads 100000] [--seed 1]``. Each payload must come out as a valid
payment with the values that the check gives it, or rejected with a reason; what is valid goes into
a worklist and a mail. Ends with status 1 where anything else happens, and shows the smallest case.
"""

import argparse
import csv
import io
import json
import logging
import re
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from email import message_from_bytes, policy
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from ingest.call_ledger import CallLedger, Pace
from ingest.envelope import envelope_line
from ingest.pan_cipher import PanCipher
from ingest.payments_api import CallFailed
from ingest.poller import Lander
from ingest.schema import check_payment, extra_of
from jobs.arrivals import REJECTED, cut_into_buckets
from jobs.blocks import from_block
from jobs.envelopes import open_files, open_messages
from jobs.mail import compose
from jobs.outbox import Hit, Mail
from jobs.parse import PARSED, Rules, parse_payloads
from jobs.review import worklist_text
from jobs.verdicts import read_verdicts
from tests.conftest import landed_file
from tests.hostile import answers, raw_payloads

NOW = datetime(2025, 1, 1, tzinfo=UTC)
RULES = Rules(max_days_ahead=0)
CIPHER = PanCipher(bytes(range(32)))
EXAMPLES_A_ROUND = 250

_HEADERS = {
    "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type",
}  # fmt: skip
_TAGS = {"html", "body", "p", "strong", "table", "tr", "th", "td", "br"}
_FORMULA = re.compile(
    r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]"
)
"""Behind what a spreadsheet passes over."""

cases = st.one_of(
    st.tuples(st.just("answer"), answers()),
    st.tuples(st.just("answer, with a key"), answers()),
    st.tuples(st.just("lines"), st.lists(raw_payloads(), min_size=1, max_size=20)),
    st.tuples(st.just("messages"), st.lists(raw_payloads(), min_size=1, max_size=20)),
)


class _Memory:
    """A landing of lines in memory."""

    def __init__(self):
        self.lines = []

    def land(self, lines, first_position):
        self.lines += lines
        return "memory"


@cache
def _ledger():
    return CallLedger(Path(tempfile.mkdtemp()) / "ingest.db", Pace(5, 1))


def fuzzed(kind, payloads):
    """Put one case through everything; returns how many payloads fared how, by reason.

    Raises:
        AssertionError: one was lost, or came out otherwise than it should.
    """
    if kind == "messages":
        return _accounted(*_messages(payloads))
    lines = _lines(payloads) if kind == "lines" else _landed(kind, payloads)
    return _accounted(
        lines, open_files(landed_file("".join(f"{line}\n" for line in lines).encode()))
    )


def _landed(kind, body):
    landing = _Memory()
    cipher = CIPHER if "key" in kind else None
    try:
        outcome = Lander(landing, _ledger(), "api", 0, time.time, cipher)(body)
    except CallFailed as failure:
        assert failure.kind == "malformed body"
        assert len(landing.lines) == 1
    else:
        assert outcome.rows == len(landing.lines) > 0
    return landing.lines


def _lines(payloads):
    return [envelope_line("api", n, NOW, payload) for n, payload in enumerate(payloads)]


def _messages(payloads):
    raw = [p if isinstance(p, bytes) else p.encode("utf-8", "surrogatepass") for p in payloads]
    n = len(raw)
    now = pa.array([NOW] * n, pa.timestamp("us", "UTC"))
    columns = {
        "value": pa.array(raw, pa.binary()), "topic": ["payments"] * n, "partition": pa.array([0] * n, pa.int32()),
        "offset": pa.array(range(n), pa.int64()), "timestamp": now, "read_at": now,
    }  # fmt: skip
    return _lines(payloads), open_messages(pa.table(columns))


def _accounted(lines, envelopes):
    landed = [json.loads(line) for line in lines]
    parsed = parse_payloads(envelopes, RULES)
    assert parsed.schema == PARSED
    rows = sorted(parsed.to_pylist(), key=lambda row: row["position"])
    told = sorted(landed, key=lambda envelope: envelope["position"])
    assert [row["position"] for row in rows] == [envelope["position"] for envelope in told]
    for envelope, row in zip(told, rows, strict=True):
        _check_row(envelope, row)
    _check_buckets(parsed)
    _check_stored(parsed)
    valid = parsed.filter(pc.is_null(parsed["reason"]))
    if len(valid):
        _check_worklist(valid)
        _check_mail(valid)
    return Counter(_outcome(row["reason"]) for row in rows)


def _check_row(envelope, row):
    expected = None
    if envelope["encoding"] == "text":
        try:
            payment = json.loads(envelope["payload"])
            expected = check_payment(payment) | {"extra": extra_of(payment)}
        except (ValueError, RecursionError, AttributeError):
            expected = None
    if expected is None:
        assert row["reason"], "taken, though the check refuses it"
        assert row["payload"] == envelope["payload"]
        row["reason"].encode()
    else:
        assert row["reason"] is None, row["reason"]
        found = {name: row[name] for name in expected}
        assert found == expected, (found, expected)


def _check_buckets(parsed):
    blocks = [
        from_block(pa.py_buffer(block)) for key, block in cut_into_buckets(parsed, 4) if key >= 0
    ]
    assert sum(map(len, blocks)) == len(parsed)


def _check_stored(parsed):
    rejected = parsed.filter(pc.is_valid(parsed["reason"])).select(REJECTED.names)
    sink = pa.BufferOutputStream()
    pq.write_table(rejected, sink)
    assert pq.read_table(pa.BufferReader(sink.getvalue())).equals(rejected)


def _check_worklist(valid):
    n = len(valid)
    text = worklist_text(valid.append_column("fraud_score", pa.array([0.1] * n)))
    rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    assert len(rows) == n
    _check_cells(cell for row in rows for cell in row.values())
    filled = io.StringIO(newline="")
    writer = csv.DictWriter(filled, list(rows[0]))
    writer.writeheader()
    writer.writerows(row | {"fraud": "yes"} for row in rows)
    path = Path(tempfile.gettempdir()) / f"fuzz-{id(valid)}.csv"
    path.write_bytes(filled.getvalue().encode())
    try:
        verdicts = read_verdicts(path, NOW)
    finally:
        path.unlink()
    assert [verdict["trans_num"] for verdict in verdicts] == valid["trans_num"].to_pylist()


def _check_cells(cells):
    for cell in cells:
        assert not _FORMULA.match(cell), repr(cell)
        assert not cell.startswith(("\t", "\r", "\n")), repr(cell)


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = set()

    def handle_starttag(self, tag, attributes):
        self.found.add(tag)
        assert {name for name, _ in attributes} <= {"lang", "style", "cellpadding", "colspan"}


def _check_mail(valid):
    names = ("trans_num", "cc_num", "event_time", "amt", "merchant", "category", "city", "state")
    hits = tuple(
        Hit(**{name: row[name] for name in names}, fraud_score=0.9, threshold=0.5, model_name="fraud",
            model_version="1", batch="query/0", reasons=(f"{row['merchant']} is far", row["job"] or ""))
        for row in valid.to_pylist()
    )  # fmt: skip
    mail = Mail("<fuzz@localhost>", hits, False, NOW, NOW)
    raw = compose(mail, "fraud@localhost", ["team@localhost"]).as_bytes(policy=policy.SMTP)
    message = message_from_bytes(raw, policy=policy.default)
    assert set(message.keys()) == _HEADERS
    assert len(message.keys()) == len(_HEADERS)
    assert re.fullmatch(r"\d+ fraud hits? on \d+ cards?, [\d,.]+ USD", message["Subject"])
    tags = _Tags()
    tags.feed(message.get_body(("html",)).get_content())
    assert tags.found <= _TAGS, tags.found - _TAGS
    (attachment,) = message.iter_attachments()
    rows = list(csv.reader(io.StringIO(attachment.get_content(), newline="")))
    assert len(rows) == len(hits) + 1
    _check_cells(cell for row in rows for cell in row)


def _outcome(reason):
    """A reason without what was found, of several problems the first."""
    return "valid" if reason is None else re.split(r"; |, found|, \d{4}-", reason)[0]


def run(payloads, first_seed, progress=lambda counts: None):
    """Fuzz with at least so many payloads; returns how they fared.

    Raises:
        AssertionError, or whatever a part raises: on the smallest case that was found.
    """
    counts, turn = Counter(), first_seed
    while counts.total() < payloads:
        _round(turn, counts)
        turn += 1
        progress(counts)
    return counts


def _round(turn, counts):
    @seed(turn)
    @settings(
        max_examples=EXAMPLES_A_ROUND, database=None, deadline=None, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    @given(cases)
    def examine(case):
        counts.update(fuzzed(*case))

    examine()


def main() -> int:
    """Parse arguments, fuzz, print the counts."""
    parser = argparse.ArgumentParser(description="Fuzz from the decoder to the mail.")
    parser.add_argument("--payloads", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.getLogger("ingest").setLevel(logging.ERROR)  # it warns of rows that it encrypts
    began = time.monotonic()

    def progress(counts):
        if sys.stderr.isatty():
            print(f"\r{counts.total():,} payloads", end="", file=sys.stderr, flush=True)

    counts = run(arguments.payloads, arguments.seed, progress)
    print(f"\rseed {arguments.seed}: {counts.total():,} payloads in {time.monotonic() - began:.0f} s, "
          f"valid {counts['valid']:,}, rejected {counts.total() - counts['valid']:,}, lost 0")  # fmt: skip
    for outcome, count in counts.most_common():
        print(f"{count:>9,}  {outcome}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
