import errno
import io
import json
import logging
import signal
import socket
import sys
import threading
from base64 import b64decode
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from requests.adapters import BaseAdapter

from ingest import poll
from ingest.call_ledger import CallLedger, Pace, Slot, exclusive, read_calls
from ingest.landing import FileLanding
from ingest.payments_api import CallFailed, PaymentsApi, retry_after_seconds
from ingest.poller import Lander, Poller

START = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
URL = "http://user:hush@api.test:8009/current-transactions?key=hush"
COLUMNS = ["trans_num", "amt"]


def answer(*trans_nums):
    rows = [[trans_num, 1.5] for trans_num in trans_nums]
    return json.dumps({"columns": COLUMNS, "index": list(range(len(rows))), "data": rows}).encode()


def status(code, **headers):
    return code, {name.replace("_", "-"): value for name, value in headers.items()}, b"sorry"


class Time:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = START
        self.slept = []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


class ScriptedApi(BaseAdapter):
    """Answers with bodies, statuses and exceptions, in turn; the last one for ever."""

    def __init__(self, time, script):
        super().__init__()
        self.time, self.script, self.called_at = time, list(script), []

    def send(self, request, **kwargs):
        self.called_at.append(self.time.now)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, Exception):
            raise step
        response = requests.Response()
        code, headers, body = step if isinstance(step, tuple) else (200, {}, step)
        response.status_code, response.raw, response.request = code, io.BytesIO(body), request
        response.headers.update(headers)
        return response

    def close(self):
        pass


class NoLimit(CallLedger):
    def take_slot(self, now):
        return Slot(1, 0.0)


class Ingest:
    """A poller on a scripted API, which can be started anew on the same ledger and folder."""

    def __init__(self, tmp_path):
        self.time = Time()
        self.folder, self.ledger_path = tmp_path / "landing", tmp_path / "ingest.db"

    def start(self, *script, attempts=5, max_body_bytes=1000):
        self.api = ScriptedApi(self.time, script)
        session = requests.Session()
        session.mount("http://", self.api)
        return self.start_with(
            PaymentsApi(
                URL,
                timeout_seconds=10,
                max_body_bytes=max_body_bytes,
                session=session,
                clock=self.time.clock,
            ),
            attempts,
        )

    def start_with(self, api, attempts=5):
        ledger = CallLedger(self.ledger_path, Pace(5, 10))
        self.landing = FileLanding(self.folder)
        first = self.landing.next_position()
        lander = Lander(self.landing, ledger, "test", first, self.time.clock)
        return Poller(api, ledger, lander, attempts, 60.0, self.time.clock, self.time.sleep)

    def files(self):
        """The landed envelopes, a list for each file."""
        return [
            [json.loads(line) for line in path.read_text().splitlines()]
            for path in sorted(self.folder.iterdir())
        ]

    def trans_nums(self):
        return [
            [json.loads(line["payload"])["trans_num"] for line in file] for file in self.files()
        ]

    def outcomes(self):
        return [call.outcome for call in read_calls(self.ledger_path)]


@pytest.fixture
def ingest(tmp_path):
    return Ingest(tmp_path)


def test_every_answer_is_one_file_of_envelopes(ingest):
    twice = json.dumps(answer("t2", "t3").decode()).encode()  # a JSON string that holds JSON
    assert ingest.start(answer("t1", "t2"), twice).run(max_polls=2) == 2
    first, second = ingest.files()
    assert first[0] == {
        "source": "test",
        "position": 0,
        "received_at": "2023-11-14T22:13:20.000+00:00",
        "encoding": "text",
        "payload": '{"trans_num": "t1", "amt": 1.5}',
    }
    assert [line["position"] for line in first + second] == [0, 1, 2, 3]
    assert ingest.trans_nums() == [["t1", "t2"], ["t2", "t3"]]  # what overlaps is landed twice
    assert second[0]["received_at"] == "2023-11-14T22:13:32.000+00:00"


