"""Take verdicts and fill in `transactions.label`: ``python -m jobs.label --config conf/local.toml``

until it is ended, ``--once`` for what is there, or for one verdict ``--trans-num N --fraud yes|no
--source S [--analyst A] [--note TEXT]``.

Files are dropped into the folder `label.inbox`; each goes to `taken/` once its verdicts stand in
`labels`, or whole to `refused/`, with the reason beside it. With ``FRAUD_PAN_KEY`` card numbers in
them are masked first.
"""

import argparse
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from conf.lock import Locked, locked
from conf.settings import Settings, settings_from_arguments, stop
from jobs.commits import TABLE_ERRORS, first_line
from jobs.label_ledger import LabelLedger
from jobs.label_merge import LabelMerge
from jobs.run import Clock, log_to_stderr, stop_on_signals, utc_now
from jobs.sole import sole
from jobs.verdict_inbox import VerdictInbox, drop_verdict
from jobs.verdict_masks import masked_verdict
from jobs.verdicts import verdict_of

log = logging.getLogger("jobs.label")

ONE_VERDICT = ("trans_num", "fraud", "source", "analyst", "note")


class LabelJob:
    """Takes what lies in the inbox and fills it in, one look after the other."""

    def __init__(self, settings: Settings, clock: Clock = utc_now) -> None:
        self._ledger = LabelLedger(settings.warehouse)
        self._inbox = VerdictInbox(
            settings.label.inbox, self._ledger, clock, masks=settings.pan_key is not None
        )
        self._merge = LabelMerge(settings.warehouse)
        self._told = 0

    def look(self) -> None:
        """Take every file, then bring `transactions` up to date with the ledger; where the tables
        are away, or others change them, that is left to the next look.
        """
        try:
            self._inbox.take_all()
            filled = self._merge.apply(self._ledger.standing())
        except TABLE_ERRORS as error:
            log.warning("labels are filled in at the next look: %s", first_line(error))
            return
        if filled or self._merge.waiting != self._told:
            self._told = self._merge.waiting
            log.info("payments labelled: %d; verdicts that wait: %d", filled, self._told)


def main() -> int:
    """Parse arguments, take the lock, run."""
    parser = argparse.ArgumentParser(description="Take verdicts, label payments.")
    parser.add_argument("--once", action="store_true", help="take what is there, then end")
    one = parser.add_argument_group("one verdict")
    one.add_argument("--trans-num", help="the payment")
    one.add_argument("--fraud", choices=("yes", "no"))
    one.add_argument("--source", help="who says so, such as chargeback or analyst")
    one.add_argument("--analyst")
    one.add_argument("--note")
    settings, arguments = settings_from_arguments(parser)
    log_to_stderr()
    inbox = settings.label.inbox
    told = {name: getattr(arguments, name) for name in ONE_VERDICT}
    is_one = any(value is not None for value in told.values())
    if is_one:
        try:
            verdict_of(told, utc_now())
        except ValueError as error:
            stop(str(error), status=2)
        inbox.mkdir(parents=True, exist_ok=True)
        drop_verdict(inbox, told if settings.pan_key is None else masked_verdict(told))
    try:
        ended = stop_on_signals()
        with label_alone(settings, ended):
            run_label(LabelJob(settings), settings, is_one or arguments.once, ended)
    except Locked:
        if not is_one:
            stop(label_is_running(settings))
        log.info("left in %s for the label job that is running", inbox)
    return 0


@contextmanager
def label_alone(settings: Settings, ended: threading.Event) -> Iterator[None]:
    """Keep other label jobs away from the inbox, which is made where it is missing, and from the
    warehouse (``jobs.sole``), until the block ends.

    Raises:
        Locked: another one has the inbox.
    """
    inbox = settings.label.inbox
    inbox.mkdir(parents=True, exist_ok=True)
    with locked(inbox), sole(settings.warehouse, "label", ended):
        yield


def label_is_running(settings: Settings) -> str:
    """What is said where ``label_alone`` raises."""
    return f"another label job runs here (it holds {settings.label.inbox})"


def run_label(job: LabelJob, settings: Settings, once: bool, ended: threading.Event) -> None:
    """Look until it is asked to end, or once."""
    if once:
        job.look()
        return
    log.info("label is running, pid %d: verdicts go into %s", os.getpid(), settings.label.inbox)
    while not ended.is_set():
        job.look()
        ended.wait(settings.label.poll_seconds)
    log.info("label ended on request")


if __name__ == "__main__":
    sys.exit(main())
