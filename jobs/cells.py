"""Values as cells of a CSV file that a person will open in a spreadsheet, and back."""

import unicodedata

_FORMULA_STARTS = ("=", "+", "-", "@")
_UNSEEN = ("Cc", "Cf", "Zs", "Zl", "Zp")
"""Categories of what shows nothing before the first letter that does: a spreadsheet may drop it."""


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
    return _first_shown(inner) in _FORMULA_STARTS or inner != inner.strip()


def _first_shown(text: str) -> str:
    """The first letter that shows, a wide form as the plain one."""
    shown = (letter for letter in text if unicodedata.category(letter) not in _UNSEEN)
    return unicodedata.normalize("NFKC", next(shown, ""))
