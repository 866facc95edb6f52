"""The systems on the same payments in turns: ours, ours with ``spark_udf``, a plain consumer."""

import logging
import shutil
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
        turns = _Case(plan, place, model, rows, batches, workload).measured(systems)
        for system, measured in turns.items():
            results.put(key_of(cards, rows, system), measured)
        shutil.rmtree(folder)


class _Case:
    """One number of cards and of rows a batch."""

    def __init__(
        self,
        plan: Plan,
        place: Place,
        model: ModelVersion,
        rows: int,
        batches: int,
        workload: Workload,
    ) -> None:
        self._plan, self._place, self._model, self._rows = plan, place, model, rows
        self._batches, self._workload = batches, workload
        self._landed = 0

    def measured(self, systems: list[str]) -> dict[str, list[Any]]:
        """The turns of each system, after one that does not count."""
        turns: dict[str, list[Any]] = {system: [] for system in systems}
        processes: dict[str, list[Process]] = {}
        try:
            warm_up = self._land(2 * self._batches)
            for system in systems:
                processes[system] = self._start(system)
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

    def _start(self, system: str) -> list[Process]:
        logs = self._plan.folder / "logs"
        case = f"{self._workload.cards}-{self._rows}"
        arguments = (self._model, self._rows)
        if system == "plain":
            makes: list[Any] = [
                partial(PlainConsumer, self._place, number, *arguments) for number in range(CORES)
            ]
        else:
            udf = partial(UdfScorer, registry=self._place.registry)
            scorer = udf if system == "udf" else None
            makes = [partial(ScoreJob, self._place, system, *arguments, scorer)]
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
