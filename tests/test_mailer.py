import json
import logging
import smtplib
import sqlite3
import threading
from collections import Counter
from contextlib import closing
from datetime import timedelta
from itertools import count

import pytest
from deltalake.exceptions import CommitFailedError, DeltaError

from jobs.mail_journal import MailJournal
from jobs.mailer import Mailer, run_on_timer
from jobs.outbox import Outbox, OutboxRules, new_mail
from tests.hits import NOON, hit

RULES = OutboxRules(
    window=timedelta(minutes=10),
    max_hits_in_window=5,
    retry_max=timedelta(minutes=5),
    give_up_after=timedelta(hours=72),
)


class Clock:
    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now

    def pass_by(self, seconds):
        self.now += timedelta(seconds=seconds)


class PowerCut(BaseException):
    """The process is gone."""


class Power:
    """Goes off before or after one of the steps that leave the process, and stays off."""

    def __init__(self, moments=10**9):
        self.moments, self.last = moments, ""

    def step(self, name, action):
        self._moment(f"before {name}")
        result = action()
        self._moment(f"after {name}")
        return result

    def _moment(self, name):
        self.moments -= 1
        if self.moments <= 0:
            self.last = self.last or name
            raise PowerCut(name)


class Journal(MailJournal):
    """The real journal, on a power supply."""

    def __init__(self, path, power):
        super().__init__(path)
        self._power = power

    def save(self, mail):
        self._power.step(
            f"journal {mail.status} {mail.attempts}", lambda: super(Journal, self).save(mail)
        )

    def forget(self, mail):
        self._power.step("journal forget", lambda: super(Journal, self).forget(mail))


class World:
    """What outlives a process: clock, relay, ledger and the journal's file."""

    def __init__(self, path):
        self.path, self.clock = path, Clock()
        self.rows = {}  # trans_num: hit, mail (None while none is recorded)
        self.relay_errors, self.ledger_errors = [], []
        self.relayed = []
        self.while_sending = lambda: None
        self.power = Power()

    def hits(self, *hits):
        """The stream found these."""
        self.rows |= {item.trans_num: (item, None) for item in hits}
        return hits

    # The ledger.

    def pending(self):
        return [
            item
            for item, mail in self.rows.values()
            if (mail or {}).get("status") in (None, "pending")
        ]

    def sent_since(self, moment):
        sent = Counter(
            (mail["sent_at"], mail["message_id"])
            for _, mail in self.rows.values()
            if mail and mail["sent_at"] and mail["sent_at"] > moment
        )
        return [(sent_at, hits) for (sent_at, _), hits in sent.items()]

    def record(self, mails):
        if self.ledger_errors:
            raise self.ledger_errors.pop(0)
        names = [item.trans_num for mail in mails for item in mail.hits]
        assert len(set(names)) == len(names), "two rows for one: Delta refuses such a MERGE"
        outcome = {item.trans_num: dict(vars(mail)) for mail in mails for item in mail.hits}

        def merge():
            self.rows |= {name: (self.rows[name][0], mail) for name, mail in outcome.items()}

        self.power.step("record", merge)

    # The relay.

    def send(self, mail):
        self.while_sending()
        if self.relay_errors:
            raise self.relay_errors.pop(0)
        self.power.step("relay", lambda: self.relayed.append(mail))
        return {}

    # The process.

    def start(self, power=None):
        """A new process, with what the one before left."""
        self.power = power or Power()
        journal = Journal(self.path, self.power)
        mailer = Mailer(Outbox(RULES), journal, self, self.send, self.clock)
        mailer.begin()
        return mailer

    def run(self, power=None):
        """A process that mails until nothing is left to do."""
        mailer = self.start(power)
        for _ in range(50):
            mailer.tick()
            if mailer.is_idle:
                return mailer
            self.clock.pass_by(2)
        raise AssertionError("never done")

    def statuses(self):
        return {int(name, 16): mail and mail["status"] for name, (_, mail) in self.rows.items()}

    def mailed(self):
        return [[int(item.trans_num, 16) for item in mail.hits] for mail in self.relayed]

    def journal(self):
        with closing(sqlite3.connect(self.path)) as database:
            return database.execute("SELECT message_id FROM mails").fetchall()


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / "made" / "alert.db")


REFUSED = smtplib.SMTPDataError(451, b"later")


def test_a_hit_is_mailed_and_recorded_once(world):
    mailer = world.start()
    mailer.add(world.hits(hit(1)))
    assert not mailer.is_idle
    mailer.tick()
    mailer.tick()
    assert world.mailed() == [[1]]
    ((_, row),) = world.rows.values()
    assert (row["status"], row["attempts"], row["sent_at"]) == ("sent", 1, NOON)
    assert row["message_id"] == world.relayed[0].message_id
    assert mailer.is_idle
    assert world.journal() == []


def test_hits_that_an_earlier_process_recorded_are_mailed(world):
    world.hits(hit(1), hit(2))
    world.run()
    assert world.mailed() == [[1, 2]]


