"""One answer as a table, to try an API out."""

import json
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ingest.call_ledger import PRINTED
from ingest.decode import UndecodableBody, decode_body
from ingest.envelope import Encrypted
from ingest.pan_cipher import PanCipher
from ingest.poller import Outcome

_FIRST = ("trans_num", "current_time", "cc_num", "merchant", "category", "amt", "is_fraud")
_MAX_CELL = 32  # characters


def print_answer(body: bytes, console: Console, cipher: PanCipher | None = None) -> Outcome:
    """Print the rows of ``body`` as a table, and a line on what is no row or did not decode.

    As many columns as the console is wide, the ones that say most first; the others are named.
    With a ``cipher`` tokens stand for card numbers; what would be landed encrypted is counted.
    """
    try:
        texts = [cipher.protected(text) if cipher else text for text in decode_body(body)]
    except UndecodableBody as error:
        console.print(_plain(f"the body did not decode: {error}"))
        return Outcome(PRINTED, 0)
    payloads = [json.loads(text) for text in texts if not isinstance(text, Encrypted)]
    rows = [payload for payload in payloads if isinstance(payload, dict)]
    if rows:
        _print_rows(rows, console)
    console.print(f"transactions: {len(rows)}")
    if len(payloads) < len(texts):
        console.print(f"rows that land encrypted, not shown: {len(texts) - len(payloads)}")
    others = [payload for payload in payloads if not isinstance(payload, dict)]
    if others:
        example = _plain(json.dumps(others[0]), 200)
        console.print(
            f"rows that did not decode (not as long as `columns`): {len(others)}, such as", example
        )
    return Outcome(PRINTED, len(rows))


def _print_rows(rows: list[dict[str, Any]], console: Console) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    names.sort(key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    cells = {name: [_plain(_text(row.get(name)), _MAX_CELL) for row in rows] for name in names}
    table = Table()
    free = console.width - 1
    left_out = []
    for name in names:
        header = _plain(name, _MAX_CELL)
        width = max(text.cell_len for text in [header, *cells[name]])
        if width + 3 > free:
            left_out.append(name)
            continue
        free -= width + 3
        is_number = all(isinstance(row.get(name), int | float) for row in rows)
        table.add_column(header, no_wrap=True, justify="right" if is_number else "left")
    shown = [name for name in names if name not in left_out]
    for values in zip(*(cells[name] for name in shown), strict=True):
        table.add_row(*values)
    console.print(table)
    if left_out:
        console.print(_plain(f"too wide to show: {', '.join(left_out)}"))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _plain(text: str, length: int | None = None) -> Text:
    """No markup, and nothing that a terminal would obey."""
    shown = text if text.isprintable() else ascii(text)
    if length is not None and len(shown) > length:
        shown = shown[: length - 1] + "…"
    return Text(shown)
