"""Label and maintain in the score job's process."""

import threading

import pytest

from conf.lock import locked
from jobs import beside as beside_module
from jobs.beside import LABEL, MAINTAIN, beside
from jobs.label import LabelJob
from tests.bank import Bank

PATIENCE_SECONDS = 60


@pytest.fixture
def looked(monkeypatch):
    """Set whenever the label job has looked."""
    done = threading.Event()
    look = LabelJob.look

    def look_and_tell(job):
        look(job)
        done.set()

    monkeypatch.setattr(LabelJob, "look", look_and_tell)
    return done


def test_both_jobs_work_until_the_block_ends(settings, looked, monkeypatch):
    kept = threading.Event()
    monkeypatch.setattr("jobs.maintain.maintain", lambda *arguments: kept.set())
    bank = Bank(settings)
    bank.score(1, 2)
    bank.drop("monday.csv", (1, "yes", "chargeback"))
    ended = threading.Event()
    with beside([LABEL, MAINTAIN], settings, ended) as running:
        assert looked.wait(PATIENCE_SECONDS)
        assert kept.wait(PATIENCE_SECONDS)
        assert not ended.is_set()
        assert {thread.name for thread in threading.enumerate()} >= {LABEL, MAINTAIN}
    assert ended.is_set()
    assert not running.failed
    assert not {thread.name for thread in threading.enumerate()} & {LABEL, MAINTAIN}
    labels = bank.labels
    assert labels[2] is None
    assert labels[1][:2] == (True, "chargeback")


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_one_that_fails_ends_the_process_of_all(settings, monkeypatch, caplog, error):
    def fail(job):
        raise error("no such thing")

    monkeypatch.setattr(LabelJob, "look", fail)
    ended = threading.Event()
    with beside([LABEL], settings, ended) as running:
        assert ended.wait(PATIENCE_SECONDS)
    assert running.failed == [LABEL]
    assert "label failed, this process ends" in caplog.messages


def test_without_names_nothing_runs_beside(settings, monkeypatch):
    monkeypatch.setattr(beside_module, "LabelJob", None)
    with beside((), settings, threading.Event()) as running:
        assert not settings.label.inbox.exists()
    assert not running.failed


def test_a_second_label_job_is_refused_whoever_runs_it(settings, looked, capsys):
    with beside([LABEL], settings, threading.Event()):
        assert looked.wait(PATIENCE_SECONDS)
        with pytest.raises(SystemExit), beside([LABEL], settings, threading.Event()):
            raise AssertionError("both run")
    assert "another label job runs here" in capsys.readouterr().err
    with locked(settings.label.inbox):  # free again
        pass


def test_a_second_maintain_job_is_refused(settings, monkeypatch, capsys):
    monkeypatch.setattr("jobs.maintain.maintain", lambda *arguments: True)
    with (
        beside([MAINTAIN], settings, threading.Event()),
        pytest.raises(SystemExit),
        beside([MAINTAIN], settings, threading.Event()),
    ):
        raise AssertionError("both run")
    assert "another maintain job works on" in capsys.readouterr().err
