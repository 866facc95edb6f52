"""The score job on standalone clusters of single-core workers: how fast, by workers, partitions of
the state and rows of a micro-batch. The backlog never ends, so this is where the job saturates.

The workers are pinned to a core each. Master and driver share the machine's cores with them: with
as many workers as cores, what they need is missing to the workers.
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

from benchmarks.compare import Rotation
from benchmarks.places import Place
from benchmarks.plan import Plan
from benchmarks.results import Results
from benchmarks.score_job import Cluster, ScoreJob
from benchmarks.trained import trained_version
from benchmarks.workload import Workload
from jobs.local_cluster import local_cluster

log = logging.getLogger(__name__)


def key_of(workers: int, partitions: int, rows: int) -> str:
    """Where the turns of a case are kept."""
    return f"cluster/{workers}/{partitions}/{rows}"


def measure_cluster(plan: Plan, results: Results, registry_place: Place) -> None:
    """Measure every case that this run has not measured, all sizes of the cluster in turns."""
    model = trained_version(registry_place.registry, plan.training_rows)
    for rows, batches in zip(plan.cluster_batch_rows, plan.cluster_batches, strict=True):
        if all(results.has(key_of(*size, rows)) for size in plan.cluster_sizes):
            continue
        place = replace(registry_place, folder=plan.folder / f"cluster-{rows}")
        log.info("clusters, %d rows a batch: preparing", rows)
        workload = Workload(plan.cluster_cards, plan.history_per_card)
        place.begin(workload)
        with ExitStack() as stack:
            makes = {}
            for workers, partitions in plan.cluster_sizes:
                name = f"{workers}-workers-{partitions}-partitions"
                cluster = stack.enter_context(pinned_cluster(place, name, workers, partitions))
                makes[name] = [partial(ScoreJob, place, name, model, rows, cluster=cluster)]
            turns = Rotation(plan, place, workload, rows, batches).turns(makes)
        for size, measured in zip(plan.cluster_sizes, turns.values(), strict=True):
            results.put(key_of(*size, rows), measured)
        shutil.rmtree(place.folder)


@contextmanager
def pinned_cluster(place: Place, name: str, workers: int, partitions: int) -> Iterator[Cluster]:
    """A cluster whose workers have one core each, for a job with so many partitions of its state.
    Its files lie in the folder of the system ``name``.
    """
    with local_cluster(place.of(name) / "spark", workers, is_pinned=True) as cluster:
        conf = {"spark.sql.shuffle.partitions": str(partitions)}
        yield Cluster(tuple(cluster.options(conf)), cluster.python)
