"""Scored payments, an inbox of verdicts and the job that takes them: for tests of labels."""

from datetime import UTC, datetime, timedelta

from deltalake import DeltaTable

from jobs.label import LabelJob
from jobs.table_log import TableLog
from jobs.tables import ensure_table
from tests.conftest import payment
from tests.written_rows import scored_rows, write_file

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Bank:
    """Tables, an inbox and a clock that moves a second with each look."""

    def __init__(self, settings):
        self.settings = settings
        self.inbox = settings.label.inbox
        self.inbox.mkdir()
        self.table = TableLog(ensure_table(settings.warehouse, "transactions"))
        self.now, self.scored = NOW, 0
        self.job = self.started()

    def started(self):
        return LabelJob(self.settings, lambda: self.now)

    def score(self, *positions, **changes):
        self.scored += 1
        self.table.append(
            [write_file(self.table.path, scored_rows(*positions, **changes))], "score", self.scored
        )

    def drop(self, name, *verdicts):
        """Verdicts of (number of the payment, answer, source)."""
        lines = [
            f"{payment(number)['trans_num']},{answer},{source}"
            for number, answer, source in verdicts
        ]
        (self.inbox / name).write_text("\n".join(["trans_num,fraud,source", *lines]) + "\n")

    def look(self):
        self.now += timedelta(seconds=1)
        self.job.look()

    @property
    def ledger(self):
        return (
            DeltaTable(self.settings.warehouse.table("labels"))
            .to_pandas()
            .sort_values(["recorded_at", "line"])
        )

    @property
    def labels(self):
        """By number of the payment: label, source, and when it was labelled, in seconds after the start."""
        rows = DeltaTable(self.table.path).to_pandas().sort_values("position")
        return {
            row.position: None if row.label is None else (row.label, row.label_source, (row.labelled_at - NOW).total_seconds())
            for row in rows.itertuples()
        }  # fmt: skip
