"""Crash drills: ``make drills``, or ``python -m tests.drills [--only NAMES] [--short] [--seed N]``.

The system runs as separate processes with payments flowing; in each drill parts are killed, stopped
or damaged; then the books must balance: every payment served once in `transactions` or `rejected`,
with the features and scores of an undisturbed run over what landed, every hit mailed, every verdict
filled in. Ends with status 1 where they do not.
"""

import argparse
import logging
import secrets
import signal
import sys
import time
from pathlib import Path

from rich.console import Console

from conf.settings import stop
from jobs.run import quiet_mlflow
from tests.drills.plan import DRILLS, SHORT
from tests.drills.play import play
from tests.drills.report import print_result, print_summary

FOLDER = Path("var/drills")


def main() -> int:
    """Parse arguments, play, tell; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.drills", description=__doc__)
    parser.add_argument("--only", help=f"of {','.join(drill.name for drill in DRILLS)}")
    parser.add_argument("--short", action="store_true", help="the short form that CI plays")
    parser.add_argument("--seed", type=int, help="of what is drawn; told where none is given")
    arguments = parser.parse_args()
    drills = SHORT if arguments.short else DRILLS
    if arguments.only:
        names = arguments.only.split(",")
        if unknown := set(names) - {drill.name for drill in drills}:
            stop(f"no drill {', '.join(sorted(unknown))}", status=2)
        drills = tuple(drill for drill in drills if drill.name in names)
    # As Ctrl-C does: what was started is ended on the way out.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    logging.basicConfig(level=logging.WARNING)
    quiet_mlflow()
    console = Console(width=None if sys.stdout.isatty() else 160)
    seed = arguments.seed if arguments.seed is not None else secrets.randbelow(10**6)
    console.print(f"seed {seed}, {len(drills)} drills, everything under {FOLDER}", highlight=False)
    began = time.monotonic()
    results = []
    for result in play(drills, FOLDER, seed):
        print_result(console, result)
        results.append(result)
    print_summary(console, results, len(drills), time.monotonic() - began)
    return int(len(results) < len(drills) or any(one.verdict == "failed" for one in results))


if __name__ == "__main__":
    sys.exit(main())
