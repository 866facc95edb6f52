"""Spark jobs one after another in one process, each as it runs by itself: starting Spark is slow.

    spark-submit … tests/in_turn.py score.py --once , alert.py --once

Tells the status that each ended with.
"""

import runpy
import sys
from itertools import groupby
from pathlib import Path

JOBS = Path(__file__).parent.parent / "jobs"


def main() -> None:
    """Run each as the command that it is."""
    words = sys.argv[1:]
    for is_comma, command in groupby(words, lambda word: word == ","):
        if not is_comma:
            sys.argv = list(command)
            print(f"{sys.argv[0]}: status {status_of(sys.argv[0])}", flush=True)


def status_of(job: str) -> object:
    """Run ``job`` with the arguments that are set; what it ends with."""
    try:
        runpy.run_path(str(JOBS / job), run_name="__main__")
    except SystemExit as ended:
        return ended.code
    return 0


if __name__ == "__main__":
    main()