FAULTS = {
    "status 429": status(429),
    "status 500": status(500),
    "status 503": status(503, Retry_After="1"),
    "time-out": requests.ReadTimeout(URL),
    "connection dropped": requests.ConnectionError(URL),
    "malformed body": answer("t0")[:-5],
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_tried_again(ingest, kind):
    assert ingest.start(FAULTS[kind], FAULTS[kind], answer("t1")).poll().rows == 1
    assert ingest.outcomes() == [kind, kind, "landed"]
    assert json.loads(ingest.files()[-1][0]["payload"]) == {"trans_num": "t1", "amt": 1.5}


@pytest.mark.parametrize("kind", FAULTS)
def test_tries_are_bounded_and_polling_goes_on(ingest, kind, caplog):
    poller = ingest.start(*[FAULTS[kind]] * 3, answer("t1"), attempts=3)
    assert poller.poll() is None
    assert len(ingest.api.called_at) == 3
    assert "missed after 3 of 3 tries: " + kind in caplog.text
    assert poller.poll().rows == 1


@pytest.mark.parametrize(
    ("header", "pause"),
    [("40", 40), ("0", 12), ("4000", 60), ("Tue, 14 Nov 2023 22:14:00 GMT", 40), ("9" * 999, 60)],
)
@pytest.mark.parametrize("code", [429, 503])
def test_what_retry_after_asks_for_is_kept_up_to_the_longest_pause(ingest, code, header, pause):
    ingest.start(status(code, Retry_After=header), answer("t1")).poll()
    first, second = ingest.api.called_at
    assert second - first == pytest.approx(pause)


def test_the_back_off_grows_up_to_the_longest_pause(ingest):
    asked = []
    poller = ingest.start(status(500), attempts=9)
    replace(poller, ledger=NoLimit(ingest.ledger_path, Pace(5, 10)), sleep=asked.append).poll()
    assert all(2**n <= pause <= 2**n + 1 for n, pause in enumerate(asked[:5]))
    assert asked[6:] == [60.0, 60.0]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        (" 7 ", 7),
        ("Tue, 14 Nov 2023 22:13:30 GMT", 10),
        ("Tue, 14 Nov 2023 22:13:30 -0000", 10),
        ("Tue, 14 Nov 2023 22:13:10 GMT", 0),
        ("Tue, 99 Nov 2023 22:13:10 GMT", None),
    ],
)
def test_retry_after(header, seconds):
    assert retry_after_seconds(header, START) == seconds


@pytest.mark.parametrize("code", [301, 400, 401, 404])
def test_what_will_not_get_better_is_not_tried_again_in_the_same_call(ingest, code, caplog):
    poller = ingest.start(status(code, Location="http://elsewhere.test/"), answer("t1"))
    assert poller.run(max_polls=2) == 1
    assert ingest.outcomes() == [f"status {code}", "landed"]
    assert f"missed after 1 of 5 tries: status {code}" in caplog.text


def test_no_more_than_five_calls_a_minute_whatever_fails_and_restarts(ingest):
    called_at = []
    script = [answer("t1"), status(429), status(500), answer("t2"), requests.ReadTimeout(), b"{"]
    for _ in range(6):
        ingest.start(*script).run(max_polls=3)
        called_at += ingest.api.called_at
        ingest.time.now += 0.5
    windows = list(zip(called_at, called_at[5:], strict=False))
    assert len(windows) > 10
    assert all(later - earlier > 60 for earlier, later in windows)


def test_positions_grow_across_a_restart_and_a_lost_ledger(ingest):
    ingest.start(answer("t1", "t2")).poll()
    ingest.start(answer("t3")).poll()
    ingest.ledger_path.unlink()
    ingest.start(answer("t4")).poll()
    assert [line["position"] for file in ingest.files() for line in file] == [0, 1, 2, 3]


@pytest.mark.parametrize("body", [b"\xff\x00 no text", b'{"columns": ["a", "a"], "data": []}', b""])
def test_a_body_that_cannot_be_read_is_kept_as_it_came(ingest, body):
    ingest.start(body, answer("t1")).poll()
    (envelope,), _ = ingest.files()
    kept = envelope["payload"]
    assert (b64decode(kept) if envelope["encoding"] == "base64" else kept.encode()) == body


def test_an_answer_without_rows_is_a_success_without_a_file(ingest):
    assert ingest.start(answer()).poll().rows == 0
    assert (ingest.files(), ingest.outcomes()) == ([], ["landed"])


