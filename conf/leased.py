"""A lease that is renewed for as long as a block of work takes."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from conf.lease import RENEW_SECONDS, Lease
from conf.lock import Locked
from conf.settings import stop

log = logging.getLogger(__name__)


@contextmanager
def leased(lease: Lease, ended: threading.Event) -> Iterator[None]:
    """Hold ``lease`` until the block ends; end this process with one line where S3 does not answer.
    ``ended`` is set should another process have taken it; then this one ends with status 1.

    Raises:
        Locked: another process holds it.
    """
    try:
        lease.take()
    except OSError as error:
        stop(str(error))
    released, lost = threading.Event(), threading.Event()

    def renew() -> None:
        while not released.wait(RENEW_SECONDS):
            try:
                lease.renew()
            except Locked as error:
                log.error("this process ends: %s", error)
                lost.set()
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
    if lost.is_set():
        raise SystemExit(1)
