"""Which landed payloads the tables do not account for."""

from collections.abc import Sequence
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from conf.settings import Settings
from jobs.data_files import fitted
from jobs.envelopes import MOMENT
from jobs.parse import Rules, parse_payloads
from jobs.schemas import REMEMBERED_TABLES, STATISTICS, WRITTEN_TABLES
from jobs.tables import arrow_schema, rows_where

_ADDRESS = ["source", "position"]
_MARGIN = timedelta(days=1)  # a time of receipt that cannot be is another one in the tables


class LandedRows:
    """Looks landed envelopes up in the tables of the score job, as they stand when it is made."""

    def __init__(self, settings: Settings) -> None:
        self._rules = Rules(settings.score.optional_fields, settings.score.max_days_ahead)
        self._seen = timedelta(days=settings.score.seen_days)
        self._tables = {
            name: DeltaTable(settings.warehouse.table(name)).to_pyarrow_dataset()
            for name in WRITTEN_TABLES
            if DeltaTable.is_deltatable(settings.warehouse.table(name))
        }

    def unaccounted(self, envelopes: pa.Table) -> pa.Table:
        """Those of ``envelopes`` (``jobs.envelopes.ENVELOPES``) that are in no table, neither with
        their address nor, where they were served before, as what came first: the payment with
        their `trans_num` and card, or the rejected payload that is the same.
        """
        left = envelopes
        for name in WRITTEN_TABLES:
            left = _without(left, self._found(name, left, _ADDRESS, timedelta()), _ADDRESS)
        for before in (_MARGIN, self._seen):  # mostly it was served a minute before
            left = self._not_repeated(left, before)
        return left

    def _not_repeated(self, envelopes: pa.Table, before: timedelta) -> pa.Table:
        if not len(envelopes):
            return envelopes
        parsed = parse_payloads(envelopes, self._rules)
        is_valid = pc.is_null(parsed["reason"])
        payments, others = parsed.filter(is_valid), parsed.filter(pc.invert(is_valid))
        identity = ["trans_num", "cc_num"]
        for name in REMEMBERED_TABLES:
            payments = _without(payments, self._found(name, payments, identity, before), identity)
        known = self._found("rejected", others, ["payload"], before)
        others = _without(others, known, ["payload"])
        left = pa.concat_tables([payments.select(_ADDRESS), others.select(_ADDRESS)])
        return envelopes.join(left, _ADDRESS, join_type="left semi")

    def _found(
        self, name: str, rows: pa.Table, columns: Sequence[str], before: timedelta
    ) -> pa.Table:
        """``columns`` of the rows of a table that were received about when ``rows`` were, or up to
        ``before`` earlier, and agree with one of them in the first column.
        """
        schema = pa.schema([arrow_schema(name).field(column) for column in columns])
        if not len(rows) or name not in self._tables:
            return schema.empty_table()
        received = pc.field(STATISTICS[name][-1])
        times = pc.min_max(rows["received_at"]).as_py()
        bounds = (received >= pa.scalar(times["min"] - before - _MARGIN, MOMENT)) & (
            received <= pa.scalar(times["max"] + _MARGIN, MOMENT)
        )
        asked = pc.field(columns[0]).isin(pc.unique(rows[columns[0]].combine_chunks()))
        return fitted(rows_where(self._tables[name], columns, asked, bounds), schema)


def _without(rows: pa.Table, known: pa.Table, keys: Sequence[str]) -> pa.Table:
    """The rows whose ``keys`` are not in ``known``."""
    if not len(rows) or not len(known):
        return rows
    return rows.join(known, list(keys), join_type="left anti")
