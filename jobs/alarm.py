"""Mails about the system itself, to those who get the hits: sent at once, with a few tries."""

import logging
import mimetypes
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid, parseaddr

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential_jitter,
)

from conf.settings import Settings
from jobs.mail import DELIVERY_ERRORS, deliver

log = logging.getLogger(__name__)

ATTEMPTS = 3
SECONDS = 60.0
"""No try begins later than that after the first."""
_PAUSE_SECONDS = 10.0
PAUSE_SECONDS = 300.0


class AlarmNotSent(Exception):
    """The relay did not take the mail; the message says why."""


@dataclass(frozen=True)
class Attachment:
    """A file in the mail; the ending of its name tells its type."""

    name: str
    content: bytes


def send_alarm(
    settings: Settings,
    subject: str,
    text: str,
    attachments: Sequence[Attachment] = (),
    *,
    moment: datetime | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Mail ``text`` to the recipients of ``[alert]``: up to ``ATTEMPTS`` tries in ``SECONDS``.

    Args:
        subject: line breaks in it become blanks.
        moment: the mail's date, with time zone; None: now.
        sleep: takes seconds.

    Raises:
        AlarmNotSent: no try went well. It may have arrived all the same, where an answer was lost.
    """
    message = compose_alarm(settings, subject, text, attachments, moment or datetime.now(UTC))
    retrying = Retrying(
        sleep=sleep,
        stop=stop_after_attempt(ATTEMPTS) | stop_after_delay(SECONDS),
        wait=wait_exponential_jitter(initial=1, max=_PAUSE_SECONDS),
        retry=retry_if_exception_type(DELIVERY_ERRORS),
        before_sleep=_log_retry,
        reraise=True,
    )
    try:
        refused = retrying(deliver, message, settings.smtp)
    except DELIVERY_ERRORS as error:
        tries, relay = retrying.statistics["attempt_number"], settings.smtp
        raise AlarmNotSent(
            f"the relay {relay.host}:{relay.port} did not take {message['Subject']!r} in {tries} "
            f"tries: {type(error).__name__}: {error}"
        ) from error
    for recipient, answer in refused.items():
        log.warning("the relay refused the recipient %s: %s", recipient, answer)


class AlarmsBeside:
    """Sends alarms from a thread of its own, one after the other, each until the relay takes it:
    whoever raises them does not wait.

    Args:
        send: ``send_alarm`` with the settings.
        pause_seconds: between two rounds of tries.
    """

    def __init__(
        self, send: Callable[[str, str], None], pause_seconds: float = PAUSE_SECONDS
    ) -> None:
        self._send, self._pause_seconds = send, pause_seconds
        self._waiting: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._sending = threading.Thread(target=self._run, name="alarms", daemon=True)
        self._sending.start()

    def __call__(self, subject: str, text: str) -> None:
        """Send ``text`` as soon as possible."""
        self._waiting.put((subject, text))

    def stop(self) -> None:
        """The process ends: alarms that wait are tried once more."""
        self._ended.set()
        self._waiting.put(None)
        self._sending.join()

    def _run(self) -> None:
        while (alarm := self._waiting.get()) is not None:
            while not self._sent(*alarm) and not self._ended.is_set():
                self._ended.wait(self._pause_seconds)

    def _sent(self, subject: str, text: str) -> bool:
        try:
            self._send(subject, text)
        except AlarmNotSent as error:
            if self._ended.is_set():
                log.error("an alarm is lost: %s", error)
            else:
                log.warning("%s; tried again", error)
            return False
        return True


def compose_alarm(
    settings: Settings,
    subject: str,
    text: str,
    attachments: Sequence[Attachment],
    moment: datetime,
) -> EmailMessage:
    """The message, not sent."""
    message = EmailMessage()
    message["From"] = settings.alert.sender
    message["To"] = ", ".join(settings.alert.recipients)
    message["Subject"] = " ".join(subject.split())
    message["Date"] = format_datetime(moment)
    domain = parseaddr(settings.alert.sender)[1].rpartition("@")[2]
    message["Message-ID"] = make_msgid(domain=domain or "localhost")
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    for attachment in attachments:
        guessed = mimetypes.guess_type(attachment.name)[0] or "application/octet-stream"
        kind, _, subtype = guessed.partition("/")
        message.add_attachment(
            attachment.content, maintype=kind, subtype=subtype, filename=attachment.name
        )
    return message


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning(
        "try %d of %d: the relay did not take an alarm (%s: %s)",
        state.attempt_number, ATTEMPTS, type(error).__name__, error,
    )  # fmt: skip
