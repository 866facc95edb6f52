"""The model as a vectorised UDF: tasks get each version once, and score, fall back, and write."""

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession

from jobs.champion import CHALLENGER, CHAMPION
from jobs.lineup import Lineup
from jobs.model import LoadedModel, ModelRefused
from jobs.scoring import (
    ModelVersion,
    Stamp,
    scored,
    scores_of,
    stamped_now,
    with_challenger,
    worker_model,
)
from jobs.task_output import TASK_REPORT, Folders, score_and_write


class Scorer:
    """Scores micro-batches; broadcasts a version once, for as long as it is in use."""

    def __init__(self, spark: SparkSession, stamp: Stamp = stamped_now) -> None:
        self._spark, self._stamp = spark, stamp
        self._broadcasts: dict[int, tuple[ModelVersion, Broadcast[bytes]]] = {}

    def reports(
        self, batch: DataFrame, lineup: Lineup, folders: Folders, tells_hits: bool
    ) -> DataFrame:
        """Score a micro-batch, and write its rows into data files.

        Args:
            batch: ``jobs.card_memory.OPERATOR_OUTPUT``.
            lineup: the versions.
            folders: of the tables.
            tells_hits: whether the reports have the hits.

        Returns:
            ``jobs.task_output.TASK_REPORT``, a row a task.
        """
        champion = self._of(lineup.champion)
        challenger = self._of(lineup.challenger) if lineup.challenger else None
        previous = self._of(lineup.previous) if lineup.previous else None
        stamp = self._stamp
        self._keep_only(lineup)

        def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            judge = TaskJudge(champion, challenger, previous, stamp)
            return score_and_write(batches, folders, judge, tells_hits, judge.troubles)

        return batch.mapInArrow(write, TASK_REPORT)

    def _keep_only(self, lineup: Lineup) -> None:
        in_use = {id(version) for version in (lineup.champion, lineup.challenger, lineup.previous)}
        for key in set(self._broadcasts) - in_use:
            self._broadcasts.pop(key)[1].unpersist()

    def _of(self, version: ModelVersion) -> "SharedVersion":
        if id(version) not in self._broadcasts:
            archive = self._spark.sparkContext.broadcast(version.archive)
            self._broadcasts[id(version)] = (version, archive)
        return SharedVersion(version, self._broadcasts[id(version)][1])


class SharedVersion:
    """A version whose files are broadcast."""

    def __init__(self, version: ModelVersion, archive: "Broadcast[bytes]") -> None:
        self.version = replace(version, archive=b"")
        self._key = (version.name, version.version, id(archive))
        self._archive = archive

    def loaded(self) -> LoadedModel:
        """The model in this worker process.

        Raises:
            jobs.model.ModelRefused: it cannot be loaded.
        """
        return worker_model(self._key, self._archive, self.version.inputs)


class TaskJudge:
    """Scores the payments of a task.

    A champion that fails is not asked again in this task, and the previous one scores what comes;
    ``troubles`` tells what it said, so that the driver sees to the other rows of the micro-batch.
    """

    def __init__(
        self,
        champion: SharedVersion,
        challenger: SharedVersion | None,
        previous: SharedVersion | None,
        stamp: Stamp = stamped_now,
    ) -> None:
        self._champion, self._challenger, self._previous = champion, challenger, previous
        self._stamp = stamp
        self.troubles: dict[str, str] = {}

    def __call__(self, payments: pa.Table) -> pa.Table:
        """``jobs.scoring.SCORED`` from ``jobs.arrivals.PAYMENTS``.

        Raises:
            jobs.model.ModelRefused: the champion fails and there is none before it, or that one
                fails too.
        """
        rows = self._by_champion(payments)
        challenger = self._challenger
        if challenger is None or CHALLENGER in self.troubles:
            return rows
        try:
            scores = scores_of(payments, challenger.version, challenger.loaded())
        except ModelRefused as refusal:
            self.troubles[CHALLENGER] = str(refusal)
            return rows
        return with_challenger(rows, scores, challenger.version.version)

    def _by_champion(self, payments: pa.Table) -> pa.Table:
        champion, previous = self._champion, self._previous
        if CHAMPION not in self.troubles:
            try:
                return scored(payments, champion.version, champion.loaded(), self._stamp)
            except ModelRefused as refusal:
                if previous is None:
                    raise
                self.troubles[CHAMPION] = str(refusal)
        assert previous is not None
        return scored(payments, previous.version, previous.loaded(), self._stamp)