def test_a_relay_that_fails_is_tried_again_after_a_pause(world):
    mailer = world.start()
    world.relay_errors = [REFUSED, TimeoutError("timed out"), ConnectionResetError("reset")]
    mailer.add(world.hits(hit(1)))
    mailer.tick()
    ((_, row),) = world.rows.values()
    assert (row["status"], row["attempts"]) == ("pending", 1)
    assert row["last_error"] == "SMTPDataError: (451, b'later')"
    world.clock.pass_by(1.9)
    mailer.tick()
    assert len(world.relay_errors) == 2
    for pause in (0.1, 4, 8):
        world.clock.pass_by(pause)
        mailer.tick()
    assert world.mailed() == [[1]]
    ((_, row),) = world.rows.values()
    assert (row["status"], row["attempts"], row["last_error"]) == ("sent", 4, None)


def test_a_mail_that_fails_does_not_hold_up_the_next_one(world):
    mailer = world.start()
    world.relay_errors = [REFUSED]
    mailer.add(world.hits(hit(1, batch=1), hit(2, batch=2)))
    mailer.tick()
    assert world.mailed() == [[2]]
    assert world.statuses() == {1: "pending", 2: "sent"}


def test_a_mail_is_given_up_recorded_and_forgotten(world, caplog):
    mailer = world.start()
    mailer.add(world.hits(hit(1)))
    world.relay_errors = [REFUSED] * 2
    mailer.tick()
    world.clock.pass_by(73 * 3600)
    mailer.tick()
    assert world.statuses() == {1: "failed"}
    assert "given up" in caplog.text
    assert mailer.is_idle
    assert world.journal() == []
    world.run()
    assert world.mailed() == []


def test_the_pause_outlives_the_process(world):
    world.hits(hit(1))
    world.relay_errors = [REFUSED]
    world.start().tick()
    mailer = world.start()
    mailer.tick()
    assert world.mailed() == []
    world.clock.pass_by(2)
    mailer.tick()
    assert world.mailed() == [[1]]
    ((_, row),) = world.rows.values()
    assert row["attempts"] == 2


def test_hits_added_while_a_mail_is_sent_go_out_at_the_next_tick(world):
    mailer = world.start()

    def more():
        world.while_sending = lambda: None
        # From the stream's thread: a lock held while the relay is asked would stop it here.
        thread = threading.Thread(target=lambda: mailer.add(world.hits(hit(2))), daemon=True)
        thread.start()
        thread.join(5)
        assert not thread.is_alive()

    world.while_sending = more
    mailer.add(world.hits(hit(1)))
    mailer.tick()
    assert world.mailed() == [[1]]
    mailer.tick()
    assert world.mailed() == [[1], [2]]
    assert world.statuses() == {1: "sent", 2: "sent"}


def test_wherever_the_power_goes_off_every_hit_is_mailed_once(tmp_path):
    cuts = set()
    for moments in count(1):
        world = World(tmp_path / f"{moments}.db")
        world.hits(hit(1, batch=1), hit(2, batch=1), hit(3, batch=2))
        world.relay_errors = [REFUSED]
        power = Power(moments)
        try:
            world.run(power)
        except PowerCut:
            cuts.add(power.last)
            world.run()
        mails = Counter(mail.message_id for mail in world.relayed)
        # Only where the relay's answer was lost a mail may go out twice, under the same name.
        lost = {"after relay", "before journal sent 1", "before journal sent 2"}
        assert sorted(mails.values()) == ([1, 2] if power.last in lost else [1, 1]), power.last
        mailed = {number for mail in world.mailed() for number in mail}
        assert mailed == {1, 2, 3}, power.last
        assert set(world.statuses().values()) == {"sent"}, power.last
        assert world.journal() == [], power.last
        if not power.last:
            break
    steps = ("journal pending 0", "journal pending 1", "journal pending 2", "relay",
             "journal sent 1", "journal sent 2", "record", "journal forget")  # fmt: skip
    assert cuts == {f"{when} {step}" for when in ("before", "after") for step in steps}


def test_power_that_fails_again_and_again_while_an_answer_is_on_record_sends_nothing_twice(world):
    world.hits(hit(1))
    with pytest.raises(PowerCut):
        world.run(Power(8))
    assert world.power.last == "after journal sent 1"
    for moments in (1, 2, 3):
        with pytest.raises(PowerCut):
            world.run(Power(moments))
    world.run()
    assert world.mailed() == [[1]]


@pytest.mark.parametrize("error", [CommitFailedError("busy"), DeltaError("busy"), OSError("busy")])
def test_a_ledger_that_fails_for_a_moment_loses_and_repeats_nothing(world, error, caplog):
    mailer = world.start()
    mailer.add(world.hits(hit(1)))
    world.ledger_errors = [error] * 2
    mailer.tick()
    assert "busy" in caplog.text
    assert world.statuses() == {1: None}
    assert not mailer.is_idle
    mailer.add([hit(1), *world.hits(hit(2, batch=2))])
    world.clock.pass_by(1000)
    mailer.tick()
    assert world.mailed() == [[1], [2]]
    mailer.tick()
    assert world.statuses() == {1: "sent", 2: "sent"}
    assert world.mailed() == [[1], [2]]
    assert mailer.is_idle
    assert world.journal() == []


