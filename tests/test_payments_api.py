import threading

import pytest
import requests

from ingest.payments_api import CallFailed, PaymentsApi, retry_after_seconds
from tests.answers import START, ok, real_api, server
from tests.conftest import free_port


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


def test_a_refused_connection_says_where_and_asks_whether_the_api_is_up():
    port = free_port()
    url = f"http://u:hush@127.0.0.1:{port}/x?key=hush"
    with pytest.raises(CallFailed, match="refused") as caught:
        real_api(url).fetch()
    assert str(caught.value) == (f"connection refused: by 127.0.0.1:{port}: is the API up?")
    assert caught.value.is_retryable