def test_a_full_disk_is_tried_again_and_gives_no_position_twice(ingest, monkeypatch):
    poller = ingest.start(answer("t1"))
    land, errors = ingest.landing.land, [OSError(errno.ENOSPC, "No space left on device")]
    monkeypatch.setattr(
        ingest.landing, "land", lambda *rows: land(*rows) if not errors else fail(errors.pop())
    )
    assert poller.poll().rows == 1
    assert ingest.outcomes() == ["landing failed", "landed"]
    assert ingest.files()[0][0]["position"] == 1


def fail(error):
    raise error


def test_a_body_that_is_too_long_is_not_taken(ingest, caplog):
    poller = ingest.start(b" " * 101, b"[" + b" " * 99, max_body_bytes=100)
    assert poller.poll() is None
    assert "more than 100 bytes (api.max_body_bytes)" in caplog.text
    assert ingest.files() == []
    assert ingest.start(answer("t1"), max_body_bytes=len(answer("t1"))).poll().rows == 1


def test_a_call_stands_in_the_ledger_before_it_is_made(ingest):
    poller = ingest.start(answer("t1"))
    seen = []
    send = ingest.api.send
    ingest.api.send = lambda *args, **kw: (seen.append(ingest.outcomes()), send(*args, **kw))[1]
    poller.poll()
    assert seen == [[None]]


def test_the_log_has_a_line_a_call_and_never_the_key(ingest, caplog):
    caplog.set_level(logging.DEBUG)
    ingest.start(*FAULTS.values(), answer("t1", "t2"), attempts=9).poll()
    assert "rows 2, file payments-00000000000000000001.jsonl, retries 6" in caplog.text
    assert "try 1 of 9: status 429" in caplog.text
    assert "hush" not in caplog.text


@contextmanager
def server(*replies):
    """A real server: each connection gets the next of ``replies``, as bytes or from a function."""
    left = list(replies)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            reply = left.pop(0) if len(left) > 1 else left[0]
            reply(self.wfile) if callable(reply) else self.wfile.write(reply)

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/current-transactions?of=hush"
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def ok(body):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def real_api(url, timeout_seconds=5.0):
    return PaymentsApi(
        url, timeout_seconds=timeout_seconds, max_body_bytes=10_000, clock=lambda: START
    )


@pytest.fixture
def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_a_token_goes_with_the_call(monkeypatch):
    sent = []

    def send(session, request, **options):
        sent.append(request.headers.get("Authorization"))
        raise requests.ConnectionError

    monkeypatch.setattr(requests.Session, "send", send)
    for token in ("hush", None):
        api = PaymentsApi(
            "http://127.0.0.1:1/x",
            timeout_seconds=1,
            max_body_bytes=9,
            token=token,
            clock=lambda: START,
        )
        with pytest.raises(CallFailed) as caught:
            api.fetch()
        assert "hush" not in str(caught.value)
    assert sent == ["Bearer hush", None]


def test_dropped_connections_of_a_real_server_are_tried_again(ingest):
    halves = [b"", ok(answer("t1"))[:10], ok(answer("t1"))[:-10], b"nonsense\r\n\r\n"]
    with server(*halves, ok(answer("t1"))) as url:
        assert ingest.start_with(real_api(url)).poll().rows == 1
    assert ingest.outcomes() == ["connection dropped"] * 4 + ["landed"]
    assert ingest.trans_nums() == [["t1"]]


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\n\r\n", ok(b" " * 10_000)[:-10_000]])
def test_a_server_that_drips_is_left_when_the_time_is_up(head):
    is_over = threading.Event()

    def drip(stream):
        stream.write(head)
        for _ in range(100):
            stream.write(b"1")
            is_over.wait(0.02)

    def drip_until_cut(stream):
        try:
            drip(stream)
        except OSError:
            is_over.set()

    with server(drip_until_cut) as url:
        try:
            with pytest.raises(CallFailed, match=r"time-out: no whole answer .* in 0.2 s"):
                real_api(url, timeout_seconds=0.2).fetch()
            assert is_over.wait(5)  # the connection is closed, not forgotten
        finally:
            is_over.set()