def test_a_mail_tried_twice_before_the_ledger_is_back_is_recorded_once(world):
    mailer = world.start()
    mailer.add(world.hits(hit(1)))
    world.relay_errors = [REFUSED] * 2
    world.ledger_errors = [CommitFailedError("busy")]
    mailer.tick()
    world.clock.pass_by(2)
    mailer.tick()
    ((_, row),) = world.rows.values()
    assert (row["status"], row["attempts"]) == ("pending", 2)


def test_a_restart_while_the_ledger_fails_sends_nothing_twice(world):
    world.hits(hit(1))
    world.ledger_errors = [CommitFailedError("busy")] * 3
    world.start().tick()
    mailer = world.start()
    mailer.tick()
    mailer.tick()
    assert world.mailed() == [[1]]
    assert world.statuses() == {1: "sent"}
    assert mailer.is_idle


def test_the_window_outlives_the_process_whatever_the_ledger_knows(world):
    world.hits(*(hit(number) for number in range(4)))
    with pytest.raises(PowerCut):
        world.run(Power(8))
    assert world.power.last == "after journal sent 1"
    mailer = world.start()
    mailer.add(world.hits(hit(10), hit(11)))
    mailer.tick()
    assert len(world.relayed) == 1
    mailer = world.start()
    world.clock.pass_by(599)
    mailer.tick()
    assert len(world.relayed) == 1
    world.clock.pass_by(1)
    mailer.tick()
    assert world.mailed()[1:] == [[10, 11]]


def test_recipients_that_the_relay_refused_are_logged(world, caplog):
    world.hits(hit(1))
    journal = MailJournal(world.path)
    refusing = Mailer(Outbox(RULES), journal, world, lambda mail: {"x@y": "550 no"}, world.clock)
    refusing.begin()
    refusing.tick()
    assert world.statuses() == {1: "sent"}
    assert "x@y: 550 no" in caplog.text


def test_no_log_line_holds_a_card_number(world, caplog):
    caplog.set_level(logging.DEBUG)
    world.hits(hit(1))
    world.relay_errors = [REFUSED]
    world.ledger_errors = [CommitFailedError("busy")]
    world.run()
    assert "mailed: 1 hits" in caplog.text
    assert "42221111" not in caplog.text


def test_the_journal_gives_back_what_it_was_given(tmp_path):
    mail = new_mail([hit(1, city=None, merchant="Łódź '\"\n"), hit(2)], True, NOON)
    other = new_mail([hit(3)], False, NOON + timedelta(seconds=1))
    mail.attempts, mail.status, mail.sent_at, mail.last_error = 3, "sent", NOON, "x"
    journal = MailJournal(tmp_path / "alert.db")
    journal.save(other)
    journal.save(new_mail(list(mail.hits), True, NOON))
    journal.save(mail)
    assert MailJournal(tmp_path / "alert.db").load() == [mail, other]
    journal.forget(mail)
    assert MailJournal(tmp_path / "alert.db").load() == [other]


def test_the_timer_goes_on_after_a_passing_failure_of_the_ledger(world):
    mailer, ended = world.start(), threading.Event()
    world.ledger_errors = [CommitFailedError("busy"), OSError("busy")]
    mailer.add(world.hits(hit(1)))
    record = world.record

    def record_and_end(mails):
        record(mails)
        ended.set()

    world.record = record_and_end
    thread = run_on_timer(mailer, 0.001, ended)
    thread.join(10)
    assert world.statuses() == {1: "sent"}
    assert world.mailed() == [[1]]
    assert not mailer.has_failed


def test_an_unexpected_failure_ends_the_job(world, caplog):
    mailer, ended = world.start(), threading.Event()
    world.ledger_errors = [ZeroDivisionError("a bug")]
    mailer.add(world.hits(hit(1)))
    thread = run_on_timer(mailer, 0.001, ended)
    thread.join(10)
    assert ended.is_set()
    assert mailer.has_failed
    assert "a bug" in caplog.text


def test_the_timer_ends_when_asked(world):
    ended = threading.Event()
    ended.set()
    thread = run_on_timer(world.start(), 3600, ended)
    thread.join(10)
    assert not thread.is_alive()


def test_hits_in_the_journal_are_those_that_went_in_also_from_before_there_were_reasons(tmp_path):
    path = tmp_path / "alert.db"
    mail = new_mail([hit(1), hit(2, reasons=())], False, NOON)
    journal = MailJournal(path)
    journal.save(mail)
    assert journal.load()[0].hits == mail.hits
    with sqlite3.connect(path) as database:
        (hits,) = database.execute("SELECT hits FROM mails").fetchone()
        older = [
            {n: value for n, value in item.items() if n != "reasons"} for item in json.loads(hits)
        ]
        database.execute("UPDATE mails SET hits = ?", (json.dumps(older),))
    assert MailJournal(path).load()[0].hits == (hit(1, reasons=()), hit(2, reasons=()))
