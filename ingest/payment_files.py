"""Payments from CSV files, in the format of the public training files or of the payments API.

The former have ``trans_date_trans_time`` and a leading index column without a name, the latter
``current_time``; a file may have both. ``ingest.schema`` says what a value must be.
"""

import logging
import re
import warnings
from collections.abc import Collection, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from ingest.pan_cipher import PanCipher
from ingest.schema import (
    CARD_PATTERN,
    DATE_PATTERN,
    EARLIEST_EVENT,
    EVENT_TIME_EXPECTATION,
    LARGEST_MILLISECONDS,
    LATEST_EVENT,
    NON_EMPTY,
    PAYMENT_FIELDS,
    TIMESTAMP_PATTERN,
    PaymentField,
)

log = logging.getLogger(__name__)

LISTED_PROBLEMS = 10
LARGEST_INTEGER = 2**53  # larger whole numbers are not exact as a float

_NOT_SHOWN = "another value, not shown: it may be a card number"

Texts = pd.Series  # of str, empty where the file has nothing


class PaymentFileError(ValueError):
    """A file of payments cannot be used; the message names the file and what is wrong with it."""


def read_payments(*paths: str | Path, cipher: PanCipher | None = None) -> pd.DataFrame:
    """The payments of the CSV files ``paths`` (also ``.gz``), one file after the other.

    Args:
        cipher: puts tokens in the place of card numbers, the same ones as in the stream; errors
            then show no values.

    Returns:
        The columns of ``ingest.schema.PAYMENT_FIELDS`` in that order; of the optional ones those
        that a file has. Text, digits, dates and timestamps are ``str`` (a postal code stands as in
        the file, ``dob`` is ``YYYY-MM-DD``, an absent timestamp is ``None``), numbers ``float64``,
        required integers ``int64``, optional ones ``Int64``. Beside them ``event_time``,
        ``datetime64[us, UTC]``, by the rule of ``ingest.schema.event_time_of``. Other columns are
        left out. The index counts from 0 over all files.

    Raises:
        PaymentFileError: a file is missing or no CSV, lacks columns, or holds a value that cannot
            be; rows count from 1, without the header.
    """
    if not paths:
        raise PaymentFileError("no file of payments given")
    frames = [_read_file(Path(path), cipher) for path in paths]
    joined = pd.concat(frames, ignore_index=True)
    if "trans_date_trans_time" in joined:
        moments = joined["trans_date_trans_time"].astype(object)
        joined["trans_date_trans_time"] = moments.where(moments.notna(), None)
    names = [field.name for field in PAYMENT_FIELDS if field.name in joined]
    return joined[[*names, "event_time"]]


def first_of_each(payments: pd.DataFrame, besides: Collection[str] = ()) -> pd.DataFrame:
    """Of the payments with the same `trans_num` the first, whatever differs in the others, as in
    the stream. The index counts from 0; the log says how many were dropped.

    Args:
        payments: as ``read_payments`` returns them.
        besides: `trans_num`s of payments that stand elsewhere; these are dropped, too.
    """
    is_repeat = payments["trans_num"].duplicated() | payments["trans_num"].isin(list(besides))
    if not is_repeat.any():
        return payments
    log.info("%d payments dropped: their trans_num was told before", int(is_repeat.sum()))
    return payments[~is_repeat].reset_index(drop=True)


def event_times(frame: pd.DataFrame) -> "pd.Series[pd.Timestamp]":
    """``ingest.schema.event_time_of`` for every row of ``frame``.

    Args:
        frame: ``trans_date_trans_time`` (str, ``None`` where absent), ``current_time`` (epoch ms),
            or both.

    Returns:
        ``datetime64[us, UTC]``, ``NaT`` where ``event_time_of`` raises.
    """
    texts = frame.get("trans_date_trans_time", pd.Series(None, index=frame.index, dtype=object))
    milliseconds = frame.get("current_time", pd.Series(np.nan, index=frame.index))
    told = milliseconds.astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
    told = np.where(np.abs(told) < LARGEST_MILLISECONDS, told, np.nan)
    from_number = np.full(len(frame), np.datetime64("NaT", "us"))
    known = ~np.isnan(told)
    from_number[known] = np.rint(told[known] * 1000).astype("int64").astype("datetime64[us]")
    shaped = texts.where(texts.str.fullmatch(TIMESTAMP_PATTERN, na=False).astype(bool)).astype(
        object
    )
    read = pd.to_datetime(shaped, format="%Y-%m-%d %H:%M:%S", errors="coerce")
    moments = np.where(
        texts.notna().to_numpy(), read.to_numpy().astype("datetime64[us]"), from_number
    )
    times = pd.Series(pd.DatetimeIndex(moments, tz="UTC"), index=frame.index)
    return times.where((times >= EARLIEST_EVENT) & (times < LATEST_EVENT))


