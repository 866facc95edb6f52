"""Put some payments below the threshold up for review: ``python -m jobs.review --config
conf/local.toml``.

Nobody looks at what the model takes for genuine, and what it misses it would never learn. So a
small random share of it goes to analysts. Which ones is decided by a hash of `trans_num`, so that a
draw can be made again; the probability is stored with each, for training to weigh by.
"""

import argparse
import csv
import io
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from conf.sections import LabelSettings, WarehouseSettings
from conf.settings import settings_from_arguments, stop
from ingest.card_numbers import mask
from jobs.cells import cell_text
from jobs.column_arrays import Marks
from jobs.data_files import fitted
from jobs.envelopes import MOMENT
from jobs.feature_arrays import text_hash
from jobs.run import log_to_stderr
from jobs.schemas import REVIEW_SOURCE
from jobs.tables import arrow_schema, ensure_table

log = logging.getLogger("jobs.review")

WORKLIST_COLUMNS = (
    "trans_num", "event_time", "card", "amt", "merchant", "category", "city", "state",
    "fraud_score", "fraud", "source", "analyst", "note",
)  # fmt: skip
"""An analyst fills in `fraud` (yes or no), and `analyst` and `note` if they like."""

_LOOKED_AT = "jobs.review"  # application whose "version" is the last scored_at that was looked at
_HASH_KEY = "review-the-genui"  # 16 characters
_READ = (
    "trans_num", "cc_num", "event_time", "amt", "merchant", "category", "city", "state",
    "fraud_score", "model_name", "model_version", "scored_at", "ingested_at",
)  # fmt: skip


def is_chosen(trans_nums: pa.ChunkedArray, share: float) -> Marks:
    """Which payments a draw with the probability ``share`` takes: bool of shape (n,); always the
    same ones, and with a larger share others beside them.
    """
    hashes = text_hash(trans_nums.to_numpy(), _HASH_KEY).view(np.uint64)
    return np.asarray(hashes / 2.0**64 < share)


def draw_reviews(warehouse: WarehouseSettings, label: LabelSettings, now: datetime) -> Path | None:
    """Draw from what was scored since the last draw, below the threshold and without a verdict;
    append the drawn ones to `reviews`, and write their worklist. One process at a time.

    Returns:
        The worklist, ``<label.worklists>/<now>.csv``; None where no payment was drawn.

    Raises:
        deltalake.exceptions.CommitFailedError: another draw came in between.
    """
    reviews = DeltaTable(ensure_table(warehouse, "reviews"))
    _finish_worklists(label.worklists, reviews)
    new = _new_payments(warehouse, reviews)
    if not len(new):
        log.info("nothing new below the threshold in %s", warehouse.table("transactions"))
        return None
    looked_at_us = pc.max(new["scored_at"]).cast(pa.int64()).as_py()
    drawn = new.filter(pa.array(is_chosen(new["trans_num"], label.review_share)))
    drawn = drawn.sort_by([("event_time", "ascending"), ("trans_num", "ascending")])
    worklist = label.worklists / f"{now:%Y%m%dT%H%M%S%fZ}.csv"
    if len(drawn):
        label.worklists.mkdir(parents=True, exist_ok=True)
        _unfinished(worklist).write_text(worklist_text(drawn), encoding="utf-8", newline="")
    _append(reviews, drawn, label.review_share, now, looked_at_us)
    log.info("%d of %d payments drawn for review", len(drawn), len(new))
    if not len(drawn):
        return None
    _unfinished(worklist).replace(worklist)
    return worklist


def _new_payments(warehouse: WarehouseSettings, reviews: DeltaTable) -> pa.Table:
    path = ensure_table(warehouse, "transactions")
    # Micro-batches are written one after the other: what is written later was scored later.
    last = reviews.transaction_version(_LOOKED_AT)
    wanted = ~pc.field("prediction") & pc.field("label").is_null()
    if last is not None:
        wanted &= pc.field("scored_at") > pa.scalar(last, pa.int64()).cast(MOMENT)
    rows = DeltaTable(path).to_pyarrow_dataset().to_table(list(_READ), filter=wanted)
    # A trans_num may be used again after `score.seen_days`.
    known = reviews.to_pyarrow_table(columns=["trans_num"])["trans_num"]
    rows = rows.filter(pc.invert(pc.is_in(rows["trans_num"], known))).sort_by("scored_at")
    return rows.filter(pa.array(~rows["trans_num"].to_pandas().duplicated().to_numpy()))


def _append(
    reviews: DeltaTable, drawn: pa.Table, share: float, now: datetime, looked_at_us: int
) -> None:
    n = len(drawn)
    rows = drawn.append_column("drawn_at", pa.array([now] * n, MOMENT))
    rows = rows.append_column("probability", pa.array([share] * n, pa.float64()))
    write_deltalake(
        reviews,
        fitted(rows, arrow_schema("reviews")),
        mode="append",
        commit_properties=CommitProperties(
            app_transactions=[Transaction(_LOOKED_AT, looked_at_us)], max_commit_retries=0
        ),
    )


def worklist_text(drawn: pa.Table) -> str:
    """CSV text of ``WORKLIST_COLUMNS``; card numbers show their last four digits."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(WORKLIST_COLUMNS)
    for row in drawn.to_pylist():
        cells = row | {
            "card": mask(row["cc_num"]),
            "event_time": row["event_time"].strftime("%Y-%m-%d %H:%M:%S"),
            "source": REVIEW_SOURCE,
        }
        writer.writerow(cell_text(cells.get(name)) for name in WORKLIST_COLUMNS)
    return buffer.getvalue()


def _unfinished(worklist: Path) -> Path:
    return worklist.with_name(f".{worklist.name}")


def _finish_worklists(folder: Path, reviews: DeltaTable) -> None:
    """A draw that died left its list hidden: it counts if its rows stand in the table."""
    hidden = sorted(folder.glob(".*.csv"))
    if not hidden:
        return
    moments = pc.unique(reviews.to_pyarrow_table(columns=["drawn_at"])["drawn_at"]).to_pylist()
    names = {f".{moment:%Y%m%dT%H%M%S%fZ}.csv" for moment in moments}
    for path in hidden:
        if path.name in names:
            path.replace(path.with_name(path.name[1:]))
        else:
            path.unlink()


def main() -> int:
    """Parse arguments, draw, tell where the worklist is."""
    parser = argparse.ArgumentParser(description="Put payments below the threshold up for review.")
    settings, _ = settings_from_arguments(parser)
    log_to_stderr()
    try:
        worklist = draw_reviews(settings.warehouse, settings.label, datetime.now(UTC))
    except OSError as error:
        stop(str(error))
    if worklist is not None:
        print(worklist)
    return 0


if __name__ == "__main__":
    sys.exit(main())
