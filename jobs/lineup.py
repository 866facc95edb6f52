"""Which versions a micro-batch is scored with, and what becomes of one that fails in the stream."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from jobs.champion import AliasWatcher
from jobs.scoring import ModelVersion

log = logging.getLogger("jobs.score")


@dataclass(frozen=True)
class Lineup:
    """The versions of a micro-batch: the ``champion``; the ``challenger`` that is scored beside it,
    if there is one; and the champion before, ``previous``, which takes over where this one fails.
    """

    champion: ModelVersion
    challenger: ModelVersion | None = None
    previous: ModelVersion | None = None


class Models(Protocol):
    """Where the lineup of each micro-batch comes from."""

    def lineup(self) -> Lineup:
        """The versions for the micro-batch that begins now."""

    def failed(self, version: ModelVersion, reason: str) -> None:
        """``version`` raised or answered nonsense: it is not to be used again."""

    def proved(self, version: ModelVersion) -> None:
        """``version``, as champion, scored a micro-batch that was written."""


class FixedModels:
    """One lineup for good."""

    def __init__(self, lineup: Lineup) -> None:
        self._lineup = lineup

    def lineup(self) -> Lineup:
        """The lineup."""
        return self._lineup

    def failed(self, version: ModelVersion, reason: str) -> None:
        """Nothing follows."""

    def proved(self, version: ModelVersion) -> None:
        """Nothing follows."""


class LiveModels:
    """The versions that the aliases point to.

    Args:
        alarm: called with a subject and a text where a version is set aside.
    """

    def __init__(
        self,
        champion: AliasWatcher,
        challenger: AliasWatcher,
        alarm: Callable[[str, str], None],
    ) -> None:
        self._champion, self._challenger, self._alarm = champion, challenger, alarm

    def lineup(self) -> Lineup:
        """The versions for the micro-batch that begins now.

        Raises:
            jobs.champion.NoModel: there is no champion.
        """
        champion = self._champion.current
        challenger = self._challenger.found
        if challenger and (challenger.name, challenger.version) == (
            champion.name, champion.version
        ):  # fmt: skip
            challenger = None
        return Lineup(champion, challenger, self._champion.previous)

    def failed(self, version: ModelVersion, reason: str) -> None:
        """Set a version aside, in the registry too, and raise the alarm."""
        is_challenger = self._challenger.has(version)
        watcher = self._challenger if is_challenger else self._champion
        watcher.set_aside(version, reason)
        goes_on = "the champion is not touched"
        if not is_challenger:
            goes_on = f"{self._champion.current.label} scores from now on"
        log.error("%s is set aside: %s; %s", version.label, reason, goes_on)
        self._alarm(
            f"{version.label} failed and was set aside",
            f"{version.label} failed on payments of the stream and was set aside; {goes_on}. "
            f"No payment was lost.\n\nWhat it said: {reason}\n\nTo have it tried again, remove "
            "the tag `set_aside` of the version in the registry.\n",
        )

    def proved(self, version: ModelVersion) -> None:
        """Remember a champion as one to fall back on."""
        self._champion.proved(version)
