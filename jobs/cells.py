"""Values as cells of a CSV file that a person will open in a spreadsheet, and back."""

import unicodedata

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def cell_text(value: object) -> str:
    """``value`` as text, empty for None; a spreadsheet would run a cell that begins like a formula,
    and a reader of verdicts takes blanks around a cell away, so that those get an apostrophe
    before them.
    """
    text = "" if value is None else str(value)
    return f"'{text}" if _is_escaped(text) else text


def cell_value(cell: str) -> str:
    """The text of which ``cell_text`` made a cell; of other cells, without the blanks around it."""
    if cell.startswith("'") and _is_escaped(cell[1:]):
        return cell[1:]
    return cell.strip()


def _is_escaped(text: str) -> bool:
    inner = text.lstrip("'")  # one that looks escaped already would come back as another
    return _as_read(inner).startswith(_FORMULA_STARTS) or inner != inner.strip()


def _as_read(text: str) -> str:
    """``text`` without what shows nowhere before its first letter, which is no wide form then."""
    for place, letter in enumerate(text):
        if unicodedata.category(letter) not in ("Cc", "Cf"):
            return unicodedata.normalize("NFKC", letter) + text[place + 1 :]
    return ""
