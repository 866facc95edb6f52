"""Mails a breach once, and again only when what is breached changes."""

import json
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader

from jobs.alarm import AlarmNotSent, Attachment
from jobs.breaches import Judged, passed

log = logging.getLogger(__name__)

Send = Callable[[str, str, Sequence[Attachment]], None]
"""Takes subject, text and attachments; raises ``jobs.alarm.AlarmNotSent``."""

_text = Environment(loader=PackageLoader("jobs"), trim_blocks=True, autoescape=False).get_template(  # noqa: S701
    "breaches.txt.j2"
)


@dataclass(frozen=True)
class Change:
    """What changed since the last mail: breaches by whether they were in it. Of those that were,
    and are no more, the labels: ``over`` was judged and found within its limit, ``unjudged`` cannot
    be judged now, and ``retired`` not any more, as other versions score.
    """

    new: list[Judged] = field(default_factory=list)
    going_on: list[Judged] = field(default_factory=list)
    over: list[str] = field(default_factory=list)
    unjudged: list[str] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.new or self.over or self.retired)

    @property
    def subject(self) -> str:
        """Of the mail."""
        breaches = [breach.label for breach in [*self.new, *self.going_on]]
        if breaches:
            return f"Fraud model: {_named(breaches)}"
        if self.over:
            return f"Fraud model: over: {_named(self.over)}"
        return f"Fraud model: judged no more: {_named(self.retired)}"

    @property
    def standing(self) -> list[str]:
        """The labels to remember as mailed."""
        return [*(breach.label for breach in [*self.new, *self.going_on]), *self.unjudged]


class BreachAlarm:
    """``state`` is the JSON file that remembers what was mailed last."""

    def __init__(self, state: Path, send: Send) -> None:
        self._state, self._send = state, send

    def tell(
        self,
        judged: Sequence[Judged],
        now: datetime,
        attachments: Sequence[Attachment] = (),
        versions: Collection[str] = (),
    ) -> Change:
        """Mail the breaches among ``judged`` if they are not those of the last mail, with the
        attachments where one is new; what the relay does not take now is tried again at the next
        call.

        Args:
            versions: those in service. A breach of another one is not waited for; empty: not known.

        Returns:
            What changed since the last mail that was sent.
        """
        change = self.change(judged, versions)
        if not change:
            return change
        attachments = attachments if change.new else ()
        text = _text.render(change=change, now=now, attachments=attachments)
        try:
            self._send(change.subject, text, attachments)
        except AlarmNotSent as error:
            log.error("%s; tried again at the next look", error)
        else:
            self._remember(change.standing, now)
            log.info("mailed: %s", change.subject)
        return change

    def change(self, judged: Sequence[Judged], versions: Collection[str] = ()) -> Change:
        """How the breaches among ``judged`` differ from those of the last mail."""
        mailed, breaches = self._mailed(), passed(judged)
        labels = {one.label for one in judged}
        kept = {one.label for one in judged if not one.is_passed}
        waiting = [label for label in mailed if label not in labels]
        retired = [label for label in waiting if _is_retired(label, versions)]
        return Change(
            new=[breach for breach in breaches if breach.label not in mailed],
            going_on=[breach for breach in breaches if breach.label in mailed],
            over=[label for label in mailed if label in kept],
            unjudged=[label for label in waiting if label not in retired],
            retired=retired,
        )

    def _mailed(self) -> list[str]:
        if not self._state.is_file():
            return []
        try:
            return [str(label) for label in json.loads(self._state.read_text())["mailed"]]
        except (ValueError, KeyError, TypeError) as error:
            log.warning("%s is damaged, taken as empty: %r", self._state, error)
            return []

    def _remember(self, labels: Sequence[str], now: datetime) -> None:
        self._state.parent.mkdir(parents=True, exist_ok=True)
        draft = self._state.with_suffix(".tmp")
        draft.write_text(json.dumps({"mailed": labels, "mailed_at": now.isoformat()}))
        draft.replace(self._state)


def _is_retired(label: str, versions: Collection[str]) -> bool:
    """Whether a breach is that of a version which is not among those in service."""
    is_of_version = label.endswith(")")
    return (
        bool(versions)
        and is_of_version
        and not any(label.endswith(f"({version})") for version in versions)
    )


def _named(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:3])
    return f"{shown} and {len(labels) - 3} more" if len(labels) > 3 else shown
