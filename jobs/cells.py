"""Values as cells of a CSV file that a person will open in a spreadsheet."""


def cell_text(value: object) -> str:
    """``value`` as text, empty for None; a spreadsheet would run a cell that begins like a formula,
    so that one gets an apostrophe before it.
    """
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text
