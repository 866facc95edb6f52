"""The systems on the same payments in turns: ours, ours with ``spark_udf``, a plain consumer."""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from benchmarks.places import FILE_ROWS, Place
from benchmarks.plain_consumer import PlainConsumer
from benchmarks.plan import CORES, Plan
from benchmarks.process import Process
from benchmarks.results import Results
from benchmarks.score_job import ScoreJob
from benchmarks.spark_udf import UdfScorer
from benchmarks.trained import trained_version
from benchmarks.workload import Workload
from jobs.scoring import ModelVersion

log = logging.getLogger(__name__)

SYSTEMS = ("score", "udf", "plain")


def key_of(cards: int, rows: int, system: str) -> str:
    """Where the turns of a system are kept."""
    return f"compare/{cards}/{rows}/{system}"


def compare(plan: Plan, results: Results, systems: list[str], registry_place: Place) -> None:
    """Measure every case of the plan that this run has not measured."""
    model = trained_version(registry_place.registry, plan.training_rows)
    for cards, rows, batches in plan.cases:
        if all(results.has(key_of(cards, rows, system)) for system in systems):
            continue
        folder = plan.folder / f"{cards}-{rows}"
        place = Place(folder, registry_place.registry, registry_place.buckets)
        log.info("%d cards, %d rows a batch: preparing", cards, rows)
        workload = Workload(cards, plan.history_per_card)
        place.begin(workload)
        makes = {system: _makes(system, place, model, rows) for system in systems}
        for system, measured in Rotation(plan, place, workload, rows, batches).turns(makes).items():
            results.put(key_of(cards, rows, system), measured)
        shutil.rmtree(folder)


def _makes(system: str, place: Place, model: ModelVersion, rows: int) -> list[Callable[[], Any]]:
    """What makes each process of a system."""
    if system == "plain":
        return [partial(PlainConsumer, place, number, model, rows) for number in range(CORES)]
    scorer = partial(UdfScorer, registry=place.registry) if system == "udf" else None
    return [partial(ScoreJob, place, system, model, rows, scorer)]


class Rotation:
    """Systems that have their turns on the same files, one after the other.

    Args:
        rows: of a micro-batch.
        batches: micro-batches of a turn.
    """

    def __init__(
        self, plan: Plan, place: Place, workload: Workload, rows: int, batches: int
    ) -> None:
        self._plan, self._place, self._workload = plan, place, workload
        self._rows, self._batches = rows, batches
        self._landed = 0

    def turns(self, makes: Mapping[str, Sequence[Callable[[], Any]]]) -> dict[str, list[Any]]:
        """The turns of each system, after one that does not count.

        Args:
            makes: for each system what makes it, once a process.
        """
        turns: dict[str, list[Any]] = {system: [] for system in makes}
        processes: dict[str, list[Process]] = {}
        systems = list(makes)
        try:
            warm_up = self._land(2 * self._batches)
            for system in systems:
                processes[system] = self._start(system, makes[system])
                self._turn(processes[system], warm_up)
            for run in range(self._plan.runs):
                names = self._land(self._batches)
                # Whoever came first comes last in the next run.
                for system in systems[run % len(systems) :] + systems[: run % len(systems)]:
                    turn = self._turn(processes[system], names)
                    turns[system].append(turn)
                    log.info("%s, run %d: %s", system, run + 1, _seconds(turn))
        finally:
            for started in processes.values():
                for process in started:
                    process.stop()
        return turns

    def _land(self, batches: int) -> list[str]:
        rows = batches * max(self._rows, FILE_ROWS)
        names = self._place.land(self._workload, self._landed, rows)
        self._landed += rows
        return names

    def _start(self, system: str, makes: Sequence[Callable[[], Any]]) -> list[Process]:
        logs = self._plan.folder / "logs"
        case = f"{self._workload.cards}-{self._rows}"
        return [
            Process(logs / f"{case}-{system}-{number}.log", make)
            for number, make in enumerate(makes)
        ]

    def _turn(self, processes: list[Process], names: list[str]) -> list[Any]:
        """What the processes measure side by side: the micro-batches of each."""
        for process in processes:
            process.ready()
        begun: list[Future[Any]] = [process.begin("turn", names) for process in processes]
        return [future.result() for future in begun]


def _seconds(turn: list[Any]) -> str:
    return " | ".join(" ".join(f"{batch['seconds']:.2f}" for batch in process) for process in turn)
