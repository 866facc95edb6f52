"""What the demo shows: the live table and the summary, read from the tables themselves."""

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from rich.console import Console, Group
from rich.table import Table

from conf.settings import Settings
from ingest.card_numbers import mask

SHOWN_HITS = 8
_COLUMNS = (
    "trans_num", "cc_num", "event_time", "amt", "merchant", "category", "fraud_score", "prediction",
    "model_version", "ingested_at", "scored_at",
)  # fmt: skip


@dataclass(frozen=True)
class Snapshot:
    """How far the demo is, since it began; delays in seconds, from receipt to score."""

    elapsed: float
    received: int
    scored: int
    rejected: int
    hits: pd.DataFrame
    mails: list[Path]
    delay_median: float | None
    delay_max: float | None
    in_table: int

    @property
    def rate(self) -> float:
        """Payments received a second, on average."""
        return self.received / self.elapsed

    @property
    def delay(self) -> str:
        """Median and maximum delay, in words."""
        if self.delay_median is None:
            return "-"
        return f"median {self.delay_median:.1f} s, max {self.delay_max:.1f} s"

    def line(self) -> str:
        """Everything in one line, where there is no terminal."""
        return (
            f"{self.elapsed:4.0f} s  received {self.received:,}  scored {self.scored:,}  "
            f"rejected {self.rejected:,}  hits {len(self.hits)}  mails {len(self.mails)}  "
            f"{self.rate:.0f} tx/s  delay {self.delay}"
        )


def take_snapshot(settings: Settings, mails: Path, began: datetime) -> Snapshot:
    """Read how far the demo is since ``began``."""
    since = pd.Timestamp(began)
    payments = _rows(settings.warehouse.table("transactions"), _COLUMNS)
    new = payments[payments["ingested_at"] >= since]
    rejected = _rows(settings.warehouse.table("rejected"), ("received_at",))
    delays = (new["scored_at"] - new["ingested_at"]).dt.total_seconds()
    return Snapshot(
        elapsed=max((datetime.now(UTC) - began).total_seconds(), 1.0),
        received=_received(settings.landing.ledger, began),
        scored=len(new),
        rejected=int((rejected["received_at"] >= since).sum()),
        hits=new[new["prediction"]].sort_values("scored_at"),
        mails=[
            path for path in sorted(mails.glob("*.eml")) if path.stat().st_mtime > began.timestamp()
        ],
        delay_median=float(delays.median()) if len(delays) else None,
        delay_max=float(delays.max()) if len(delays) else None,
        in_table=len(payments),
    )


def live_view(snapshot: Snapshot, seconds_left: float) -> Group:
    """The numbers of a snapshot, and the newest hits."""
    table = Table(title=f"card payments, live (ends in {seconds_left:.0f} s, or with Ctrl-C)")
    for name in ("received", "scored", "rejected", "hits", "mails", "tx/s"):
        table.add_column(name, justify="right")
    table.add_column("delay, landing to score")
    table.add_row(
        f"{snapshot.received:,}", f"{snapshot.scored:,}", f"{snapshot.rejected:,}",
        str(len(snapshot.hits)), str(len(snapshot.mails)), f"{snapshot.rate:.0f}", snapshot.delay,
    )  # fmt: skip
    return Group(table, hits_table(snapshot.hits)) if len(snapshot.hits) else Group(table)


def hits_table(hits: pd.DataFrame) -> Table:
    """Hits, the newest last; card numbers masked."""
    table = Table(title="fraud hits" if len(hits) <= SHOWN_HITS else f"the last {SHOWN_HITS} hits")
    for name in ("time of payment", "card", "USD", "merchant", "category", "score", "model"):
        table.add_column(name, justify="right" if name in ("USD", "score") else "left")
    for hit in hits.tail(SHOWN_HITS).itertuples():
        table.add_row(
            f"{hit.event_time:%Y-%m-%d %H:%M:%S}", mask(str(hit.cc_num)), f"{hit.amt:,.2f}",
            str(hit.merchant), str(hit.category), f"{hit.fraud_score:.3f}", f"v{hit.model_version}",
        )  # fmt: skip
    return table


def print_summary(console: Console, snapshot: Snapshot, settings: Settings, mails: Path) -> None:
    """What happened, where the mails are, and three queries to paste."""
    console.print(snapshot.line(), highlight=False, soft_wrap=True)
    if len(snapshot.hits):
        console.print(hits_table(snapshot.hits))
    console.print(
        f"rows of this run in `transactions`: {snapshot.scored:,} ({snapshot.in_table:,} in all); "
        f"in `rejected`: {snapshot.rejected:,}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    newest = f", the newest {snapshot.mails[-1]}" if snapshot.mails else ""
    console.print(
        f"mails: {len(snapshot.mails)} in {mails}/*.eml{newest}", highlight=False, soft_wrap=True
    )
    console.print("\nlook for yourself:")
    for query in example_queries(settings):
        # Not wrapped: each is to be pasted as one line.
        print(f"  {query}")


def example_queries(settings: Settings) -> list[str]:
    """Three commands that query `transactions`."""
    path = Path(settings.warehouse.table("transactions"))
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    query = (
        '.venv/bin/python -c "from deltalake import DeltaTable; '
        f"t = DeltaTable('{shown}').to_pandas(); print({{}})\""
    )
    return [
        query.format(
            "t[t.prediction].sort_values('fraud_score')"
            "[['event_time', 'amt', 'merchant', 'category', 'fraud_score']].tail(10)"
        ),
        query.format("t.groupby('category').agg({'amt': ['count', 'sum'], 'prediction': 'sum'})"),
        query.format("(t.scored_at - t.ingested_at).dt.total_seconds().describe()"),
    ]


def _rows(path: str, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        return DeltaTable(path).to_pandas(columns=list(columns))
    except TableNotFoundError:
        empty = pd.DataFrame({name: pd.Series(dtype="object") for name in columns})
        moments = [name for name in columns if name.endswith(("_at", "_time"))]
        types = dict.fromkeys(moments, "datetime64[us, UTC]") | {"prediction": "bool"}
        return empty.astype({name: types[name] for name in columns if name in types})


def _received(ledger: Path, began: datetime) -> int:
    if not ledger.exists():
        return 0
    with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True) as database:
        query = (
            "SELECT coalesce(sum(rows), 0) FROM calls WHERE outcome = 'landed' AND started_at >= ?"
        )
        return int(database.execute(query, (began.timestamp(),)).fetchone()[0])
