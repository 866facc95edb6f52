"""What the log of a Delta table on a local disk tells of its commits."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Commit:
    """``written``: when, in seconds since the epoch; ``actions`` as Delta's protocol names them."""

    version: int
    written: float
    actions: list[dict[str, Any]]

    @property
    def added(self) -> list[dict[str, Any]]:
        """The data files that became part of the table."""
        return [action["add"] for action in self.actions if "add" in action]


def read_commits(table: Path, after: int = -1) -> Iterator[Commit]:
    """The commits behind version ``after`` whose files are still there, in their order."""
    for path in sorted((table / "_delta_log").glob("*.json")):
        if path.stem.isdigit() and int(path.stem) > after:
            actions = [json.loads(line) for line in path.read_text().splitlines() if line]
            yield Commit(int(path.stem), path.stat().st_mtime, actions)
