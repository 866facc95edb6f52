"""Poll the payments API and land every transaction.

    python -m ingest.poll --config conf/local.toml [--max-polls N | --print | --gaps]

What landed, when, and where stands in the ledger (``landing.ledger``); ``--gaps`` reports the time
that no call covered. With Kafka in the settings rows land in a topic, else in a folder.
"""

import argparse
import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

from rich.console import Console

from conf.lease import Lease
from conf.leased import leased
from conf.lock import Locked
from conf.sections import ApiSettings
from conf.settings import Settings, settings_from_arguments, stop
from ingest.call_ledger import (
    AlreadyRunning,
    CallLedger,
    LedgerError,
    Pace,
    exclusive,
    read_calls,
)
from ingest.gap_report import find_gaps, gap_table, utc_text
from ingest.kafka_landing import KafkaLanding
from ingest.kept_landing import KeptLanding
from ingest.landing import FileLanding, Landing
from ingest.pan_cipher import pan_cipher
from ingest.payments_api import PaymentsApi
from ingest.poller import Accept, Lander, Poller
from ingest.print_answer import print_answer
from ingest.s3_landing import LEASE, S3Landing
from ingest.topic import TopicWriter

log = logging.getLogger("ingest.poll")

_LONGEST_NAP_SECONDS = 0.2  # how long an end that was asked for may go unnoticed


class StopRequested(Exception):
    """The process was asked to end."""


class Stopper:
    """Makes SIGINT and SIGTERM take effect between calls: sleeping is where ingest can end."""

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None
        self.replaced = threading.Event()
        """Set where another process has taken this one's place."""

    def install(self) -> None:
        """Listen from now on. A second signal ends the process at once."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number)
        signal.signal(number, signal.SIG_DFL)

    def sleep(self, seconds: float) -> None:
        """Sleep so long.

        Raises:
            StopRequested: a signal came, before or meanwhile.
            AlreadyRunning: another process has taken this one's place.
        """
        end = time.monotonic() + seconds
        while not self._is_to_end() and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _LONGEST_NAP_SECONDS))
        if self._signal is not None:
            raise StopRequested(f"ended by {self._signal.name}")
        if self.replaced.is_set():
            raise AlreadyRunning("another ingest has taken the place of this one")

    def _is_to_end(self) -> bool:
        return self._signal is not None or self.replaced.is_set()


def main() -> None:
    """Parse the command line and do what it says."""
    settings, arguments = settings_from_arguments(_parser())
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    stopper = Stopper()
    stopper.install()
    try:
        if arguments.gaps:
            print_gaps(settings)
        elif arguments.print:
            print_once(settings, stopper)
        else:
            poll(settings, stopper, arguments.max_polls)
    except StopRequested as reason:
        log.info("%s", reason)
    except (AlreadyRunning, LedgerError, OSError) as error:
        stop(str(error))


def poll(settings: Settings, stopper: Stopper, max_polls: int | None) -> None:
    """Poll and land for ever, or ``max_polls`` times. Ends with status 1 if all were missed."""
    with (
        _landing(settings, stopper.replaced) as (landing, first_position),
        closing(_ledger(settings)) as ledger,
    ):
        cipher = pan_cipher(settings)
        log.info("card numbers are landed %s", "as tokens" if cipher else "as received")
        source = settings.landing.source
        lander = Lander(landing, ledger, source, first_position, time.time, cipher)
        successes = _poller(settings, ledger, lander, stopper).run(max_polls)
    if max_polls and not successes:
        stop(f"every call was missed ({max_polls} of {max_polls})")


@contextmanager
def _landing(settings: Settings, replaced: threading.Event) -> Iterator[tuple[Landing, int]]:
    """Where payments land, for this process alone, and the first position that is free there."""
    host, path, ledger = _api(settings.api).host, settings.landing.path, settings.landing.ledger
    if settings.kafka is not None:
        writer = TopicWriter(settings.kafka, settings.kafka.payments_topic)
        landing = KafkaLanding(writer, settings.landing.too_long)
        with exclusive(ledger, None), closing(landing) as topic:
            log.info("polling %s into topic %s", host, writer.topic)
            yield topic, 0
        return
    assert path is not None  # the settings have one of the two
    if "://" in path and not path.startswith("s3a://"):
        stop(f"landing.path: expected a local folder or s3a://…, found {path}")
    if path.startswith("s3a://"):
        with exclusive(ledger, None), _sole(path, replaced):
            objects = S3Landing(path)
            log.info("polling %s into %s", host, path)
            with closing(KeptLanding(objects)) as kept:
                yield kept, objects.next_position()
        return
    with exclusive(ledger, Path(path)):
        files = FileLanding(Path(path))
        log.info("polling %s into %s", host, path)
        with closing(KeptLanding(files)) as kept:
            yield kept, files.next_position()


@contextmanager
def _sole(path: str, replaced: threading.Event) -> Iterator[None]:
    """Keep every other ingest away from ``path``, on S3, whichever machine it runs on."""
    try:
        with leased(Lease(f"{path.rstrip('/')}/{LEASE}"), replaced):
            yield
    except Locked as error:
        raise AlreadyRunning(f"another ingest lands in {path}: {error}") from error


def print_once(settings: Settings, stopper: Stopper) -> None:
    """Show one call's transactions; nothing lands. Ends with status 1 if the call was missed."""
    console = Console() if sys.stdout.isatty() else Console(width=1000)
    with closing(_ledger(settings)) as ledger:
        show = partial(print_answer, console=console, cipher=pan_cipher(settings))
        poller = _poller(settings, ledger, show, stopper)
        if poller.poll() is None:
            stop("there is nothing to print")


def print_gaps(settings: Settings) -> None:
    """Show the time that no call covered, and why."""
    console = Console() if sys.stdout.isatty() else Console(width=160)
    calls = read_calls(settings.landing.ledger)
    if not calls:
        console.print(f"no calls yet in {settings.landing.ledger}")
        return
    pace, api = _pace(settings.api), settings.api
    longest_pause = max(api.wait_max_seconds, pace.period_seconds) + 2 * api.timeout_seconds
    gaps = find_gaps(calls, time.time(), pace, longest_pause)
    if gaps:
        console.print(gap_table(gaps))
    else:
        console.print(f"no gaps since {utc_text(calls[0].started_at)} UTC")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ingest.poll", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--max-polls", type=_at_least_one, metavar="N", help="end after N calls")
    what.add_argument("--print", action="store_true", help="show one call's rows, land nothing")
    what.add_argument("--gaps", action="store_true", help="show the time that no call covered")
    return parser


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, found {text!r}")
    return int(text)


def _pace(api: ApiSettings) -> Pace:
    return Pace(api.calls_per_minute, api.timeout_seconds)


def _ledger(settings: Settings) -> CallLedger:
    return CallLedger(settings.landing.ledger, _pace(settings.api))


def _api(api: ApiSettings) -> PaymentsApi:
    return PaymentsApi(
        api.url,
        timeout_seconds=api.timeout_seconds,
        max_body_bytes=api.max_body_bytes,
        token=api.token.get_secret_value() if api.token else None,
        clock=time.time,
    )


def _poller(settings: Settings, ledger: CallLedger, accept: Accept, stopper: Stopper) -> Poller:
    return Poller(
        api=_api(settings.api),
        ledger=ledger,
        accept=accept,
        attempts=settings.api.attempts,
        wait_max_seconds=settings.api.wait_max_seconds,
        clock=time.time,
        sleep=stopper.sleep,
    )


if __name__ == "__main__":
    main()