def _read_file(path: Path, cipher: PanCipher | None) -> pd.DataFrame:
    texts = _read_texts(path)
    _check_columns(path, texts)
    if cipher is not None:
        texts["cc_num"] = _tokens(texts["cc_num"], cipher)
    values: dict[str, pd.Series] = {}
    problems: list[tuple[int, str]] = []
    for field in PAYMENT_FIELDS:
        if field.name not in texts:
            continue
        column = texts[field.name]
        values[field.name], is_bad = _typed(field, column)
        for row in np.flatnonzero(is_bad).tolist():
            found = repr(column.iloc[row]) if cipher is None else _NOT_SHOWN
            problems.append((row, f"{field.name}: expected {field.expectation}, found {found}"))
    frame = pd.DataFrame(values)
    frame["event_time"] = event_times(frame)
    spoiled = {row for row, _ in problems}
    for row in np.flatnonzero(frame["event_time"].isna()).tolist():
        if row not in spoiled:
            found = _found(frame, row) if cipher is None else _NOT_SHOWN
            problems.append((row, f"{EVENT_TIME_EXPECTATION}, found {found}"))
    if problems:
        raise PaymentFileError(f"{path}: " + "; ".join(_listed(sorted(problems))))
    return frame


def _read_texts(path: Path) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            # pandas only warns where every row has more fields than the header.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
    except FileNotFoundError as error:
        raise PaymentFileError(f"{path}: no such file") from error
    except (OSError, EOFError, ValueError, pd.errors.ParserWarning) as error:
        raise PaymentFileError(f"{path}: not a CSV file that can be read: {error}") from error


def _tokens(texts: Texts, cipher: PanCipher) -> Texts:
    return texts.map({text: cipher.token_of(text) or text for text in texts.unique()})


def _check_columns(path: Path, texts: pd.DataFrame) -> None:
    there = ", ".join(name for name in texts.columns if not name.startswith("Unnamed:"))
    missing = [field.name for field in PAYMENT_FIELDS if field.required and field.name not in texts]
    if "trans_date_trans_time" not in texts and "current_time" not in texts:
        missing.append("trans_date_trans_time or current_time")
    if missing:
        raise PaymentFileError(f"{path}: missing columns {', '.join(missing)}; there are {there}")


def _typed(field: PaymentField, texts: Texts) -> tuple[pd.Series, np.ndarray]:
    """The typed column, and where a value cannot be."""
    is_absent = (texts == "").to_numpy() & (not field.required)
    if field.type in ("number", "integer"):
        return _numbers(field, texts, is_absent)
    match field.type:
        case "card":
            is_good = texts.str.fullmatch(CARD_PATTERN)
        case "date":
            days = {text: _is_date(text) for text in texts.unique()}
            is_good = texts.map(days)
        case "timestamp":
            # event_times checks the value itself.
            is_good = texts.str.fullmatch(TIMESTAMP_PATTERN)
        case _:
            is_good = (texts != "") | (field.name not in NON_EMPTY)
    typed = texts.mask(is_absent, None) if is_absent.any() else texts
    return typed, ~is_good.to_numpy(dtype=bool) & ~is_absent


def _numbers(
    field: PaymentField, texts: Texts, is_absent: np.ndarray
) -> tuple[pd.Series, np.ndarray]:
    is_number = pd.to_numeric(texts, errors="coerce").notna()
    # to_numeric is off by one bit for many decimal fractions, float() never is.
    numbers = texts.where(is_number, "nan").astype(object).astype(np.float64)
    values = numbers.to_numpy()
    low = -np.inf if field.minimum is None else field.minimum
    high = np.inf if field.maximum is None else field.maximum
    is_bad = ~(np.isfinite(values) & (values >= low) & (values <= high))
    if field.type == "number":
        return numbers, is_bad & ~is_absent
    is_bad |= (values != np.floor(values)) | (np.abs(values) > LARGEST_INTEGER)
    whole = pd.Series(np.where(is_bad, 0, values).astype(np.int64), index=texts.index)
    if field.required:
        return whole, is_bad
    return whole.astype("Int64").mask(is_absent), is_bad & ~is_absent


def _is_date(text: str) -> bool:
    if not re.fullmatch(DATE_PATTERN, text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _found(frame: pd.DataFrame, row: int) -> str:
    names = [name for name in ("trans_date_trans_time", "current_time") if name in frame]
    return ", ".join(f"{name} {frame[name].iloc[row]!r}" for name in names)


def _listed(problems: list[tuple[int, str]]) -> Iterator[str]:
    for row, problem in problems[:LISTED_PROBLEMS]:
        yield f"row {row + 1}: {problem}"
    if len(problems) > LISTED_PROBLEMS:
        yield f"and {len(problems) - LISTED_PROBLEMS} more"
