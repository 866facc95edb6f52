"""Jobs in the process of the score job: all that changes `transactions` in one driver."""

import logging
import threading
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from conf.lock import Locked
from conf.settings import Settings, stop
from jobs.label import LabelJob, label_alone, label_is_running, run_label
from jobs.maintain import run_maintain
from jobs.sole import sole

log = logging.getLogger(__name__)

LABEL, MAINTAIN = "label", "maintain"
MAINTAIN_EVERY_SECONDS = 3600.0


@dataclass
class Beside:
    """The jobs that run beside: which of them failed, by name."""

    failed: list[str] = field(default_factory=list)


def add_beside(parser: ArgumentParser) -> None:
    """Add ``--beside``; its value is names for ``beside``."""
    parser.add_argument(
        "--beside",
        nargs="+",
        choices=(LABEL, MAINTAIN),
        default=(),
        metavar="JOB",
        help=f"also do the work of {LABEL} and {MAINTAIN} (every hour), in this process",
    )


@contextmanager
def beside(names: Sequence[str], settings: Settings, ended: threading.Event) -> Iterator[Beside]:
    """Run the jobs ``names`` until the block ends, each in a thread. ``ended`` is set then, and
    when one of them fails, so that whoever starts this process starts all of them anew.

    Ends this process with one line where another one runs such a job.
    """
    running = Beside()
    with ExitStack() as stack:
        works: dict[str, Callable[[], object]] = {}
        if LABEL in names:
            try:
                stack.enter_context(label_alone(settings, ended))
            except Locked:
                stop(label_is_running(settings))
            job = LabelJob(settings)
            works[LABEL] = lambda: run_label(job, settings, once=False, ended=ended)
        if MAINTAIN in names:
            stack.enter_context(sole(settings.warehouse, MAINTAIN, ended))
            works[MAINTAIN] = lambda: run_maintain(settings, MAINTAIN_EVERY_SECONDS, ended)

        def run(name: str) -> None:
            try:
                works[name]()
            except BaseException:  # also a panic of delta-rs
                log.exception("%s failed, this process ends", name)
                running.failed.append(name)
                ended.set()

        threads = []
        try:
            for name in works:
                thread = threading.Thread(target=run, args=(name,), name=name)
                thread.start()
                threads.append(thread)
            yield running
        finally:
            ended.set()
            for thread in threads:
                thread.join()
