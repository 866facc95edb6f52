"""Files of verdicts: CSV or JSON, read whole or not at all."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from jobs.cells import cell_value

REQUIRED = ("trans_num", "fraud", "source")
OPTIONAL = ("verified_at", "analyst", "note")
LISTED_PROBLEMS = 10
LONGEST_TEXT = 10_000

_ANSWERS = {
    **dict.fromkeys(("yes", "true", "1"), True),
    **dict.fromkeys(("no", "false", "0"), False),
}

Verdict = dict[str, Any]
"""A row of `labels` without `recorded_at` and `file`; `verified_at` is None where it is untold."""


class VerdictFileError(ValueError):
    """A file of verdicts cannot be used; the message says what is wrong with it."""


def read_verdicts(path: Path, now: datetime) -> list[Verdict]:
    """The verdicts in a file, in its order.

    A line has `trans_num`, `fraud` (yes, no, true, false, 1 or 0; empty where nobody has decided
    yet: no verdict) and `source`; `verified_at` (ISO 8601 with a zone), `analyst` and `note` may be
    there, other columns are left out. A ``.json`` file holds such lines, or one array of objects.
    In a CSV file the apostrophe that keeps a spreadsheet from running a `trans_num` is no part of
    it (``jobs.cells``).

    Args:
        now: no verdict can be from after it (UTC).

    Raises:
        VerdictFileError: it is no CSV or JSON file in UTF-8, lacks columns, or holds a value that
            cannot be; lines count from 1, with the header of a CSV file, as do objects of an array.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise VerdictFileError(f"expected UTF-8, found {error.object[error.start]:#x}") from error
    rows = _READERS[path.suffix.lower()](text)
    verdicts: list[Verdict] = []
    problems: list[str] = []
    for line, row in rows:
        try:
            if not isinstance(row, Mapping):
                raise ValueError(f"expected an object, found {str(row)[:80]!r}")
            if _text(row, "fraud") is not None:
                verdicts.append(verdict_of(row, now) | {"line": line})
        except ValueError as error:
            problems.append(f"line {line}: {error}")
    if problems:
        left = len(problems) - LISTED_PROBLEMS
        more = [f"and {left} more"] if left > 0 else []
        raise VerdictFileError("; ".join([*problems[:LISTED_PROBLEMS], *more]))
    return verdicts


def verdict_of(row: Mapping[str, Any], now: datetime) -> Verdict:
    """The verdict that a line tells.

    Raises:
        ValueError: a value is missing or cannot be; the message names all of them.
    """
    texts = {name: _text(row, name) for name in (*REQUIRED, *OPTIONAL)}
    problems = [f"{name} is missing" for name in REQUIRED if texts[name] is None]
    label = _ANSWERS.get((texts["fraud"] or "").lower())
    if texts["fraud"] is not None and label is None:
        problems.append(f"fraud: expected yes or no, found {texts['fraud']!r}")
    verified_at = None
    if (told := texts["verified_at"]) is not None:
        try:
            verified_at = _moment(told, now)
        except ValueError as error:
            problems.append(f"verified_at: {error}, found {told!r}")
    if problems:
        raise ValueError(", ".join(problems))
    return {
        "trans_num": texts["trans_num"],
        "label": label,
        "verified_at": verified_at,
        **{name: texts[name] for name in ("source", "analyst", "note")},
    }


def _csv_rows(text: str) -> Iterator[tuple[int, Any]]:
    lines = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        missing = [name for name in REQUIRED if name not in (lines.fieldnames or ())]
        if missing:
            there = repr(", ".join(lines.fieldnames)[:500]) if lines.fieldnames else "nothing"
            raise VerdictFileError(f"missing columns {', '.join(missing)}; there is {there}")
        for row in lines:
            if None in row or None in row.values():
                raise VerdictFileError(
                    f"line {lines.line_num}: expected {len(lines.fieldnames or ())} fields"
                )
            yield lines.line_num, row | {"trans_num": cell_value(row["trans_num"])}
    except csv.Error as error:
        raise VerdictFileError(f"line {lines.line_num}: no CSV: {error}") from error


def _json_rows(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise VerdictFileError(f"line {number}: no JSON: {error}") from error


def _json_rows_or_array(text: str) -> Iterator[tuple[int, Any]]:
    if not text.lstrip().startswith("["):
        return _json_rows(text)
    try:
        return enumerate(json.loads(text), 1)
    except (ValueError, RecursionError) as error:
        raise VerdictFileError(f"no JSON: {error}") from error


_READERS = {".csv": _csv_rows, ".jsonl": _json_rows, ".json": _json_rows_or_array}
SUFFIXES = tuple(_READERS)
"""How the names of files of verdicts end."""


def _text(row: Mapping[str, Any], name: str) -> str | None:
    value = row.get(name)
    if value is None:
        return None
    text = str(value) if isinstance(value, bool | int | str) else None
    if text is not None and name != "trans_num":  # an identifier may have blanks around it
        text = text.strip()
    if text is not None and len(text) <= LONGEST_TEXT:
        if _is_broken(text):
            raise ValueError(f"{name}: expected Unicode, found half a character in {text[:80]!r}")
        return text or None
    raise ValueError(f"{name}: expected a text, found {str(value)[:80]!r}")


def _is_broken(text: str) -> bool:
    """Whether it has a lone surrogate: JSON can tell one, as can bytes of a command line."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _moment(text: str, now: datetime) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError("expected a time as 2026-03-01T12:00:00Z") from error
    if moment.tzinfo is None:
        raise ValueError("expected a time with its zone, as 2026-03-01T12:00:00Z")
    if not datetime(1970, 1, 1, tzinfo=UTC) <= moment <= now + timedelta(days=1):
        raise ValueError("expected a time from 1970 until now")
    return moment.astimezone(UTC)