def test_a_refused_connection_says_where_and_asks_whether_the_api_is_up(closed_port):
    url = f"http://u:hush@127.0.0.1:{closed_port}/x?key=hush"
    with pytest.raises(CallFailed, match="refused") as caught:
        real_api(url).fetch()
    assert str(caught.value) == (f"connection refused: by 127.0.0.1:{closed_port}: is the API up?")
    assert caught.value.is_retryable


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Run ``python -m ingest.poll`` with arguments, in ``tmp_path``; returns its exit status."""
    config = Path(__file__).parents[1] / "conf" / "local.toml"
    (tmp_path / "var").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FRAUD_API__ATTEMPTS", "1")
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*arguments, url=None):
        if url:
            monkeypatch.setenv("FRAUD_API__URL", url)
        monkeypatch.setattr(sys, "argv", ["poll", "--config", str(config), *arguments])
        try:
            poll.main()
        except SystemExit as end:
            return end.code
        return 0

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_command_lands_and_reports_no_gaps(command, tmp_path, capsys):
    with server(ok(answer("t1"))) as url:
        assert command("--max-polls", "1", url=url) == 0
    assert len(list((tmp_path / "var/landing").iterdir())) == 1
    assert command("--gaps") == 0
    assert "no gaps since 20" in capsys.readouterr().out


def test_the_command_ends_with_1_when_every_call_was_missed(command, closed_port, capsys):
    assert command("--max-polls", "1", url=f"http://127.0.0.1:{closed_port}/") == 1
    assert capsys.readouterr().err.endswith("error: every call was missed (1 of 1)\n")


def test_gaps_before_the_first_call(command, tmp_path, capsys):
    assert command("--gaps") == 0
    assert capsys.readouterr().out == "no calls yet in var/ingest.db\n"
    assert not (tmp_path / "var/ingest.db").exists()


def test_the_gap_report_is_a_table_with_a_total(command, tmp_path, capsys):
    ledger = CallLedger(tmp_path / "var/ingest.db", Pace(5, 10))
    for now in (START, START + 3600):
        ledger.finish_call(ledger.take_slot(now).call, now + 1, "landed")
    assert command("--gaps") == 0
    out = capsys.readouterr().out
    assert "2023-11-14 22:13:20 │ 2023-11-14 23:13:08 │               3,588 │          299" in out
    assert "ingest was not running" in out
    assert "total" in out
    assert "2 gaps" in out


def test_print_shows_a_table_and_lands_nothing(command, tmp_path, capsys):
    body = json.dumps({"columns": COLUMNS, "data": [["t1", 1.5], ["[red]\x1b[31m", None], [7]]})
    with server(ok(body.encode())) as url:
        assert command("--print", url=url) == 0
    out = capsys.readouterr().out
    assert "trans_num" in out
    assert "t1" in out
    assert r"'[red]\x1b[31m'" in out  # neither markup nor a terminal's command
    assert "transactions: 2" in out
    assert "did not decode (not as long as `columns`): 1, such as [7]" in out
    assert not (tmp_path / "var/landing").exists()
    assert [call.outcome for call in read_calls(tmp_path / "var/ingest.db")] == ["printed"]


def test_print_says_why_a_body_did_not_decode(command, capsys):
    with server(ok(b"[]")) as url:
        assert command("--print", url=url) == 0
    assert "the body did not decode: expected an object" in capsys.readouterr().out


def test_a_second_poller_says_so_in_a_line(command, tmp_path, capsys):
    with exclusive(tmp_path / "var/ingest.db", tmp_path / "elsewhere"):
        assert command("--max-polls", "1") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: another ingest runs here")
    assert error.count("\n") == 1


def test_a_landing_that_is_no_folder_is_refused(command, monkeypatch, capsys):
    monkeypatch.setenv("FRAUD_LANDING__PATH", "hdfs://host/landing")
    assert command("--max-polls", "1") == 1
    assert "landing.path: expected a local folder or s3a://" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_mid_call_ends_it_when_the_answer_is_landed(command, tmp_path, caplog, number):
    caplog.set_level(logging.INFO)

    def interrupt(stream):
        signal.pthread_kill(threading.main_thread().ident, number)
        stream.write(ok(answer("t1")))

    with server(interrupt) as url:
        assert command(url=url) == 0
    assert len(list((tmp_path / "var/landing").iterdir())) == 1
    assert f"ended by {number.name}" in caplog.text


@pytest.mark.parametrize("arguments", [["--max-polls", "0"], ["--print", "--gaps"]])
def test_arguments_that_make_no_sense(command, arguments, capsys):
    assert command(*arguments) == 2
