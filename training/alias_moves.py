"""The table `alias_moves`: who moved the champion's alias, when, where and why.

It is written before the alias moves, so that no move goes unrecorded, wherever a process dies. What
it says that did not happen after all, or happened without it (an alias set by hand), the next
command finds out, and appends as a move of the kind ``found``.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from conf.sections import WarehouseSettings
from jobs.tables import arrow_schema, ensure_table

PROMOTION, FORCED, ROLLBACK, FOUND = "promotion", "forced", "rollback", "found"
"""Kinds of moves: the rule held; it did not, or could not be asked; back to the previous champion;
not made by ``training.promote``."""


@dataclass(frozen=True)
class AliasMove:
    """A row of `alias_moves`; ``moved_at`` is UTC. ``run_id`` is None where no run holds a
    comparison.
    """

    moved_at: datetime
    model_name: str
    alias: str
    from_version: str
    to_version: str
    kind: str
    who: str
    why: str
    run_id: str | None = None


class AliasMoves:
    """Reads and appends to the table `alias_moves`."""

    def __init__(self, warehouse: WarehouseSettings) -> None:
        self._path = ensure_table(warehouse, "alias_moves")

    def append(self, move: AliasMove) -> None:
        """Append ``move``, behind all others in time also where a clock went back."""
        row = asdict(move)
        for last in self._all()[-1:]:
            row["moved_at"] = max(move.moved_at, last.moved_at + timedelta(microseconds=1))
        rows = pa.Table.from_pylist([row], schema=arrow_schema("alias_moves"))
        write_deltalake(self._path, rows, mode="append")

    def of(self, model_name: str, alias: str) -> list[AliasMove]:
        """The moves of one alias in the order of time."""
        return [
            move for move in self._all() if (move.model_name, move.alias) == (model_name, alias)
        ]

    def _all(self) -> list[AliasMove]:
        rows = DeltaTable(self._path).to_pyarrow_table().to_pylist()
        return sorted((AliasMove(**row) for row in rows), key=lambda move: move.moved_at)


def champions(moves: Sequence[AliasMove]) -> list[str]:
    """The versions to go back to, one by one, the present champion last: a stack.

    A promotion lays a version on top. A rollback takes the top away, so that a second one goes
    further back, never forth to the version that was rolled back. A move that was ``found`` takes
    away what lies above its version, if that lies there, else lays it on top: a promotion that was
    recorded but did not happen is gone with it.

    Args:
        moves: of one alias, in the order of time.
    """
    stack: list[str] = [moves[0].from_version] if moves else []
    for move in moves:
        if move.kind in (ROLLBACK, FOUND) and move.to_version in stack:
            while stack[-1] != move.to_version:
                stack.pop()
        else:
            stack.append(move.to_version)
    return stack
