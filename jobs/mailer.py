"""Sends what the outbox holds, on a timer, and keeps journal and ledger in step with it."""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from jobs.commits import TABLE_ERRORS
from jobs.mail import DELIVERY_ERRORS
from jobs.mail_journal import MailJournal
from jobs.outbox import Hit, Mail, Outbox

log = logging.getLogger(__name__)


class Ledger(Protocol):
    """What the mailer asks of the table `alerts`."""

    def pending(self) -> Sequence[Hit]:
        """Hits whose mail has neither been sent nor given up."""

    def sent_since(self, moment: datetime) -> Sequence[tuple[datetime, int]]:
        """When mails went out since ``moment``, and how many hits each had."""

    def record(self, mails: Sequence[Mail]) -> None:
        """Write how these mails fared to the rows of their hits."""


class Mailer:
    """One mail after the other, from one thread. Order of things for a mail: journal, relay,
    journal, ledger; so only a lost answer of the relay can make it go out twice.
    """

    def __init__(
        self,
        outbox: Outbox,
        journal: MailJournal,
        ledger: Ledger,
        send: Callable[[Mail], Mapping[str, str]],
        clock: Callable[[], datetime],
    ) -> None:
        self._outbox, self._journal, self._ledger = outbox, journal, ledger
        self._send, self._clock = send, clock
        self._lock = threading.Lock()
        self._unrecorded: dict[str, Mail] = {}
        self.has_failed = False

    def begin(self) -> None:
        """Take up what an earlier process left."""
        mails = self._journal.load()
        self._outbox.mails = {mail.message_id: mail for mail in mails}
        self._unrecorded = {mail.message_id: mail for mail in mails if mail.attempts}
        self._record()
        window = self._outbox.rules.window
        self._outbox.sent_lately = list(self._ledger.sent_since(self._clock() - window))
        self.add(self._ledger.pending())

    def add(self, hits: Iterable[Hit]) -> None:
        """Take new hits; they go out at the next tick."""
        with self._lock:
            self._outbox.add(hits)

    @property
    def is_idle(self) -> bool:
        """Whether every hit's mail went out (or was given up) and stands in the ledger."""
        with self._lock:
            return not self._outbox.waiting and not self._outbox.mails

    def tick(self) -> None:
        """Plan mails, try those that are due, record how they fared."""
        now = self._clock()
        with self._lock:
            for mail in self._outbox.plan(now):
                self._journal.save(mail)
            due = self._outbox.due(now)
        for mail in due:
            self._try(mail)
        self._record()

    def _try(self, mail: Mail) -> None:
        mail.attempts += 1
        self._journal.save(mail)
        try:
            refused = self._send(mail)
        except DELIVERY_ERRORS as error:
            self._outbox.not_delivered(mail, f"{type(error).__name__}: {error}", self._clock())
            log.warning(
                "%s, %d hits: the relay did not take it at try %d (%s); %s",
                mail.message_id, len(mail.hits), mail.attempts, mail.last_error,
                "given up" if mail.status == "failed" else f"next try {mail.next_try_at:%H:%M:%S}",
            )  # fmt: skip
        else:
            self._outbox.delivered(mail, self._clock())
            log.info("%s mailed: %d hits, try %d", mail.message_id, len(mail.hits), mail.attempts)
            for recipient, answer in refused.items():
                log.warning("the relay refused the recipient %s: %s", recipient, answer)
        self._journal.save(mail)
        self._unrecorded[mail.message_id] = mail

    def _record(self) -> None:
        if not self._unrecorded:
            return
        mails = list(self._unrecorded.values())
        try:
            self._ledger.record(mails)
        except TABLE_ERRORS as error:
            reason = " ".join(str(error).split())[:300]
            log.warning(
                "%d mails wait for the table `alerts`, tried again at the next tick: %s: %s",
                len(mails), type(error).__name__, reason,
            )  # fmt: skip
            return
        for mail in mails:
            if mail.status != "pending":
                self._journal.forget(mail)
                with self._lock:
                    self._outbox.forget(mail)
        self._unrecorded.clear()


def run_on_timer(mailer: Mailer, seconds: float, ended: threading.Event) -> threading.Thread:
    """Tick until ``ended`` is set; where a tick fails, say so and set it."""

    def run() -> None:
        try:
            while not ended.wait(seconds):
                mailer.tick()
        except Exception:
            log.exception("the mailer failed")
            mailer.has_failed = True
            ended.set()

    thread = threading.Thread(target=run, name="mailer", daemon=True)
    thread.start()
    return thread
