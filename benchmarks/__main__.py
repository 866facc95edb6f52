"""Measure and report: ``make bench``, or ``python -m benchmarks [--only PARTS] [--quick]``.

Writes ``benchmarks/RESULTS.md``, a plot beside it and ``results.json``, which keeps every
measurement: a run that was stopped goes on where it was (``--fresh`` begins anew), and a run of
some parts leaves the others as they are. ``--quick`` shows within minutes that all of it works;
what it measures is written under ``var/bench/quick`` and says nothing.
"""

import argparse
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks.bound import Bound
from benchmarks.compare import SYSTEMS, compare
from benchmarks.delay import measured_delay
from benchmarks.flood import measure_flood
from benchmarks.growth import measured_growth
from benchmarks.model_step import ModelStep
from benchmarks.on_cluster import measure_cluster
from benchmarks.places import Place, settings_for
from benchmarks.plan import FULL, PROJECT, QUICK, Plan
from benchmarks.process import Process
from benchmarks.report import write_report
from benchmarks.results import Results
from benchmarks.trained import fingerprint_of_training, trained_version
from benchmarks.workload import Workload

PARTS = (*SYSTEMS, "step", "bound", "growth", "delay", "cluster", "flood")

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
    # As Ctrl-C does: the processes under test are ended on the way out.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    plan = QUICK if arguments.quick else FULL
    if arguments.fresh:
        (plan.folder / "unfinished.json").unlink(missing_ok=True)
    plan = plan.only(arguments.cards, arguments.rows)
    results = Results(plan)
    if not arguments.report:
        started = time.monotonic()
        results.begin([*parts, arguments.cards or "", arguments.rows or ""])
        measure(plan, results, parts)
        results.finish()
        log.info("measured in %.0f minutes", (time.monotonic() - started) / 60)
    write_report(plan, results)


def measure(plan: Plan, results: Results, parts: list[str]) -> None:
    """Measure the parts that this run has not measured."""
    registry = plan.folder / f"registry-{fingerprint_of_training()}"
    place = Place(plan.folder, registry, settings_for(plan.folder, registry).score.buckets)
    for part, measure_part in _OTHERS.items():
        if part in parts:
            measure_part(plan, results, place)
    if systems := [part for part in parts if part in SYSTEMS]:
        compare(plan, results, systems, place)


def measure_bound(plan: Plan, results: Results, place: Place) -> None:
    """The bound at each number of cards, at the largest batch."""
    model = trained_version(place.registry, plan.training_rows)
    for cards in plan.cards:
        workload = Workload(cards, plan.history_per_card)
        make = partial(Bound, workload, model, max(plan.batch_rows))
        _measure_alone(plan, results, f"bound/{cards}", make)


def measure_step(plan: Plan, results: Results, place: Place) -> None:
    """The model step on one large micro-batch."""
    model = trained_version(place.registry, plan.training_rows)
    rows = max(plan.batch_rows)
    key = f"step/{rows}"
    if not results.has(key):
        workload = Workload(min(plan.cards), plan.history_per_card)
        step = replace(place, folder=plan.folder / "step")
        step.begin(workload)
        step.land(workload, 0, rows)
        _measure_alone(plan, results, key, partial(ModelStep, step, model, rows))
        shutil.rmtree(step.folder)


def measure_growth(plan: Plan, results: Results, place: Place) -> None:
    """Throughput as the table grows."""
    if not results.has("growth"):
        growth = replace(place, folder=plan.folder / "growth")
        results.put("growth", measured_growth(plan, growth))
        shutil.rmtree(growth.folder)


def measure_delay(plan: Plan, results: Results, place: Place) -> None:
    """The delay at each rate."""
    for rate in plan.delay_rates:
        if not results.has(f"delay/{rate}"):
            delay = replace(place, folder=plan.folder / f"delay-{rate}")
            results.put(f"delay/{rate}", measured_delay(plan, delay, rate))
            shutil.rmtree(delay.folder)


_OTHERS = {
    "step": measure_step,
    "bound": measure_bound,
    "growth": measure_growth,
    "delay": measure_delay,
    "cluster": measure_cluster,
    "flood": measure_flood,
}


def _measure_alone(plan: Plan, results: Results, key: str, make: Callable[[], Any]) -> None:
    if results.has(key):
        return
    process = Process(plan.folder / "logs" / f"{key.replace('/', '-')}.log", make)
    try:
        results.put(key, process.call("measured"))
    finally:
        process.stop()
    log.info("%s: measured", key)


if __name__ == "__main__":
    main()
