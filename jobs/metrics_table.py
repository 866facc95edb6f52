"""The table `model_metrics`: rows are only ever appended, the last of a day and version counts."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import TableNotFoundError

from jobs.tables import arrow_schema

KEY = ["day", "model_name", "model_version"]

Row = dict[str, Any]


def latest_metrics(table: str) -> pd.DataFrame:
    """The rows of the table at this path that count: one a day and version, sorted by them.

    Returns:
        The columns of `model_metrics`; `day` is a ``datetime.date``, `psi` and `effect_size` are
        dictionaries or None. Without rows where there is no table yet.
    """
    rows = pd.DataFrame(_latest_rows(table).values(), columns=arrow_schema("model_metrics").names)
    return rows.sort_values(KEY, ignore_index=True)


def append_changed(table: str, rows: Iterable[Row]) -> list[Row]:
    """Append those of ``rows`` that say something else than the row that counts; a later
    `computed_at` alone is nothing else.

    Returns:
        What was appended.
    """
    standing = _latest_rows(table)
    changed = [row for row in rows if not _is_same(row, standing.get(_key(row)))]
    if changed:
        write_deltalake(
            table, pa.Table.from_pylist(changed, arrow_schema("model_metrics")), mode="append"
        )
    return changed


def _latest_rows(table: str) -> dict[tuple[Any, ...], Row]:
    try:
        rows = DeltaTable(table).to_pyarrow_table()
    except TableNotFoundError:
        return {}
    found = rows.sort_by("computed_at").to_pylist(maps_as_pydicts="strict")
    return {_key(row): row for row in found}


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEY)


def _is_same(row: Row, standing: Row | None) -> bool:
    return standing is not None and all(
        _equal(value, standing.get(name)) for name, value in row.items() if name != "computed_at"
    )


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    if isinstance(one, float) and isinstance(other, float):
        # Sums depend on the order of files, which a compaction changes.
        return math.isclose(one, other, rel_tol=1e-9) or (math.isnan(one) and math.isnan(other))
    return bool(one == other)
