import json
import logging
import signal
import sys
import threading
from pathlib import Path

import pytest

from ingest import poll
from ingest.call_ledger import CallLedger, Pace, exclusive, read_calls
from tests.answers import COLUMNS, START, answer, ok, server
from tests.conftest import free_port


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


def test_the_command_ends_with_1_when_every_call_was_missed(command, capsys):
    assert command("--max-polls", "1", url=f"http://127.0.0.1:{free_port()}/") == 1
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
