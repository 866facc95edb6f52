"""Which hits go into which mail, and when it is tried: no Spark, no SMTP, no clock of its own."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby

FIRST_RETRY_SECONDS = 2.0


@dataclass(frozen=True)
class Hit:
    """A payment that the model took for fraud; as in the table `alerts`. None: not in the payment
    (see ``score.optional_fields``). ``reasons``: the weightiest first.
    """

    trans_num: str
    cc_num: str
    event_time: datetime
    amt: float | None
    merchant: str | None
    category: str | None
    city: str | None
    state: str | None
    fraud_score: float
    threshold: float
    model_name: str
    model_version: str
    batch: str
    reasons: tuple[str, ...] = ()


@dataclass
class Mail:
    """A mail and how it fared. Once planned, its hits and its Message-ID never change."""

    message_id: str
    hits: tuple[Hit, ...]
    is_digest: bool
    planned_at: datetime
    next_try_at: datetime
    attempts: int = 0
    status: str = "pending"
    sent_at: datetime | None = None
    last_error: str | None = None


@dataclass(frozen=True)
class OutboxRules:
    """How many hits go out in a window, and how long a mail is tried again."""

    window: timedelta
    max_hits_in_window: int
    retry_max: timedelta
    give_up_after: timedelta


@dataclass
class Outbox:
    """Hits that wait for a mail, mails that wait for the relay, and what went out lately."""

    rules: OutboxRules
    waiting: dict[str, Hit] = field(default_factory=dict)
    mails: dict[str, Mail] = field(default_factory=dict)
    sent_lately: list[tuple[datetime, int]] = field(default_factory=list)

    def add(self, hits: Iterable[Hit]) -> None:
        """Take hits that no mail holds yet; those that wait or are in a mail already are left."""
        mailed = {hit.trans_num for mail in self.mails.values() for hit in mail.hits}
        for hit in hits:
            if hit.trans_num not in mailed:
                self.waiting.setdefault(hit.trans_num, hit)

    def plan(self, now: datetime) -> list[Mail]:
        """Put the waiting hits into mails: one for each micro-batch. Where that would be more hits
        in a window than allowed, they wait for the window's end and go out in one digest. Mails
        that the relay has not taken yet count too: when it is back, they all go out at once.
        """
        began = now - self.rules.window
        self.sent_lately = [(at, hits) for at, hits in self.sent_lately if at > began]
        if not self.waiting:
            return []
        pending = [mail for mail in self.mails.values() if mail.status == "pending"]
        counted = sum(hits for _, hits in self.sent_lately) + sum(len(m.hits) for m in pending)
        if counted + len(self.waiting) <= self.rules.max_hits_in_window:
            ordered = sorted(self.waiting.values(), key=lambda hit: (hit.batch, hit.trans_num))
            groups = [list(hits) for _, hits in groupby(ordered, key=lambda hit: hit.batch)]
            mails = [new_mail(hits, False, now) for hits in groups]
        elif self.sent_lately or any(mail.planned_at > began for mail in pending):
            return []
        else:
            mails = [new_mail(list(self.waiting.values()), True, now)]
        for mail in mails:
            self.mails[mail.message_id] = mail
        self.waiting.clear()
        return mails

    def due(self, now: datetime) -> list[Mail]:
        """Mails to be tried now, the oldest first."""
        return sorted(
            (
                mail
                for mail in self.mails.values()
                if mail.status == "pending" and mail.next_try_at <= now
            ),
            key=lambda mail: mail.planned_at,
        )

    def delivered(self, mail: Mail, now: datetime) -> None:
        """The relay took the mail."""
        mail.status, mail.sent_at, mail.last_error = "sent", now, None
        self.sent_lately.append((now, len(mail.hits)))

    def not_delivered(self, mail: Mail, error: str, now: datetime) -> None:
        """The try failed: the next one waits twice as long, up to a bound; in the end it stops."""
        mail.last_error = error
        pause = min(
            timedelta(seconds=FIRST_RETRY_SECONDS * 2 ** min(mail.attempts - 1, 30)),
            self.rules.retry_max,
        )
        mail.next_try_at = now + pause
        if now - mail.planned_at > self.rules.give_up_after:
            mail.status = "failed"

    def forget(self, mail: Mail) -> None:
        """Drop a mail whose outcome stands in the ledger."""
        del self.mails[mail.message_id]


def new_mail(hits: list[Hit], is_digest: bool, now: datetime) -> Mail:
    """A mail of these hits; its Message-ID is made from them, so that it is the same each time."""
    names = "\n".join(sorted(hit.trans_num for hit in hits))
    digest = hashlib.sha256(names.encode()).hexdigest()[:32]
    return Mail(f"<{digest}@fraud-detector>", tuple(hits), is_digest, now, next_try_at=now)
