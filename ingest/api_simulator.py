"""A stand-in for the payments API on localhost, also for what goes wrong with it.

``python -m ingest.api_simulator --data synthetic`` serves ``/current-transactions``; with
``--out FILE --rows N`` it writes synthetic payments to train on instead, those right before the
ones that it would serve.
"""

import argparse
import errno
import math
import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import uvicorn

from conf.settings import stop
from ingest.simulator_answers import Behavior, CurrentTransactions
from ingest.simulator_app import CursorFile, create_app
from ingest.simulator_faults import (
    ANSWER_FAULTS,
    ROW_FAULT,
    ROW_FAULT_MEANING,
    parse_faults,
)
from ingest.simulator_sources import FileSource, Source, SyntheticSource, latest_payments
from ingest.synthetic import make_population
from ingest.synthetic_fraud import BURST_CYCLE_DAYS, DEFAULT_FRAUD, FraudPlan, parse_moment

HOST = "127.0.0.1"
SYNTHETIC = "synthetic"
DEFAULT_START = "2025-06-01"
CLOSE_SECONDS = 1  # what an answer that is held gets when the server ends


def main() -> None:
    """Serve the payments, or write them."""
    arguments = _parse_arguments()
    try:
        if arguments.out:
            write_payments(arguments)
        else:
            serve(arguments)
    except (ValueError, OSError) as error:  # bad arguments, files that cannot be used
        stop(str(error), status=2)


def write_payments(arguments: argparse.Namespace) -> None:
    """Write ``--rows`` synthetic payments to ``--out``, in the format of the public files."""
    if arguments.data != [SYNTHETIC] or not arguments.rows:
        raise ValueError("--out goes with --data synthetic and --rows N")
    population = make_population(arguments.seed, arguments.cards)
    fraud = _fraud(arguments)
    frame = latest_payments(population, arguments.start, arguments.rows, arguments.seed, fraud)
    path = Path(arguments.out)
    written = path.with_name(f".{path.name}")  # keeps the ending, which decides on compression
    frame.to_csv(written)
    written.replace(path)
    print(
        f"{path}: {len(frame)} payments of {arguments.cards} cards, seed {arguments.seed}, "
        f"{frame['is_fraud'].sum()} of them fraudulent, "
        f"{frame['trans_date_trans_time'].iloc[0]} to {frame['trans_date_trans_time'].iloc[-1]}"
    )


def serve(arguments: argparse.Namespace) -> None:
    """Serve until the process is ended.

    Raises:
        OSError: the port is taken, or a file cannot be used.
        ValueError: an argument does not hold.
    """
    behavior = _behavior(arguments)
    listener = _listen(arguments.port)
    source = _source(arguments)
    cursor = CursorFile(arguments.cursor, source.name) if arguments.cursor else None
    progress = None
    if cursor:
        progress, source.anchor = cursor.load()
    rng = random.Random(arguments.seed)  # noqa: S311
    api = CurrentTransactions(source, behavior, clock=time.time, rng=rng, progress=progress)

    def save() -> None:
        if cursor:
            cursor.save(api.progress, source.anchor)

    config = uvicorn.Config(
        create_app(api, save=save),
        log_level="critical",
        lifespan="off",
        timeout_graceful_shutdown=CLOSE_SECONDS,
    )
    print(
        f"simulated payments API: http://{HOST}:{listener.getsockname()[1]}/current-transactions, "
        f"{source.name}, from row {api.progress.next_row} on, {behavior.rate:g} a second, "
        f"at most {behavior.calls_per_minute} calls a minute, seed {arguments.seed}, "
        f"faults {arguments.faults or 'none'}",
        flush=True,
    )
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def _behavior(arguments: argparse.Namespace) -> Behavior:
    return Behavior(
        rate=arguments.rate,
        calls_per_minute=arguments.calls_per_minute,
        overlap=arguments.overlap,
        is_told_now=arguments.clock == "now",
        faults=parse_faults(arguments.faults),
        hold_seconds=arguments.hold_seconds,
        seed=arguments.seed,
    )


def _source(arguments: argparse.Namespace) -> Source:
    fraud = _fraud(arguments)
    if SYNTHETIC not in arguments.data:
        if fraud != DEFAULT_FRAUD:
            raise ValueError(
                "--fraud-changes-at and --burst-cycle-days go with --data synthetic: "
                f"the payments of {', '.join(arguments.data)} are as they are"
            )
        return FileSource(arguments.data)
    if len(arguments.data) > 1:
        raise ValueError("--data: either files or synthetic, not both")
    population = make_population(arguments.seed, arguments.cards)
    return SyntheticSource(population, arguments.start, arguments.seed, fraud=fraud)


def _fraud(arguments: argparse.Namespace) -> FraudPlan:
    try:
        change = parse_moment(arguments.fraud_changes_at)
    except ValueError as error:
        raise ValueError(f"--fraud-changes-at: {error}") from error
    return FraudPlan(change, arguments.burst_cycle_days)


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()  # taken shows here at the latest
    except OSError as error:
        listener.close()
        problem = "is taken" if error.errno == errno.EADDRINUSE else "cannot be used"
        raise OSError(f"port {port} {problem}: {error}; pass another one with --port") from error
    return listener


def _parse_arguments() -> argparse.Namespace:
    faults = "; ".join(f"{name}: {meaning}" for name, meaning in ANSWER_FAULTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m ingest.api_simulator",
        description=__doc__,
        epilog=f"Faults of an answer: {faults}. Of a row: {ROW_FAULT}: {ROW_FAULT_MEANING}.",
    )
    add = parser.add_argument
    add("--data", nargs="+", required=True, help="CSV files to replay, or synthetic")
    add("--port", type=_whole(0, 65535), default=8009, help="0: any free one")
    add("--rate", type=_positive, default=20.0, help="payments that become due in a second")
    add("--seed", type=_whole(0), default=1)
    add("--faults", default="", help="name=probability with commas between, such as 500=0.1")
    add("--hold-seconds", type=_positive, default=30.0, help="of the fault timeout")
    add("--clock", choices=("original", "now"), default="original", help="what current_time tells")
    add("--calls-per-minute", type=_whole(1), default=5)
    add("--overlap", type=_whole(0), default=3, help="rows that the next answer repeats")
    add("--cursor", help="file that remembers how far it got")
    add("--cards", type=_whole(1), default=1000, help="synthetic: how many")
    add("--start", type=_day, default=_day(DEFAULT_START), help="synthetic: first day served")
    add("--fraud-changes-at", help="synthetic: day or moment from which fraud is another one")
    add(
        "--burst-cycle-days",
        type=_whole(1),
        default=BURST_CYCLE_DAYS,
        help="synthetic: 90 %% of the cards are robbed once in so many days",
    )
    add("--out", help="synthetic: write payments to this CSV file (.gz: compressed), then end")
    add("--rows", type=_whole(1), help="how many to write")
    return parser.parse_args()


def _whole(minimum: int, maximum: int = 2**31) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not minimum <= int(text) <= maximum:
            raise argparse.ArgumentTypeError(f"expected {minimum} to {maximum}, found {text}")
        return int(text)

    parse.__name__ = "whole number"
    return parse


def _positive(text: str) -> float:
    if not 0 < float(text) < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text}")
    return float(text)


def _day(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)


if __name__ == "__main__":
    main()
