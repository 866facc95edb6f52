"""A micro-batch of operator output, written to the tables: what foreachBatch calls."""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from conf.settings import Settings
from jobs.champion import CHALLENGER, CHAMPION
from jobs.data_files import DataFile, read_file, remove_file
from jobs.hits_topic import HitsTopic
from jobs.lineup import Lineup, Models
from jobs.schemas import WRITTEN_TABLES
from jobs.scorer import Scorer
from jobs.scoring import ModelVersion, Stamp, load_archive, scored_anew, stamped_now
from jobs.table_log import TableLog
from jobs.tables import ensure_table
from jobs.task_output import (
    HIT_COLUMNS_AT,
    BatchReport,
    Folders,
    addresses_of,
    are_duplicates,
    at_addresses,
    collect_reports,
    hits_of,
    writer_of,
)

log = logging.getLogger("jobs.score")


class BatchWriter:
    """Scores each micro-batch and writes it to the tables, once.

    ``has_written`` is set once a micro-batch was written.
    """

    def __init__(
        self, spark: SparkSession, settings: Settings, models: Models, stamp: Stamp = stamped_now
    ) -> None:
        self._spark, self._models, self._stamp = spark, models, stamp
        self._logs = {
            name: TableLog(ensure_table(settings.warehouse, name)) for name in WRITTEN_TABLES
        }
        self._folders = Folders(self._logs["transactions"].path, self._logs["rejected"].path)
        self._hits_topic = HitsTopic.of(settings.kafka) if settings.kafka else None
        self._scorer = Scorer(spark, stamp)
        self.has_written = threading.Event()

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        """Write ``batch``, columns ``jobs.card_memory.OPERATOR_OUTPUT`` (called by Spark)."""
        started = time.perf_counter()
        lineup = self._models.lineup()
        tells_hits = self._hits_topic is not None
        # One action: the operator's state moves on with the first, and a second would run it again.
        report = collect_reports(self._scorer.reports(batch, lineup, self._folders, tells_hits))
        scored_by = self._seen_to(report, lineup)
        if scored_by is not lineup.champion:
            report = self._scored_anew(report, scored_by)
        self._write(report, batch_id)
        self._models.proved(scored_by)
        self.has_written.set()
        scored = report.valid - len(report.duplicates)
        log.info(
            "batch %d: %d received, %d scored by %s, %d rejected, %d seen before, %.2f s",
            batch_id, report.received, scored, scored_by.label, report.invalid,
            report.received - scored - report.invalid, time.perf_counter() - started,
        )  # fmt: skip

    def _write(self, report: BatchReport, batch_id: int) -> None:
        # The query's identity lives in its checkpoint: a new checkpoint writes as somebody new.
        query = str(self._spark.sparkContext.getLocalProperty("sql.streaming.queryId"))
        if report.duplicates:
            report = self._set_apart(report)
        stale = [
            name
            for name in WRITTEN_TABLES
            if not commit(self._logs[name], report.files.get(name, []), query, batch_id)
        ]
        hits = report.hits
        if self._hits_topic and "transactions" in stale:
            # A process that died wrote the rows, with its champion, and told nobody of the hits.
            hits = self._written_hits(report.files["transactions"])
        for name in stale:
            for file in report.files[name]:
                remove_file(self._logs[name].path, file.name)
        if self._hits_topic and hits is not None:
            self._hits_topic.send(hits.to_pylist())

    def _seen_to(self, report: BatchReport, lineup: Lineup) -> ModelVersion:
        """Have versions that failed set aside; the one that the micro-batch is scored by."""
        scored_by = lineup.champion
        if CHAMPION in report.troubles and lineup.previous is not None:
            self._models.failed(lineup.champion, report.troubles[CHAMPION])
            scored_by = lineup.previous
        if CHALLENGER in report.troubles and lineup.challenger is not None:
            self._models.failed(lineup.challenger, report.troubles[CHALLENGER])
        return scored_by

    def _scored_anew(self, report: BatchReport, model: ModelVersion) -> BatchReport:
        """Score all of a micro-batch with ``model``: a version that fails on some payments, in one
        task, has scored others.

        Raises:
            jobs.model.ModelRefused: it fails too.
        """
        folder = self._folders.transactions
        loaded = load_archive(model.archive, model.inputs)
        files: list[DataFile] = []
        hits: list[pa.Table] = []
        for file in report.files.get("transactions", []):
            rows = scored_anew(read_file(folder, file.name), model, loaded, self._stamp)
            files += self._file_of("transactions", rows)
            hits.append(hits_of(rows))
            remove_file(folder, file.name)
        return replace(
            report,
            files={**report.files, "transactions": files},
            hits=pa.concat_tables(hits) if hits and report.hits is not None else report.hits,
        )

    def _set_apart(self, report: BatchReport) -> BatchReport:
        """Move the payments whose `trans_num` another card used before to `duplicates`: the buckets
        of identifiers tell of them, when their rows may be written already.
        """
        folder = self._folders.transactions
        kept: list[DataFile] = []
        taken: list[pa.Table] = []
        for file in report.files.get("transactions", []):
            rows = read_file(folder, file.name)
            is_duplicate = are_duplicates(rows, report.duplicates)
            if not pc.any(is_duplicate).as_py():
                kept.append(file)
                continue
            taken.append(rows.filter(is_duplicate))
            kept += self._file_of("transactions", rows.filter(pc.invert(is_duplicate)))
            remove_file(folder, file.name)
        duplicates = self._file_of("duplicates", pa.concat_tables(taken)) if taken else []
        hits = report.hits
        if hits is not None:
            hits = hits.filter(pc.invert(are_duplicates(hits, report.duplicates)))
        files = {**report.files, "transactions": kept, "duplicates": duplicates}
        return replace(report, files=files, hits=hits)

    def _file_of(self, table: str, rows: pa.Table) -> list[DataFile]:
        with writer_of(table, self._logs[table].path) as file:
            file.write(rows)
            written = file.finished()
        return [] if written is None else [written]

    def _written_hits(self, files: Sequence[DataFile]) -> pa.Table:
        """The hits in `transactions` among the payments of ``files``, which are not part of it."""
        folder = self._folders.transactions
        columns = ["source", "position", "ingested_at"]
        payments = pa.concat_tables(read_file(folder, file.name, columns) for file in files)
        # The time of receipt tells Delta which files it need not open.
        since = pc.field("ingested_at") >= pc.min(payments["ingested_at"])
        rows = (
            DeltaTable(folder)
            .to_pyarrow_dataset()
            .to_table(columns=list(HIT_COLUMNS_AT), filter=since & pc.field("prediction"))
        )
        return rows.filter(at_addresses(rows, frozenset(addresses_of(payments))))


def commit(table: TableLog, files: Sequence[DataFile], query: str, batch_id: int) -> bool:
    """Make ``files`` part of a table, once; whether they are new to it (none always are)."""
    return not files or table.append(files, query, batch_id)
