"""Measure and report: ``python -m benchmarks [--only PARTS] [--quick] [--fresh]``, or ``make bench``.

Writes ``benchmarks/RESULTS.md``, a plot beside it and ``results.json``, which keeps every
measurement: a run that was stopped goes on where it was (``--fresh`` begins anew), and a run of some
parts leaves the others as they are. ``--quick`` shows within minutes that all of it works; what it
measures is written under ``var/bench/quick`` and says nothing.
"""

import argparse
import logging
import os
import time
from functools import partial

from benchmarks.bound import Bound
from benchmarks.compare import SYSTEMS, compare
from benchmarks.places import Place, settings_for
from benchmarks.plan import FULL, PROJECT, QUICK, Plan
from benchmarks.process import Process
from benchmarks.results import Results
from benchmarks.trained import trained_version
from benchmarks.workload import Workload

PARTS = (*SYSTEMS, "step", "bound", "growth", "delay")

log = logging.getLogger("benchmarks")


def main() -> None:
    """Parse arguments, measure, report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help="of %(default)s")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: these are no results")
    parser.add_argument("--fresh", action="store_true", help="do not go on with a stopped run")
    parser.add_argument("--cards", help="only these numbers of cards, such as 400,10000")
    parser.add_argument("--rows", help="only these numbers of rows a batch")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    parts = [part for part in PARTS if part in arguments.only.split(",")]
    if unknown := set(arguments.only.split(",")) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there is {', '.join(PARTS)}")
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    log.setLevel(logging.INFO)
    os.chdir(PROJECT)
    plan = QUICK if arguments.quick else FULL
    if arguments.fresh:
        (plan.folder / "unfinished.json").unlink(missing_ok=True)
    plan = plan.only(arguments.cards, arguments.rows)
    results = Results(plan, [*parts, arguments.cards or "", arguments.rows or ""])
    if not arguments.report:
        started = time.monotonic()
        measure(plan, results, parts)
        log.info("measured in %.0f minutes", (time.monotonic() - started) / 60)
    results.finish()


def measure(plan: Plan, results: Results, parts: list[str]) -> None:
    """Measure the parts that this run has not measured."""
    registry = plan.folder / "registry"
    place = Place(plan.folder, registry, settings_for(plan.folder, registry).score.buckets)
    if systems := [part for part in parts if part in SYSTEMS]:
        compare(plan, results, systems, place)
    if "bound" in parts:
        measure_bound(plan, results, place)


def measure_bound(plan: Plan, results: Results, place: Place) -> None:
    """The bound at each number of cards, at the largest batch."""
    model = trained_version(place.registry, plan.training_rows)
    rows = max(plan.batch_rows)
    for cards in plan.cards:
        if results.has(f"bound/{cards}"):
            continue
        make = partial(Bound, Workload(cards, plan.history_per_card), model, rows)
        process = Process(plan.folder / "logs" / f"bound-{cards}.log", make)
        try:
            results.put(f"bound/{cards}", process.call("measured"))
        finally:
            process.stop()
        log.info("bound at %d cards: measured", cards)


if __name__ == "__main__":
    main()
