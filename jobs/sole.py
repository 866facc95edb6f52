"""One process a job: a second one that would work on the same tables is told so, and ends."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conf.lease import Lease
from conf.leased import leased
from conf.lock import Locked, locked
from conf.sections import WarehouseSettings
from conf.settings import stop


@contextmanager
def sole(warehouse: WarehouseSettings, job: str, ended: threading.Event) -> Iterator[None]:
    """Keep every other process of ``job`` away from the warehouse until the block ends; end this
    process with one line where there is one.

    On a local disk the system holds the lock. On S3 it is a lease: ``ended`` is set should another
    process have taken it, after this one was cut off from S3 for too long.
    """
    place = warehouse.table(f"{job}.lock")
    try:
        if "://" in place:
            with leased(Lease(place), ended):
                yield
        else:
            Path(place).parent.mkdir(parents=True, exist_ok=True)
            with locked(Path(place)):
                yield
    except Locked as error:
        stop(f"another {job} job works on {warehouse.path}: {error}")
