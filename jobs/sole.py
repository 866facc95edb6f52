"""One process a job: a second one that would work on the same tables is told so, and ends."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conf.lock import Locked, locked
from conf.sections import WarehouseSettings
from conf.settings import stop
from jobs.lease import RENEW_SECONDS, Lease

log = logging.getLogger(__name__)


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
            with _leased(Lease(place), ended):
                yield
        else:
            Path(place).parent.mkdir(parents=True, exist_ok=True)
            with locked(Path(place)):
                yield
    except Locked as error:
        stop(f"another {job} job works on {warehouse.path}: {error}")


@contextmanager
def _leased(lease: Lease, ended: threading.Event) -> Iterator[None]:
    try:
        lease.take()
    except OSError as error:
        stop(str(error))
    released = threading.Event()

    def renew() -> None:
        while not released.wait(RENEW_SECONDS):
            try:
                lease.renew()
            except Locked as error:
                log.error("this job ends: %s", error)
                ended.set()
                return
            except OSError as error:
                log.warning("the lease could not be renewed: %s", error)

    renewing = threading.Thread(target=renew, name="lease", daemon=True)
    renewing.start()
    try:
        yield
    finally:
        released.set()
        renewing.join()
        lease.release()
