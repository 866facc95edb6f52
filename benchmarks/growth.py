"""Throughput while the table grows: commit after commit of 1,000 rows, on one checkpoint."""

from functools import partial
from typing import Any

from benchmarks.places import FILE_ROWS, Place
from benchmarks.plan import Plan
from benchmarks.process import Process
from benchmarks.score_job import ScoreJob
from benchmarks.trained import trained_version
from benchmarks.workload import Workload


def measured_growth(plan: Plan, place: Place) -> list[dict[str, Any]]:
    """Every micro-batch, in order: one commit each, the first one on an empty table."""
    model = trained_version(place.registry, plan.training_rows)
    workload = Workload(plan.growth_cards, plan.history_per_card)
    place.begin(workload)
    names = place.land(workload, 0, plan.growth_commits * FILE_ROWS)
    make = partial(ScoreJob, place, "score", model, FILE_ROWS)
    process = Process(plan.folder / "logs" / "growth.log", make)
    try:
        turn: list[dict[str, Any]] = process.call("turn", names)
    finally:
        process.stop()
    return turn
