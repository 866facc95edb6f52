"""The table `model_metrics`: rows are appended, the last of a day and version counts. None is taken
away but those that a clock which was wrong dated ahead.
"""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import TableNotFoundError

from jobs.tables import arrow_schema

log = logging.getLogger(__name__)

KEY = ["day", "model_name", "model_version"]
DRIFT = ("score_psi", "psi", "effect_size")

Row = dict[str, Any]


def latest_metrics(table: str) -> pd.DataFrame:
    """The rows of the table at this path that count: one a day and version, sorted by them.

    Returns:
        The columns of `model_metrics`; `day` is a ``datetime.date``, `psi` and `effect_size` are
        dictionaries or None. Without rows where there is no table yet.
    """
    return frame_of(latest_rows(table))


def latest_rows(table: str) -> list[Row]:
    """The rows of ``latest_metrics``, as dictionaries in which NULL is None."""
    return sorted(_standing(table).values(), key=_key)


def frame_of(rows: Sequence[Row]) -> pd.DataFrame:
    """Rows of `model_metrics` as a table, also where there are none."""
    return pd.DataFrame(rows, columns=arrow_schema("model_metrics").names)


def append_changed(table: str, rows: Iterable[Row]) -> list[Row]:
    """Append those of ``rows`` that say something else than the row that counts; a later
    `computed_at` alone is nothing else, and a drift that is known stands where a row has none.

    Returns:
        What was appended.
    """
    standing = _standing(table)
    told = [_with_known_drift(row, standing.get(_key(row))) for row in rows]
    changed = [row for row in told if not _is_same(row, standing.get(_key(row)))]
    if changed:
        write_deltalake(
            table, pa.Table.from_pylist(changed, arrow_schema("model_metrics")), mode="append"
        )
    return changed


def remove_yet_to_come(table: str, now: datetime) -> int:
    """Remove the rows of days until ``now`` (UTC) that were computed after it: a clock that was
    wrong wrote them, and they would count for good. Those of days after ``now`` stay: it is this
    clock that is wrong.

    Returns:
        How many there were.
    """
    ahead = [row for row in _rows(table) if row["computed_at"] > now and row["day"] <= now.date()]
    if ahead:
        log.warning(
            "%d rows of model_metrics were computed after %s, which is now: the clock is or was "
            "wrong; they are removed, their days measured anew",
            len(ahead), f"{now:%Y-%m-%d %H:%M:%S} UTC",
        )  # fmt: skip
        DeltaTable(table).delete(f"computed_at > '{now.isoformat()}' AND day <= '{now:%Y-%m-%d}'")
    return len(ahead)


def _standing(table: str) -> dict[tuple[Any, ...], Row]:
    return {_key(row): row for row in _rows(table)}


def _rows(table: str) -> list[Row]:
    """All rows, the last computed one last."""
    try:
        rows = DeltaTable(table).to_pyarrow_table()
    except TableNotFoundError:
        return []
    found: list[Row] = rows.sort_by("computed_at").to_pylist(maps_as_pydicts="strict")
    return found


def _with_known_drift(row: Row, standing: Row | None) -> Row:
    if standing is None or row["psi"] is not None:
        return row
    return row | {name: standing[name] for name in DRIFT}


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
