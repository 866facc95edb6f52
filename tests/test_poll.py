import errno
import io
import json
import logging
from base64 import b64decode
from dataclasses import replace

import pytest
import requests
from requests.adapters import BaseAdapter

from ingest.call_ledger import CallLedger, Pace, Slot, read_calls
from ingest.landing import FileLanding
from ingest.payments_api import PaymentsApi
from ingest.poller import Lander, Poller
from tests.answers import START, answer, ok, real_api, server

URL = "http://user:hush@api.test:8009/current-transactions?key=hush"


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


def test_dropped_connections_of_a_real_server_are_tried_again(ingest):
    halves = [b"", ok(answer("t1"))[:10], ok(answer("t1"))[:-10], b"nonsense\r\n\r\n"]
    with server(*halves, ok(answer("t1"))) as url:
        assert ingest.start_with(real_api(url)).poll().rows == 1
    assert ingest.outcomes() == ["connection dropped"] * 4 + ["landed"]
    assert ingest.trans_nums() == [["t1"]]
