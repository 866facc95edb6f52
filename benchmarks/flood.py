"""Ten times the normal rate for a minute, and how the backlog drains: on a cluster of two workers.

The normal rate is a seventh of the rate at which that cluster saturates, so the flood brings more
than it can take. Payments land in files of 1,000 that were made before; a file has landed when it
was renamed into the landing folder, its payments are done when the commit with them was written.
"""

import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.delay import LiveJob, Moments, commit_times
from benchmarks.figures import rates
from benchmarks.on_cluster import key_of, pinned_cluster
from benchmarks.places import FILE_ROWS, Place
from benchmarks.plan import Plan
from benchmarks.process import Process
from benchmarks.results import Results
from benchmarks.trained import trained_version
from benchmarks.workload import Workload
from ingest.landing import FileLanding

log = logging.getLogger(__name__)

TIMES = 10
SHARE = 7
WORKERS, PARTITIONS = 2, 2
BATCH_ROWS = 50_000
"""At most, in a micro-batch of the flood."""
EVERY_SECONDS = 5
"""Between two points of the curve."""


def normal_rate(plan: Plan, results: Results) -> int:
    """Payments a second: what the cluster takes at the largest micro-batch, over seven.

    Raises:
        RuntimeError: that was not measured.
    """
    turns = results.get(key_of(WORKERS, PARTITIONS, max(plan.cluster_batch_rows)))
    if not turns:
        raise RuntimeError("measure the cluster first: --only cluster,flood")
    return max(1, round(median(rates(turns)) / SHARE))


def measure_flood(plan: Plan, results: Results, registry_place: Place) -> None:
    """Measure, unless this run has."""
    if results.has("flood"):
        return
    rate = normal_rate(plan, results)
    place = replace(registry_place, folder=plan.folder / "flood")
    workload = Workload(plan.cluster_cards, plan.history_per_card)
    place.begin(workload)
    due = due_times(rate, plan.flood_seconds)
    log.info("flood: %d files at %d payments a second and ten times that", len(due), rate)
    warm, ready = _land(workload, place.landing, 0, 20), place.folder / "ready"
    names = _land(workload, ready, len(warm) * FILE_ROWS, len(due))
    model = trained_version(registry_place.registry, plan.training_rows)
    with pinned_cluster(place, "score", WORKERS, PARTITIONS) as cluster:
        make = partial(LiveJob, place, "score", model, BATCH_ROWS, cluster=cluster)
        with _process(plan.folder / "logs" / "flood.log", make) as job:
            job.call("start")
            landed = _move(names, ready, place.landing, due)
            table = Path(job.call("finish"))
    results.put("flood", {"rate": rate} | curve(landed, commit_times(table), len(warm)))
    shutil.rmtree(place.folder)


def due_times(rate: int, seconds: Sequence[int]) -> list[float]:
    """When each file is to land, in seconds from the start: at the normal rate, at ten times that,
    and at the normal one again.
    """
    due: list[float] = []
    start = 0.0
    for pace, length in zip((rate, TIMES * rate, rate), seconds, strict=True):
        step = FILE_ROWS / pace
        due += (start + step * np.arange(1, round(length / step) + 1)).tolist()
        start += length
    return due


def _land(workload: Workload, folder: Path, first: int, files: int) -> list[str]:
    landing = FileLanding(folder)
    starts = range(first, first + files * FILE_ROWS, FILE_ROWS)
    return [landing.land(workload.lines(start, FILE_ROWS), start) for start in starts]


def _move(names: Sequence[str], source: Path, landing: Path, due: Sequence[float]) -> list[float]:
    """Land each file when it is due; the epoch seconds at which each landed."""
    begun, landed = time.time(), []
    for name, moment in zip(names, due, strict=True):
        time.sleep(max(0.0, begun + moment - time.time()))
        # Spark orders files by their time, and takes what it has not seen.
        os.utime(source / name)
        (source / name).rename(landing / name)
        landed.append(time.time())
    return landed


@contextmanager
def _process(log_file: Path, make: Any) -> Iterator[Process]:
    process = Process(log_file, make)
    try:
        yield process
    finally:
        process.stop()


def curve(landed: Sequence[float], done: Moments, warm_files: int) -> dict[str, Any]:
    """By seconds from the first file on: payments landed and not done; and each file's delay.

    Raises:
        RuntimeError: a payment never came to the table.
    """
    first = warm_files * FILE_ROWS
    positions = range(first, first + len(landed) * FILE_ROWS)
    if lost := [position for position in positions if position not in done]:
        raise RuntimeError(f"{len(lost)} of {len(positions)} payments never came to Delta")
    arrived = np.repeat(np.asarray(landed), FILE_ROWS)
    written = np.asarray([done[position] for position in positions])
    begun = landed[0]
    seconds = np.arange(0, written.max() - begun + EVERY_SECONDS, EVERY_SECONDS)
    waiting = [int((arrived <= begun + t).sum() - (written <= begun + t).sum()) for t in seconds]
    return {
        "seconds": seconds.tolist(),
        "backlog": waiting,
        "landed_at": (np.asarray(landed) - begun).tolist(),
        "delay": (written - arrived)[::FILE_ROWS].tolist(),
    }
