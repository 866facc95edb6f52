"""The report's tables of the measurements on a cluster."""

from statistics import median
from typing import Any

import numpy as np

from benchmarks.figures import parts, rates
from benchmarks.flood import TIMES, WORKERS
from benchmarks.on_cluster import key_of
from benchmarks.plan import Plan
from benchmarks.results import Results

CLUSTER = """\
Payments a second, median of the turns (least to most), with a backlog that never ends: where the
job saturates. Standalone clusters of workers of one core each, pinned to it; master and driver
share the machine's cores with them, so two workers on two cores have less than twice what one has.
"batch": median seconds of a steady micro-batch.
"""

FLOOD = f"""\
Payments land at the normal rate, then at {TIMES} times that, then at the normal rate again, on a
cluster of {WORKERS} workers of one core each. "backlog": landed and not yet committed; "delay":
seconds from landing to the commit, of what landed since the line before.
"""


def cluster_rows(plan: Plan, results: Results) -> tuple[list[str], list[list[str]]]:
    """Throughput by workers, partitions and rows of a micro-batch, against one worker."""
    rows = []
    for size in plan.cluster_batch_rows:
        first = rates(results.get(key_of(*plan.cluster_sizes[0], size)))
        for workers, partitions in plan.cluster_sizes:
            turns = results.get(key_of(workers, partitions, size))
            if not turns or not first:
                continue
            found = rates(turns)
            spread = f"{median(found):,.0f} ({min(found):,.0f} to {max(found):,.0f})"
            batch = sum(parts(turns).get(name, 0.0) for name in ("addBatch", "queryPlanning"))
            told = [f"{size:,}", str(workers), str(partitions), spread, f"{batch:.2f}"]
            rows.append([*told, f"{median(found) / median(first):.2f}"])
    header = ["rows a batch", "workers", "partitions", "payments a second", "batch", "/ first"]
    return header, rows


def flood_rows(plan: Plan, results: Results) -> tuple[list[str], list[list[str]]]:
    """The curve of the backlog."""
    flood: dict[str, Any] | None = results.get("flood")
    header = ["seconds", "payments a second", "backlog", "delay, median", "delay, most"]
    if not flood:
        return header, []
    landed_at, delay = np.asarray(flood["landed_at"]), np.asarray(flood["delay"])
    begin, end = plan.flood_seconds[0], sum(plan.flood_seconds[:2])
    rows, before = [], 0.0
    for second, waiting in zip(flood["seconds"], flood["backlog"], strict=True):
        own = delay[(landed_at > before) & (landed_at <= second)]
        rate = flood["rate"] * (TIMES if begin < second <= end else 1)
        told = [f"{np.median(own):.1f}", f"{own.max():.1f}"] if len(own) else ["-", "-"]
        rows.append([f"{second:,.0f}", f"{rate:,}", f"{waiting:,}", *told])
        before = second
    return header, rows
