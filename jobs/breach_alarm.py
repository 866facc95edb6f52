"""Mails a breach once, and again only when what is breached changes."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader

from jobs.alarm import AlarmNotSent, Attachment
from jobs.breaches import Breach

log = logging.getLogger(__name__)

Send = Callable[[str, str, Sequence[Attachment]], None]
"""Takes subject, text and attachments; raises ``jobs.alarm.AlarmNotSent``."""

_text = Environment(loader=PackageLoader("jobs"), trim_blocks=True, autoescape=False).get_template(  # noqa: S701
    "breaches.txt.j2"
)


@dataclass(frozen=True)
class Change:
    """What changed since the last mail: breaches by whether they were in it; ``over`` has the
    labels of those that are no more.
    """

    new: list[Breach] = field(default_factory=list)
    going_on: list[Breach] = field(default_factory=list)
    over: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.new or self.over)

    @property
    def subject(self) -> str:
        """Of the mail."""
        breaches = [breach.label for breach in [*self.new, *self.going_on]]
        if not breaches:
            return f"Fraud model: over: {_named(self.over)}"
        return f"Fraud model: {_named(breaches)}"


class BreachAlarm:
    """``state`` is the JSON file that remembers what was mailed last."""

    def __init__(self, state: Path, send: Send) -> None:
        self._state, self._send = state, send

    def tell(
        self, breaches: Sequence[Breach], now: datetime, attachments: Sequence[Attachment] = ()
    ) -> Change:
        """Mail ``breaches`` if they are not those of the last mail, with the attachments where one
        is new; what the relay does not take now is tried again at the next call.

        Returns:
            What changed since the last mail that was sent.
        """
        change = self.change(breaches)
        if not change:
            return change
        attachments = attachments if change.new else ()
        text = _text.render(change=change, now=now, attachments=attachments)
        try:
            self._send(change.subject, text, attachments)
        except AlarmNotSent as error:
            log.error("%s; tried again at the next look", error)
        else:
            self._remember(breaches, now)
            log.info("mailed: %s", change.subject)
        return change

    def change(self, breaches: Sequence[Breach]) -> Change:
        """How ``breaches`` differ from those of the last mail."""
        mailed = self._mailed()
        labels = {breach.label for breach in breaches}
        return Change(
            new=[breach for breach in breaches if breach.label not in mailed],
            going_on=[breach for breach in breaches if breach.label in mailed],
            over=[label for label in mailed if label not in labels],
        )

    def _mailed(self) -> list[str]:
        if not self._state.is_file():
            return []
        try:
            return [str(label) for label in json.loads(self._state.read_text())["mailed"]]
        except (ValueError, KeyError, TypeError) as error:
            log.warning("%s is damaged, taken as empty: %r", self._state, error)
            return []

    def _remember(self, breaches: Sequence[Breach], now: datetime) -> None:
        self._state.parent.mkdir(parents=True, exist_ok=True)
        draft = self._state.with_suffix(".tmp")
        labels = [breach.label for breach in breaches]
        draft.write_text(json.dumps({"mailed": labels, "mailed_at": now.isoformat()}))
        draft.replace(self._state)


def _named(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:3])
    return f"{shown} and {len(labels) - 3} more" if len(labels) > 3 else shown
