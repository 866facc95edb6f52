"""From the body of an answer to its rows.

The payments API answers in pandas' "split" form, ``{"columns": [...], "index": [...], "data":
[[...], ...]}``, as JSON or as a JSON string that holds JSON.
"""

import json
from collections import Counter
from typing import Any

from ingest.card_numbers import hidden

MAX_COMMAS = 2_000_000
"""Nearly 100,000 payments in one answer; each value takes a hundred times its bytes in memory."""

_LONGEST_WHOLE = 4_300  # characters of what Python makes a whole number of
_MAX_STRINGS = 4  # JSON in a string in a string ...: the API is known to use one


class UndecodableBody(ValueError):
    """The body is no answer in "split" form; the message says what was expected and found."""


def decode_body(body: bytes) -> list[str]:
    """The rows of an answer, each as the JSON text of one payload, in the answer's order.

    A row is ``{column: value}`` with the values as received (``NaN`` and ``Infinity`` too, which
    are no JSON: judging values is the score job's part). A whole number without end becomes text,
    and each byte that is no text half of a surrogate pair: both are no payment's values. A row that
    is no list, or has another number of values than there are columns, is its own JSON text.

    Raises:
        UndecodableBody: the body as a whole cannot be read.
    """
    try:
        answer = _parsed(body)
        columns, rows = _columns(answer), _rows(answer)
        return [_payload(columns, row) for row in rows]
    except RecursionError as error:
        raise UndecodableBody("expected JSON, found one nested too deeply to read") from error


def _parsed(body: bytes) -> Any:
    _check_commas(body.count(b","))
    try:
        text = _text(body)
        for _ in range(_MAX_STRINGS):
            _check_commas(text.count(","))
            answer = json.loads(text, strict=False, parse_int=_whole)
            if not isinstance(answer, str):
                return answer
            text = answer
    except UndecodableBody:
        raise
    except ValueError as error:
        # Not the error's own text where it is no JSONDecodeError: that may hold the body.
        found = str(error) if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise UndecodableBody(f"expected JSON, found {len(body)} bytes: {found}") from error
    raise UndecodableBody(f"expected JSON, found a string in a string, {_MAX_STRINGS} deep")


def _text(body: bytes) -> str:
    encoding = json.detect_encoding(body)
    return body.decode(encoding, "surrogateescape" if "utf-8" in encoding else "surrogatepass")


def _check_commas(commas: int) -> None:
    if commas > MAX_COMMAS:
        raise UndecodableBody(f"expected at most {MAX_COMMAS:,} values, found more")


def _whole(digits: str) -> int | str:
    return int(digits) if len(digits) <= _LONGEST_WHOLE else digits


def _columns(answer: Any) -> list[str]:
    if not isinstance(answer, dict):
        raise UndecodableBody(f"expected an object with `columns` and `data`, not {_kind(answer)}")
    columns = answer.get("columns")
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise UndecodableBody(f"expected `columns` as a list of names, found {_kind(columns)}")
    if len(set(columns)) < len(columns):
        counts = Counter(columns)
        twice = next(name for name in columns if counts[name] > 1)
        shown = hidden(twice[:50])  # where columns are rows: never a card number in a log
        raise UndecodableBody(f"expected distinct `columns`, found {shown!r} more than once")
    return columns


def _rows(answer: dict[str, Any]) -> list[Any]:
    rows = answer.get("data")
    if not isinstance(rows, list):
        raise UndecodableBody(f"expected `data` as a list of rows, found {_kind(rows)}")
    return rows


def _payload(columns: list[str], row: Any) -> str:
    if isinstance(row, list) and len(row) == len(columns):
        return json.dumps(dict(zip(columns, row, strict=True)))
    return json.dumps(row)


def _kind(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case dict():
            return "an object"
        case list():
            return "a list of other things"
        case str():
            return "text"
        case _:
            return "a single value"
