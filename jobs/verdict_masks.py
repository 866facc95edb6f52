"""Verdicts, and files of them, without the card numbers that analysts write into notes."""

import codecs
import csv
import io
import json
from collections.abc import Mapping
from typing import Any

from ingest.card_numbers import CardNumbers

_NUMBERS = CardNumbers()  # none is known here: any may be one


def masked_text(text: str) -> str:
    """``text`` with only the last four digits of what may be a card number."""
    return str(_NUMBERS.without(text))


def masked_verdict(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """``verdict`` with its texts masked, but for `trans_num`, by which it names a payment.

    Raises:
        ValueError: two names in it differ in card numbers alone.
    """
    kept = {name: verdict[name] for name in ("trans_num",) if name in verdict}
    cleaned: dict[str, Any] = _NUMBERS.without({**verdict, **dict.fromkeys(kept)})
    return cleaned | kept


def masked_file(raw: bytes, suffix: str) -> bytes:
    """A file of verdicts (``jobs.verdicts``) with all of its cells or values masked but
    `trans_num`; to the byte as it was where there is nothing to mask. One that cannot be read as
    what its ``suffix`` says is masked line by line.
    """
    text = raw.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    try:
        masked = _csv(text) if suffix == ".csv" else _json(text)
    except (csv.Error, ValueError, RecursionError):
        masked = "".join(masked_text(line) for line in text.splitlines(keepends=True))
    return raw if masked == text else masked.encode("utf-8", "surrogateescape")


def _csv(text: str) -> str:
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    names = [name.strip() for name in rows[0]] if rows else []
    apart = names.index("trans_num") if "trans_num" in names else -1
    masked = [
        [cell if place == apart else masked_text(cell) for place, cell in enumerate(row)]
        for row in rows
    ]
    if masked == rows:
        return text
    written = io.StringIO(newline="")
    csv.writer(written, lineterminator="\n").writerows(masked)
    return written.getvalue()


def _json(text: str) -> str:
    """JSON lines, or one array."""
    parts = [text] if text.lstrip().startswith("[") else text.split("\n")
    return "\n".join(_json_part(part) if part.strip() else part for part in parts)


def _json_part(part: str) -> str:
    value = json.loads(part)
    masked = [_one(row) for row in value] if isinstance(value, list) else _one(value)
    return part if masked == value else json.dumps(masked)


def _one(row: Any) -> Any:
    return masked_verdict(row) if isinstance(row, dict) else _NUMBERS.without(row)
