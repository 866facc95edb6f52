"""What happened in ``make loop-demo``, and when in simulated time."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Kind = Literal["champion", "change", "alarm", "retrained", "compared", "promoted"]


@dataclass(frozen=True)
class Event:
    """Something that happened; ``version`` is that of a model (``1``), "" where it is of none."""

    moment: datetime
    kind: Kind
    text: str
    version: str = ""


@dataclass
class Story:
    """All events in the order of simulated time."""

    events: list[Event] = field(default_factory=list)

    def of(self, kind: Kind) -> list[Event]:
        """The events of one kind."""
        return [event for event in self.events if event.kind == kind]
