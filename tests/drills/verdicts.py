"""Analysts of a drill: verdicts on payments that were scored lately, in files of one or two."""

import random
import time
from dataclasses import dataclass, field

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from conf.settings import Settings

EVERY_SECONDS = 1.0
LOOK_SECONDS = 3.0


@dataclass
class Analyst:
    """Drops verdicts into the inbox; ``told`` is what it said of each `trans_num`, and how often:
    a payment gets one verdict.
    """

    settings: Settings
    rng: random.Random
    told: dict[str, bool] = field(default_factory=dict)
    is_working: bool = False
    _known: list[str] = field(default_factory=list)
    _looked_at: float = 0.0
    _dropped_at: float = 0.0

    def work(self) -> None:
        """Drop a file of verdicts if it is time."""
        now = time.monotonic()
        if not self.is_working or now < self._dropped_at + EVERY_SECONDS:
            return
        if now > self._looked_at + LOOK_SECONDS:
            self._looked_at, self._known = now, self._scored()
        new = [name for name in self._known[-200:] if name not in self.told]
        chosen = self.rng.sample(new, min(len(new), 2))
        if not chosen:
            return
        self._dropped_at = now
        answers = {name: self.rng.random() < 0.5 for name in chosen}
        lines = [f"{name},{'yes' if fraud else 'no'},analyst" for name, fraud in answers.items()]
        inbox = self.settings.label.inbox
        inbox.mkdir(parents=True, exist_ok=True)
        draft = inbox / f".{chosen[0]}.csv"
        draft.write_text("\n".join(["trans_num,fraud,source", *lines, ""]))
        draft.rename(inbox / f"{chosen[0]}.csv")
        self.told |= answers

    def _scored(self) -> list[str]:
        """`trans_num` of what was scored, the last at the end; none while the table is away."""
        try:
            table = DeltaTable(self.settings.warehouse.table("transactions"))
            rows: pa.Table = table.to_pyarrow_table(columns=["trans_num", "ingested_at"])
        except (TableNotFoundError, DeltaError, OSError):
            return []
        names: list[str] = rows.sort_by("ingested_at")["trans_num"].to_pylist()
        return names
