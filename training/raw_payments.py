"""The raw payments as they arrived: read again from the landing folder, for the proof of no skew.

Deliberately not the way that the stream takes: lines are read one by one with `json`, judged by
``ingest.schema.check_payment``, and first arrivals are told by a walk over all of them.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from conf.sections import ScoreSettings
from ingest.schema import PAYMENT_FIELDS, InvalidPayment, check_payment
from jobs.model import TRUTH
from jobs.parse import PARSED

_ROWS_AT_ONCE = 20_000

Marks = npt.NDArray[np.bool_]

_COLUMNS = (
    "source",
    "position",
    "received_at",
    *(field.name for field in PAYMENT_FIELDS if field.name != TRUTH),
    "event_time",
)
_SCHEMA = pa.schema([PARSED.field(name) for name in _COLUMNS])


class NoLanding(Exception):
    """There are no raw payments to read; the message says why."""


@dataclass(frozen=True)
class _Envelope:
    source: str
    position: int
    received_at: datetime
    encoding: str
    payload: str


def read_arrivals(path: str, settings: ScoreSettings, archive: Path | None = None) -> pd.DataFrame:
    """Every valid payment in the landing folder ``path``, and in what ``jobs.maintain`` moved from
    there to the folders in ``archive``, in order of arrival (`source`, `position`): the columns of
    ``jobs.parse.PARSED`` but payload, reason and truth, with `ingested_at`
    (``datetime64[us, UTC]``) for `received_at`.

    Raises:
        NoLanding: there is no such folder.
    """
    if not Path(path).is_dir():
        raise NoLanding(
            f"no landing folder at {path}: the replay reads the raw payments from landed files, "
            "not from a Kafka topic or an object store"
        )
    tables, rows = [_SCHEMA.empty_table()], []
    days = (
        [folder for folder in archive.iterdir() if folder.is_dir()]
        if archive and archive.is_dir()
        else []
    )
    for row in chain.from_iterable(_valid_payments(f, settings) for f in (*days, Path(path))):
        rows.append(row)
        if len(rows) == _ROWS_AT_ONCE:
            tables.append(pa.Table.from_pylist(rows, schema=_SCHEMA))
            rows = []
    tables.append(pa.Table.from_pylist(rows, schema=_SCHEMA))
    arrivals: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    arrivals = arrivals.rename(columns={"received_at": "ingested_at"})
    return arrivals.sort_values(["source", "position"], kind="stable", ignore_index=True)


def _valid_payments(folder: Path, settings: ScoreSettings) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "_")) or not path.is_file():
            continue
        for line in path.read_bytes().splitlines():
            envelope = _open(line)
            payment = None if envelope is None else _judge(envelope, settings)
            if envelope is not None and payment is not None:
                yield payment | {
                    "source": envelope.source,
                    "position": envelope.position,
                    "received_at": envelope.received_at,
                }


def _open(line: bytes) -> _Envelope | None:
    """The envelope in a line; None where ingest did not land it."""
    try:
        found = json.loads(line)
        moment = datetime.fromisoformat(found["received_at"])
        texts = [found[name] for name in ("source", "encoding", "payload")]
        position = found["position"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not all(isinstance(text, str) for text in texts) or type(position) is not int:
        return None
    if not -(2**63) <= position < 2**63:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return _Envelope(texts[0], position, moment, texts[1], texts[2])


def _judge(envelope: _Envelope, settings: ScoreSettings) -> dict[str, Any] | None:
    """The payment in an envelope; None where it is none."""
    if envelope.encoding != "text":
        return None
    try:
        payment = json.loads(envelope.payload)
        if not isinstance(payment, dict):
            return None
        values = check_payment(payment, settings.optional_fields)
    except (ValueError, RecursionError, InvalidPayment):
        return None
    ahead = timedelta(days=settings.max_days_ahead)
    if ahead and values["event_time"] > envelope.received_at + ahead:  # type: ignore[operator]
        return None
    return values


def first_arrivals(arrivals: pd.DataFrame, seen_days: int) -> tuple[Marks, Marks]:
    """Which payments their cards remember, and which of those are scored: two arrays of bool of
    shape (n,).

    A card remembers a payment whose `trans_num` it did not use in the ``seen_days`` before. It is
    scored if no other card did either.

    Args:
        arrivals: `trans_num`, `cc_num` and `ingested_at`, in order of arrival.
        seen_days: how long a `trans_num` is remembered.
    """
    horizon = seen_days * 86_400
    seconds = arrivals["ingested_at"].to_numpy("datetime64[s]").astype(np.int64)
    seen: dict[tuple[str, str], int] = {}
    owners: Mapping[str, dict[str, int]] = defaultdict(dict)
    remembered, scored = np.zeros((2, len(arrivals)), np.bool_)
    rows = zip(arrivals["trans_num"], arrivals["cc_num"], seconds.tolist(), strict=True)
    for place, (name, card, now) in enumerate(rows):
        last = seen.get((name, card))
        if last is not None and now - last <= horizon:
            continue
        seen[name, card] = now
        remembered[place] = True
        owner = owners[name]
        others = [at for other, at in owner.items() if other != card and now - at <= horizon]
        owner[card] = now
        scored[place] = not others
    return remembered, scored
