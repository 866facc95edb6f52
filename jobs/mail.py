"""The mail about a group of hits, and how it is handed to the relay."""

import csv
import io
import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from itertools import groupby

from jinja2 import Environment, PackageLoader, select_autoescape

from conf.sections import SmtpSettings
from ingest.card_numbers import mask
from jobs.cells import cell_text
from jobs.outbox import Hit, Mail

SHOWN_HITS = 50
CSV_COLUMNS = (
    "event_time", "card", "amt", "merchant", "category", "city", "state", "fraud_score",
    "threshold", "model_name", "model_version", "reasons", "trans_num",
)  # fmt: skip

DELIVERY_ERRORS = (smtplib.SMTPException, OSError)
"""What ``deliver`` raises where the relay refuses, hangs or drops."""


@dataclass(frozen=True)
class _Card:
    masked: str
    hits: tuple[Hit, ...]


def _line(value: str | None) -> str:
    # A name with line breaks would pass for lines of ours.
    if value is None:
        return "unknown"
    return " ".join("".join(sign if sign.isprintable() else " " for sign in value).split())


def _dollars(amount: float | None) -> str:
    return "unknown" if amount is None else f"{amount:,.2f}"


_templates = Environment(
    loader=PackageLoader("jobs"), autoescape=select_autoescape(["html.j2"]), trim_blocks=True
)
_templates.filters |= {"line": _line, "dollars": _dollars}


def compose(mail: Mail, sender: str, recipients: Sequence[str]) -> EmailMessage:
    """The message: text, HTML, and every hit as ``hits.csv``; grouped by card, numbers masked."""
    message = EmailMessage()
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Subject"] = _subject(mail)
    message["Date"] = format_datetime(mail.planned_at)
    message["Message-ID"] = mail.message_id
    message["Auto-Submitted"] = "auto-generated"
    shown = sorted(mail.hits, key=lambda hit: -hit.fraud_score)[:SHOWN_HITS]
    values = {
        "hits": mail.hits,
        "cards": _by_card(shown),
        "card_count": _card_count(mail),
        "total": _total(mail),
        "left_out": len(mail.hits) - len(shown),
    }
    message.set_content(_templates.get_template("hits.txt.j2").render(values))
    message.add_alternative(_templates.get_template("hits.html.j2").render(values), subtype="html")
    message.add_attachment(_as_csv(mail.hits), subtype="csv", filename="hits.csv")
    return message


def deliver(message: EmailMessage, relay: SmtpSettings) -> dict[str, str]:
    """Hand the message to the relay, with STARTTLS and login where they are set.

    Returns:
        Recipients that the relay refused while it took others, with its answer.

    Raises:
        smtplib.SMTPException, OSError: the relay did not take it, or its answer was lost.
    """
    smtp = smtplib.SMTP(relay.host, relay.port, timeout=relay.timeout_seconds)
    try:
        if relay.starttls:
            smtp.starttls(context=ssl.create_default_context())
        if relay.username is not None and relay.password is not None:
            smtp.login(relay.username, relay.password.get_secret_value())
        refused = smtp.send_message(message)
    except BaseException:
        smtp.close()
        raise
    try:
        smtp.quit()
    except DELIVERY_ERRORS:
        smtp.close()  # The relay has the mail; how the farewell went does not matter.
    return {name: f"{code} {answer!r}" for name, (code, answer) in refused.items()}


def _subject(mail: Mail) -> str:
    cards = _card_count(mail)
    hits = "1 fraud hit" if len(mail.hits) == 1 else f"{len(mail.hits)} fraud hits"
    on = "1 card" if cards == 1 else f"{cards} cards"
    return f"{'Digest: ' if mail.is_digest else ''}{hits} on {on}, {_dollars(_total(mail))} USD"


def _card_count(mail: Mail) -> int:
    return len({hit.cc_num for hit in mail.hits})


def _total(mail: Mail) -> float:
    return sum(hit.amt or 0.0 for hit in mail.hits)


def _by_card(hits: Sequence[Hit]) -> list[_Card]:
    ordered = sorted(hits, key=lambda hit: (hit.cc_num, hit.event_time))
    return [
        _Card(mask(number), tuple(group))
        for number, group in groupby(ordered, key=lambda hit: hit.cc_num)
    ]


def _as_csv(hits: Sequence[Hit]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(CSV_COLUMNS)
    for hit in sorted(hits, key=lambda hit: (hit.cc_num, hit.event_time)):
        values = vars(hit) | {
            "card": mask(hit.cc_num),
            "event_time": hit.event_time.strftime("%Y-%m-%d %H:%M:%S"),
            "reasons": "; ".join(hit.reasons),
        }
        writer.writerow(cell_text(values[name]) for name in CSV_COLUMNS)
    return buffer.getvalue()
