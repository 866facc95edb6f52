"""Tables that have lain for long, and the upkeep of them: for tests of who reads them later."""

import os
from datetime import UTC, datetime
from pathlib import Path

from conf.settings import Settings
from jobs.maintain import maintain

LONG_AGO = datetime.now(UTC).timestamp() - 40 * 86_400


def age(folder: str | Path) -> None:
    """All that lies in ``folder`` was written long ago."""
    for path in Path(folder).rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO))


def keep_up(settings: Settings, times: int = 2) -> None:
    """Run the job: the first run makes the checkpoints that the second can shorten logs behind."""
    for _ in range(times):
        age(settings.warehouse.path)
        assert maintain(settings, datetime.now(UTC))


def commits_of(settings: Settings, table: str) -> list[int]:
    """The versions whose commits the log of ``table`` still has."""
    names = [
        path.stem for path in Path(settings.warehouse.table(table), "_delta_log").glob("*.json")
    ]
    return sorted(int(name) for name in names if name.isdigit())
