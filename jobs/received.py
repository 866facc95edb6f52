"""Rows of the Delta tables by the time of their receipt, without Spark: only the columns that are
asked for, only the files that can hold them.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from conf.sections import WarehouseSettings
from jobs.envelopes import MOMENT
from jobs.features import FEATURE_NAMES
from jobs.tables import arrow_schema, rows_where

FEATURES = "features"
_BATCH_ROWS, _BATCHES_AHEAD, _FILES_AHEAD = 32_768, 2, 1
"""What is read at once: the defaults read hundreds of MB ahead of what is worked on."""


class Received:
    """What a table held when this was made, by ``moment``, its column of the time of receipt."""

    def __init__(self, warehouse: WarehouseSettings, name: str, moment: str) -> None:
        self._name, self._moment = name, moment
        try:
            table = DeltaTable(warehouse.table(name))
        except TableNotFoundError:
            self._dataset = ds.dataset(arrow_schema(name).empty_table())
        else:
            self._dataset = table.to_pyarrow_dataset()

    def count(self, since: datetime, until: datetime) -> int:
        """Rows received in [since, until)."""
        return int(self._dataset.count_rows(filter=self._between(since, until)))

    def last(self, until: datetime) -> datetime | None:
        """When the last row before ``until`` was received; None where there is none."""
        for since in (until - timedelta(days=1), datetime(1970, 1, 1, tzinfo=until.tzinfo)):
            latest: list[datetime] = [
                pc.max(batch.column(0)).as_py()
                for batch in self._batches(since, until, [self._moment])
                if batch.num_rows
            ]
            if latest:
                return max(latest)
        return None

    def days(self, since: datetime, until: datetime) -> list[datetime]:
        """The UTC midnights of the days in which something was received in [since, until)."""
        found: set[int] = set()
        for batch in self._batches(since, until, [self._moment]):
            days = batch.column(0).cast(pa.int64()).to_numpy() // 86_400_000_000
            found.update(np.unique(days).tolist())
        return [_midnight(day, since) for day in sorted(found)]

    def rows(self, since: datetime, until: datetime, columns: Sequence[str]) -> pd.DataFrame:
        """The rows received in [since, until)."""
        table = self._dataset.to_table(list(columns), filter=self._between(since, until))
        found: pd.DataFrame = table.to_pandas()
        return found

    def frames(
        self, since: datetime, until: datetime, columns: Sequence[str]
    ) -> Iterator[pd.DataFrame]:
        """The rows received in [since, until), some ten thousand at a time."""
        for batch in self._batches(since, until, columns):
            yield batch.to_pandas()

    def days_of(self, trans_nums: Sequence[str], since: datetime) -> set[datetime]:
        """The UTC midnights of the days, from ``since`` on, on which these were received."""
        if not len(trans_nums):
            return set()
        named = pc.field("trans_num").isin(pa.array(trans_nums, pa.string()))
        bounds = pc.field(self._moment) >= pa.scalar(since, MOMENT)
        found = rows_where(self._dataset, ["trans_num", self._moment], named, bounds)
        moments = pd.to_datetime(found[self._moment].to_pandas(), utc=True).dt.floor("D")
        return {moment.to_pydatetime() for moment in moments.unique()}

    def sample(
        self, since: datetime, until: datetime, columns: Sequence[str], most: int, seed: int = 1
    ) -> pd.DataFrame:
        """About ``most`` of the rows received in [since, until), drawn by chance, or all where
        there are fewer: ``columns``, and one for each feature.
        """
        columns, count = [*columns, FEATURES], self.count(since, until)
        share = min(1.0, most / max(count, 1))
        rng = np.random.default_rng(seed)
        drawn = [
            batch.filter(pa.array(rng.random(batch.num_rows) < share))
            for batch in self._batches(since, until, columns)
        ]
        schema = pa.schema([self._dataset.schema.field(name) for name in columns])
        return _flat(pa.Table.from_batches(drawn, schema))

    def _batches(
        self, since: datetime, until: datetime, columns: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        found: Iterator[pa.RecordBatch] = self._dataset.to_batches(
            columns=list(columns), filter=self._between(since, until), batch_size=_BATCH_ROWS,
            batch_readahead=_BATCHES_AHEAD, fragment_readahead=_FILES_AHEAD,
        )  # fmt: skip
        return found

    def _between(self, since: datetime, until: datetime) -> Any:
        moment = pc.field(self._moment)
        return (moment >= pa.scalar(since, MOMENT)) & (moment < pa.scalar(until, MOMENT))


def _flat(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.drop_columns([FEATURES]).to_pandas()
    features = table[FEATURES].combine_chunks()
    named = {field.name for field in features.type}
    for name in FEATURE_NAMES:
        if name in named:
            frame[name] = pc.struct_field(features, name).to_numpy(zero_copy_only=False)
    return frame


def _midnight(day: int, like: datetime) -> datetime:
    return datetime(1970, 1, 1, tzinfo=like.tzinfo) + timedelta(days=day)
