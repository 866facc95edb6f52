"""Keep tables and landing folder in shape: ``python -m jobs.maintain --config conf/local.toml``

once, for a scheduler, or with ``--every 1h`` until it is ended; all other jobs go on beside it.
Small data files are put together, those that no commit names any more are removed, logs are
shortened, and landed files go whose every payload stands in the tables.
"""

import argparse
import logging
import os
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from functools import partial

from deltalake import DeltaTable

from conf.settings import Settings, settings_from_arguments
from jobs.checkpoints import delta_position
from jobs.commits import TABLE_ERRORS
from jobs.every import add_every, watch
from jobs.landing_upkeep import clean_landing
from jobs.run import log_to_stderr, stop_on_signals, utc_now
from jobs.schemas import SCHEMAS
from jobs.sole import sole
from jobs.table_upkeep import TableUpkeep

log = logging.getLogger("jobs.maintain")

_STREAMED = "transactions"
"""The table that the alert job reads as a stream."""


def maintain(settings: Settings, now: datetime, ended: threading.Event | None = None) -> bool:
    """Do all that there is to do, as of ``now`` (UTC); whether nothing failed. What fails is logged
    and does not keep the rest from being done. Once ``ended`` is set, nothing new is begun.
    """
    parts: dict[str, Callable[[], None]] = {
        name: partial(_keep_table, settings, name, now) for name in SCHEMAS
    }
    parts["landing"] = partial(clean_landing, settings, now)
    failed = [
        name
        for name, part in parts.items()
        if not (ended and ended.is_set()) and not _is_done(name, part)
    ]
    return not failed


def _is_done(name: str, part: Callable[[], None]) -> bool:
    try:
        part()
    except TABLE_ERRORS as error:
        log.error("%s: failed, tried again at the next run: %s", name, error)
        return False
    return True


def _keep_table(settings: Settings, name: str, now: datetime) -> None:
    path = settings.warehouse.table(name)
    if not DeltaTable.is_deltatable(path):
        return
    # Asked before anything is removed: the stream only ever moves on.
    reader = delta_position(settings.warehouse.checkpoint("alert")) if name == _STREAMED else None
    TableUpkeep(path, name, settings.maintain, reader).run(now)


def main() -> int:
    """Parse arguments, take the lock, run once or again and again."""
    parser = argparse.ArgumentParser(description="Keep tables and landing folder in shape.")
    add_every(parser)
    settings, arguments = settings_from_arguments(parser)
    log_to_stderr()
    ended = stop_on_signals()
    with sole(settings.warehouse, "maintain", ended):
        return run_maintain(settings, arguments.every, ended)


def run_maintain(settings: Settings, every_seconds: float | None, ended: threading.Event) -> int:
    """Run once, or every so often until asked to end; returns the exit status."""
    if every_seconds is None:
        return 0 if maintain(settings, utc_now()) else 1
    log.info("maintain is running, pid %d: every %g s", os.getpid(), every_seconds)
    watch(lambda: maintain(settings, utc_now(), ended), every_seconds, ended)
    log.info("maintain ended on request")
    return 0


if __name__ == "__main__":
    sys.exit(main())
